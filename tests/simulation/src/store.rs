//! The controller's disk: the real memory store, which outlives the controller's process. A commit can fail, before or after
//! it is durable, and the disk can be full.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use quell_controller::store::{Batch, Error, Fence, MemoryStore, Reader, Revision, Row, Store};
use quell_engine::state::Table;

use crate::points::{Died, Points, Side};

/// The disk; a clone is the same disk, opened again.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    kept: Arc<Mutex<MemoryStore>>,
    points: Points,
    full: Arc<AtomicBool>,
    /// Whether the room that is kept for a full disk is used up, too.
    spent: Arc<AtomicBool>,
}

impl Disk {
    pub(crate) fn new(points: Points) -> Self {
        Self { kept: Arc::default(), points, full: Arc::default(), spent: Arc::default() }
    }

    /// The same disk, for processes that can die at these points.
    pub(crate) fn with(self, points: Points) -> Self {
        Self { points, ..self }
    }

    /// Fills the disk, its reserve as well if that is said, or makes room again.
    pub(crate) fn fill(&self, full: bool, spent: bool) {
        self.full.store(full, Ordering::Relaxed);
        self.spent.store(full && spent, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, MemoryStore> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that dies, or a sync that fails: what is durable is told by opening the store again.
    fn pass(&self) -> Result<(), Error> {
        self.points
            .pass(Side::Controller)
            .map_err(|Died| Error::Stopped { reason: "the simulation says so".to_owned() })
    }
}

impl Store for Disk {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error> {
        self.kept().get(table, key)
    }

    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error> {
        self.kept().scan(table)
    }

    fn commit(&mut self, batch: Batch) -> Result<Revision, Error> {
        if self.spent.load(Ordering::Relaxed) {
            return Err(Error::Full { path: PathBuf::from("log") });
        }
        self.pass()?;
        let revision = self.kept().commit(batch)?;
        self.pass()?;
        Ok(revision)
    }

    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, Error> {
        self.kept().lease(holder, time)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.kept().reader()
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}
