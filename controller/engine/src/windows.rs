//! What has been seen lately: samples and their histories. Never recorded, unknown after a start.
//!
//! Beside the samples this holds what is compiled from the state for speed (which policy watches which host with which
//! probe) and the timers of the things that wait. All of it can be dropped at any moment: the next step builds it again
//! from the state, and what was seen is unknown until it is seen again.

mod history;
mod index;
mod timers;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use quell_model::{
    name::{FullName, HostName, Target},
    policy::Family,
    probe::ProbeKey,
    value::{Fields, Value},
};

pub(crate) use history::{History, Reading};
use index::Series;
pub(crate) use index::{Compiled, Index, Reader, Source, is_enrolled, place};
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
    /// The newest sample by host and probe.
    newest: HashMap<HostName, HashMap<ProbeKey, Newest>>,
    /// Policies and targets that were judged since the start.
    judged: HashMap<(FullName, Target), Judged>,
    /// The state at the beginning of the last step, and how often it was another than before.
    seen: (State, u64),
    /// When a host was last heard of: by a host sample, its connection, or the first step.
    pub(crate) heard: HashMap<HostName, Timestamp>,
    /// Messages that were handed to the notifiers and have not come back.
    pub(crate) notifying: HashSet<MessageId>,
    /// Probes run for a plan's verification: which of the moments were used.
    pub(crate) probed: HashSet<(PlanId, u8)>,
}

/// The newest sample of a probe on a host.
#[derive(Debug)]
pub(crate) struct Newest {
    /// When it was taken.
    pub(crate) taken_at: Timestamp,
    /// Its fields.
    pub(crate) fields: Arc<Fields>,
    disks: BTreeSet<String>,
    networks: BTreeSet<String>,
    /// By field, of those that conditions look back at.
    histories: HashMap<String, History>,
    /// The count of states in which another sample that says the same was found to concern nobody.
    calm: Option<u64>,
}

impl Newest {
    fn first(taken_at: Timestamp, fields: Arc<Fields>) -> Self {
        let disks = element_names(&fields, Family::Disks);
        let networks = element_names(&fields, Family::Network);
        Self { taken_at, fields, disks, networks, histories: HashMap::new(), calm: None }
    }

    /// Lets a sample take the place of the one before.
    fn follow(&mut self, taken_at: Timestamp, fields: Arc<Fields>, every: Duration, now: Timestamp) -> Taken {
        if taken_at < self.taken_at {
            return Taken::Late;
        }
        let was_fresh = self.is_fresh(every, now);
        self.taken_at = taken_at;
        if Arc::ptr_eq(&self.fields, &fields) || self.fields == fields {
            return if was_fresh { Taken::Same } else { Taken::New };
        }
        self.calm = None;
        let before = std::mem::replace(&mut self.fields, fields);
        if before.len() == self.fields.len() && before.keys().eq(self.fields.keys()) {
            return if was_fresh { Taken::Other(before) } else { Taken::New };
        }
        self.disks = element_names(&self.fields, Family::Disks);
        self.networks = element_names(&self.fields, Family::Network);
        Taken::New
    }

    /// Whether it still counts.
    fn is_fresh(&self, every: Duration, now: Timestamp) -> bool {
        now.duration_since(self.taken_at) <= signed(fresh_for(every))
    }

    /// When it ceases to count.
    pub(crate) fn stale_at(&self, every: Duration) -> Timestamp {
        after(after(self.taken_at, fresh_for(every)), INSTANT)
    }

    /// The history of a field.
    pub(crate) fn history(&self, field: &str) -> Option<&History> {
        self.histories.get(field)
    }

    /// Adds a sample's numbers to the histories that conditions ask for.
    fn remember(&mut self, taken_at: Timestamp, fields: &Fields, wanted: &[Series]) {
        for series in wanted {
            for (field, number) in numbers(fields, &series.field) {
                if !self.histories.contains_key(field) {
                    self.histories.insert(field.to_owned(), History::default());
                }
                if let Some(history) = self.histories.get_mut(field) {
                    history.add(taken_at, number, series);
                }
            }
        }
    }

    /// The names of the elements of a family.
    pub(crate) fn elements(&self, family: Family) -> &BTreeSet<String> {
        match family {
            Family::Disks => &self.disks,
            Family::Network => &self.networks,
        }
    }
}

/// When something was judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    /// The last time.
    pub(crate) at: Timestamp,
    /// When it is looked whether a sample has gone stale.
    pub(crate) watched_until: Option<Timestamp>,
}

/// What taking in a sample meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Taken {
    /// It is the newest, and ends a silence or speaks of other things than the one before.
    New,
    /// It is the newest, and says something else of the same things as the fresh one before.
    Other(Arc<Fields>),
    /// It is the newest, and says the same as the fresh one before.
    Same,
    /// It is older than the newest: history only.
    Late,
}

impl Windows {
    /// Notes the state that a step begins with.
    pub(crate) fn begin(&mut self, state: &State) {
        if !self.seen.0.is_same_copy(state) {
            self.seen = (state.clone(), self.seen.1 + 1);
        }
    }

    /// Whether another sample that says the same concerns nobody, as was found in this very state.
    pub(crate) fn is_calm(&self, host: &HostName, key: &ProbeKey) -> bool {
        self.newest(host, key).is_some_and(|newest| newest.calm == Some(self.seen.1))
    }

    /// Notes that another sample that says the same concerns nobody while the state is what it is.
    pub(crate) fn set_calm(&mut self, host: &HostName, key: &ProbeKey) {
        if let Some(newest) = self.newest.get_mut(host).and_then(|of_host| of_host.get_mut(key)) {
            newest.calm = Some(self.seen.1);
        }
    }

    /// When a policy was judged on a target since the start.
    pub(crate) fn judged(&mut self, policy: &FullName, target: &Target) -> Option<&mut Judged> {
        self.judged.get_mut(&(policy.clone(), target.clone()))
    }

    /// Notes that a policy is judged on a target.
    pub(crate) fn set_judged(&mut self, policy: &FullName, target: &Target, now: Timestamp) -> &mut Judged {
        let key = (policy.clone(), target.clone());
        let judged = self.judged.entry(key).or_insert(Judged { at: now, watched_until: None });
        judged.at = now;
        judged
    }

    /// Whether a policy was judged on a target since the start.
    pub(crate) fn was_judged(&self, key: &(FullName, Target)) -> bool {
        self.judged.contains_key(key)
    }

    /// Forgets that a policy was judged on a target.
    pub(crate) fn forget_judged(&mut self, key: &(FullName, Target)) {
        self.judged.remove(key);
    }

    /// Whether the first samples after a start may still be missing.
    pub(crate) fn is_warming_up(&self, now: Timestamp) -> bool {
        self.woken_at.is_none_or(|woken| now < after(woken, WARM_UP))
    }

    /// The newest sample of a probe on a host, fresh or not.
    pub(crate) fn newest(&self, host: &HostName, key: &ProbeKey) -> Option<&Newest> {
        self.newest.get(host)?.get(key)
    }

    /// The newest sample of a probe on a host, if it is fresh.
    pub(crate) fn fresh(&self, host: &HostName, source: &Source, now: Timestamp) -> Option<&Newest> {
        self.newest(host, &source.key).filter(|newest| newest.is_fresh(source.every, now))
    }

    /// The newest host sample, if it is fresh.
    pub(crate) fn fresh_of_host(&self, host: &HostName, now: Timestamp) -> Option<&Newest> {
        self.newest(host, &ProbeKey::host()).filter(|newest| newest.is_fresh(HOST_EVERY, now))
    }

    /// Takes in a sample.
    pub(crate) fn take(&mut self, host: &HostName, mut sample: Sample, now: Timestamp) -> Taken {
        if input::counts_too_far(&sample.fields) {
            input::bound_counts(Arc::make_mut(&mut sample.fields));
        }
        let used = self.index.uses(&sample.probe);
        let of_host = match self.newest.get_mut(host) {
            Some(of_host) => of_host,
            None => self.newest.entry(host.clone()).or_default(),
        };
        let series = used.map_or(&[] as &[Series], |used| &used.series);
        if let Some(newest) = of_host.get_mut(&sample.probe) {
            newest.remember(sample.taken_at, &sample.fields, series);
            let every = used.map_or(HOST_EVERY, |used| used.every);
            newest.follow(sample.taken_at.min(now), sample.fields, every, now)
        } else {
            let mut newest = Newest::first(sample.taken_at.min(now), sample.fields.clone());
            newest.remember(sample.taken_at, &sample.fields, series);
            of_host.insert(sample.probe, newest);
            Taken::New
        }
    }

    /// Forgets everything about a host: it is gone, or its name belongs to another machine now.
    pub(crate) fn forget(&mut self, host: &HostName) {
        self.newest.remove(host);
        self.heard.remove(host);
        self.timers.set(&Subject::Host(host.clone()), None);
    }
}

/// How long a sample of a probe that is sampled this often is fresh.
fn fresh_for(every: Duration) -> Duration {
    every.saturating_mul(FRESH_INTERVALS)
}

/// The numbers of the fields that a pattern means; `$` stands for any element.
fn numbers<'a>(fields: &'a Fields, pattern: &'a str) -> Vec<(&'a str, f64)> {
    match pattern.split_once('$') {
        None => fields.get(pattern).and_then(Value::number).map(|number| vec![(pattern, number)]).unwrap_or_default(),
        Some((before, after)) => fields
            .range(before.to_owned()..)
            .take_while(|(name, _)| name.starts_with(before))
            .filter(|(name, _)| name.ends_with(after))
            .filter_map(|(name, value)| Some((name.as_str(), value.number()?)))
            .collect(),
    }
}

/// The names of the elements of a family that a host sample speaks of.
fn element_names(fields: &Fields, family: Family) -> BTreeSet<String> {
    let prefix = format!("{}[", family.prefix());
    fields
        .range(prefix.clone()..)
        .map(|(name, _)| name)
        .take_while(|name| name.starts_with(&prefix))
        .filter_map(|name| Some(name[prefix.len()..].rsplit_once(']')?.0.to_owned()))
        .collect()
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
