//! The working copy of a step: typed changes go in, take effect at once, and come out as records.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    Actor, Change, Effect, Ids, Write,
    state::{Meta, State},
    table::{Row, meta_write, row_write},
};

/// What is about to be recorded.
#[derive(Debug)]
pub(crate) struct Entry {
    kind: &'static str,
    actor: Actor,
    text: String,
    ids: Ids,
    data: serde_json::Value,
}

impl Entry {
    /// An entry of a kind, by an actor, in a sentence.
    pub(crate) fn new(kind: &'static str, actor: Actor, text: impl Into<String>) -> Self {
        Self { kind, actor, text: text.into(), ids: Ids::new(), data: serde_json::Value::Null }
    }

    /// Names something by which the entry is found again.
    #[expect(clippy::needless_pass_by_value, reason = "callers name ids by value and by reference alike")]
    pub(crate) fn id(mut self, name: &'static str, value: impl ToString) -> Self {
        self.ids.insert(name, value.to_string());
        self
    }

    /// Names something, when there is something.
    pub(crate) fn maybe_id(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.id(name, value),
            None => self,
        }
    }

    /// Adds the entry's own data.
    pub(crate) fn data(mut self, data: serde_json::Value) -> Self {
        self.data = data;
        self
    }
}

/// A working copy of the state, with what was changed in it.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The state with all changes of this step.
    pub(crate) state: State,
    /// What is to be done once the changes are durable.
    pub(crate) effects: Vec<Effect>,
    changes: Vec<Change>,
    pending: Vec<Write>,
    /// Whether the counters changed since the last entry: they are written once an entry, however often they count.
    meta_pending: bool,
    now: Timestamp,
}

impl Draft {
    /// A copy to work on.
    pub(crate) fn new(state: &State, now: Timestamp) -> Self {
        Self {
            state: state.clone(),
            effects: Vec::new(),
            changes: Vec::new(),
            pending: Vec::new(),
            meta_pending: false,
            now,
        }
    }

    /// Puts a row; nothing happens when it is so already. The write belongs to the entry recorded next.
    pub(crate) fn put<R: Row>(&mut self, key: R::Key, row: R) {
        if R::rows(&self.state).get(&key).is_some_and(|old| **old == row) {
            return;
        }
        self.pending.push(row_write(&key, Some(&row)));
        self.state.put(key, Some(Arc::new(row)));
    }

    /// Changes a row that is there.
    pub(crate) fn change<R: Row + Clone>(&mut self, key: &R::Key, change: impl FnOnce(&mut R)) {
        if let Some(row) = R::rows(&self.state).get(key) {
            let mut row = R::clone(row);
            change(&mut row);
            self.put(key.clone(), row);
        }
    }

    /// Removes a row, if it is there.
    pub(crate) fn remove<R: Row>(&mut self, key: &R::Key) {
        if R::rows(&self.state).contains_key(key) {
            self.pending.push(row_write::<R>(key, None));
            self.state.put::<R>(key.clone(), None);
        }
    }

    /// Changes the counters.
    pub(crate) fn change_meta(&mut self, change: impl FnOnce(&mut Meta)) {
        let mut meta = Meta::clone(&self.state.meta);
        change(&mut meta);
        if meta != *self.state.meta {
            self.meta_pending = true;
            self.state.meta = Arc::new(meta);
        }
    }

    /// The next number of a counter.
    pub(crate) fn number(&mut self, counter: &str) -> u64 {
        self.numbers(counter, 1).start
    }

    /// The next so many numbers of a counter.
    pub(crate) fn numbers(&mut self, counter: &str, count: usize) -> std::ops::Range<u64> {
        let mut last = 0;
        self.change_meta(|meta| {
            let counter = meta.counters.entry(counter.to_owned()).or_default();
            *counter += count as u64;
            last = *counter;
        });
        last + 1 - count as u64..last + 1
    }

    /// Records an entry with the writes since the last one.
    pub(crate) fn record(&mut self, entry: Entry) {
        let writes = self.take_pending();
        self.changes.push(Change {
            time: self.now,
            actor: entry.actor,
            kind: entry.kind,
            text: entry.text,
            ids: entry.ids,
            data: entry.data,
            writes,
        });
    }

    /// The writes that no entry has taken yet.
    fn take_pending(&mut self) -> Vec<Write> {
        let mut writes = std::mem::take(&mut self.pending);
        if std::mem::take(&mut self.meta_pending) {
            writes.push(meta_write(&self.state.meta));
        }
        writes
    }

    /// Ends the step: writes that no entry took (timers, places in a ladder) go with the last one.
    pub(crate) fn finish(mut self) -> (State, Vec<Change>, Vec<Effect>) {
        let writes = self.take_pending();
        match self.changes.last_mut() {
            _ if writes.is_empty() => {}
            Some(last) => last.writes.extend(writes),
            None => {
                self.pending = writes;
                self.record(Entry::new("bookkeeping", Actor::Controller, "places and timers were brought up to date"));
            }
        }
        (self.state, self.changes, self.effects)
    }
}
