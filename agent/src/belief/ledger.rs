//! What the agent has seen and done: the highest version of each set, one-shots that were used, and its acts.
//!
//! Pure: the time is a parameter, and whoever changes it makes it durable. Wall-clock times are compared with each other
//! only as far as the clock has not gone back; when it has, nothing begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use quell_model::{
    digest::Digest,
    name::{FullName, ObjectName, Target},
    trust::{SetName, Warrant, authorize::Mandate},
    unit::duration_text,
};
use serde::{Deserialize, Serialize};

/// How far the clock may have gone back since something was written.
const BACK: SignedDuration = SignedDuration::from_secs(60);
/// What hangs on a set's expiry is forgotten so long after it: by then the clock cannot go back to before it unnoticed.
const AFTERLIFE: SignedDuration = SignedDuration::from_secs(120);
/// How long after its set's expiry recovery is allowed.
const RECOVERY: SignedDuration = SignedDuration::from_hours(24);
/// Acts that are remembered for longer than they have to be.
const KEPT: usize = 256;
/// Acts and one-shots that are remembered; a host with more refuses new ones.
const MOST: usize = 4096;

/// Why the ledger lets something not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Held {
    /// The clock has gone back.
    #[error("this host's clock says {now}, and {latest} has been here already: set the clock right")]
    Clock {
        /// The time now.
        now: Timestamp,
        /// The latest time seen.
        latest: Timestamp,
    },
    /// A set has been replaced.
    #[error("version {version} of set {set} has been replaced by version {seen}: a roll-back is a new version")]
    OldSet {
        /// Which set.
        set: SetName,
        /// The version that came.
        version: u64,
        /// The highest that was seen.
        seen: u64,
    },
    /// Two sets with one version.
    #[error(
        "version {version} of set {set} is not the one that this host has seen: two different sets were signed with \
         one version; sign the next version with `quell apply`"
    )]
    Fork {
        /// Which set.
        set: SetName,
        /// The version.
        version: u64,
    },
    /// A person's order was used for another plan.
    #[error("order {order} was used here for plan {plan} already, and it is good for one plan: run it again with `quell run`", plan = .plan.short())]
    Used {
        /// Its identifier.
        order: String,
        /// The plan that used it.
        plan: Digest,
    },
    /// A step of a plan was done, or begun at least. The journal answers the same order for as long as it remembers it.
    #[error("step {step} of plan {plan} was begun here already: a plan is good for once", plan = .plan.short())]
    Done {
        /// The plan.
        plan: Digest,
        /// The step.
        step: usize,
    },
    /// It acted lately.
    #[error("policy {policy} acted on {target} here at {at}, and its cool-down lasts until {until}")]
    Cooldown {
        /// The policy.
        policy: FullName,
        /// The target.
        target: Target,
        /// When it acted.
        at: Timestamp,
        /// Until when it rests.
        until: Timestamp,
    },
    /// The limits' budget is spent.
    #[error("Limits {limits}: {most} acts on this host within {span} are spent until {until:.0}", span = duration_text(*.within))]
    Budget {
        /// Whose budget.
        limits: FullName,
        /// How many acts there may be.
        most: u32,
        /// Within this long.
        within: Duration,
        /// Until when.
        until: Timestamp,
    },
    /// There is no room.
    #[error("this host remembers {MOST} acts already: nothing begins before some of them need not be remembered")]
    Full,
}

/// A set that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen {
    version: u64,
    digest: Digest,
}

/// The plan that a person's order was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Used {
    plan: Digest,
    until: Timestamp,
}

/// Something that was done, or begun at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Act {
    /// Absent: a person's order.
    policy: Option<FullName>,
    target: Target,
    rung: String,
    plan: Digest,
    step: usize,
    at: Timestamp,
    recovery: bool,
    /// It is remembered until then at least.
    until: Timestamp,
}

/// What the agent has seen and done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ledger {
    latest: Timestamp,
    sets: BTreeMap<ObjectName, Seen>,
    /// Sets of limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<ObjectName, Seen>,
    one_shots: BTreeMap<String, Used>,
    acts: Vec<Act>,
}

/// An order, as the ledger knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) warrant: &'a Warrant,
    pub(crate) plan: Digest,
    pub(crate) step: usize,
    /// Whether it takes an earlier one back.
    pub(crate) undo: bool,
}

impl Step<'_> {
    fn policy(&self) -> Option<&FullName> {
        match &self.warrant.mandate {
            Mandate::Policy { policy, .. } => Some(&policy.name),
            Mandate::Run(_) => None,
        }
    }

    /// Whether it is of a later rung than an act of its policy: the rungs of a ladder, one after the other, are one remedy.
    fn climbs_on_from(&self, act: &Act) -> bool {
        match &self.warrant.mandate {
            Mandate::Policy { policy, rung } => {
                policy.ladder.iter().take(*rung).any(|earlier| earlier.name == act.rung)
            }
            Mandate::Run(_) => false,
        }
    }
}

impl Ledger {
    /// The highest version of each set.
    pub(crate) fn set_versions(&self) -> BTreeMap<SetName, u64> {
        let sets = self.sets.iter().map(|(namespace, seen)| (SetName::from(namespace.clone()), seen.version));
        let limits = self.limits.iter().map(|(namespace, seen)| (SetName::of_limits(namespace.clone()), seen.version));
        sets.chain(limits).collect()
    }

    /// Whether a step of a plan was begun here.
    pub(crate) fn has_begun(&self, plan: Digest) -> bool {
        self.acts.iter().any(|act| act.plan == plan)
    }

    /// Whether a set is still the newest that was seen, and an order unused: asked for whatever only looks, too.
    pub(crate) fn check_seen(&self, step: &Step<'_>) -> Result<(), Held> {
        let warrant = step.warrant;
        if let Some(bounds) = &warrant.bounds {
            let name = SetName::of_limits(bounds.namespace.clone());
            check_newest(name, self.limits.get(&bounds.namespace), bounds.version, bounds.digest)?;
        }
        if let Some(id) = &warrant.one_shot {
            let used = self.one_shots.get(id).filter(|used| used.plan != step.plan);
            return used.map_or(Ok(()), |used| Err(Held::Used { order: id.clone(), plan: used.plan }));
        }
        let seen = self.sets.get(&warrant.namespace).filter(|_| !step.undo);
        check_newest(warrant.namespace.clone().into(), seen, warrant.set_version, warrant.set_digest)
    }

    /// Whether something may begin: what [`Self::check_seen`] asks, that it was not done, and the cool-down.
    pub(crate) fn check_act(&self, step: &Step<'_>, now: Timestamp) -> Result<(), Held> {
        self.check_seen(step)?;
        if step.undo {
            return Ok(());
        }
        if self.acts.iter().any(|act| act.plan == step.plan && act.step == step.step) {
            return Err(Held::Done { plan: step.plan, step: step.step });
        }
        if step.warrant.recovery {
            return Ok(());
        }
        if now.duration_since(self.latest) < -BACK {
            return Err(Held::Clock { now, latest: self.latest });
        }
        self.check_cooldown(step, now)?;
        self.check_budget(step, now)?;
        if self.acts.len() >= MOST || self.one_shots.len() >= MOST { self.has_room(now) } else { Ok(()) }
    }

    fn check_cooldown(&self, step: &Step<'_>, now: Timestamp) -> Result<(), Held> {
        let Some(policy) = step.policy() else { return Ok(()) };
        let target = &step.warrant.target;
        let others = self.of(policy, target).filter(|act| act.plan != step.plan && !step.climbs_on_from(act));
        let Some(last) = others.map(|act| act.at).max() else { return Ok(()) };
        let until = later(last, step.warrant.cooldown);
        if now >= until {
            return Ok(());
        }
        Err(Held::Cooldown { policy: policy.clone(), target: target.clone(), at: last, until })
    }

    /// How often the limits let the policies of their namespace act on this host.
    fn check_budget(&self, step: &Step<'_>, now: Timestamp) -> Result<(), Held> {
        let Some(bounds) = &step.warrant.bounds else { return Ok(()) };
        let is_run = step.policy().is_none();
        // A policy is of the limits' namespace; an order by hand is of no policy.
        let is_counted = |act: &&Act| match &act.policy {
            Some(policy) => !is_run && policy.namespace == bounds.namespace,
            None => is_run,
        };
        for limits in &bounds.limits {
            let Some((budget, most)) = limits.budget.and_then(|budget| Some((budget, budget.per_host?))) else {
                continue;
            };
            let since = earlier(now, budget.within);
            let lately = self.acts.iter().filter(|act| act.at > since && act.plan != step.plan && !act.recovery);
            let mut plans: BTreeMap<Digest, Timestamp> = BTreeMap::new();
            for act in lately.filter(is_counted) {
                plans.entry(act.plan).and_modify(|at| *at = act.at.max(*at)).or_insert(act.at);
            }
            let mut times: Vec<Timestamp> = plans.into_values().collect();
            times.sort_unstable();
            let Some(over) = times.len().checked_sub(most as usize) else { continue };
            let until = times.get(over).map_or(Timestamp::MAX, |oldest| later(*oldest, budget.within));
            return Err(Held::Budget { limits: limits.name.clone(), most, within: budget.within, until });
        }
        Ok(())
    }

    fn has_room(&self, now: Timestamp) -> Result<(), Held> {
        let acts = self.acts.iter().filter(|act| act.until > now).count();
        let used = self.one_shots.values().filter(|used| used.until > now).count();
        if acts < MOST && used < MOST { Ok(()) } else { Err(Held::Full) }
    }

    /// Acts of a policy on a target, without recovery.
    fn of<'l>(&'l self, policy: &'l FullName, target: &'l Target) -> impl Iterator<Item = &'l Act> {
        let of = move |act: &&Act| act.policy.as_ref() == Some(policy) && act.target == *target && !act.recovery;
        self.acts.iter().filter(of)
    }

    /// How many plans of a policy's rung acted on a target within a span, another one than this.
    pub(crate) fn acted(&self, step: &Step<'_>, within: Duration, now: Timestamp) -> usize {
        let Some(policy) = step.policy() else { return 0 };
        let since = earlier(now, within);
        let plans: BTreeSet<Digest> = self
            .of(policy, &step.warrant.target)
            .filter(|act| act.at > since && act.plan != step.plan && act.rung == step.warrant.plan.rung)
            .map(|act| act.plan)
            .collect();
        plans.len()
    }

    /// Notes the set of something that is done or looked at. Whether anything has changed.
    pub(crate) fn note_seen(&mut self, step: &Step<'_>, now: Timestamp) -> bool {
        let warrant = step.warrant;
        let mut newer = false;
        if let Some(bounds) = &warrant.bounds {
            newer |= put_newer(&mut self.limits, &bounds.namespace, bounds.version, bounds.digest);
        }
        if warrant.one_shot.is_none() {
            newer |= put_newer(&mut self.sets, &warrant.namespace, warrant.set_version, warrant.set_digest);
        }
        if newer {
            self.latest = self.latest.max(now);
        }
        newer
    }

    /// Notes that something begins.
    pub(crate) fn note_act(&mut self, step: &Step<'_>, remembered: Duration, now: Timestamp) {
        self.note_seen(step, now);
        self.latest = self.latest.max(now);
        self.forget(now);
        if step.undo {
            return;
        }
        let warrant = step.warrant;
        let afterlife = if warrant.recovery { AFTERLIFE + RECOVERY } else { AFTERLIFE };
        let afterlife = warrant.set_expires.checked_add(afterlife).unwrap_or(Timestamp::MAX);
        if let Some(id) = &warrant.one_shot {
            self.one_shots.insert(id.clone(), Used { plan: step.plan, until: afterlife });
        }
        let budgets = warrant.bounds.iter().flat_map(|bounds| &bounds.limits).filter_map(|limits| limits.budget);
        let counted = budgets.map(|budget| budget.within).max().unwrap_or_default();
        let rests = later(now, remembered.max(warrant.cooldown).max(counted));
        // What people approved is good for once as long as its set is: others can be planned anew at any time.
        let once = warrant.choice.is_some() || warrant.one_shot.is_some();
        self.acts.push(Act {
            policy: step.policy().cloned(),
            target: warrant.target.clone(),
            rung: warrant.plan.rung.clone(),
            plan: step.plan,
            step: step.step,
            at: now,
            recovery: warrant.recovery,
            until: if once { rests.max(afterlife) } else { rests },
        });
    }

    /// Forgets what need not be remembered; the newest acts stay all the same, so that a late replay finds them.
    fn forget(&mut self, now: Timestamp) {
        let mut excess = self.acts.len().saturating_sub(KEPT);
        self.acts.retain(|act| {
            let forgotten = excess > 0 && act.until <= now;
            excess -= usize::from(forgotten);
            !forgotten
        });
        self.one_shots.retain(|_, used| used.until > now);
    }
}

/// Whether a set is the newest that was seen.
fn check_newest(set: SetName, seen: Option<&Seen>, version: u64, digest: Digest) -> Result<(), Held> {
    match seen {
        Some(seen) if version < seen.version => Err(Held::OldSet { set, version, seen: seen.version }),
        Some(seen) if version == seen.version && digest != seen.digest => Err(Held::Fork { set, version }),
        _ => Ok(()),
    }
}

/// Remembers a set when it is newer than what was seen; whether it is.
fn put_newer(sets: &mut BTreeMap<ObjectName, Seen>, namespace: &ObjectName, version: u64, digest: Digest) -> bool {
    if sets.get(namespace).is_some_and(|seen| seen.version >= version) {
        return false;
    }
    sets.insert(namespace.clone(), Seen { version, digest });
    true
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}
