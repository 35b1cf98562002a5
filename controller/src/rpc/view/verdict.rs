//! Verdicts: what a policy makes of a target, as last recorded.

use quell_engine::state::{Hold, Verdict, VerdictRow};
use quell_model::{
    name::{FullName, Target},
    policy::{Manifest, Policy, Signal, Trigger},
};
use quell_wire::v1::{GuardView, SignalView, VerdictView};

use super::{Viewer, time, word};

impl Viewer<'_> {
    /// A policy's verdicts, on one target or on all of them, worst first.
    pub fn verdicts(&self, policy: &FullName, target: Option<&Target>) -> Vec<VerdictView> {
        let stored = self.state.manifests.get(&("Policy".to_owned(), policy.clone()));
        let Some(Manifest::Policy(manifest)) = stored.map(|stored| &stored.manifest) else { return Vec::new() };
        let mut rows: Vec<_> = self
            .state
            .verdicts
            .iter()
            .filter(|((of, on), _)| of == policy && target.is_none_or(|target| target == on))
            .collect();
        rows.sort_by_key(|((_, on), row)| (rank(row.verdict), on.clone()));
        rows.into_iter().map(|((_, on), row)| self.verdict(manifest, on, row)).collect()
    }

    fn verdict(&self, policy: &Policy, target: &Target, row: &VerdictRow) -> VerdictView {
        let alert = self.state.alerts.get(&(policy.name.clone(), target.clone()));
        let incident = alert.and_then(|alert| alert.incident);
        let plan = incident.and_then(|id| self.state.incidents.get(&id)).and_then(|row| row.plans.last());
        VerdictView {
            policy: policy.name.to_string(),
            target: target.to_string(),
            verdict: word(row.verdict),
            summary: summary(policy, target, row),
            first_no: row.first_no.as_ref().map(guard),
            guards: row.first_no.iter().map(guard).collect(),
            signals: policy.signals.iter().map(|(name, declared)| signal(name, declared, row)).collect(),
            condition: condition(policy),
            since: Some(time(row.since)),
            incident: incident.map(|id| id.to_string()),
            plan: plan.map(ToString::to_string),
        }
    }
}

/// What needs people most comes first.
fn rank(verdict: Verdict) -> u8 {
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

fn summary(policy: &Policy, target: &Target, row: &VerdictRow) -> String {
    let name = &policy.name;
    match (row.verdict, &row.first_no) {
        (Verdict::Held, Some(no)) => format!("{name} would act on {target}; {} holds it: {}", no.guard, no.reason),
        (Verdict::Held, None) => format!("{name} would act on {target} and is held"),
        (Verdict::Fired, _) => format!("{name} fired on {target} and acts"),
        (Verdict::Pending, _) => format!("the symptom is there on {target}, but not for long enough yet"),
        (Verdict::NotFiring, _) => format!("the symptom is not there on {target}"),
        (Verdict::Unknown, _) => format!("samples of {target} are missing or stale, and nothing is done on a guess"),
        (Verdict::ObserveOnly, _) => format!("{name} fired on {target} and only observes"),
        (Verdict::AwaitingApproval, _) => format!("{name} has a plan for {target} that waits for people"),
    }
}

fn guard(no: &Hold) -> GuardView {
    GuardView { guard: no.guard.clone(), allows: false, reason: no.reason.clone(), until: no.until.map(time) }
}

fn signal(name: &str, declared: &Signal, row: &VerdictRow) -> SignalView {
    SignalView {
        name: name.to_owned(),
        value: row.signals.get(name).map_or_else(|| "unknown".to_owned(), ToString::to_string),
        expression: declared.that.text.clone(),
        quorum: declared.quorum.map(|quorum| format!("{} of {}", quorum.of, quorum.among)).unwrap_or_default(),
        saw: Vec::new(),
        since: None,
    }
}

/// The trigger as written.
fn condition(policy: &Policy) -> String {
    match &policy.trigger {
        Trigger::When { when, .. } => when.text.clone(),
        Trigger::Schedule(schedule) => schedule.cron.text.clone(),
    }
}
