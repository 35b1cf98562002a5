//! What the world tells of itself, for tests to look at: its story, its incidents, plans, orders and messages.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use quell_engine::{
    Explanation,
    id::{IncidentId, PlanId},
    input::WhyQuestion,
    state::{CommandRow, CommandState, IncidentRow, OutcomeKind, PlanRow, PlanState},
};

use super::{SHOP_ZONE, World};

impl World {
    /// Why a policy does what it does, worst target first.
    pub fn why(&self, policy: &str) -> Vec<Explanation> {
        let question = WhyQuestion { policy: format!("plants/{policy}").parse().unwrap(), target: None };
        quell_engine::explain(&self.windows, &self.state, self.now, &question)
    }

    /// The records of these kinds, one a line, with the shop's time of day.
    pub fn tell(&self, kinds: &[&str]) -> String {
        let zone = TimeZone::get(SHOP_ZONE).unwrap();
        let wanted = self.records.iter().filter(|record| kinds.is_empty() || kinds.contains(&record.kind));
        let lines = wanted.map(|record| {
            let time = record.time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
            format!("{time} {} {}", record.kind, record.text)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The story that people would read: what was seen, decided, held, done and told.
    pub fn story(&self) -> String {
        self.tell(&[
            "alertPending",
            "alertFiring",
            "alertResolved",
            "incidentOpened",
            "incidentJoined",
            "incidentHeld",
            "incidentInhibited",
            "incidentRelapsed",
            "incidentResolved",
            "rungSkipped",
            "ladderResumed",
            "planMade",
            "planPreviewed",
            "planHeld",
            "planStarted",
            "planActed",
            "planUndone",
            "planEnded",
            "planApproved",
            "planDenied",
            "planCancelled",
            "voteGiven",
            "voteVoided",
            "approvalAsked",
            "commandSent",
            "commandEnded",
            "commandResent",
            "messageMade",
            "messageSilenced",
            "escalated",
            "breakerTripped",
            "breakerReset",
            "alertCalmed",
            "runSkipped",
            "hostSilent",
            "hostHeard",
            "hostDisconnected",
            "started",
            "holdMade",
            "holdsEnded",
        ])
    }

    /// The messages that reached people, one a line: contact and subject.
    pub fn told(&self) -> Vec<String> {
        self.messages.iter().map(|message| format!("{}: {}", message.contact.name, message.subject)).collect()
    }

    /// Open incidents.
    pub fn open(&self) -> Vec<&IncidentRow> {
        self.state.live.incidents.iter().filter_map(|id| self.state.incidents.get(id)).map(AsRef::as_ref).collect()
    }

    /// An incident.
    pub fn incident(&self, number: u64) -> &IncidentRow {
        self.state
            .incidents
            .get(&IncidentId(number))
            .unwrap_or_else(|| panic!("there is no inc-{number}\n{}", self.story()))
    }

    /// All plans.
    pub fn plans(&self) -> Vec<&PlanRow> {
        self.state.plans.values().map(AsRef::as_ref).collect()
    }

    /// Plans in a state.
    pub fn plans_in(&self, state: PlanState) -> Vec<&PlanRow> {
        self.plans().into_iter().filter(|plan| plan.state == state).collect()
    }

    /// Commands that were sent, in order: time of day, action, host.
    pub fn sent(&self) -> Vec<String> {
        let zone = TimeZone::get(SHOP_ZONE).unwrap();
        let mut sent: Vec<&CommandRow> =
            self.state.commands.values().map(AsRef::as_ref).filter(|command| command.sent_at.is_some()).collect();
        sent.sort_by_key(|command| (command.sent_at, command.id));
        let line = |command: &&CommandRow| {
            let time = command.sent_at.unwrap().to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
            format!("{time} {} {}", command.action, command.host)
        };
        sent.iter().map(line).collect()
    }

    /// How often each idempotency key was carried out on some host: never more than once.
    pub fn effects(&self) -> BTreeMap<String, usize> {
        let mut effects = BTreeMap::new();
        for key in self.agents.values().flat_map(|agent| &agent.effects) {
            *effects.entry(key.clone()).or_default() += 1;
        }
        effects
    }

    /// The kinds of outcome of a plan's commands by host.
    pub fn outcomes(&self, plan: PlanId) -> BTreeMap<String, OutcomeKind> {
        let commands =
            self.state.commands.values().filter(|command| command.plan == plan && command.state == CommandState::Ended);
        commands.filter_map(|command| Some((command.host.to_string(), command.outcome.as_ref()?.kind))).collect()
    }

    /// The kinds of the records, each once.
    pub fn kinds(&self) -> BTreeSet<&'static str> {
        self.records.iter().map(|record| record.kind).collect()
    }
}
