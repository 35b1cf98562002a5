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
    now: Timestamp,
}

impl Draft {
    /// A copy to work on.
    pub(crate) fn new(state: &State, now: Timestamp) -> Self {
        Self { state: state.clone(), effects: Vec::new(), changes: Vec::new(), pending: Vec::new(), now }
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
            self.pending.retain(|write| write.table != crate::state::Table::Meta);
            self.pending.push(meta_write(&meta));
            self.state.meta = Arc::new(meta);
        }
    }

    /// The next number of a counter.
    pub(crate) fn number(&mut self, counter: &str) -> u64 {
        let mut next = 0;
        self.change_meta(|meta| {
            let last = meta.counters.entry(counter.to_owned()).or_default();
            *last += 1;
            next = *last;
        });
        next
    }

    /// Records an entry with the writes since the last one.
    pub(crate) fn record(&mut self, entry: Entry) {
        self.changes.push(Change {
            time: self.now,
            actor: entry.actor,
            kind: entry.kind,
            text: entry.text,
            ids: entry.ids,
            data: entry.data,
            writes: std::mem::take(&mut self.pending),
        });
    }

    /// Whether something was written that no entry has taken yet.
    fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends the step: writes that no entry took (timers, places in a ladder) go with the last one.
    pub(crate) fn finish(mut self) -> (State, Vec<Change>, Vec<Effect>) {
        if self.has_pending() {
            match self.changes.last_mut() {
                Some(last) => last.writes.append(&mut self.pending),
                None => self.record(Entry::new(
                    "bookkeeping",
                    Actor::Controller,
                    "places and timers were brought up to date",
                )),
            }
        }
        (self.state, self.changes, self.effects)
    }
}
