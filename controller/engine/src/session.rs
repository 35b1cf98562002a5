//! What agents say: they connect, send samples, begin and end commands, and go.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_model::{
    name::{FullName, HostName, Target},
    probe::ProbeKey,
    value::Fields,
};

use crate::{
    Actor, Effect,
    draft::Entry,
    host,
    id::CommandId,
    input::{Hello, Sample},
    ledger, newer,
    plan::{preview, rollout, stop},
    state::{AlertState, CommandRow, CommandState, HostRow, HostState, Outcome, OutcomeKind, PlanState},
    trust,
    turn::{Subject, Turn},
    windows::{Compiled, Concerned, Reader, Taken, is_enrolled},
};

/// An agent's session began: it gets its probes, and every command without an outcome is settled or sent again.
pub(crate) fn connected(turn: &mut Turn<'_>, name: &HostName, hello: &Hello) {
    let Some(row) = turn.state().hosts.get(name).cloned().filter(|row| is_enrolled(row)) else { return };
    let was_lost = row.state == HostState::Lost;
    let (now, seen_newer) = (turn.now, newer::newer_sets(turn.state(), hello));
    turn.draft.change_meta(|meta| meta.fence = meta.fence.max(hello.fence));
    turn.draft.change::<HostRow>(name, |row| {
        if row.state != HostState::Online {
            row.since = now;
        }
        row.state = HostState::Online;
        row.last_seen = None;
        row.agent_version.clone_from(&hello.agent_version);
        row.facts.clone_from(&hello.facts);
        row.instance.clone_from(&hello.instance);
        row.trust_version = hello.trust_version;
        row.seen_newer = seen_newer;
    });
    let what = if was_lost { "is back" } else { "is connected" };
    turn.record(
        Entry::new(
            "hostConnected",
            Actor::Agent(name.clone()),
            format!("{name} {what}, agent {}", hello.agent_version),
        )
        .id("host", name)
        .data(serde_json::json!({ "dropped": hello.dropped })),
    );
    newer::note(turn, &row);
    if let Some(hold) = &hello.held {
        host_held(turn, name, hold.clone());
    }
    turn.windows.hear(name, now);
    turn.touch(Subject::Host(name.clone()));
    turn.effect(Effect::Open { host: name.clone(), connection: hello.connection });
    // Before any order: an agent judges orders by what it believes.
    trust::owed(turn, name, hello.trust_version, hello.label_version);
    turn.assign(name);
    reconcile_commands(turn, name, hello);
    preview::ask_again(turn, name);
    turn.touch_live();
}

/// Brings the commands of a host and what the host has of them together.
fn reconcile_commands(turn: &mut Turn<'_>, name: &HostName, hello: &Hello) {
    let live: Vec<_> = turn
        .state()
        .live
        .commands
        .iter()
        .filter_map(|id| turn.command(*id))
        .filter(|command| command.host == *name)
        .collect();
    for command in live {
        match hello.journal.iter().find(|(id, _)| *id == command.id) {
            Some((_, Some(outcome))) => {
                let now = turn.now;
                rollout::end_command(turn, &command, outcome.clone(), now);
            }
            Some((_, None)) => {
                begun(turn, name, command.id);
                stop::ask_to_stop(turn, &command);
            }
            // It may begin at any moment: whether it did is the agent's to say, and nobody else's.
            None if hello.at_hand.contains(&command.id) => stop::ask_to_leave(turn, &command),
            None => resend(turn, &command),
        }
    }
}

/// Sends a command that the agent does not know again, under a new fence, while it may still begin.
fn resend(turn: &mut Turn<'_>, command: &CommandRow) {
    if command.state == CommandState::Begun {
        // It began, and its journal does not know it any more: nobody can say what became of it.
        let now = turn.now;
        rollout::end_command(
            turn,
            command,
            outcome(OutcomeKind::Unknown, "the agent's journal does not hold it any more"),
            now,
        );
        return;
    }
    if command.not_after.is_some_and(|until| turn.now > until) {
        let now = turn.now;
        rollout::end_command(
            turn,
            command,
            outcome(OutcomeKind::NotStarted, "it did not reach the agent in time"),
            now,
        );
        return;
    }
    if let Some(why) = stop::taken_back(turn, command) {
        let now = turn.now;
        rollout::end_command(turn, command, outcome(OutcomeKind::NotStarted, &why), now);
        return;
    }
    let mut fence = 0;
    turn.draft.change_meta(|meta| {
        meta.fence += 1;
        fence = meta.fence;
    });
    turn.draft.change::<CommandRow>(&command.id, |row| row.fence = fence);
    turn.record(
        Entry::new("commandResent", Actor::Controller, format!("{} is sent to {} again", command.id, command.host))
            .id("command", command.id)
            .id("plan", command.plan)
            .id("host", &command.host),
    );
    rollout::emit(turn, command.id);
}

/// An outcome that the controller itself finds.
pub(crate) fn outcome(kind: OutcomeKind, summary: &str) -> Outcome {
    Outcome {
        kind,
        summary: summary.to_owned(),
        duration: Duration::ZERO,
        values: Fields::new(),
        output: String::new(),
        remedy: String::new(),
        moved: false,
    }
}

/// An agent's session ended.
pub(crate) fn disconnected(turn: &mut Turn<'_>, name: &HostName) {
    let is_online = turn.state().hosts.get(name).is_some_and(|row| row.state == HostState::Online);
    if is_online {
        let now = turn.now;
        turn.draft.change::<HostRow>(name, |row| {
            row.state = HostState::Lost;
            row.since = now;
            row.last_seen = Some(now);
        });
        turn.record(
            Entry::new("hostDisconnected", Actor::Agent(name.clone()), format!("{name} is not connected any more"))
                .id("host", name),
        );
        turn.touch_live();
    }
}

/// Samples came in: only the policies that read them are looked at.
pub(crate) fn samples(turn: &mut Turn<'_>, name: &HostName, samples: Vec<Sample>) {
    if turn.state().hosts.get(name).is_none_or(|row| !is_enrolled(row)) {
        return;
    }
    for sample in samples {
        let key = sample.probe.clone();
        if key.is_host() {
            host::heard(turn, name);
        }
        let now = turn.now;
        match turn.windows.take(name, sample, now) {
            Taken::Late => {}
            Taken::Same(Some(concerned)) if concerned.is_empty() => {}
            Taken::Same(concerned) => touch_concerned(turn, name, &key, concerned),
            taken => touch_readers(turn, name, &key, &taken),
        }
    }
}

/// Touches what a sample may change that says something else than the one before, or comes after a silence.
fn touch_readers(turn: &mut Turn<'_>, name: &HostName, key: &ProbeKey, taken: &Taken) {
    if *taken == Taken::New {
        // From now on it is watched whether samples of this probe go stale.
        turn.touch(Subject::Host(name.clone()));
    }
    let used = turn.windows.index.uses(key).cloned();
    for reader in used.iter().flat_map(|used| &used.readers) {
        let is_news = is_news(turn, name, key, reader, taken);
        touch_reader(turn, name, key, reader, is_news);
    }
}

/// Touches what a sample may change that says the same as the one before: what depends on time, or waits.
fn touch_concerned(turn: &mut Turn<'_>, name: &HostName, key: &ProbeKey, remembered: Option<Concerned>) {
    let Some(used) = turn.windows.index.uses(key).cloned() else { return };
    if let Some(remembered) = remembered {
        for place in remembered.iter() {
            touch_reader(turn, name, key, &used.readers[*place], false);
        }
        return;
    }
    let places = 0..used.readers.len();
    let concerned = places.filter(|place| touch_reader(turn, name, key, &used.readers[*place], false)).collect();
    turn.windows.remember_concerned(name, key, concerned);
}

/// Touches what a sample may change of a policy that reads it; says whether a sample without news concerns it at all.
fn touch_reader(turn: &mut Turn<'_>, name: &HostName, key: &ProbeKey, reader: &Reader, is_news: bool) -> bool {
    let compiled = Arc::clone(turn.windows.index.policy_of(reader));
    let Some(targets) = targets(turn, &compiled, name, key) else { return false };
    let mut is_concerned = touch_plans(turn, &compiled.policy.name);
    if compiled.is_scheduled() {
        return is_concerned;
    }
    for target in targets {
        if is_news || !is_quiet(turn, &compiled, &target) {
            is_concerned = true;
            turn.touch(Subject::Alert(compiled.policy.name.clone(), target));
        }
    }
    is_concerned
}

/// The newest sample of a probe on a host went stale: what was judged by it is unknown.
pub(crate) fn went_stale(turn: &mut Turn<'_>, name: &HostName, key: &ProbeKey) {
    let used = turn.windows.index.uses(key).cloned();
    for reader in used.iter().flat_map(|used| &used.readers) {
        let compiled = Arc::clone(turn.windows.index.policy_of(reader));
        let targets = match targets(turn, &compiled, name, key) {
            Some(_) if compiled.has_quorum => turn.view().targets(&compiled),
            targets => targets.unwrap_or_default(),
        };
        for target in targets.into_iter().filter(|_| !compiled.is_scheduled()) {
            turn.touch(Subject::Alert(compiled.policy.name.clone(), target));
        }
    }
}

/// The targets of a policy that samples of a probe on a host speak of; nothing when the host is not asked for it.
fn targets(turn: &Turn<'_>, compiled: &Compiled, name: &HostName, key: &ProbeKey) -> Option<Vec<Target>> {
    let sources = compiled.probes.values().filter(|source| source.key == *key);
    if sources.filter_map(|source| source.placed.as_ref()).any(|placed| placed.taken.contains(name)) {
        return Some(turn.view().targets(compiled));
    }
    compiled.observers.contains(name).then(|| turn.view().targets_on(compiled, name))
}

/// Whether a sample says something else about anything that a policy reads.
fn is_news(turn: &Turn<'_>, name: &HostName, key: &ProbeKey, reader: &Reader, taken: &Taken) -> bool {
    match (taken, turn.windows.newest(name, key)) {
        (Taken::Other(before), Some(newest)) => {
            reader.tells_apart(before, &newest.fields, |family| newest.elements(family))
        }
        (taken, _) => *taken == Taken::New,
    }
}

/// Whether a sample that says the same as before can change nothing: nothing is seen, and nothing depends on time.
fn is_quiet(turn: &Turn<'_>, compiled: &Compiled, target: &Target) -> bool {
    let key = (compiled.policy.name.clone(), target.clone());
    !compiled.depends_on_time && turn.state().alerts.get(&key).is_none_or(|alert| alert.state == AlertState::Resolved)
}

/// Plans of scheduled policies are judged by samples too, and have no alert to be touched by. Says whether there are any
/// plans at all.
fn touch_plans(turn: &mut Turn<'_>, policy: &FullName) -> bool {
    if turn.state().live.plans.is_empty() {
        return false;
    }
    let live: Vec<_> = turn.state().live.plans.iter().copied().collect();
    for id in live {
        let waits = turn.state().plans.get(&id).is_some_and(|plan| {
            plan.policy.as_ref() == Some(policy) && plan.incident.is_none() && plan.state != PlanState::Running
        });
        if waits {
            turn.touch(Subject::Plan(id));
        }
    }
    true
}

/// An agent has journaled the intent of a command.
pub(crate) fn begun(turn: &mut Turn<'_>, name: &HostName, id: CommandId) {
    let Some(command) = turn.command(id).filter(|command| command.host == *name && command.state == CommandState::Sent)
    else {
        return;
    };
    turn.draft.change::<CommandRow>(&id, |row| row.state = CommandState::Begun);
    turn.record(
        Entry::new("commandBegun", Actor::Agent(name.clone()), format!("{id}: {name} begins {}", command.action))
            .id("command", id)
            .id("plan", command.plan)
            .id("host", name),
    );
}

/// A command ended.
pub(crate) fn ended(
    turn: &mut Turn<'_>,
    name: &HostName,
    id: CommandId,
    outcome: Outcome,
    ended_at: Timestamp,
    sequence: u64,
) {
    turn.draft.change::<HostRow>(name, |row| row.acknowledged = row.acknowledged.max(sequence));
    let Some(command) = turn.command(id).filter(|command| command.host == *name && command.sent_at.is_some()) else {
        return;
    };
    match command.state {
        CommandState::Sent | CommandState::Begun => rollout::end_command(turn, &command, outcome, ended_at),
        CommandState::Ended => late(turn, &command, outcome),
        CommandState::Waiting => {}
    }
}

/// The word came after it was given up: what is known is corrected, what was decided stands.
fn late(turn: &mut Turn<'_>, command: &CommandRow, outcome: Outcome) {
    use OutcomeKind::{Failed, NotStarted, Succeeded, Undone, Unknown};
    let known = command.outcome.as_ref().map(|known| known.kind);
    let is_news = match known {
        Some(Unknown) => outcome.kind != Unknown,
        // Nobody should be able to begin it then. If it was begun all the same, that is on record and counts.
        Some(NotStarted) => matches!(outcome.kind, Succeeded | Failed | Undone | Unknown),
        _ => false,
    };
    if !is_news {
        return;
    }
    if known == Some(NotStarted) {
        ledger::count_again(turn, command.id);
    }
    let text = format!("{} on {}: it {} after all", command.id, command.host, rollout::word(outcome.kind));
    turn.draft.change::<CommandRow>(&command.id, |row| row.outcome = Some(outcome));
    turn.record(
        Entry::new("commandReconciled", Actor::Agent(command.host.clone()), text)
            .id("command", command.id)
            .id("plan", command.plan)
            .id("host", &command.host),
    );
}

/// A host's administrator holds it, or lifted that.
pub(crate) fn host_held(turn: &mut Turn<'_>, name: &HostName, hold: Option<(String, Timestamp)>) {
    let Some(row) = turn.state().hosts.get(name).cloned() else { return };
    if row.held == hold {
        return;
    }
    let text = match &hold {
        Some((reason, until)) => format!("{name} is held by its administrator until {until}: {reason}"),
        None => format!("{name} is held no more"),
    };
    turn.draft.change::<HostRow>(name, |row| row.held = hold);
    turn.record(Entry::new("hostHeld", Actor::Agent(name.clone()), text).id("host", name));
    turn.touch_live();
}
