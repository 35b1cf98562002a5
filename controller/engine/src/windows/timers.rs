//! When each thing that waits wants to be looked at again.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::turn::Subject;

/// One timer at most for each subject.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_subject: HashMap<Subject, Timestamp>,
    by_time: BTreeSet<(Timestamp, Subject)>,
}

impl Timers {
    /// Sets or removes a subject's timer.
    pub(crate) fn set(&mut self, subject: &Subject, at: Option<Timestamp>) {
        if self.by_subject.get(subject).copied() == at {
            return;
        }
        if let Some(old) = self.by_subject.remove(subject) {
            self.by_time.remove(&(old, subject.clone()));
        }
        if let Some(at) = at {
            self.by_subject.insert(subject.clone(), at);
            self.by_time.insert((at, subject.clone()));
        }
    }

    /// The earliest timer.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out a subject whose time has come.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Subject> {
        if self.next()? > now {
            return None;
        }
        let (_, subject) = self.by_time.pop_first()?;
        self.by_subject.remove(&subject);
        Some(subject)
    }
}
