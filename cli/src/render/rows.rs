//! Lists: what each kind of thing shows of itself in a table, and what it is called.

use jiff::Timestamp;
use quell_wire::v1::{
    AlertView, GetResponse, HoldView, HostView, IncidentView, ManifestView, NewerView, OperatorView, PlanView,
    PolicyView, TokenView, WindowView,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    page::pairs,
    table,
    time::{relative, relative_or_dash},
};
use crate::{error::Error, kind::Kind, output};

/// A list in every form in which it can be printed.
#[derive(Debug)]
pub struct Listing {
    /// For programs.
    pub items: Vec<Value>,
    /// For scripts.
    pub names: Vec<String>,
    /// For people.
    pub table: String,
}

/// One row.
trait Row: Serialize {
    /// Headings of the columns, and of those that are there with `-o wide` only.
    const HEADINGS: (&'static [&'static str], &'static [&'static str]);
    /// What it is called in other commands.
    fn name(&self) -> String;
    /// The cells of all columns, wide ones too.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// The list of a kind out of an answer.
///
/// # Errors
/// As for [`output::to_value`].
pub fn list(kind: Kind, answer: &GetResponse, wide: bool, now: Timestamp) -> Result<Listing, Error> {
    match kind {
        Kind::Hosts => listing(&answer.hosts, wide, now),
        Kind::Policies => listing(&answer.policies, wide, now),
        Kind::Incidents => listing(&answer.incidents, wide, now),
        Kind::Plans => listing(&answer.plans, wide, now),
        Kind::Approvals => listing(&answer.plans.iter().map(Approval).collect::<Vec<_>>(), wide, now),
        Kind::Holds => listing(&answer.holds, wide, now),
        Kind::Windows => listing(&answer.windows, wide, now),
        Kind::Alerts => listing(&answer.alerts, wide, now),
        Kind::Tokens => listing(&answer.tokens, wide, now),
        Kind::Operators => listing(&answer.operators, wide, now),
        Kind::Services | Kind::Calendars | Kind::Contacts | Kind::Limits => listing(&answer.manifests, wide, now),
    }
}

fn listing<R: Row>(rows: &[R], wide: bool, now: Timestamp) -> Result<Listing, Error> {
    let (headings, more) = R::HEADINGS;
    let shown = if wide { [headings, more].concat() } else { headings.to_vec() };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut cells = row.cells(now);
            cells.truncate(shown.len());
            cells.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell.clone() }).collect()
        })
        .collect();
    Ok(Listing {
        items: rows.iter().map(output::to_value).collect::<Result<_, _>>()?,
        names: rows.iter().map(Row::name).collect(),
        table: table::draw(&shown, &cells, wide),
    })
}

/// The beginning of a hash or digest: enough for people.
pub fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// A namespace and a name.
pub fn full_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl Row for HostView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) = (
        &["NAME", "STATE", "SEEN", "VERSION", "LABELS"],
        &["SAMPLES", "DROPPED", "PROBES", "CERTIFICATE ENDS", "HELD", "SAYS IT HAS SEEN"],
    );

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.held.is_some() { format!("{}, held", self.state) } else { self.state.clone() },
            relative_or_dash(self.last_seen.as_deref(), now),
            self.agent_version.clone(),
            pairs(&self.labels),
            self.samples.to_string(),
            self.dropped_samples.to_string(),
            self.probes.to_string(),
            relative_or_dash(self.certificate_expires.as_deref(), now),
            self.held.clone().unwrap_or_default(),
            newer(self).join("; "),
        ]
    }
}

/// What a host says that it has seen and the controller does not hold.
pub fn newer(host: &HostView) -> Vec<String> {
    let words = |newer: &NewerView| format!("version {} of {}; here it is {}", newer.seen, newer.what, newer.here);
    host.newer.iter().map(words).collect()
}

impl Row for PolicyView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) = (
        &["NAME", "MODE", "HOSTS", "FIRING", "PENDING", "ACTED 24H"],
        &["SEVERITY", "PROBLEM", "DIGEST", "DESCRIPTION", "BREAKER"],
    );

    fn name(&self) -> String {
        full_name(&self.namespace, &self.name)
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let is_lowered = !self.effective_mode.is_empty() && self.effective_mode != self.mode;
        vec![
            Row::name(self),
            if is_lowered { format!("{} (now {})", self.mode, self.effective_mode) } else { self.mode.clone() },
            self.hosts.to_string(),
            self.firing.to_string(),
            self.pending.to_string(),
            self.acted.to_string(),
            self.severity.clone(),
            self.problem.clone(),
            short(&self.digest),
            self.description.clone(),
            self.breaker.clone().unwrap_or_default(),
        ]
    }
}

impl Row for IncidentView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) = (
        &["ID", "PROBLEM", "TARGET", "STATE", "OPENED", "PLANS"],
        &["SEVERITY", "RESOLVED", "POLICIES", "WAITS FOR", "RESOLUTION"],
    );

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.problem.clone(),
            self.target.clone(),
            self.state.clone(),
            relative(&self.opened_at, now),
            self.plans.len().to_string(),
            self.severity.clone(),
            relative_or_dash(self.resolved_at.as_deref(), now),
            self.policies.join(", "),
            self.hold.as_ref().map(|hold| format!("{}: {}", hold.guard, hold.reason)).unwrap_or_default(),
            self.resolution.clone().unwrap_or_default(),
        ]
    }
}

/// Steps that have ended well, of all.
pub fn progress(plan: &PlanView) -> String {
    let done = plan.steps.iter().filter(|step| matches!(step.outcome.as_str(), "succeeded" | "noChange")).count();
    format!("{done}/{}", plan.steps.len())
}

/// Who made a plan.
pub fn origin(plan: &PlanView) -> String {
    if plan.policy.is_empty() { plan.requester.clone() } else { plan.policy.clone() }
}

impl Row for PlanView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) = (
        &["ID", "FROM", "RUNG", "STATE", "STEPS", "CREATED"],
        &["INCIDENT", "HASH", "WAITS FOR", "NEEDS", "VERIFICATION"],
    );

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            origin(self),
            self.rung.clone(),
            if self.dry_run { format!("{} (dry run)", self.state) } else { self.state.clone() },
            progress(self),
            relative(&self.created_at, now),
            self.incident.clone().unwrap_or_default(),
            short(&self.hash),
            self.hold.as_ref().map(|hold| format!("{}: {}", hold.guard, hold.reason)).unwrap_or_default(),
            self.needs.clone().unwrap_or_default(),
            self.verification.clone(),
        ]
    }
}

/// A plan that waits for people shows what it needs instead of how far it is.
#[derive(Serialize)]
#[serde(transparent)]
struct Approval<'a>(&'a PlanView);

impl Row for Approval<'_> {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) =
        (&["ID", "FROM", "RUNG", "NEEDS", "CREATED", "HASH"], &["INCIDENT", "STEPS"]);

    fn name(&self) -> String {
        self.0.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let plan = self.0;
        vec![
            plan.id.clone(),
            origin(plan),
            plan.rung.clone(),
            plan.needs.clone().unwrap_or_default(),
            relative(&plan.created_at, now),
            short(&plan.hash),
            plan.incident.clone().unwrap_or_default(),
            plan.steps.len().to_string(),
        ]
    }
}

impl Row for HoldView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) =
        (&["WHAT", "GUARD", "REASON", "UNTIL"], &["SINCE"]);

    fn name(&self) -> String {
        self.what.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.what.clone(),
            self.guard.clone(),
            self.reason.clone(),
            relative_or_dash(self.until.as_deref(), now),
            relative_or_dash(self.since.as_deref(), now),
        ]
    }
}

impl Row for WindowView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) =
        (&["ID", "KIND", "SCOPE", "ENDS", "WHO", "REASON"], &["ACTIVE", "BEGAN"]);

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.kind.clone(),
            self.scope.clone(),
            relative(&self.until, now),
            self.who.clone(),
            self.reason.clone(),
            if self.active { "yes" } else { "no" }.to_owned(),
            relative_or_dash(self.from.as_deref(), now),
        ]
    }
}

impl Row for AlertView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) =
        (&["POLICY", "TARGET", "STATE", "SINCE", "INCIDENT"], &["FIRING SINCE"]);

    fn name(&self) -> String {
        format!("{} {}", self.policy, self.target)
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.policy.clone(),
            self.target.clone(),
            self.state.clone(),
            relative_or_dash(self.since.as_deref(), now),
            self.incident.clone().unwrap_or_default(),
            relative_or_dash(self.firing_since.as_deref(), now),
        ]
    }
}

impl Row for TokenView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) =
        (&["ID", "USES LEFT", "ENDS", "MADE BY", "LABELS"], &[]);

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.uses_left.to_string(),
            relative(&self.expires_at, now),
            self.created_by.clone(),
            pairs(&self.labels),
        ]
    }
}

impl Row for OperatorView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) =
        (&["NAME", "ROLES", "STATE", "CERTIFICATE ENDS"], &[]);

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.roles.join(", "),
            if self.revoked { "revoked" } else { "active" }.to_owned(),
            relative_or_dash(self.certificate_expires.as_deref(), now),
        ]
    }
}

impl Row for ManifestView {
    const HEADINGS: (&'static [&'static str], &'static [&'static str]) = (&["NAME", "DIGEST"], &["KIND"]);

    fn name(&self) -> String {
        full_name(&self.namespace, &self.name)
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![Row::name(self), short(&self.digest), self.kind.clone()]
    }
}
