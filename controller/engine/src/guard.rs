//! Guards: what holds a plan back. One file each, one list, asked in order when a plan is made, while it waits, and once
//! more in the very step that sends its first command.
//!
//! A guard says nothing, or why not and until when. The first "no" is what people are told; all of them are shown by
//! `quell why`.

mod approval;
mod budget;
mod calendar;
mod clock;
mod cooldown;
mod dependency;
mod disturb;
mod frozen;
mod host_hold;
mod keep_healthy;
mod limits;
mod mode;
mod once;
mod online;
mod preview;
mod require;
mod resource;
mod settle;
mod symptom;

use std::collections::BTreeSet;

use jiff::Timestamp;
use quell_model::{
    name::{HostName, Target},
    policy::Rung,
};

use crate::{
    plan::concern,
    scope::{Notes, Site, View},
    state::{Concern, Hold, IncidentRow, PlanRow},
    windows::Compiled,
};

/// What a guard looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) view: View<'a>,
    /// The plan that wants to start.
    pub(crate) plan: &'a PlanRow,
    /// Its policy; absent for a person's run.
    pub(crate) compiled: Option<&'a Compiled>,
    /// Its rung.
    pub(crate) rung: Option<&'a Rung>,
    /// Its incident.
    pub(crate) incident: Option<&'a IncidentRow>,
    /// The hosts that it takes when it goes on.
    pub(crate) taking: &'a BTreeSet<HostName>,
}

impl<'a> Context<'a> {
    /// A "no".
    fn no(&self, guard: &str, reason: impl Into<String>, until: Option<Timestamp>) -> Hold {
        Hold { guard: guard.to_owned(), reason: reason.into(), until, since: self.view.now }
    }

    /// The policies whose remedy the plan is, and their targets: its own, or those that a person's run concerns and that
    /// act at all. A dry run is nobody's.
    fn remedies(&self) -> Vec<(&'a Compiled, &'a Target)> {
        let plan = self.plan;
        if plan.dry_run {
            return Vec::new();
        }
        let own = self.compiled.map(|compiled| (compiled, &plan.target));
        let concerned = self
            .concerns()
            .flat_map(|(compiled, concern)| concern.targets.iter().map(move |target| (compiled, target)));
        own.into_iter().chain(concerned).collect()
    }

    /// The policies that a person's run concerns and that act at all.
    fn concerns(&self) -> impl Iterator<Item = (&'a Compiled, &'a Concern)> + use<'a> {
        let view = self.view;
        self.plan.concerns.iter().filter_map(move |concern| {
            let compiled = view.windows.index.policy(&concern.policy)?;
            concern::binds(view, &compiled.policy).then_some((&**compiled, concern))
        })
    }

    /// Where conditions of the rung are judged.
    fn site(&self, compiled: &'a Compiled, notes: &'a Notes) -> Site<'a> {
        let mut site = self.view.site(compiled, &self.plan.target, notes);
        site.plan = Some(self.plan);
        site.rung = self.rung.map(|rung| rung.name.as_str());
        site
    }
}

/// One guard.
pub(crate) struct Guard {
    /// Its name in holds and in `quell why`.
    pub(crate) name: &'static str,
    /// Its verdict.
    pub(crate) verdict: fn(&Context<'_>) -> Option<Hold>,
    /// Whether it is asked again before each further wave.
    pub(crate) each_wave: bool,
}

/// All guards in the order in which they are asked, each with why it is asked again before a further wave or not.
pub(crate) const GUARDS: &[Guard] = &[
    // Again: the leave to act may have been taken back. It stops the plan, which then comes to its end.
    Guard { name: "mode", verdict: mode::verdict, each_wave: true },
    // Again: they may have been lowered, and their hours end.
    Guard { name: "limits", verdict: limits::verdict, each_wave: true },
    // Again: the rest of the plan goes by timers and calendars too.
    Guard { name: "clock", verdict: clock::verdict, each_wave: true },
    // Again: what people hold is held, however far a plan has come.
    Guard { name: "frozen", verdict: frozen::verdict, each_wave: true },
    // Again: a host's administrator has the last word at every moment.
    Guard { name: "hostHold", verdict: host_hold::verdict, each_wave: true },
    // Again for the symptom of one host; a rollout over the fleet is one act, whose own waves move the symptom.
    Guard { name: "symptom", verdict: symptom::verdict, each_wave: true },
    // Once: what is below waits for this plan's end, so that each would wait for the other for ever.
    Guard { name: "dependency", verdict: dependency::verdict, each_wave: false },
    // Once: the first wave may change what a requirement reads.
    Guard { name: "require", verdict: require::verdict, each_wave: false },
    // Again: a wave is not begun after closing time.
    Guard { name: "calendar", verdict: calendar::verdict, each_wave: true },
    // Once: it counts the time between remedies, and a plan is one remedy.
    Guard { name: "cooldown", verdict: cooldown::verdict, each_wave: false },
    // Once: a plan is one act, however many waves it has.
    Guard { name: "budget", verdict: budget::verdict, each_wave: false },
    // Once: it is used up when the plan starts.
    Guard { name: "once", verdict: once::verdict, each_wave: false },
    // Again: others may have disturbed hosts of the service since.
    Guard { name: "disturb", verdict: disturb::verdict, each_wave: true },
    // Again: each wave takes its own members, and others may have fallen ill since.
    Guard { name: "keepHealthy", verdict: keep_healthy::verdict, each_wave: true },
    // Once: a plan that runs holds its resources until it ends.
    Guard { name: "resource", verdict: resource::verdict, each_wave: false },
    // Once: between its waves a plan pauses by itself.
    Guard { name: "settle", verdict: settle::verdict, each_wave: false },
    // Once: a host that left must not stop the others; its commands end without it.
    Guard { name: "online", verdict: online::verdict, each_wave: false },
    // Once: what would be touched is looked at again by each host, before it acts.
    Guard { name: "preview", verdict: preview::verdict, each_wave: false },
    // Once: people approved the whole plan.
    Guard { name: "approval", verdict: approval::verdict, each_wave: false },
];

/// The first "no".
pub(crate) fn first_no(context: &Context<'_>) -> Option<Hold> {
    GUARDS.iter().find_map(|guard| (guard.verdict)(context))
}

/// The first "no" to a further step inside a wave: what people hold stops there too.
pub(crate) fn first_no_to_step(context: &Context<'_>) -> Option<Hold> {
    frozen::verdict(context).or_else(|| host_hold::verdict(context))
}

/// The first "no" to a further wave.
pub(crate) fn first_no_to_wave(context: &Context<'_>) -> Option<Hold> {
    GUARDS.iter().filter(|guard| guard.each_wave).find_map(|guard| (guard.verdict)(context))
}
