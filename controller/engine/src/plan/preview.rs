//! Previews: what a plan would touch, as its hosts say it, before people are asked and before anything begins that goes by
//! an exact list.
//!
//! Until every host has answered for every step of `do` the plan is a draft. Then the digests of the answers go into its
//! bytes, and what people approve and agents check is the hash of those. A preview changes nothing on a host: it draws on no
//! budget and no cool-down, holds no resource, and is spared the guards.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_model::{
    action,
    digest::Digest,
    escape,
    name::HostName,
    plan::{ExactPlan, preview_key},
    preview::{self, Item},
    unit,
};

use super::{Candidate, end, hold_by, hold_plan, rollout, still_stands, stop};
use crate::{
    Actor, Effect, State, approval,
    draft::Entry,
    id::{CommandId, PlanId},
    state::{CommandRow, HostState, Look, Needs, PlanRow, PlanState, Preview},
    text,
    turn::{Subject, Turn},
    windows::after,
};

/// A host says what it would touch within this time, or the plan ends.
const WITHIN: Duration = Duration::from_secs(120);

/// Whether a plan is previewed: people are asked about it, or it does something that goes by an exact list.
pub(crate) fn is_wanted(candidate: &Candidate) -> bool {
    let lists = |command: &CommandRow| command.is_previewed() && action::lists_objects(&command.action);
    !candidate.plan.dry_run && (candidate.plan.needs.is_some() || candidate.commands.iter().any(lists))
}

/// Makes a plan a draft, and asks its hosts.
pub(crate) fn begin(turn: &mut Turn<'_>, id: PlanId) {
    let until = after(turn.now, WITHIN);
    turn.draft.change::<PlanRow>(&id, |row| {
        row.state = PlanState::Previewing;
        row.preview_until = Some(until);
    });
    let Some(plan) = turn.state().plans.get(&id).cloned() else { return };
    ask(turn, &plan, |_| true);
}

/// Asks a host again that is back, for every draft that waits for it.
pub(crate) fn ask_again(turn: &mut Turn<'_>, host: &HostName) {
    let live = turn.state().live.plans.iter().filter_map(|id| turn.state().plans.get(id));
    let drafts: Vec<Arc<PlanRow>> = live.filter(|plan| plan.state == PlanState::Previewing).cloned().collect();
    for plan in drafts {
        ask(turn, &plan, |name| name == host);
    }
}

/// Asks those of a draft's hosts that are connected and have not answered.
fn ask(turn: &mut Turn<'_>, plan: &PlanRow, whom: impl Fn(&HostName) -> bool) {
    let is_online = |name: &HostName| turn.state().hosts.get(name).is_some_and(|row| row.state == HostState::Online);
    let unanswered = rollout::commands(turn, plan).into_iter().filter(|command| is_open(command));
    let asked: Vec<Arc<CommandRow>> =
        unanswered.filter(|command| whom(&command.host) && is_online(&command.host)).collect();
    if asked.is_empty() {
        return;
    }
    let now = turn.now;
    for command in &asked {
        let mut fence = 0;
        turn.draft.change_meta(|meta| {
            meta.fence += 1;
            fence = meta.fence;
        });
        let look = Look { fence, asked_at: now, preview: None };
        turn.draft.change::<CommandRow>(&command.id, |row| row.look = Some(look));
    }
    let hosts: BTreeSet<&str> = asked.iter().map(|command| command.host.as_str()).collect();
    let hosts: Vec<&str> = hosts.into_iter().collect();
    let text = format!("{}: {} asked what it would touch", plan.id, hosts.join(", "));
    turn.record(
        Entry::new("previewAsked", Actor::Controller, text).id("plan", plan.id).maybe_id("incident", plan.incident),
    );
    for command in asked {
        if let (Some(command), Some(plan)) = (turn.command(command.id), turn.state().plans.get(&plan.id).cloned()) {
            turn.effect(Effect::Preview { host: command.host.clone(), command, plan });
        }
    }
}

fn is_open(command: &CommandRow) -> bool {
    command.is_previewed() && command.preview().is_none()
}

/// The hosts that a draft waits for.
pub(crate) fn silent<'s>(state: &'s State, plan: &PlanRow) -> BTreeSet<&'s HostName> {
    let commands = plan.commands.iter().filter_map(|id| state.commands.get(id));
    commands.filter(|command| is_open(command)).map(|command| &command.host).collect()
}

/// Takes in what a host would touch. One whose digest is not that of its list, or that nobody could read, is no leave.
pub(crate) fn answered(turn: &mut Turn<'_>, host: &HostName, id: CommandId, mut answer: Preview) {
    let Some(command) = turn.command(id).filter(|command| command.host == *host && is_open(command)) else { return };
    let plan = turn.state().plans.get(&command.plan).cloned();
    let Some(plan) = plan.filter(|plan| plan.state == PlanState::Previewing && command.look.is_some()) else { return };
    if let Err(too_much) = preview::check(&answer.items) {
        answer.refusal = Some(too_much.to_string());
        (answer.items, answer.digest) = (Vec::new(), preview::digest(&[]));
    } else if preview::digest(&answer.items) != answer.digest {
        answer.refusal.get_or_insert_with(|| "the digest of its preview is not that of what it lists".to_owned());
    }
    let text = match &answer.refusal {
        Some(refusal) => format!("{id} would be refused by {host}: {refusal}"),
        None if answer.items.is_empty() => format!("{id} would do nothing on {host}"),
        None => format!("{id} would touch {} on {host}", amount(&answer.items)),
    };
    let digest = answer.digest;
    turn.draft.change::<CommandRow>(&id, |row| {
        if let Some(look) = &mut row.look {
            look.preview = Some(answer);
        }
    });
    turn.record(
        Entry::new("commandPreviewed", Actor::Agent(host.clone()), text)
            .id("command", id)
            .id("plan", plan.id)
            .id("host", host)
            .maybe_id("incident", plan.incident)
            .data(serde_json::json!({ "digest": digest })),
    );
    turn.touch(Subject::Plan(plan.id));
}

/// Looks at a draft: it is sealed when all have answered, and ends when one refuses or does not answer in time.
pub(super) fn reconcile(turn: &mut Turn<'_>, plan: &PlanRow) -> Option<Timestamp> {
    if !still_stands(turn, plan) {
        return None;
    }
    let commands: Vec<Arc<CommandRow>> =
        rollout::commands(turn, plan).into_iter().filter(|command| command.is_previewed()).collect();
    if let Some(why) = commands.iter().find_map(|command| refused(command)) {
        end(turn, plan.id, PlanState::Failed, &why);
        return None;
    }
    if commands.iter().all(|command| command.preview().is_some()) {
        seal(turn, plan, &commands);
        return None;
    }
    let until = plan.preview_until.unwrap_or(turn.now);
    if turn.now >= until {
        give_up(turn, plan);
        return None;
    }
    let hold = hold_by(turn, plan, "preview");
    hold_plan(turn, plan, hold);
    Some(until)
}

fn refused(command: &CommandRow) -> Option<String> {
    let refusal = command.preview()?.refusal.as_ref()?;
    Some(format!("{} would refuse {}: {}", command.host, command.action, escape::line(refusal)))
}

/// Nobody knows what it would touch: as of one whose orders did not arrive, nothing was begun of it.
fn give_up(turn: &mut Turn<'_>, plan: &PlanRow) {
    let hosts: Vec<&str> = silent(turn.state(), plan).into_iter().map(|host| host.as_str()).collect();
    let why = format!("no word within {} of what it would touch from {}", text::span(WITHIN), hosts.join(", "));
    let state = if stop::may_try_again(turn, plan) { PlanState::Cancelled } else { PlanState::Failed };
    end(turn, plan.id, state, &why);
}

/// Puts the previews into the plan: what it does is exact now, and it waits for people, or for its guards alone.
fn seal(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) {
    let items: Vec<Item> =
        commands.iter().filter_map(|command| command.preview()).flat_map(|preview| preview.items.clone()).collect();
    if items.is_empty() {
        let notes = commands.iter().filter_map(|command| Some((&command.host, &command.preview()?.note)));
        let notes: Vec<String> = notes
            .filter(|(_, note)| !note.is_empty())
            .map(|(host, note)| format!("; {host}: {}", escape::line(note)))
            .collect();
        let why = format!("every host says that there is nothing to do{}", notes.concat());
        end(turn, plan.id, PlanState::NothingToDo, &why);
        return;
    }
    let Ok(mut exact) = ExactPlan::parse(plan.canonical.as_bytes()) else {
        end(turn, plan.id, PlanState::Failed, "its own bytes cannot be read: this is a fault of the controller");
        return;
    };
    exact.previews = commands
        .iter()
        .filter_map(|command| Some((preview_key(&command.host, command.step), command.preview()?.digest)))
        .collect();
    let canonical = exact.canonical();
    let hash = Digest::of(canonical.as_bytes());
    for command in rollout::commands(turn, plan) {
        let key = super::candidate::idempotency_key(hash, &command);
        turn.draft.change::<CommandRow>(&command.id, |row| row.idempotency_key = key);
    }
    let (now, draft, needs) = (turn.now, plan.hash, plan.needs.as_ref().map(|needs| from_now(needs, turn.now)));
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        (row.canonical, row.hash, row.draft) = (canonical, hash, Some(draft));
        row.state = if needs.is_some() { PlanState::Proposed } else { PlanState::Held };
        row.needs = needs;
        row.hold = None;
        row.preview_until = None;
    });
    let text = format!("{} would touch {}", plan.id, amount(&items));
    turn.record(
        Entry::new("planPreviewed", Actor::Controller, text.clone())
            .id("plan", plan.id)
            .maybe_id("incident", plan.incident)
            .maybe_id("policy", plan.policy.as_ref())
            .id("hash", hash)
            .data(serde_json::json!({ "objects": items.len(), "bytes": preview::total(&items) })),
    );
    if let Some(incident) = plan.incident {
        crate::incident::story(turn, incident, now, &text);
    }
    if plan.needs.is_some() {
        approval::ask(turn, plan.id);
    }
    turn.touch(Subject::Plan(plan.id));
}

/// The question stands for its whole time from when it is asked.
fn from_now(needs: &Needs, now: Timestamp) -> Needs {
    let stands = needs.expires.duration_since(needs.reminded_at);
    Needs { expires: now.checked_add(stands).unwrap_or(needs.expires), reminded_at: now, ..needs.clone() }
}

/// What the hosts of a plan would touch, line by line, for people: hostile text is harmless in it.
pub(crate) fn listing(state: &State, plan: &PlanRow) -> Vec<String> {
    let mut lines = Vec::new();
    for command in plan.commands.iter().filter_map(|id| state.commands.get(id)) {
        let Some(preview) = command.preview() else { continue };
        let amount = if preview.items.is_empty() { "nothing".to_owned() } else { amount(&preview.items) };
        lines.push(format!("{} on {} would touch {amount}", command.action, command.host));
        lines.extend(preview.items.iter().map(|item| format!("  {}", item.line())));
        if !preview.note.is_empty() {
            lines.push(format!("  {}", escape::line(&preview.note)));
        }
    }
    lines
}

/// How much a preview lists, for people: `3 objects, 12.0 MiB`.
pub(crate) fn amount(items: &[Item]) -> String {
    let objects = if items.len() == 1 { "1 object".to_owned() } else { format!("{} objects", items.len()) };
    match preview::total(items) {
        0 => objects,
        bytes => format!("{objects}, {}", unit::size_text(bytes)),
    }
}
