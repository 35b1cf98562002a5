//! What must hold, asked at every step and at the end. It keeps its own books of what people said and what happened on the
//! hosts, and never asks the engine whether the engine was right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quell_engine::{
    State,
    id::{CommandId, WindowId},
    input::HoldScope,
    state::{CommandRow, CommandState, OutcomeKind, PlanRow},
};
use quell_model::{digest::Digest, name::HostName};
use quell_wire::v1;

use crate::{site::parameter, time::Millis};

/// An effect on a host.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) host: HostName,
    /// The journal's key.
    pub(crate) key: String,
    pub(crate) command: CommandId,
    pub(crate) at: Millis,
}

/// A hold that people made and have not ended.
#[derive(Debug, Clone)]
struct Freeze {
    scope: HoldScope,
    until: Timestamp,
}

/// An order and its plan, as the controller's disk has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) command: Option<CommandRow>,
    pub(crate) plan: Option<PlanRow>,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    violations: Vec<String>,
    effects: Vec<Effect>,
    seen: BTreeSet<(HostName, String)>,
    /// Who said yes to which plan, and was not revoked since.
    consents: BTreeMap<Digest, BTreeSet<String>>,
    freezes: BTreeMap<WindowId, Freeze>,
    runs: u32,
}

/// What each rung may do, on whom, and whether people have to say yes: what the policies of the simulation say, written
/// down a second time.
fn may(plan: &PlanRow, command: &v1::Command, host: &HostName) -> Option<bool> {
    let policy = plan.policy.as_ref()?.name.as_str();
    let service = parameter(command, "service");
    let argv = parameter(command, "argv");
    let is_web = host.as_str().starts_with("web");
    let (permitted, asks) = match (policy, plan.rung.as_str(), command.action.as_str()) {
        ("web-down" | "lag", "restart", "service.restart") => (is_web && service == "web", false),
        ("web-down", "redeploy", "exec") => (is_web && argv == r#"["/usr/bin/redeploy","web"]"#, true),
        ("disk-full", "rotate", "log.rotate") => (is_web && parameter(command, "path") == "/srv/log/app.log", false),
        ("stock", "refill", "exec") => {
            (is_web && (argv.contains("/usr/bin/drain") || argv.contains("/usr/bin/undrain")), false)
        }
        ("stock", "refill", "service.restart") => (is_web && service == "stock", false),
        ("dns", "failover", "dns.failover") => {
            (!is_web && parameter(command, "from") != parameter(command, "to"), false)
        }
        ("orders", "restart", "service.restart") => (!is_web && service == "orders", false),
        ("cache", "restart", "service.restart") => (is_web && service == "cache", true),
        _ => (false, false),
    };
    permitted.then_some(asks)
}

impl Judge {
    /// What was found wrong so far.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Something is wrong.
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// How many effects there were.
    pub(crate) fn effects(&self) -> usize {
        self.effects.len()
    }

    /// Somebody says yes to a plan, whether or not the controller hears it.
    pub(crate) fn consents(&mut self, plan: Digest, person: &str) {
        self.consents.entry(plan).or_default().insert(person.to_owned());
    }

    /// Somebody's votes count no more, for plans that have not started.
    pub(crate) fn revoked(&mut self, person: &str, state: &State) {
        for plan in state.plans.values().filter(|plan| plan.started_at.is_none()) {
            if let Some(people) = self.consents.get_mut(&plan.hash) {
                people.remove(person);
            }
        }
    }

    /// People hold something.
    pub(crate) fn held(&mut self, window: WindowId, scope: HoldScope, until: Timestamp) {
        self.freezes.insert(window, Freeze { scope, until });
    }

    /// People let go, of one hold or of all.
    pub(crate) fn let_go(&mut self, window: Option<WindowId>) {
        self.freezes.retain(|id, _| window.is_some_and(|window| window != *id));
    }

    /// An order leaves the controller.
    pub(crate) fn released(&mut self, now: Timestamp, stored: &Stored, command: &CommandRow, plan: &PlanRow) {
        let id = command.id;
        if stored.command.as_ref().is_none_or(|row| row.sent_at.is_none() || row.fence < command.fence) {
            self.wrong(format!("{id} leaves the controller without a record of it"));
        }
        if command.finally || command.undoes.is_some() {
            return;
        }
        let freeze = self.freezes.values().find(|freeze| freeze.until > now && freeze.covers(command, plan));
        if let Some(freeze) = freeze {
            self.violations
                .push(format!("{id} leaves the controller although {:?} is held until {}", freeze.scope, freeze.until));
        }
    }

    /// An order has its effect on a host.
    pub(crate) fn applied(&mut self, stored: &Stored, effect: Effect, command: &v1::Command) {
        let Effect { host, key, .. } = &effect;
        if !self.seen.insert((host.clone(), key.clone())) {
            self.violations.push(format!("{key} ({}) has its effect on {host} a second time", effect.command));
        }
        match &stored.command {
            Some(row) if row.sent_at.is_none() => {
                self.violations.push(format!("{} has its effect on {host} and was never sent", row.id));
            }
            Some(row) => self.is_permitted(stored, row, command, host),
            None => self.violations.push(format!("{} has its effect on {host} and is on no record", effect.command)),
        }
        self.effects.push(effect);
    }

    fn is_permitted(&mut self, stored: &Stored, row: &CommandRow, command: &v1::Command, host: &HostName) {
        let id = row.id;
        if row.host != *host {
            self.violations.push(format!("{id} is for {} and has its effect on {host}", row.host));
        }
        if let Some(outcome) = row.outcome.as_ref().filter(|outcome| outcome.kind != OutcomeKind::Unknown) {
            self.violations.push(format!(
                "{id} has its effect on {host} after the controller told people that it ended: {:?}, {}",
                outcome.kind, outcome.summary
            ));
        }
        let Some(plan) = &stored.plan else {
            return self.violations.push(format!("{id} has its effect and no plan"));
        };
        if plan.policy.is_none() {
            let is_run = plan.requester.is_some() && command.action == "service.restart";
            if !is_run {
                self.violations.push(format!("{id}: nobody ran {} by hand", command.action));
            }
            return;
        }
        match may(plan, command, host) {
            None => self.violations.push(format!("{id}: no signed policy lets {} happen on {host}", command.action)),
            Some(false) => {}
            Some(true) if command.undo || row.finally => {}
            Some(true) if self.consents.get(&plan.hash).is_none_or(BTreeSet::is_empty) => {
                self.violations.push(format!("{id} of {} has its effect, and nobody approved the plan", plan.id));
            }
            Some(true) => {}
        }
    }

    /// Counts the runs that people ask for.
    pub(crate) fn next_run(&mut self) -> u32 {
        self.runs += 1;
        self.runs
    }

    /// What the state must look like once everything is quiet.
    pub(crate) fn all_has_ended(&mut self, state: &State) {
        for id in &state.live.plans {
            let plan = state.plans.get(id).map(|plan| format!("{:?}, {:?}", plan.state, plan.hold));
            self.violations.push(format!("{id} never ends: {plan:?}"));
        }
        for command in state.commands.values().filter(|command| command.state != CommandState::Ended) {
            self.violations.push(format!("{} never ends: {:?}", command.id, command.state));
        }
        for id in &state.live.messages {
            self.violations.push(format!("{id} never reaches anybody"));
        }
    }

    /// Each effect has its intent and its outcome on record, and the outcome is the host's.
    pub(crate) fn audit_is_complete(
        &mut self,
        state: &State,
        recorded: &BTreeMap<(String, String), u64>,
        journaled: impl Fn(&Effect) -> Option<OutcomeKind>,
    ) {
        let has = |kind: &str, id: CommandId| recorded.contains_key(&(kind.to_owned(), id.to_string()));
        for effect in &self.effects {
            let id = effect.command;
            if !has("commandSent", id) {
                self.violations
                    .push(format!("{id} had its effect on {} and its intent is not in the log", effect.host));
            }
            if !has("commandEnded", id) {
                self.violations
                    .push(format!("{id} had its effect on {} and its outcome is not in the log", effect.host));
            }
            let told = state.commands.get(&id).and_then(|row| row.outcome.as_ref()).map(|outcome| outcome.kind);
            let journaled = journaled(effect);
            if told != journaled {
                self.violations.push(format!(
                    "{id} at {} s on {}: the controller says {told:?}, the host's journal {journaled:?}",
                    effect.at / 1_000,
                    effect.host
                ));
            }
        }
    }
}

impl Freeze {
    fn covers(&self, command: &CommandRow, plan: &PlanRow) -> bool {
        match &self.scope {
            HoldScope::Host(host) => command.host == *host,
            HoldScope::Policy(policy) => plan.policy.as_ref() == Some(policy),
            HoldScope::Incident(incident) => plan.incident == Some(*incident),
            // The simulation freezes everybody, or the hosts of one role.
            HoldScope::Hosts(quell_model::selector::Selector::All) => true,
            HoldScope::Hosts(_) => command.host.as_str().starts_with("web"),
        }
    }
}
