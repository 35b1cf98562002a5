//! The judges: they walk through the records of a life and look at every command with the state of its moment.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use quell_engine::{
    Change, State,
    id::{CommandId, PlanId},
    state::{CommandRow, CommandState, HostState, OutcomeKind, PlanRow},
};
use quell_model::name::{FullName, HostName, Target};

use super::farm::Rules;
use crate::world::World;

/// A command at the moment of its sending.
pub(crate) struct Sent<'a> {
    pub(crate) at: Timestamp,
    pub(crate) command: &'a CommandRow,
    pub(crate) plan: &'a PlanRow,
    /// The state with this command sent and nothing after it.
    pub(crate) state: &'a State,
}

/// Shows every change with the state that it led to.
pub(crate) fn walk(world: &World, mut look: impl FnMut(&State, &Change)) {
    let mut state = State::default();
    "test".clone_into(&mut std::sync::Arc::make_mut(&mut state.meta).installation);
    for change in &world.records {
        for write in &change.writes {
            state.apply(write).unwrap();
        }
        look(&state, change);
    }
}

/// Shows every command when it is sent; says how many there were.
pub(crate) fn each_sent(world: &World, mut look: impl FnMut(&Sent<'_>)) -> usize {
    let mut count = 0;
    walk(world, |state, change| {
        if change.kind != "commandSent" {
            return;
        }
        count += 1;
        let id: CommandId = change.ids["command"].parse().unwrap();
        let command = state.commands.get(&id).unwrap();
        let plan = state.plans.get(&command.plan).unwrap();
        look(&Sent { at: change.time, command, plan, state });
    });
    count
}

/// Whether a command brings risk: recovery does not.
pub(crate) fn is_risk(command: &CommandRow) -> bool {
    !command.dry_run && !command.finally && command.undoes.is_none()
}

/// Whether a command was sent and may have had an effect.
fn has_acted(command: &CommandRow) -> bool {
    let is_void = |kind| matches!(kind, OutcomeKind::Refused | OutcomeKind::NotStarted);
    is_risk(command) && command.sent_at.is_some() && !command.outcome.as_ref().is_some_and(|done| is_void(done.kind))
}

/// The risky commands of a state that may have had an effect after a moment, with their plans.
fn acted_since(state: &State, since: Timestamp) -> impl Iterator<Item = (&CommandRow, &PlanRow)> {
    state
        .commands
        .values()
        .map(AsRef::as_ref)
        .filter(move |command| has_acted(command) && command.sent_at.is_some_and(|at| at > since))
        .filter_map(|command| Some((command, state.plans.get(&command.plan)?.as_ref())))
}

fn seconds(count: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(count))
}

/// The policy whose remedy a command is, and its target: a person who restarts a server does what its policy would do.
fn remedy(command: &CommandRow, plan: &PlanRow) -> Option<(FullName, Target)> {
    if let Some(policy) = &plan.policy {
        return Some((policy.clone(), plan.target.clone()));
    }
    let is_restart = command.action == "service.restart" && command.parameters["service"] == "web";
    is_restart.then(|| ("plants/queue".parse().unwrap(), Target::Host(command.host.clone())))
}

/// Between two remedies of one target, for two incidents or by people, lies the cool-down.
pub(crate) fn cool_downs(world: &World, rules: &Rules) -> usize {
    each_sent(world, |sent| {
        let own = remedy(sent.command, sent.plan);
        if own.is_none() || !is_risk(sent.command) || sent.plan.started_at != Some(sent.at) {
            return;
        }
        let since = sent.at - seconds(rules.cooldown);
        let same = acted_since(sent.state, since).find(|(command, plan)| {
            plan.id != sent.plan.id
                && remedy(command, plan) == own
                && (plan.incident.is_none() || plan.incident != sent.plan.incident)
        });
        assert!(same.is_none(), "{} acts in the cool-down of {:?}", sent.plan.id, same.map(|(command, _)| command.id));
    })
}

/// No policy starts more plans than its budgets allow, and no person in its place.
pub(crate) fn budgets(world: &World, rules: &Rules) -> usize {
    each_sent(world, |sent| {
        let Some((policy, target)) = remedy(sent.command, sent.plan) else { return };
        if !is_risk(sent.command) || sent.plan.started_at != Some(sent.at) {
            return;
        }
        let since = sent.at - seconds(rules.within);
        let remedies =
            || acted_since(sent.state, since).filter_map(|(command, plan)| Some((remedy(command, plan)?, plan)));
        let of_policy: BTreeSet<PlanId> =
            remedies().filter(|(remedy, _)| remedy.0 == policy).map(|(_, plan)| plan.id).collect();
        let of_target: BTreeSet<PlanId> = remedies()
            .filter(|(remedy, _)| *remedy == (policy.clone(), target.clone()))
            .map(|(_, plan)| plan.id)
            .collect();
        assert!(of_policy.len() <= rules.per_policy as usize, "{} overdraws its policy: {of_policy:?}", sent.plan.id);
        assert!(of_target.len() <= rules.per_target as usize, "{} overdraws its target: {of_target:?}", sent.plan.id);
    })
}

/// No more hosts are disturbed within the span than the limit says, over all plans and people.
pub(crate) fn disturbance(world: &World, rules: &Rules) -> usize {
    let limit = (rules.disturb as usize).min(rules.hosts);
    each_sent(world, |sent| {
        if !is_risk(sent.command) {
            return;
        }
        let since = sent.at - seconds(rules.over);
        let hosts: BTreeSet<&HostName> = acted_since(sent.state, since).map(|(command, _)| &command.host).collect();
        assert!(hosts.len() <= limit, "at {} {} disturbs one host too many: {hosts:?}", sent.at, sent.command.id);
    })
}

/// After every command so many members are connected, without an incident and without anything under way.
pub(crate) fn healthy_members(world: &World, rules: &Rules) -> usize {
    each_sent(world, |sent| {
        if !is_risk(sent.command) {
            return;
        }
        let state = sent.state;
        let is_busy = |host: &HostName| {
            state.commands.values().any(|command| {
                command.host == *host && matches!(command.state, CommandState::Sent | CommandState::Begun)
            })
        };
        let is_ill = |host: &HostName| {
            state.incidents.values().any(|incident| incident.is_open() && incident.target.host() == Some(host))
        };
        let well: Vec<&HostName> = state
            .hosts
            .iter()
            .filter(|(host, row)| row.state == HostState::Online && !is_busy(host) && !is_ill(host))
            .map(|(host, _)| host)
            .collect();
        assert!(
            well.len() >= rules.keep_healthy as usize,
            "at {} {} takes {}, which leaves {well:?}",
            sent.at,
            sent.command.id,
            sent.command.host
        );
    })
}

/// No command goes out after one failure more than the plan may have.
pub(crate) fn errors(world: &World) -> usize {
    each_sent(world, |sent| {
        if is_risk(sent.command) {
            let failed = failed_hosts(sent.state, sent.plan.id);
            assert!(failed.len() <= sent.plan.max_errors as usize, "{} goes on after {failed:?}", sent.plan.id);
        }
    })
}

/// The hosts on which a plan's own steps went wrong.
pub(crate) fn failed_hosts(state: &State, plan: PlanId) -> BTreeSet<HostName> {
    let is_failure = |kind| !matches!(kind, OutcomeKind::Succeeded | OutcomeKind::NoChange | OutcomeKind::Skipped);
    state
        .commands
        .values()
        .filter(|command| command.plan == plan && is_risk(command))
        .filter(|command| command.outcome.as_ref().is_some_and(|outcome| is_failure(outcome.kind)))
        .map(|command| command.host.clone())
        .collect()
}

/// Every idempotency key had at most one effect, and stands for one command only; fences grow.
pub(crate) fn effects(world: &World) {
    for (key, count) in world.effects() {
        assert_eq!(count, 1, "{key} had an effect more than once\n{}", world.story());
    }
    let mut fence = 0;
    each_sent(world, |sent| {
        assert!(sent.command.fence > fence, "the fence of {} does not grow", sent.command.id);
        fence = sent.command.fence;
        let key = &sent.command.idempotency_key;
        let same = sent.state.commands.values().filter(|other| other.idempotency_key == *key).count();
        assert_eq!(same, 1, "{} shares its key", sent.command.id);
    });
}

/// Everything that a life began comes to an end: a plan that runs has something to wait for.
pub(crate) fn everything_ends(world: &World) {
    for plan in world.plans() {
        if plan.started_at.is_some() {
            assert!(plan.state.has_ended(), "{} never ends: {:?}\n{}", plan.id, plan.hold, world.story());
        }
    }
    for command in world.state.commands.values().filter(|command| command.sent_at.is_some()) {
        assert_eq!(command.state, CommandState::Ended, "{} has no outcome\n{}", command.id, world.story());
    }
}
