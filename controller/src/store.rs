//! Where the controller keeps what it knows: a log of records, and the rows that follow from it.
//!
//! [`Store`] is the least that our own log with sled beside it and an etcd transaction share, so that several
//! controllers can keep the same things in etcd later. Its promises, held by one conformance suite over every member:
//!
//! - There is no write outside a record. [`Store::commit`] appends records to a hash chain and makes the writes that they
//!   name, all of a [`Batch`] or none of it.
//! - When `commit` returns, the batch is durable: it survives the process, and the machine's power.
//! - The time at which rows were written is a [`Revision`], the sequence number of the record that wrote them; a
//!   [`Guard`] makes a batch depend on it.
//! - Only the newest holder of the lease writes; everybody else is refused by its [`Fence`].

use std::sync::Arc;

use jiff::Timestamp;
use quell_engine::{Change, State, state::Table};
use quell_model::digest::Digest;
use tokio::sync::watch;

mod blobs;
pub(crate) mod chain;
pub(crate) mod checkpoint;
mod disk;
mod error;
pub(crate) mod files;
pub(crate) mod heads;
mod history;
mod memory;
mod record;
pub(crate) mod recover;
mod rows;
pub(crate) mod segment;
mod view;

pub use chain::{LEASE_TAKEN, RESTORED, starts_after_restore};
pub use disk::{DiskStore, Options};
pub use error::Error;
pub use heads::Signer;
pub use memory::MemoryStore;
pub use record::{Record, RecordWrite};

/// The sequence number of a record: 1 for the first one. 0 stands for "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to write: the sequence number of the record by which the lease was taken. A newer one ends all older ones;
/// 0, before any lease was taken, is the right to write nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Fence(pub u64);

/// The end of the chain: the newest durable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Its sequence number; 0: there is none yet.
    pub sequence: u64,
    /// The SHA-256 of its bytes; all zeros: there is none yet.
    pub hash: Digest,
}

/// A row, and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: String,
    /// The row.
    pub value: serde_json::Value,
    /// The record that wrote it.
    pub revision: Revision,
}

/// What must be true for a batch to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The row was last written by this record; revision 0: there is no such row.
    Row {
        /// The table.
        table: Table,
        /// The key.
        key: String,
        /// The record.
        revision: Revision,
    },
    /// Nothing at all was recorded after this record.
    Head(Revision),
}

/// What is committed together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// The changes: each becomes a record, in this order. None: only the guards and the fence are checked.
    pub changes: Vec<Change>,
    /// The writer's right to write.
    pub fence: Fence,
}

/// Keeps records and rows. One thread writes.
pub trait Store: Send {
    /// One row; `None`: there is none.
    ///
    /// # Errors
    /// What is kept cannot be read.
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error>;

    /// The rows of one table, or of all, sorted by table and key.
    ///
    /// # Errors
    /// What is kept cannot be read.
    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error>;

    /// Appends records and makes their writes. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Fenced`], [`Error::TooLarge`] and [`Error::Full`]: nothing was changed, and the store
    /// goes on. Any other: it is unknown whether the batch is durable, the store answers nothing but errors from now on,
    /// and opening it again tells what is true.
    fn commit(&mut self, batch: Batch) -> Result<Revision, Error>;

    /// Takes the right to write from whoever had it. This is a record itself.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, Error>;

    /// The records, for other threads to read and to follow.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Whether the disk is so full that only what stops things should be written. New plans are held while it is.
    fn is_full(&self) -> bool {
        false
    }

    /// Tries to make room again after the disk was full. Cheap; to be called every few seconds while idle.
    fn recover_space(&mut self) {}

    /// Signs the head of the log when that is due. Cheap; to be called every few seconds.
    ///
    /// # Errors
    /// It is unknown whether the head is durable; the store answers nothing but errors from now on.
    fn sign_head(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Ends in good order, so that the next start is quick. Dropping a store instead loses nothing that was committed.
    ///
    /// # Errors
    /// The last writes to disk failed.
    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// Reads records, on any thread. Reading may block on the disk.
pub trait Reader: Send + Sync {
    /// The newest durable record.
    fn head(&self) -> Head;

    /// Told of every new head. It may skip some: read the records up to the head that it shows, by sequence number, and
    /// none is missed.
    fn watch(&self) -> watch::Receiver<Head>;

    /// Up to `limit` records from the sequence number `from` on, in order and without gaps. When retention has removed
    /// the record `from`, the answer begins with the oldest that is left: compare the sequence numbers.
    ///
    /// # Errors
    /// Records are damaged or missing.
    fn records(&self, from: u64, limit: usize) -> Result<Vec<Arc<Record>>, Error>;

    /// Up to `limit` records from the sequence number `from` on as they are stored and hashed, read from the disk and
    /// not judged: the exact bytes of each. It may begin later, as [`Reader::records`].
    ///
    /// # Errors
    /// They cannot be read.
    fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error>;

    /// The signed heads, oldest first, one line each, not judged.
    ///
    /// # Errors
    /// They cannot be read.
    fn heads(&self) -> Result<Vec<String>, Error>;

    /// Like [`Reader::records`], but only where no disk is needed: `None` when it is.
    fn recent(&self, from: u64, limit: usize) -> Option<Vec<Arc<Record>>>;
}

/// The state that the rows of a store make.
///
/// # Errors
/// A row cannot be read, or is of a newer version than this program.
pub fn load_state(store: &dyn Store) -> Result<State, Error> {
    let mut state = State::default();
    for row in store.scan(None)? {
        let write = quell_engine::Write { table: row.table, key: row.key, row: Some(row.value) };
        state.apply(&write)?;
    }
    Ok(state)
}
