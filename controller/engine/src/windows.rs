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
    name::HostName,
    policy::Family,
    probe::ProbeKey,
    value::{Fields, Value},
};

pub(crate) use history::{History, Reading};
pub(crate) use index::{Compiled, Index, Source, is_enrolled, place};
pub(crate) use timers::Timers;

use crate::{
    id::{MessageId, PlanId},
    input::Sample,
    turn::Subject,
};

/// How often agents send host samples.
pub const HOST_EVERY: Duration = Duration::from_secs(15);

/// A sample is fresh for so many of its intervals.
const FRESH_INTERVALS: u32 = 3;

/// After a start, so much time is given to the first samples before their absence is news.
const WARM_UP: Duration = Duration::from_secs(60);

/// Failures and successes in a row are counted so far: beyond, one more is no news.
const COUNTED: f64 = 1_000.0;

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
    histories: HashMap<(HostName, ProbeKey), HashMap<String, History>>,
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
    pub(crate) fields: Fields,
    disks: Arc<BTreeSet<String>>,
    networks: Arc<BTreeSet<String>>,
}

impl Newest {
    /// The names of the elements of a family.
    pub(crate) fn elements(&self, family: Family) -> &Arc<BTreeSet<String>> {
        match family {
            Family::Disks => &self.disks,
            Family::Network => &self.networks,
        }
    }
}

/// What taking in a sample meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is the newest, and differs from the one before or ends a silence.
    Changed,
    /// It is the newest, and says the same as the fresh one before.
    Same,
    /// It is older than the newest: history only.
    Late,
}

impl Windows {
    /// How long a sample of a probe is fresh.
    pub(crate) fn fresh_for(&self, key: &ProbeKey) -> Duration {
        self.index.every(key).saturating_mul(FRESH_INTERVALS)
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
    pub(crate) fn fresh(&self, host: &HostName, key: &ProbeKey, now: Timestamp) -> Option<&Newest> {
        let newest = self.newest(host, key)?;
        (now.duration_since(newest.taken_at) <= signed(self.fresh_for(key))).then_some(newest)
    }

    /// The history of a series.
    pub(crate) fn history(&self, host: &HostName, key: &ProbeKey, field: &str) -> Option<&History> {
        // The key of the map is a pair, so looking it up needs one.
        self.histories.get(&(host.clone(), key.clone()))?.get(field)
    }

    /// Takes in a sample.
    pub(crate) fn take(&mut self, host: &HostName, mut sample: Sample, now: Timestamp) -> Taken {
        for count in ["failures", "successes"] {
            if let Some(Value::Number(number)) = sample.fields.get_mut(count) {
                *number = number.min(COUNTED);
            }
        }
        self.remember(host, &sample);
        let fresh_for = signed(self.fresh_for(&sample.probe));
        let of_host = match self.newest.get_mut(host) {
            Some(of_host) => of_host,
            None => self.newest.entry(host.clone()).or_default(),
        };
        let taken_at = sample.taken_at.min(now);
        match of_host.get_mut(&sample.probe) {
            Some(newest) if taken_at < newest.taken_at => Taken::Late,
            Some(newest) if newest.fields == sample.fields => {
                let was_fresh = now.duration_since(newest.taken_at) <= fresh_for;
                newest.taken_at = taken_at;
                if was_fresh { Taken::Same } else { Taken::Changed }
            }
            Some(newest) => {
                let same_names =
                    newest.fields.len() == sample.fields.len() && newest.fields.keys().eq(sample.fields.keys());
                newest.taken_at = taken_at;
                newest.fields = sample.fields;
                if !same_names {
                    newest.disks = element_names(&newest.fields, Family::Disks);
                    newest.networks = element_names(&newest.fields, Family::Network);
                }
                Taken::Changed
            }
            None => {
                let disks = element_names(&sample.fields, Family::Disks);
                let networks = element_names(&sample.fields, Family::Network);
                of_host.insert(sample.probe, Newest { taken_at, fields: sample.fields, disks, networks });
                Taken::Changed
            }
        }
    }

    /// Adds a sample's numbers to the histories that conditions ask for.
    fn remember(&mut self, host: &HostName, sample: &Sample) {
        let wanted = self.index.series(&sample.probe);
        if wanted.is_empty() {
            return;
        }
        let histories = self.histories.entry((host.clone(), sample.probe.clone())).or_default();
        for (pattern, span) in wanted {
            for (field, number) in numbers(&sample.fields, pattern) {
                if !histories.contains_key(field) {
                    histories.insert(field.to_owned(), History::default());
                }
                if let Some(history) = histories.get_mut(field) {
                    history.add(sample.taken_at, number, *span);
                }
            }
        }
    }

    /// Forgets everything about a host: it is gone, or its name belongs to another machine now.
    pub(crate) fn forget(&mut self, host: &HostName) {
        self.newest.remove(host);
        self.histories.retain(|(of, _), _| of != host);
        self.heard.remove(host);
        self.timers.set(&Subject::Host(host.clone()), None);
    }
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
fn element_names(fields: &Fields, family: Family) -> Arc<BTreeSet<String>> {
    let prefix = format!("{}[", family.prefix());
    let names = fields
        .range(prefix.clone()..)
        .map(|(name, _)| name)
        .take_while(|name| name.starts_with(&prefix))
        .filter_map(|name| Some(name[prefix.len()..].rsplit_once(']')?.0.to_owned()))
        .collect();
    Arc::new(names)
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
