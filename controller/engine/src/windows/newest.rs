//! The newest sample of each probe of a host, and the histories that grow from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use quell_model::{
    policy::Family,
    value::{Fields, Value},
};

use super::{FRESH_INTERVALS, History, Series, after};

/// The newest sample of a probe on a host.
#[derive(Debug)]
pub(crate) struct Newest {
    /// When it was taken.
    pub(crate) taken_at: Timestamp,
    /// Its fields.
    pub(crate) fields: Arc<Fields>,
    /// The last moment at which it counts.
    fresh_until: Timestamp,
    disks: BTreeSet<String>,
    networks: BTreeSet<String>,
    /// By field, of those that conditions look back at.
    histories: BTreeMap<String, History>,
    /// Whom another sample that says the same concerns, as was found in the state of this count.
    concerned: Option<(u64, Concerned)>,
    /// Whether it was noted that it went stale.
    is_stale: bool,
}

/// The readers of a probe, by their places, whom a sample concerns that says the same as the one before.
pub(crate) type Concerned = Arc<[usize]>;

/// What taking in a sample meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Taken {
    /// It is the newest, and ends a silence or speaks of other things than the one before.
    New,
    /// It is the newest, and says something else of the same things as the fresh one before.
    Other(Arc<Fields>),
    /// It is the newest, and says the same as the fresh one before: whom that concerns, as far as it is remembered.
    Same(Option<Concerned>),
    /// It is older than the newest: history only.
    Late,
}

impl Newest {
    pub(super) fn first(taken_at: Timestamp, fields: Arc<Fields>, every: Duration) -> Self {
        Self {
            taken_at,
            fresh_until: fresh_until(taken_at, every),
            disks: element_names(&fields, Family::Disks),
            networks: element_names(&fields, Family::Network),
            fields,
            histories: BTreeMap::new(),
            concerned: None,
            is_stale: false,
        }
    }

    /// Lets a sample take the place of the one before, in a step that began in the state of this count.
    pub(super) fn follow(
        &mut self,
        taken_at: Timestamp,
        fields: Arc<Fields>,
        every: Duration,
        (now, state): (Timestamp, u64),
    ) -> Taken {
        if taken_at < self.taken_at {
            return Taken::Late;
        }
        let was_fresh = self.is_fresh(now);
        (self.taken_at, self.fresh_until, self.is_stale) = (taken_at, fresh_until(taken_at, every), false);
        let before = std::mem::replace(&mut self.fields, fields);
        if Arc::ptr_eq(&self.fields, &before) || self.fields == before {
            let concerned = self.concerned.as_ref().filter(|(found_in, _)| *found_in == state);
            return if was_fresh { Taken::Same(concerned.map(|(_, readers)| Arc::clone(readers))) } else { Taken::New };
        }
        self.concerned = None;
        if before.len() == self.fields.len() && before.keys().eq(self.fields.keys()) {
            return if was_fresh { Taken::Other(before) } else { Taken::New };
        }
        self.disks = element_names(&self.fields, Family::Disks);
        self.networks = element_names(&self.fields, Family::Network);
        Taken::New
    }

    /// Remembers whom another sample that says the same concerns while the state is the one of this count.
    pub(super) fn remember_concerned(&mut self, readers: Concerned, state: u64) {
        self.concerned = Some((state, readers));
    }

    /// Whether it still counts.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        now <= self.fresh_until
    }

    /// Whether it ceased to count and nobody noted it so far.
    pub(super) fn goes_stale(&mut self, now: Timestamp) -> bool {
        let is_news = !self.is_stale && !self.is_fresh(now);
        self.is_stale |= is_news;
        is_news
    }

    /// The last moment at which it counts; nothing when it was noted that it went stale.
    pub(super) fn fresh_until(&self) -> Option<Timestamp> {
        (!self.is_stale).then_some(self.fresh_until)
    }

    /// The history of a field.
    pub(crate) fn history(&self, field: &str) -> Option<&History> {
        self.histories.get(field)
    }

    /// Adds a sample's numbers to the histories that conditions ask for; `$` in a series stands for any element.
    pub(super) fn remember(&mut self, taken_at: Timestamp, fields: &Fields, wanted: &[Series]) {
        for series in wanted {
            let mut add = |field: &str, value: &Value| match (value.number(), self.histories.get_mut(field)) {
                (Some(number), Some(history)) => history.add(taken_at, number, series),
                (Some(number), None) => {
                    self.histories.entry(field.to_owned()).or_default().add(taken_at, number, series);
                }
                (None, _) => {}
            };
            match series.field.split_once('$') {
                None => fields.get(&series.field).into_iter().for_each(|value| add(&series.field, value)),
                Some((before, after)) => fields
                    .range::<str, _>((Bound::Included(before), Bound::Unbounded))
                    .take_while(|(field, _)| field.starts_with(before))
                    .filter(|(field, _)| field.ends_with(after))
                    .for_each(|(field, value)| add(field, value)),
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

/// The last moment at which a sample of a probe counts that is sampled this often.
fn fresh_until(taken_at: Timestamp, every: Duration) -> Timestamp {
    after(taken_at, every.saturating_mul(FRESH_INTERVALS))
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
