//! What must hold of every state, whatever happened: asserted after every step of every test.

use std::collections::{BTreeMap, BTreeSet};

use quell_model::{
    digest::Digest,
    plan::{ExactPlan, preview_key},
};

use crate::{
    State,
    plan::rollout,
    state::{AlertState, CommandState, IncidentState, PlanState},
};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, in a few words.
    pub invariant: &'static str,
    /// What breaks it.
    pub what: String,
}

/// Broken invariants; every test asserts after every step that there are none.
pub fn check(state: &State) -> Vec<Violation> {
    let mut found = Found(Vec::new());
    plans(state, &mut found);
    resources(state, &mut found);
    waves(state, &mut found);
    commands(state, &mut found);
    alerts(state, &mut found);
    incidents(state, &mut found);
    counters(state, &mut found);
    ledger(state, &mut found);
    previews(state, &mut found);
    followed(state, &mut found);
    found.0
}

struct Found(Vec<Violation>);

impl Found {
    fn unless(&mut self, holds: bool, invariant: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { invariant, what: what() });
        }
    }
}

fn plans(state: &State, found: &mut Found) {
    for plan in state.plans.values() {
        found.unless(!plan.commands.is_empty(), "a plan has commands", || plan.id.to_string());
        found.unless(!plan.hosts.is_empty(), "a plan means somebody", || plan.id.to_string());
        found.unless(plan.state.has_ended() == plan.ended_at.is_some(), "a plan has an end when it is over", || {
            plan.id.to_string()
        });
        let own: Vec<_> = plan.commands.iter().filter_map(|id| state.commands.get(id)).collect();
        found.unless(own.len() == plan.commands.len(), "a plan's commands are there", || plan.id.to_string());
        if plan.state.has_ended() {
            let live = own.iter().find(|command| command.state != CommandState::Ended);
            found.unless(live.is_none(), "an ended plan has no live command", || {
                format!("{} {:?}", plan.id, live.map(|command| command.id))
            });
        }
        if plan.started_at.is_none() {
            let sent = own.iter().find(|command| command.sent_at.is_some());
            found.unless(sent.is_none(), "a plan that has not started has sent nothing", || plan.id.to_string());
        }
        if let (Some(needs), true) = (&plan.needs, plan.started_at.is_some()) {
            let people: BTreeSet<&String> =
                plan.votes.iter().filter(|vote| !vote.denied).map(|vote| &vote.who).collect();
            found.unless(people.len() >= needs.count as usize, "what needs an approval starts with it", || {
                plan.id.to_string()
            });
        }
        if let Some(requester) = &plan.requester {
            let own_vote = plan.votes.iter().any(|vote| vote.who == *requester && !vote.denied);
            found.unless(!own_vote, "nobody approves what they asked for", || plan.id.to_string());
        }
        if plan.incident.is_some() {
            let under_way: Vec<_> = state
                .live
                .plans
                .iter()
                .filter(|id| state.plans.get(*id).is_some_and(|other| other.incident == plan.incident))
                .collect();
            found.unless(under_way.len() <= 1, "an incident has one plan under way", || format!("{under_way:?}"));
        }
    }
}

/// What was previewed is what is in the plan's bytes, and nobody is asked about a draft.
fn previews(state: &State, found: &mut Found) {
    for plan in state.plans.values() {
        let is_draft = plan.state == PlanState::Previewing;
        found.unless(!is_draft || plan.preview_until.is_some(), "a draft waits for a limited time", || {
            plan.id.to_string()
        });
        found.unless(!is_draft || (plan.votes.is_empty() && plan.draft.is_none()), "nobody votes on a draft", || {
            plan.id.to_string()
        });
        found.unless(Digest::of(plan.canonical.as_bytes()) == plan.hash, "a plan's hash is that of its bytes", || {
            plan.id.to_string()
        });
        let own = plan.commands.iter().filter_map(|id| state.commands.get(id)).filter(|own| own.is_previewed());
        let shown: BTreeMap<String, Digest> = own
            .filter_map(|own| Some((preview_key(&own.host, own.step), own.preview()?)))
            .filter(|(_, preview)| preview.refusal.is_none())
            .map(|(key, preview)| (key, quell_model::preview::digest(&preview.items)))
            .collect();
        let is_bound = if plan.ended_at.is_some() {
            // To parse every plan that ever ended, at each step, would be most of the work.
            plan.draft.is_none() || shown.values().all(|list| plan.canonical.contains(&list.to_string()))
        } else {
            let sealed = ExactPlan::parse(plan.canonical.as_bytes()).map(|exact| exact.previews).unwrap_or_default();
            found.unless(
                sealed.is_empty() == plan.draft.is_none(),
                "a plan that is no draft any more has previews",
                || plan.id.to_string(),
            );
            plan.draft.is_none() || shown == sealed
        };
        found.unless(is_bound, "what is shown of a plan is what its hash binds", || plan.id.to_string());
    }
}

fn resources(state: &State, found: &mut Found) {
    let mut holders: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for plan in state.live.plans.iter().filter_map(|id| state.plans.get(id)) {
        if matches!(plan.state, PlanState::Running | PlanState::Verifying) {
            for resource in &plan.resources {
                holders.entry(resource).or_default().push(plan.id.to_string());
            }
        }
    }
    for (resource, plans) in holders {
        found.unless(plans.len() == 1, "one plan at a time holds a resource", || {
            format!("{resource}: {}", plans.join(", "))
        });
    }
}

fn waves(state: &State, found: &mut Found) {
    for plan in state.live.plans.iter().filter_map(|id| state.plans.get(id)) {
        let in_flight: BTreeSet<_> = plan
            .commands
            .iter()
            .filter_map(|id| state.commands.get(id))
            .filter(|command| matches!(command.state, CommandState::Sent | CommandState::Begun))
            .filter(|command| !command.finally && command.undoes.is_none())
            .map(|command| &command.host)
            .collect();
        let size = plan.waves.get(plan.wave).or(plan.waves.last()).copied().unwrap_or(1).max(1);
        found.unless(in_flight.len() <= size as usize, "what is in flight never exceeds the wave", || {
            format!("{}: {in_flight:?}", plan.id)
        });
    }
}

fn commands(state: &State, found: &mut Found) {
    let (mut keys, mut fences) = (BTreeSet::new(), BTreeSet::new());
    for command in state.commands.values() {
        found.unless(keys.insert(&command.idempotency_key), "idempotency keys are unique", || command.id.to_string());
        let is_sent = command.sent_at.is_some();
        found.unless(is_sent == (command.fence > 0), "what was sent has a fence", || command.id.to_string());
        found.unless(!is_sent || fences.insert(command.fence), "fences are unique", || command.id.to_string());
        if let Some(look) = &command.look {
            found.unless(fences.insert(look.fence), "fences are unique", || command.id.to_string());
            found.unless(look.fence <= state.meta.fence, "no fence is above the highest", || command.id.to_string());
        }
        found.unless(command.fence <= state.meta.fence, "no fence is above the highest", || command.id.to_string());
        found.unless(
            (command.state == CommandState::Ended) == command.outcome.is_some(),
            "what has ended has an outcome",
            || command.id.to_string(),
        );
        let is_live = matches!(command.state, CommandState::Sent | CommandState::Begun);
        if is_live && rollout::counts(command) {
            found.unless(state.ledger.contains_key(&command.id), "what was sent is in the ledger", || {
                command.id.to_string()
            });
        }
        found.unless(state.plans.contains_key(&command.plan), "a command's plan is there", || command.id.to_string());
    }
}

fn alerts(state: &State, found: &mut Found) {
    for alert in state.alerts.values().filter(|alert| alert.state == AlertState::Firing) {
        let open = alert.incident.and_then(|id| state.incidents.get(&id)).is_some_and(|incident| incident.is_open());
        found.unless(open, "a firing alert has an open incident", || format!("{} {}", alert.policy, alert.target));
        found.unless(alert.firing_since.is_some(), "a firing alert knows since when", || {
            format!("{} {}", alert.policy, alert.target)
        });
    }
}

fn incidents(state: &State, found: &mut Found) {
    let mut problems = BTreeSet::new();
    for incident in state.incidents.values() {
        found.unless(
            (incident.state == IncidentState::Resolved) == incident.resolved_at.is_some(),
            "a resolved incident has an end",
            || incident.id.to_string(),
        );
        if incident.is_open() {
            found.unless(
                problems.insert((&incident.problem, &incident.target)),
                "one problem on one target is one incident",
                || incident.id.to_string(),
            );
        }
        for plan in &incident.plans {
            let own = state.plans.get(plan).is_some_and(|row| row.incident == Some(incident.id));
            found.unless(own, "an incident's plans are there", || format!("{} {plan}", incident.id));
        }
    }
}

fn counters(state: &State, found: &mut Found) {
    let highest = |name: &str, id: Option<u64>, found: &mut Found| {
        let counter = state.meta.counters.get(name).copied().unwrap_or(0);
        found.unless(id.unwrap_or(0) <= counter, "no number is above its counter", || {
            format!("{name}: {id:?} > {counter}")
        });
    };
    highest("inc", state.incidents.keys().next_back().map(|id| id.0), found);
    highest("plan", state.plans.keys().next_back().map(|id| id.0), found);
    highest("cmd", state.commands.keys().next_back().map(|id| id.0), found);
    highest("msg", state.messages.keys().next_back().map(|id| id.0), found);
    highest("win", state.windows.keys().next_back().map(|id| id.0), found);
    highest("tok", state.tokens.keys().next_back().map(|id| id.0), found);
}

fn ledger(state: &State, found: &mut Found) {
    for row in state.ledger.values() {
        if let Some(command) = state.commands.get(&row.command) {
            found.unless(command.sent_at.is_some(), "the ledger holds what was sent", || row.command.to_string());
            found.unless(rollout::counts(command), "the ledger holds what counts", || row.command.to_string());
        }
    }
}

/// What follows from the rows is what it would be if it were built anew.
fn followed(state: &State, found: &mut Found) {
    let plans = state.plans.values().filter(|plan| !plan.state.has_ended()).map(|plan| plan.id);
    found.unless(plans.eq(state.live.plans.iter().copied()), "plans under way are known", || {
        format!("{:?}", state.live.plans)
    });
    let incidents = state.incidents.values().filter(|incident| incident.is_open()).map(|incident| incident.id);
    found.unless(incidents.eq(state.live.incidents.iter().copied()), "open incidents are known", || {
        format!("{:?}", state.live.incidents)
    });
    let live = |command: &&std::sync::Arc<crate::state::CommandRow>| {
        matches!(command.state, CommandState::Sent | CommandState::Begun)
    };
    let commands = state.commands.values().filter(live).map(|command| command.id);
    found.unless(commands.eq(state.live.commands.iter().copied()), "commands in flight are known", || {
        format!("{:?}", state.live.commands)
    });
}
