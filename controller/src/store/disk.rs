//! The store of a single controller: our own log, which is the truth, and sled as a view of it.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use quell_engine::{Change, state::Table};

use super::{
    Batch, Error, Fence, Guard, Head, Reader, Revision, Row, Store,
    blobs::{self, Blobs},
    chain,
    checkpoint::Known,
    files,
    heads::{Heads, Signer},
    history::History,
    recover::{self, Newest, Places},
    rows::{Content, Held, Rows},
    segment::{self, FRAMES, Segment},
};

mod shelf;
mod upkeep;

pub(crate) use upkeep::TRIMMED;

/// How a store on disk behaves. The defaults are those of a real controller; tests use smaller ones.
#[derive(Debug, Clone)]
pub struct Options {
    /// Length of a segment of the log, in bytes; at least 64 KiB.
    pub segment_bytes: u64,
    /// Room that is kept for what stops things when the disk is full, in bytes.
    pub reserve_bytes: u64,
    /// The log is kept below this many bytes.
    pub keep_bytes: u64,
    /// Records are kept for this long.
    pub keep_for: Duration,
    /// So many bytes of old records are checked before the store opens; what is beyond is checked beside its work.
    pub check_bytes: u64,
    /// The head of the log is signed this often while there are new records, by a store that was given a signer.
    pub sign_every: Duration,
    /// How a file's data is made durable.
    pub sync: fn(&File) -> io::Result<()>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            reserve_bytes: 16 << 20,
            keep_bytes: 8 << 30,
            keep_for: Duration::from_secs(400 * 86_400),
            check_bytes: 256 << 20,
            sign_every: Duration::from_secs(300),
            sync: File::sync_data,
        }
    }
}

/// Log and view in a data directory, which it holds alone.
pub struct DiskStore {
    places: Places,
    options: Options,
    segment: Segment,
    newest: Newest,
    /// Everything but the rows, which are in the view.
    known: Known,
    shelf: shelf::Shelf,
    history: Arc<History>,
    heads: Heads,
    /// Why nothing more may be written.
    broken: Option<String>,
    is_full: bool,
    /// Held for as long as the store is.
    _lock: File,
}

impl DiskStore {
    /// Makes an empty store in a data directory, which may hold other files but no store.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn create(directory: &Path, options: Options) -> Result<Self, Error> {
        let places = Places::new(directory);
        files::make_directory(directory)?;
        let lock = lock(directory)?;
        if places.log.exists() || places.format.exists() {
            return Err(Error::Archive(format!("{} holds a store already", directory.display())));
        }
        recover::write_format(&places)?;
        make_directories(&places)?;
        Segment::create(&places.log, Head::default(), options.segment_bytes)?;
        Newest { segment: 1, checkpoint: 0 }.write(&places)?;
        Self::load(places, options, lock)
    }

    /// Opens the store of a data directory.
    ///
    /// # Errors
    /// There is none, another controller has it open, it is of a newer version, or something that was acknowledged is
    /// lost.
    pub fn open(directory: &Path, options: Options) -> Result<Self, Error> {
        let places = Places::new(directory);
        let lock = lock(directory)?;
        if !places.log.exists() {
            return Err(Error::Damaged {
                what: format!("there is no log in {}", directory.display()),
                lost: "everything, unless this is not the data directory of a controller".to_owned(),
                remedy: "Check --data-dir; `quell-controller init` makes a new one, `restore` brings a backup back",
            });
        }
        recover::check_format(&places)?;
        make_directories(&places)?;
        Self::load(places, options, lock)
    }

    fn load(places: Places, options: Options, lock: File) -> Result<Self, Error> {
        for directory in [&places.root, &places.log, &places.checkpoints, &places.blobs.0] {
            files::remove_unfinished(directory)?;
        }
        let recovered = recover::recover(&places, &options)?;
        let (path, end) = recovered.tail;
        let head = recovered.known.head;
        let segment = Segment::resume(path, head, end, options.segment_bytes, recovered.has_remains)?;
        let history = History::new(&places, recovered.segments, head);
        let mut known = recovered.known;
        let rows = std::mem::take(&mut known.rows);
        let heads = Heads::new(&places.heads, options.sign_every);
        let mut store = Self {
            shelf: shelf::Shelf::restore(&places, &rows, head),
            places,
            options,
            segment,
            newest: recovered.newest,
            known,
            history: Arc::new(history),
            heads,
            broken: None,
            is_full: false,
            _lock: lock,
        };
        store.remove_segments(&recovered.leftover)?;
        store.finish_start(rows, recovered.is_mended, recovered.unchecked)?;
        Ok(store)
    }

    /// From now on heads of the log are signed.
    ///
    /// # Errors
    /// A head was signed of a record that is lost.
    pub fn sign_with(&mut self, signer: Arc<dyn Signer>) -> Result<(), Error> {
        self.heads.sign_with(signer, self.known.head)
    }

    /// Signs the newest head, unless the disk is full.
    fn sign_now(&mut self) -> Result<(), Error> {
        if self.is_full {
            return Ok(());
        }
        let meta = self.get(Table::Meta, "meta")?.map(|row| row.value);
        let epoch = meta.as_ref().and_then(|meta| meta.get("epoch")).and_then(serde_json::Value::as_u64).unwrap_or(0);
        match self.heads.sign(self.known.head, epoch) {
            Err(error @ Error::Full { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the head of the log was not signed");
                Ok(())
            }
            result => result.map_err(|error| self.break_off(error)),
        }
    }

    fn append(&mut self, changes: Vec<Change>) -> Result<Revision, Error> {
        if changes.is_empty() {
            return Ok(Revision(self.known.head.sequence));
        }
        let blobs = self.places.blobs.clone();
        let head = self.known.head;
        let encoded = chain::extend(head, changes, blobs::INLINE, &mut |bytes| self.put_blob(&blobs, bytes))?;
        let frame = segment::frame(&encoded)?;
        let limit = usize::try_from(self.options.segment_bytes - FRAMES).unwrap_or(usize::MAX);
        if frame.len() > limit {
            return Err(Error::TooLarge { bytes: frame.len(), limit });
        }
        let is_rolled = !self.segment.has_room(frame.len());
        if is_rolled {
            self.roll(frame.len())?;
        }
        let offset = self.segment.end;
        match self.segment.write(&frame) {
            // Where room cannot be allocated beforehand; what was written is overwritten or cut off.
            Err(error @ Error::Full { .. }) => return Err(error),
            Err(error) => return Err(self.break_off(error)),
            Ok(()) => {}
        }
        if let Err(source) = (self.options.sync)(&self.segment.file) {
            return Err(self.break_off(Error::io("sync", &self.segment.path)(source)));
        }
        // From here on the records are durable: nothing below may say otherwise.
        let records: Vec<_> = encoded.into_iter().map(|next| next.record).collect();
        records.iter().for_each(|record| self.known.note(record));
        if let Err(error) = self.segment.mark(self.known.head) {
            self.break_off(error);
        }
        self.shelf.apply(&self.places, &records, self.known.head);
        self.history.add(records, offset);
        let revision = Revision(self.known.head.sequence);
        // On a full disk what room is left is for records.
        if is_rolled
            && !self.is_full
            && let Err(error) = self.look_after_log()
        {
            self.break_off(error);
        }
        Ok(revision)
    }

    /// A file for what is too large for the log; the reserve is given up for it when the disk is full.
    fn put_blob(&mut self, blobs: &Blobs, bytes: &[u8]) -> Result<quell_model::digest::Digest, Error> {
        match blobs.put(bytes) {
            Err(Error::Full { .. }) if self.release_reserve() => blobs.put(bytes),
            result => result,
        }
    }

    /// Nothing is written any more: what is durable is known only after the next start.
    fn break_off(&mut self, error: Error) -> Error {
        tracing::error!(error = &error as &dyn std::error::Error, "the store stops");
        self.broken.get_or_insert_with(|| error.to_string());
        error
    }

    fn check_broken(&self) -> Result<(), Error> {
        self.broken.clone().map_or(Ok(()), |reason| Err(Error::Stopped { reason }))
    }

    fn row(&self, table: Table, key: String, held: Held) -> Result<Row, Error> {
        let value = match held.content {
            Content::Inline(value) => value,
            Content::Blob(digest) => self.places.blobs.get(digest)?,
        };
        Ok(Row { table, key, value, revision: held.revision })
    }

    /// All that is known, rows included.
    fn snapshot(&self, rows: Rows) -> Known {
        Known { rows, ..self.known.clone() }
    }
}

impl Store for DiskStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error> {
        let held = self.shelf.get(table, key)?;
        held.map(|held| self.row(table, key.to_owned(), held)).transpose()
    }

    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error> {
        let rows = self.shelf.rows()?.0.into_iter();
        let wanted = rows.filter(|((of, _), _)| table.is_none_or(|table| table == *of));
        wanted.map(|((table, key), held)| self.row(table, key, held)).collect()
    }

    fn commit(&mut self, batch: Batch) -> Result<Revision, Error> {
        self.check_broken()?;
        if batch.guards.iter().any(|guard| matches!(guard, Guard::Row { .. })) {
            self.shelf.make_sure(&self.places);
        }
        chain::admit(&batch.guards, batch.fence, self.known.fence, self.known.head, |table, key| {
            Ok(self.shelf.get(table, key)?.map_or(Revision(0), |held| held.revision))
        })?;
        self.append(batch.changes)
    }

    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, Error> {
        self.check_broken()?;
        self.append(vec![chain::lease_taken(holder, time)])?;
        Ok(self.known.fence)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.history.clone()
    }

    fn is_full(&self) -> bool {
        self.is_full
    }

    fn recover_space(&mut self) {
        if self.is_full {
            self.renew_reserve();
        }
    }

    fn sign_head(&mut self) -> Result<(), Error> {
        self.check_broken()?;
        if self.heads.is_due(self.known.head) { self.sign_now() } else { Ok(()) }
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.shelf.sync()?;
        self.check_broken()?;
        (self.options.sync)(&self.segment.file).map_err(Error::io("sync", &self.segment.path))?;
        self.sign_now()
    }
}

fn make_directories(places: &Places) -> Result<(), Error> {
    [&places.log, &places.checkpoints, &places.blobs.0].into_iter().try_for_each(|path| files::make_directory(path))
}

/// Holds the directory itself, so that no file can be removed to get around it.
fn lock(directory: &Path) -> Result<File, Error> {
    let file = File::open(directory).map_err(Error::io("open", directory))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", directory)(source)),
    }
}
