//! A store that forgets when it is dropped: for tests and simulations, and the measure for every other store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use quell_engine::state::Table;
use tokio::sync::watch;

use super::{
    Batch, Error, Fence, Head, Reader, Record, Revision, Row, Store, chain,
    rows::{Content, Held, Rows},
};

/// Records and rows in memory.
#[derive(Debug)]
pub struct MemoryStore {
    rows: Rows,
    fence: Fence,
    records: Arc<MemoryReader>,
}

#[derive(Debug)]
struct MemoryReader {
    records: Mutex<Vec<Arc<Record>>>,
    head: watch::Sender<Head>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let records = MemoryReader { records: Mutex::new(Vec::new()), head: watch::Sender::new(Head::default()) };
        Self { rows: Rows::default(), fence: Fence::default(), records: Arc::new(records) }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn append(&mut self, changes: Vec<quell_engine::Change>) -> Result<Revision, Error> {
        let encoded = chain::extend(self.records.head(), changes, usize::MAX, &mut |_| {
            unreachable!("nothing is longer than the address space")
        })?;
        let mut records = self.records.lock();
        for next in encoded {
            self.rows.apply(&next.record);
            records.push(Arc::new(next.record));
        }
        let head = records.last().map_or(Head::default(), |last| Head { sequence: last.sequence, hash: last.hash });
        drop(records);
        self.records.head.send_replace(head);
        Ok(Revision(head.sequence))
    }
}

fn row(table: Table, key: &str, held: &Held) -> Row {
    let value = match &held.content {
        Content::Inline(value) => value.clone(),
        Content::Blob(_) => unreachable!("the memory store keeps every row inline"),
    };
    Row { table, key: key.to_owned(), value, revision: held.revision }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error> {
        Ok(self.rows.get(table, key).map(|held| row(table, key, held)))
    }

    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error> {
        let wanted = self.rows.0.iter().filter(|((of, _), _)| table.is_none_or(|table| table == *of));
        Ok(wanted.map(|((table, key), held)| row(*table, key, held)).collect())
    }

    fn commit(&mut self, batch: Batch) -> Result<Revision, Error> {
        chain::admit(&batch.guards, batch.fence, self.fence, self.records.head(), |table, key| {
            Ok(self.rows.get(table, key).map_or(Revision(0), |held| held.revision))
        })?;
        self.append(batch.changes)
    }

    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, Error> {
        let revision = self.append(vec![chain::lease_taken(holder, time)])?;
        self.fence = Fence(revision.0);
        Ok(self.fence)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.records.clone()
    }
}

impl MemoryReader {
    /// A panic of another thread cannot leave a vector of finished records half-written.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Record>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader for MemoryReader {
    fn head(&self) -> Head {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn records(&self, from: u64, limit: usize) -> Result<Vec<Arc<Record>>, Error> {
        let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        Ok(self.lock().iter().skip(skip).take(limit).cloned().collect())
    }

    fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        Ok(self.records(from, limit)?.iter().map(|record| chain::to_json(&**record)).collect())
    }

    fn heads(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn recent(&self, from: u64, limit: usize) -> Option<Vec<Arc<Record>>> {
        self.records(from, limit).ok()
    }
}
