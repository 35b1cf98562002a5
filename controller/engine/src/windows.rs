//! What has been seen lately: samples and their histories. Never recorded, unknown after a start.
//!
//! Beside the samples this holds what is compiled from the state for speed (which policy watches which host with which
//! probe) and the timers of the things that wait. All of it can be dropped at any moment: the next step builds it again
//! from the state, and what was seen is unknown until it is seen again.

mod history;
mod index;
mod newest;
mod timers;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use quell_model::{name::HostName, probe::ProbeKey};

pub(crate) use history::{History, Reading};
use index::Series;
pub(crate) use index::{Compiled, Index, Reader, Source, is_enrolled, place};
pub(crate) use newest::{Concerned, Newest, Taken};
pub(crate) use timers::Timers;

use crate::{
    State,
    id::{MessageId, PlanId},
    input::{self, Sample},
    turn::Subject,
};

/// How often agents send host samples.
pub const HOST_EVERY: Duration = Duration::from_secs(15);

/// A sample is fresh for so many of its intervals.
const FRESH_INTERVALS: u32 = 3;

/// After a start, so much time is given to the first samples before their absence is news.
const WARM_UP: Duration = Duration::from_secs(60);

/// The engine's windows of samples, and what is compiled from the state.
#[derive(Debug, Default)]
pub struct Windows {
    /// Whether the first step has been taken.
    pub(crate) awake: bool,
    /// When the first step was taken.
    pub(crate) woken_at: Option<Timestamp>,
    /// The latest time seen: `now` never goes back.
    pub(crate) now: Option<Timestamp>,
    pub(crate) index: Index,
    pub(crate) timers: Timers,
    /// What each host has sent.
    sent: HashMap<HostName, Sent>,
    /// The state at the beginning of the last step, and how often it was another than before.
    seen: (State, u64),
    /// Messages that were handed to the notifiers and have not come back.
    pub(crate) notifying: HashSet<MessageId>,
    /// Probes run for a plan's verification: which of the moments were used.
    pub(crate) probed: HashSet<(PlanId, u8)>,
}

/// What a host has sent.
#[derive(Debug, Default)]
struct Sent {
    /// When the host was last heard of: by a host sample, its connection, or the first step.
    heard: Option<Timestamp>,
    /// The newest sample of each probe.
    newest: HashMap<ProbeKey, Newest>,
}

impl Windows {
    /// Notes the state that a step begins with.
    pub(crate) fn begin(&mut self, state: &State) {
        if !self.seen.0.is_same_copy(state) {
            self.seen = (state.clone(), self.seen.1 + 1);
        }
    }

    /// Remembers whom another sample that says the same concerns while the state is what it is.
    pub(crate) fn remember_concerned(&mut self, host: &HostName, key: &ProbeKey, readers: Concerned) {
        if let Some(newest) = self.sent.get_mut(host).and_then(|sent| sent.newest.get_mut(key)) {
            newest.remember_concerned(readers, self.seen.1);
        }
    }

    /// When a host was last heard of: by a host sample, its connection, or the first step.
    pub(crate) fn heard(&self, host: &HostName) -> Option<Timestamp> {
        self.sent.get(host)?.heard
    }

    /// Notes that a host is heard of.
    pub(crate) fn hear(&mut self, host: &HostName, now: Timestamp) {
        self.sent.entry(host.clone()).or_default().heard = Some(now);
    }

    /// The probes whose newest sample on a host went stale since this was last asked.
    pub(crate) fn gone_stale(&mut self, host: &HostName, now: Timestamp) -> Vec<ProbeKey> {
        let Some(sent) = self.sent.get_mut(host) else { return Vec::new() };
        let gone = sent.newest.iter_mut().filter_map(|(key, newest)| newest.goes_stale(now).then(|| key.clone()));
        gone.collect()
    }

    /// When the next sample of a host goes stale.
    pub(crate) fn next_stale(&self, host: &HostName) -> Option<Timestamp> {
        let fresh_until = self.sent.get(host)?.newest.values().filter_map(Newest::fresh_until).min()?;
        Some(after(fresh_until, INSTANT))
    }

    /// Whether the first samples after a start may still be missing.
    pub(crate) fn is_warming_up(&self, now: Timestamp) -> bool {
        self.warm_at(now).is_some()
    }

    /// Until when the first samples after a start may still be missing, while they may.
    pub(crate) fn warm_at(&self, now: Timestamp) -> Option<Timestamp> {
        let warm = after(self.woken_at.unwrap_or(now), WARM_UP);
        (now < warm).then_some(warm)
    }

    /// The newest sample of a probe on a host, fresh or not.
    pub(crate) fn newest(&self, host: &HostName, key: &ProbeKey) -> Option<&Newest> {
        self.sent.get(host)?.newest.get(key)
    }

    /// The newest sample of a probe on a host, if it is fresh.
    pub(crate) fn fresh(&self, host: &HostName, key: &ProbeKey, now: Timestamp) -> Option<&Newest> {
        self.newest(host, key).filter(|newest| newest.is_fresh(now))
    }

    /// Takes in a sample.
    pub(crate) fn take(&mut self, host: &HostName, mut sample: Sample, now: Timestamp) -> Taken {
        let newest = &mut self.sent.entry(host.clone()).or_default().newest;
        let before = newest.get_mut(&sample.probe);
        let is_shared = before.as_ref().is_some_and(|before| Arc::ptr_eq(&before.fields, &sample.fields));
        if !is_shared && input::counts_too_far(&sample.fields) {
            input::bound_counts(Arc::make_mut(&mut sample.fields));
        }
        let used = self.index.uses(&sample.probe);
        let series = used.map_or(&[] as &[Series], |used| &used.series);
        let every = used.map_or(HOST_EVERY, |used| used.every);
        if let Some(before) = before {
            before.remember(sample.taken_at, &sample.fields, series);
            return before.follow(sample.taken_at.min(now), sample.fields, every, (now, self.seen.1));
        }
        let mut first = Newest::first(sample.taken_at.min(now), sample.fields.clone(), every);
        first.remember(sample.taken_at, &sample.fields, series);
        newest.insert(sample.probe, first);
        Taken::New
    }

    /// Forgets everything about a host: it is gone, or its name belongs to another machine now.
    pub(crate) fn forget(&mut self, host: &HostName) {
        self.sent.remove(host);
        self.timers.set(&Subject::Host(host.clone()), None);
    }
}

/// The smallest step of time that agents tell apart: what was seen in the same instant as a fault counts as seen after.
pub(crate) const INSTANT: Duration = Duration::from_millis(1);

/// A span as the time library subtracts it.
pub(crate) fn signed(span: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX)
}

/// A moment and a span after it; the end of time when there is no such moment.
pub(crate) fn after(moment: Timestamp, span: Duration) -> Timestamp {
    moment.checked_add(signed(span)).unwrap_or(Timestamp::MAX)
}

/// A moment and a span before it; the beginning of time when there is no such moment.
pub(crate) fn before(moment: Timestamp, span: Duration) -> Timestamp {
    moment.checked_sub(signed(span)).unwrap_or(Timestamp::MIN)
}
