//! Why: what a policy makes of a target at this moment, with every guard's verdict and the values that the signals saw.
//! The same, bounded, is the data of the record of a verdict that changes, so that it can be told later.

mod past;

use std::cell::RefCell;

use jiff::Timestamp;
use quell_model::{
    condition::Scope,
    name::{FullName, Target},
    policy::{Mode, Quorum, Trigger},
    value::Truth,
};
use serde::{Deserialize, Serialize};

pub use self::past::Recorded;
use crate::{
    State, Windows, breaker,
    guard::{self, Context, Guard},
    id::{IncidentId, PlanId},
    input::{Saw, WhyQuestion},
    plan::{self, Wanted},
    scope::{Notes, View},
    state::{Hold, PlanRow, PlanState, Verdict},
    verdict,
    windows::Compiled,
};

/// What a policy makes of a target, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The policy.
    pub policy: FullName,
    /// The target.
    pub target: Target,
    /// In one word.
    pub verdict: Verdict,
    /// In one sentence a person can act on.
    pub summary: String,
    /// The first guard that says no.
    pub first_no: Option<Hold>,
    /// Every guard's verdict, in the order in which they are asked; empty while there is nothing to be held.
    pub guards: Vec<GuardVerdict>,
    /// Every signal, with what it saw.
    pub signals: Vec<SignalSeen>,
    /// The trigger as written.
    pub condition: String,
    /// What the trigger is.
    pub truth: Truth,
    /// The values that the trigger itself saw.
    pub saw: Vec<Saw>,
    /// Since when the verdict stands.
    pub since: Option<Timestamp>,
    /// The incident.
    pub incident: Option<IncidentId>,
    /// The plan under way.
    pub plan: Option<PlanId>,
    /// How far the policy may go at the moment.
    pub mode: Mode,
}

/// What one guard says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardVerdict {
    /// The guard; when it holds, under the name that it gives the hold.
    pub guard: String,
    /// Whether it lets through.
    pub allows: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Until when, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What one signal is, and what it saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalSeen {
    /// Its name.
    pub name: String,
    /// What it is.
    pub value: Truth,
    /// Its condition as written.
    pub expression: String,
    /// Its quorum.
    pub quorum: Option<Quorum>,
    /// The values that it saw, by host.
    pub saw: Vec<Saw>,
}

/// Explains a policy's verdicts; of all its targets when none is named, those that need attention first.
///
/// Answers nothing when there is no such policy, or it does not cover the target.
pub fn explain(windows: &Windows, state: &State, now: Timestamp, question: &WhyQuestion) -> Vec<Explanation> {
    let view = View { windows, state, now };
    let Some(compiled) = windows.index.policy(&question.policy) else { return Vec::new() };
    let targets = match &question.target {
        Some(target) if crate::alert::covers(compiled, target) => vec![target.clone()],
        Some(_) => Vec::new(),
        None => view.targets(compiled),
    };
    let mut all: Vec<Explanation> = targets.iter().map(|target| one(view, compiled, target)).collect();
    all.sort_by_key(|explanation| (urgency(explanation.verdict), explanation.target.clone()));
    all
}

fn urgency(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::AwaitingApproval => 0,
        Verdict::Held => 1,
        Verdict::Fired => 2,
        Verdict::ObserveOnly => 3,
        Verdict::Pending => 4,
        Verdict::Unknown => 5,
        Verdict::NotFiring => 6,
    }
}

fn one(view: View<'_>, compiled: &Compiled, target: &Target) -> Explanation {
    explain_as(view, compiled, target, None)
}

/// Explains a verdict that was judged already, or judges it.
fn explain_as(
    view: View<'_>,
    compiled: &Compiled,
    target: &Target,
    judged: Option<(Verdict, Option<Hold>)>,
) -> Explanation {
    let policy = &compiled.policy;
    let key = (policy.name.clone(), target.clone());
    let notes = Notes::seeing();
    let (condition, truth) = match &policy.trigger {
        Trigger::When { when, .. } => (when.text().to_owned(), view.site(compiled, target, &notes).judge(when)),
        Trigger::Schedule(schedule) => (format!("schedule {}", schedule.cron.text), Truth::False),
    };
    let (verdict, hold) = judged.unwrap_or_else(|| verdict::judge(view, compiled, target, truth));
    let alert = view.state.alerts.get(&key);
    let incident = alert.and_then(|alert| alert.incident).filter(|id| view.state.live.incidents.contains(id));
    let plan = under_way(view, &key, incident);
    let guards = guards(view, compiled, target, incident, plan.as_deref());
    let first_no = hold.or_else(|| {
        let no = guards.iter().find(|guard| !guard.allows)?;
        Some(Hold { guard: no.guard.clone(), reason: no.reason.clone(), until: no.until, since: view.now })
    });
    let since = alert
        .map(|alert| alert.firing_since.unwrap_or(alert.since))
        .or_else(|| view.state.verdicts.get(&key).map(|row| row.since));
    Explanation {
        policy: policy.name.clone(),
        target: target.clone(),
        summary: summary(verdict, first_no.as_ref(), incident, &condition, truth),
        verdict,
        first_no,
        guards,
        signals: signals(view, compiled, target),
        condition,
        truth,
        saw: notes.saw.map(RefCell::into_inner).unwrap_or_default(),
        since,
        incident,
        plan: plan.map(|plan| plan.id),
        mode: breaker::effective_mode(view.state, view.now, policy),
    }
}

fn under_way(
    view: View<'_>,
    key: &(FullName, Target),
    incident: Option<IncidentId>,
) -> Option<std::sync::Arc<PlanRow>> {
    view.state
        .live
        .plans
        .iter()
        .filter_map(|id| view.state.plans.get(id))
        .find(|plan| {
            plan.policy.as_ref() == Some(&key.0)
                && plan.target == key.1
                && (incident.is_none() || plan.incident == incident)
        })
        .cloned()
}

/// Every guard's verdict on the plan under way, or on the one that the next rung would make.
fn guards(
    view: View<'_>,
    compiled: &Compiled,
    target: &Target,
    incident: Option<IncidentId>,
    plan: Option<&PlanRow>,
) -> Vec<GuardVerdict> {
    let row = incident.and_then(|id| view.state.incidents.get(&id));
    let rung = plan.map_or_else(|| row.map_or(0, |row| row.rung), |plan| plan.rung_index);
    let next = PlanId(view.state.meta.counters.get("plan").copied().unwrap_or(0) + 1);
    let wanted = Wanted { compiled, target, rung, incident, scheduled: incident.is_none() };
    let made = match plan {
        Some(_) => None,
        None => plan::make(view, &wanted, next).ok(),
    };
    let taking = match (plan, &made) {
        (Some(plan), _) => {
            let commands = plan.commands.iter().filter_map(|id| view.state.commands.get(id));
            plan::taking::next(commands.map(AsRef::as_ref))
        }
        (None, Some(candidate)) => plan::taking::next(candidate.commands.iter()),
        (None, None) => return Vec::new(),
    };
    let Some(plan) = plan.or(made.as_ref().map(|candidate| &candidate.plan)) else { return Vec::new() };
    let context = Context {
        view,
        plan,
        compiled: Some(compiled),
        rung: compiled.policy.ladder.get(rung),
        incident: row.map(AsRef::as_ref),
        taking: &taking,
    };
    // What has begun is asked again before its further waves only, and then by some.
    let is_asked = |guard: &Guard| match plan.state {
        PlanState::Running => guard.each_wave,
        PlanState::Verifying => false,
        _ => true,
    };
    guard::GUARDS
        .iter()
        .map(|guard| match (guard.verdict)(&context).filter(|_| is_asked(guard)) {
            None => GuardVerdict { guard: guard.name.to_owned(), allows: true, reason: String::new(), until: None },
            Some(hold) => GuardVerdict { guard: hold.guard, allows: false, reason: hold.reason, until: hold.until },
        })
        .collect()
}

fn signals(view: View<'_>, compiled: &Compiled, target: &Target) -> Vec<SignalSeen> {
    compiled
        .policy
        .signals
        .iter()
        .map(|(name, signal)| {
            let notes = Notes::seeing();
            let value = view.site(compiled, target, &notes).signal(name);
            SignalSeen {
                name: name.clone(),
                value,
                expression: signal.that.text().to_owned(),
                quorum: signal.quorum,
                saw: notes.saw.map(RefCell::into_inner).unwrap_or_default(),
            }
        })
        .collect()
}

fn summary(verdict: Verdict, no: Option<&Hold>, incident: Option<IncidentId>, condition: &str, truth: Truth) -> String {
    let incident = incident.map_or_else(String::new, |id| format!(" ({id})"));
    let held = no.map_or_else(String::new, |hold| format!(": {} ({})", hold.reason, hold.guard));
    match verdict {
        Verdict::NotFiring => format!("the symptom is not there: `{condition}` is {truth}"),
        Verdict::Unknown => format!("nobody knows: samples that `{condition}` needs are missing or stale"),
        Verdict::Pending => format!("`{condition}` holds, but not for long enough yet"),
        Verdict::Fired => format!("the symptom is there and something is being done{incident}"),
        Verdict::Held => format!("the symptom is there and nothing is done{incident}{held}"),
        Verdict::ObserveOnly => format!("the symptom is there; the policy only observes{incident}{held}"),
        Verdict::AwaitingApproval => format!("a plan waits for people{incident}{held}"),
    }
}
