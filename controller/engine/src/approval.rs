//! Approvals: what people are asked, who may answer, and what their answer does.

use std::sync::Arc;

use jiff::Timestamp;
use quell_model::{
    name::FullName,
    policy::{ApprovalRule, Does, Rung},
    trust::approvals::Signed,
};

use crate::{
    Actor, State,
    draft::Entry,
    id::PlanId,
    input::{Refusal, Reply},
    plan,
    state::{IncidentRow, IncidentState, Instead, Needs, PlanRow, PlanState, Vote},
    tell::{self, Draught},
    trust,
    turn::{Subject, Turn},
    windows::after,
};

/// The role that approves what a policy proposes without a rule of its own: any operator.
pub(crate) const ANY_OPERATOR: &str = "operator";
/// What can be chosen when the rule does not say.
const CHOICES: [&str; 2] = ["approve", REJECT];
/// The choice that denies.
const REJECT: &str = "reject";
/// The most of a plan's list that a message carries, bytes.
const LIST_KEPT: usize = 12_000;
/// How long the question stands when no rule says.
const EXPIRES: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// What a rung's plan needs.
pub(crate) fn needs(rung: &Rung, from: Timestamp, now: Timestamp) -> Needs {
    let rule: Option<&ApprovalRule> = rung.approval.as_ref();
    let offered = rule.map(|rule| rule.choices.as_slice()).unwrap_or_default();
    let choices: Vec<String> = offered.iter().map(|choice| choice.name.clone()).collect();
    let instead = offered.iter().filter_map(|choice| match &choice.does {
        Does::Tell { contact, text } => {
            Some((choice.name.clone(), Instead { contact: contact.clone(), text: text.clone() }))
        }
        Does::Run | Does::Deny => None,
    });
    Needs {
        role: rule.map_or_else(|| ANY_OPERATOR.to_owned(), |rule| rule.role.clone()),
        count: rule.map_or(1, |rule| rule.count.max(1)),
        expires: after(from, rule.map_or(EXPIRES, |rule| rule.expires)),
        instead: instead.collect(),
        choices: if choices.is_empty() { CHOICES.map(str::to_owned).to_vec() } else { choices },
        remind: rule.and_then(|rule| rule.remind),
        reminded_at: now,
        signed: rule.is_none_or(|rule| rule.signed),
    }
}

/// How many distinct people have approved a plan and still may.
pub(crate) fn count(state: &State, plan: &PlanRow, now: Timestamp) -> u32 {
    let mut people: Vec<&str> = plan
        .votes
        .iter()
        .filter(|vote| !vote.denied && vote.stands(now) && plan.requester.as_ref() != Some(&vote.who))
        .map(|vote| vote.who.as_str())
        .filter(|who| state.operators.get(*who).is_none_or(|operator| operator.revoked.is_none()))
        .collect();
    people.sort_unstable();
    people.dedup();
    u32::try_from(people.len()).unwrap_or(u32::MAX)
}

/// Votes of somebody who is no operator any more are void, and stay so when the name is given again. Plans that have not
/// started lose them, and those that had their approval ask for it again.
pub(crate) fn void_votes(turn: &mut Turn<'_>, who: &str) {
    let state = turn.state();
    let plans: Vec<_> = state.live.plans.iter().filter_map(|id| state.plans.get(id).cloned()).collect();
    for plan in plans {
        if plan.started_at.is_some() || plan.votes.iter().all(|vote| vote.who != who) {
            continue;
        }
        turn.draft.change::<PlanRow>(&plan.id, |row| {
            row.votes.retain(|vote| vote.who != who);
            if row.votes.is_empty() {
                row.choice = None;
            }
            row.state = PlanState::Proposed;
        });
        turn.record(
            Entry::new(
                "voteVoided",
                Actor::Controller,
                format!("the vote of {who} for {} is void: {who} was revoked", plan.id),
            )
            .id("plan", plan.id)
            .maybe_id("incident", plan.incident)
            .id("hash", plan.hash),
        );
        turn.touch(Subject::Plan(plan.id));
    }
}

/// Takes the votes away whose time is over: a plan that had its approval and did not begin meanwhile is asked about
/// again, or falls with its question. Says when the next one ends.
pub(crate) fn lapse(turn: &mut Turn<'_>, plan: &PlanRow) -> Result<Option<Timestamp>, Lapsed> {
    let now = turn.now;
    if plan.votes.iter().all(|vote| vote.stands(now)) {
        return Ok(plan.votes.iter().filter_map(|vote| vote.expires).min());
    }
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.votes.retain(|vote| vote.stands(now));
        if row.votes.is_empty() {
            row.choice = None;
        }
        row.state = PlanState::Proposed;
    });
    turn.record(
        Entry::new("voteLapsed", Actor::Controller, format!("{} did not begin while its approval was good", plan.id))
            .id("plan", plan.id)
            .maybe_id("incident", plan.incident)
            .id("hash", plan.hash),
    );
    turn.touch(Subject::Plan(plan.id));
    Err(Lapsed)
}

/// A vote has ended, and its plan waits for people again.
pub(crate) struct Lapsed;

/// Asks people about a plan.
pub(crate) fn ask(turn: &mut Turn<'_>, id: PlanId) {
    say(turn, id, "wants an approval");
}

/// Reminds people of a plan that waits; says when it will be time again.
pub(crate) fn remind(turn: &mut Turn<'_>, id: PlanId) -> Option<Timestamp> {
    let plan = turn.state().plans.get(&id).cloned()?;
    let needs = plan.needs.as_ref()?;
    let due = after(needs.reminded_at, needs.remind?);
    if due > turn.now {
        return Some(due);
    }
    let now = turn.now;
    turn.draft.change::<PlanRow>(&id, |row| {
        if let Some(needs) = &mut row.needs {
            needs.reminded_at = now;
        }
    });
    say(turn, id, "still wants an approval");
    Some(after(now, needs.remind?))
}

fn say(turn: &mut Turn<'_>, id: PlanId, what: &str) {
    let Some(plan) = turn.state().plans.get(&id).cloned() else { return };
    let (Some(needs), Some(policy)) = (&plan.needs, &plan.policy) else { return };
    let text = format!("{id} {what} of role {} until {}", needs.role, crate::text::moment(needs.expires));
    turn.record(
        Entry::new("approvalAsked", Actor::Controller, text.clone())
            .id("plan", id)
            .maybe_id("incident", plan.incident)
            .id("hash", plan.hash)
            .data(serde_json::json!({ "choices": needs.choices, "count": needs.count })),
    );
    let severity =
        turn.policy(policy).map_or(quell_model::policy::Severity::Ticket, |compiled| compiled.policy.severity);
    for contact in tell::contacts_for(turn, policy, Some(&needs.role)) {
        let body = question(turn.state(), &plan, policy, needs);
        tell::send(
            turn,
            Draught { contact, subject: text.clone(), body, severity, incident: plan.incident, logs: Vec::new() },
        );
    }
}

/// The question in full: what is asked about, and everything that would be touched, as far as a message may be long.
fn question(state: &State, plan: &PlanRow, policy: &FullName, needs: &Needs) -> String {
    let lines = vec![
        format!("{policy} on {}, rung {}", plan.target, plan.rung),
        format!("hash {}", plan.hash),
        format!("choices: {}", offers(needs).join(", ")),
    ];
    let listing = plan::preview::listing(state, plan);
    cut_lines(lines.into_iter().chain(listing).collect(), plan).join("\n")
}

/// As many lines as a message may carry, and where the others are seen.
fn cut_lines(mut lines: Vec<String>, plan: &PlanRow) -> Vec<String> {
    let mut room = LIST_KEPT;
    let fits = |line: &&String| {
        room = room.saturating_sub(line.len() + 1);
        room > 0
    };
    let kept = lines.iter().take_while(fits).count();
    if kept < lines.len() {
        let left = lines.len() - kept;
        lines.truncate(kept);
        lines.push(format!("and {left} lines more: see all of it with `quell describe plan {}`", plan.id));
    }
    lines
}

/// What can be chosen, and what comes of it.
fn offers(needs: &Needs) -> Vec<String> {
    let offer = |choice: &String| match needs.instead.get(choice) {
        Some(instead) => format!("{choice} (tells {}, and nothing is run)", instead.contact),
        None => choice.clone(),
    };
    needs.choices.iter().map(offer).collect()
}

/// A person's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) plan: PlanId,
    pub(crate) hash: quell_model::digest::Digest,
    pub(crate) choice: Option<String>,
    pub(crate) reason: String,
    pub(crate) approve: bool,
    pub(crate) roles: Vec<String>,
    pub(crate) signature: Option<Signed>,
}

/// The plan that a person answers about, and what it needs, when that person may answer now.
fn question_of(turn: &Turn<'_>, who: &str, answer: &Answer) -> Result<(Arc<PlanRow>, Needs), Refusal> {
    let plan = turn
        .state()
        .plans
        .get(&answer.plan)
        .cloned()
        .ok_or_else(|| Refusal::NotFound(format!("there is no {}", answer.plan)))?;
    let (PlanState::Proposed, Some(needs)) = (plan.state, plan.needs.clone()) else {
        return Err(Refusal::Conflict(format!("{} {}: it waits for no approval", plan.id, plan::word(plan.state))));
    };
    if plan.hash != answer.hash {
        return Err(Refusal::Conflict(format!(
            "{} is not the plan that you saw: its hash is {} now; look at it again with `quell describe plan {}`",
            plan.id,
            plan.hash.short(),
            plan.id
        )));
    }
    if turn.now >= needs.expires {
        return Err(Refusal::Conflict(format!("{} could be decided until {}", plan.id, needs.expires)));
    }
    if turn.state().operators.get(who).is_some_and(|operator| operator.revoked.is_some()) {
        return Err(Refusal::Forbidden(format!("{who} was revoked and decides nothing any more")));
    }
    may_decide(who, &plan, &needs, answer)?;
    Ok((plan, needs))
}

/// Takes in a person's answer.
///
/// # Errors
/// The plan is not there, moved on, or the person may not decide it.
pub(crate) fn decide(turn: &mut Turn<'_>, actor: &Actor, answer: &Answer) -> Result<Reply, Refusal> {
    let Actor::Person(who) = actor else {
        return Err(Refusal::Forbidden("only a person approves or denies a plan".to_owned()));
    };
    let (plan, needs) = question_of(turn, who, answer)?;
    let choice = answer.choice.clone().unwrap_or_else(|| needs.choices.first().cloned().unwrap_or_default());
    if answer.approve && !needs.choices.contains(&choice) {
        return Err(Refusal::Invalid(format!("{choice:?} cannot be chosen; there is {}", needs.choices.join(", "))));
    }
    let instead = needs.instead.get(&choice).filter(|_| answer.approve);
    let denied = !answer.approve || choice == REJECT || instead.is_some();
    if !denied && let Some(other) = plan.votes.iter().find(|vote| !vote.denied && vote.choice != choice) {
        return Err(Refusal::Conflict(format!(
            "{} chose {:?}; those who approve must choose the same",
            other.who, other.choice
        )));
    }
    // A denial needs no signature: it lets nothing happen.
    if !denied {
        check_signature(turn, &plan, &needs, who, &choice, answer)?;
    }
    let vote = Vote {
        at: turn.now,
        who: who.clone(),
        choice: choice.clone(),
        reason: answer.reason.clone(),
        denied,
        signature: answer.signature.as_ref().map(|signed| signed.signature.clone()),
        expires: answer.signature.as_ref().and_then(|signed| signed.expires),
    };
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.votes.push(vote);
        row.choice = (!denied).then(|| choice.clone());
    });
    let verb = match (instead, denied) {
        (Some(_), _) => format!("chooses {choice} for"),
        (None, true) => "denies".to_owned(),
        (None, false) => "approves".to_owned(),
    };
    turn.record(
        Entry::new(
            if denied { "planDenied" } else { "voteGiven" },
            actor.clone(),
            format!("{who} {verb} {}: {}", plan.id, answer.reason),
        )
        .id("plan", plan.id)
        .maybe_id("incident", plan.incident)
        .id("hash", plan.hash)
        .data(serde_json::json!({ "choice": choice })),
    );
    match instead {
        Some(instead) => tell_instead(turn, &plan, who, &choice, instead, &answer.reason),
        None if denied => {
            plan::end(turn, plan.id, PlanState::Denied, &because(format!("denied by {who}"), &answer.reason));
        }
        None => turn.touch(Subject::Plan(plan.id)),
    }
    Ok(Reply::Done)
}

fn because(what: String, reason: &str) -> String {
    if reason.is_empty() { what } else { format!("{what}: {reason}") }
}

/// Somebody wants something else than the plan: whoever can give it is told, and the question is closed. One person is
/// enough for it, as for a denial; the incident stays open, and is theirs.
fn tell_instead(turn: &mut Turn<'_>, plan: &PlanRow, who: &str, choice: &str, instead: &Instead, reason: &str) {
    let chosen = format!("{who} chose {choice}, so nothing is run and {} is told", instead.contact);
    if let (Some(incident), true) = (plan.incident, plan.policy.is_some()) {
        turn.draft.change::<IncidentRow>(&incident, |row| {
            row.acknowledged_by.get_or_insert_with(|| who.to_owned());
            if row.state == IncidentState::Open {
                row.state = IncidentState::Acknowledged;
            }
        });
    }
    if let Some(compiled) = plan.policy.as_ref().and_then(|policy| turn.policy(policy)) {
        let contact = FullName { namespace: compiled.policy.name.namespace.clone(), name: instead.contact.clone() };
        let subject = match &instead.text {
            Some(text) => tell::words(turn, &compiled, plan, text),
            None => format!("{choice} is wanted for {}: {}", plan.target, compiled.policy.description),
        };
        let mut lines = vec![because(format!("{who} chose {choice} instead of {} ({})", plan.id, plan.rung), reason)];
        lines.extend(plan::preview::listing(turn.state(), plan));
        let body = cut_lines(lines, plan).join("\n");
        let severity = compiled.policy.severity;
        tell::send(turn, Draught { contact, subject, body, severity, incident: plan.incident, logs: Vec::new() });
    }
    plan::end(turn, plan.id, PlanState::Denied, &because(chosen, reason));
}

/// Checks the vote's signature, where there is one or must be one.
fn check_signature(
    turn: &Turn<'_>,
    plan: &PlanRow,
    needs: &Needs,
    who: &str,
    choice: &str,
    answer: &Answer,
) -> Result<(), Refusal> {
    match &answer.signature {
        Some(signed) => trust::check_vote(turn, plan, who, &needs.role, choice, signed),
        None if needs.signed => Err(Refusal::Forbidden(format!(
            "{} must be approved with a signature by role {}: give your key with `quell approve {} --key FILE`",
            plan.id, needs.role, plan.id
        ))),
        None => Ok(()),
    }
}

fn may_decide(who: &str, plan: &PlanRow, needs: &Needs, answer: &Answer) -> Result<(), Refusal> {
    if needs.role != ANY_OPERATOR && !answer.roles.contains(&needs.role) {
        return Err(Refusal::Forbidden(format!(
            "{} is decided by role {}; {who} has {}",
            plan.id,
            needs.role,
            words(&answer.roles)
        )));
    }
    if plan.requester.as_deref() == Some(who) {
        return Err(Refusal::Forbidden(format!("{who} asked for {}: somebody else must decide it", plan.id)));
    }
    if plan.votes.iter().any(|vote| vote.who == who) {
        return Err(Refusal::Conflict(format!("{who} has decided {} already", plan.id)));
    }
    Ok(())
}

fn words(roles: &[String]) -> String {
    if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") }
}
