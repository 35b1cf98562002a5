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
mod mode;
mod once;
mod online;
mod require;
mod resource;
mod settle;
mod symptom;

use jiff::Timestamp;
use quell_model::policy::Rung;

use crate::{
    scope::{Notes, Site, View},
    state::{Hold, IncidentRow, PlanRow},
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
}

impl<'a> Context<'a> {
    /// A "no".
    fn no(&self, guard: &str, reason: impl Into<String>, until: Option<Timestamp>) -> Hold {
        Hold { guard: guard.to_owned(), reason: reason.into(), until, since: self.view.now }
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

/// All guards in the order in which they are asked.
pub(crate) const GUARDS: &[Guard] = &[
    Guard { name: "mode", verdict: mode::verdict, each_wave: false },
    Guard { name: "clock", verdict: clock::verdict, each_wave: true },
    Guard { name: "frozen", verdict: frozen::verdict, each_wave: true },
    Guard { name: "hostHold", verdict: host_hold::verdict, each_wave: true },
    Guard { name: "symptom", verdict: symptom::verdict, each_wave: false },
    Guard { name: "dependency", verdict: dependency::verdict, each_wave: false },
    Guard { name: "require", verdict: require::verdict, each_wave: false },
    Guard { name: "calendar", verdict: calendar::verdict, each_wave: true },
    Guard { name: "cooldown", verdict: cooldown::verdict, each_wave: false },
    Guard { name: "budget", verdict: budget::verdict, each_wave: false },
    Guard { name: "once", verdict: once::verdict, each_wave: false },
    Guard { name: "disturb", verdict: disturb::verdict, each_wave: true },
    Guard { name: "keepHealthy", verdict: keep_healthy::verdict, each_wave: true },
    Guard { name: "resource", verdict: resource::verdict, each_wave: false },
    Guard { name: "settle", verdict: settle::verdict, each_wave: false },
    // Not before each wave: a host that left must not stop the others; its commands end without it.
    Guard { name: "online", verdict: online::verdict, each_wave: false },
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
