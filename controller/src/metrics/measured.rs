//! A store whose commits are timed.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use quell_engine::state::Table;

use super::Metrics;
use crate::store::{Batch, Error, Fence, Reader, Revision, Row, Store};

/// Another store, with a stopwatch.
pub struct Measured {
    inner: Box<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// Times the commits of this store.
    pub fn new(inner: Box<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl Store for Measured {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error> {
        self.inner.scan(table)
    }

    fn commit(&mut self, batch: Batch) -> Result<Revision, Error> {
        let is_write = !batch.changes.is_empty();
        let began = Instant::now();
        let result = self.inner.commit(batch);
        if is_write {
            self.metrics.commits.observe(began.elapsed().as_secs_f64());
        }
        result
    }

    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, Error> {
        self.inner.lease(holder, time)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.inner.reader()
    }

    fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    fn recover_space(&mut self) {
        self.inner.recover_space();
    }

    fn sign_head(&mut self) -> Result<(), Error> {
        self.inner.sign_head()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.inner.close()
    }
}
