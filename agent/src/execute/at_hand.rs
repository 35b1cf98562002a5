//! The orders that the agent has taken in: from the moment at which the session reads one until it was refused, left, or
//! has an outcome.
//!
//! The controller may count an order as not begun only when the agent has it neither here nor in its journal. So an order
//! stays here until after the journal knows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How often each order is at hand, by the controller's name of it: it may be sent again while the first still waits.
#[derive(Debug, Clone, Default)]
pub(super) struct AtHand(Arc<Mutex<BTreeMap<String, usize>>>);

/// An order that is at hand until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    command_id: String,
    among: AtHand,
}

impl AtHand {
    /// Takes an order in.
    pub(super) fn hold(&self, command_id: &str) -> Held {
        *self.locked().entry(command_id.to_owned()).or_default() += 1;
        Held { command_id: command_id.to_owned(), among: self.clone() }
    }

    /// The orders that are at hand.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.locked().keys().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.among.locked();
        match held.get_mut(&self.command_id) {
            Some(times) if *times > 1 => *times -= 1,
            _ => drop(held.remove(&self.command_id)),
        }
    }
}
