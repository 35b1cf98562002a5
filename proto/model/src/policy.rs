//! What an operator wants, validated: the types that the engine decides from.
//!
//! A value of one of these types has been checked against everything that `quell check` knows; defaults have been
//! filled in, and [`Policy::defaults`] says which.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    calendar::{Calendar, Cron},
    condition::{Condition, Expression},
    digest::Digest,
    limits::Limits,
    name::{FullName, ObjectName},
    probe::Probe,
    selector::{Labels, Placement, Selector},
    value::Value,
};

/// How far a policy may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Records what it would do.
    #[default]
    Observe,
    /// Makes plans that wait for an approval.
    Propose,
    /// Acts.
    Enforce,
}

impl Mode {
    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Propose => "propose",
            Self::Enforce => "enforce",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How loudly people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// For the record.
    Info,
    /// To be looked at in working hours.
    Ticket,
    /// Wakes somebody.
    Page,
}

/// What the manual task costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Toil {
    /// Minutes a time.
    pub minutes: f64,
    /// For the ledger: `on-call`.
    pub category: String,
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its full name.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// What the fault is, in a sentence.
    pub description: String,
    /// The service it looks after.
    pub service: Option<ObjectName>,
    /// Problem and target are the incident.
    pub problem: String,
    /// How loudly people are told.
    pub severity: Severity,
    /// What the manual task costs.
    pub toil: Option<Toil>,
    /// How far it may go.
    pub mode: Mode,
    /// Who observes.
    pub hosts: Selector,
    /// What is judged.
    pub target: TargetRule,
    /// Its probes by name.
    pub probes: Arc<BTreeMap<String, Probe>>,
    /// Values computed when a plan is made, in an order in which each needs only earlier ones.
    pub values: Vec<ComputedValue>,
    /// Its signals by name.
    pub signals: BTreeMap<String, Signal>,
    /// What starts it.
    pub trigger: Trigger,
    /// The alerts of another system that its trigger asks about, if it does.
    pub alert: Option<AlertRule>,
    /// Dead-man: the ledger must show a run at least this often.
    pub expect: Option<Duration>,
    /// Messages beside the ladder.
    pub tell: Vec<Tell>,
    /// Rungs, tried in order until the symptom is gone.
    pub ladder: Vec<Rung>,
    /// What holds it back.
    pub guards: Guards,
    /// Who is called when the ladder has ended or nothing helps; always there in enforce.
    pub escalate: Option<Escalate>,
    /// `field=value` for everything the manifest left out.
    pub defaults: Vec<String>,
}

/// What a policy judges.
#[derive(Debug, Clone)]
pub enum TargetRule {
    /// Each host by itself.
    Host,
    /// The fleet as a whole; probes that run on many hosts need a quorum.
    Fleet,
    /// Each element of a family of a host.
    Each {
        /// The family.
        family: Family,
        /// The name that conditions use for the element.
        variable: String,
        /// Which elements; absent: all.
        filter: Option<Condition>,
    },
}

/// A family of elements that a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// `host.disks`: mounts and directory budgets.
    Disks,
    /// `host.network`: interfaces.
    Network,
}

impl Family {
    /// How samples and conditions name it: `disks[/var].used_percent`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Disks => "disks",
            Self::Network => "network",
        }
    }
}

/// A value computed inside signed bounds and frozen into the plan.
#[derive(Debug, Clone)]
pub struct ComputedValue {
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub is: Expression,
    /// What it may be; anything else is unknown and holds.
    pub one_of: Vec<Value>,
}

/// A named three-valued condition.
#[derive(Debug, Clone)]
pub struct Signal {
    /// What must hold.
    pub that: Condition,
    /// Of how many observers; absent: of the target itself.
    pub quorum: Option<Quorum>,
}

/// "2 of 3".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// So many observers must say so,
    pub of: u32,
    /// of so many assigned ones. Fewer assigned observers are unknown ones.
    pub among: u32,
}

/// What starts a policy.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A condition.
    When {
        /// What must hold,
        when: Condition,
        /// for how long.
        hold_for: Duration,
        /// What ends it; absent: `when` known to be false.
        clear: Option<Condition>,
    },
    /// A timetable.
    Schedule(Schedule),
}

/// The alerts of another system by which a policy is triggered: its trigger's condition is `alert.firing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRule {
    /// Who tells of them: the operator whose certificate the other system shows.
    pub source: String,
    /// Labels that they have, all of these; at least one.
    pub matches: Labels,
    /// The label that names the host; absent when the target is the fleet.
    pub host_label: Option<String>,
    /// Not told of again for so long, one that fired is unknown.
    pub stale: Duration,
}

/// A timetable.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// When, across daylight saving: a time that does not exist runs at the next that does, one that is twice runs once.
    pub cron: Cron,
    /// Starts are spread over this long, by a hash of policy and target.
    pub splay: Duration,
    /// A missed run is made good within this long; zero: never.
    pub missed_within: Duration,
    /// What happens when the last run has not ended.
    pub overlap: Overlap,
}

/// What happens when a scheduled run comes due while the last has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is skipped, and recorded.
    Skip,
    /// It waits.
    Queue,
}

/// A message beside the ladder.
#[derive(Debug, Clone)]
pub struct Tell {
    /// When.
    pub at: TellAt,
    /// Only while this holds; absent: always.
    pub when: Option<Condition>,
    /// Who.
    pub contact: ObjectName,
    /// Names of probes whose fields and log tails are attached (`probe.dns1`), or `changes`.
    pub attach: Vec<String>,
    /// The text, with `$(name)` of values and `$(probe.NAME.FIELD)`.
    pub text: String,
}

/// The moment of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TellAt {
    /// When the alert fires.
    Firing,
    /// When something that should be done is held.
    Held,
    /// When a plan has been carried out, whatever came of it.
    Acted,
    /// When the incident is resolved.
    Resolved,
}

/// One attempt at a cure.
#[derive(Debug, Clone)]
pub struct Rung {
    /// Its name.
    pub name: String,
    /// False: skipped, and recorded; unknown: held.
    pub only_if: Option<Condition>,
    /// Time since firing before it may start.
    pub after: Option<Duration>,
    /// True: does not wait for `after`.
    pub unless: Option<Condition>,
    /// Asked when planned and again when carried out; unknown is no.
    pub require: Vec<Requirement>,
    /// Where its steps run, unless they say so themselves; absent: on the target's host.
    pub on: Option<Placement>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What is done in the end whatever happened, freeze and cancel included.
    pub finally: Vec<Step>,
    /// How it is rolled out over several hosts.
    pub rollout: Rollout,
    /// Whether people are asked first.
    pub approval: Option<ApprovalRule>,
    /// How it is known that the symptom is gone; a policy always says so.
    pub verify: Option<Verify>,
    /// What happens when that does not hold.
    pub otherwise: Otherwise,
}

/// A condition without which a rung does not start.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// What must be known to hold.
    pub that: Condition,
    /// What is said when it does not.
    pub because: String,
}

/// One action.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name: `service.restart`.
    pub action: String,
    /// Where; absent: the rung's.
    pub on: Option<Placement>,
    /// Its parameters, with `$(name)` as whole arguments.
    pub with: serde_json::Map<String, serde_json::Value>,
    /// How long it may take.
    pub timeout: Duration,
    /// A second time goes to people instead.
    pub once: Option<Once>,
}

/// What may happen only once.
#[derive(Debug, Clone)]
pub enum Once {
    /// In an incident.
    Incident,
    /// With the same key in a span of time: the poison order.
    Key {
        /// The key.
        key: Expression,
        /// The span.
        within: Duration,
    },
}

/// How a rung is spread over hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Sizes of the waves; the last repeats.
    pub waves: Vec<u32>,
    /// Pause after each wave before the next is judged.
    pub settle: Duration,
    /// It stops after one more failure than this.
    pub max_errors: u32,
}

/// When people are asked, and who.
#[derive(Debug, Clone)]
pub struct ApprovalRule {
    /// Only while this holds; absent: always.
    pub only_if: Option<Condition>,
    /// The role that approves.
    pub role: String,
    /// How many distinct people.
    pub count: u32,
    /// How long the question stands.
    pub expires: Duration,
    /// What can be chosen; the first is the default.
    pub choices: Vec<Choice>,
    /// How often people are reminded; absent: never.
    pub remind: Option<Duration>,
    /// Whether hosts want to see the approvals' signatures; else the controller's word is enough for them.
    pub signed: bool,
}

/// One of the answers to the question about a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub name: String,
    /// What comes of it.
    pub does: Does,
}

/// What an answer brings about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    /// The plan may run.
    Run,
    /// Nothing is run.
    Deny,
    /// Nothing is run; a contact is told what is wanted instead.
    Tell {
        /// The contact.
        contact: ObjectName,
        /// The text, with `$(name)` as messages have it; absent: that it was chosen.
        text: Option<String>,
    },
}

impl Choice {
    /// Whether the plan may run by it: what hosts count as an approval.
    pub fn runs(&self) -> bool {
        self.does == Does::Run
    }
}

impl std::fmt::Display for Does {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run => f.write_str("runs the plan"),
            Self::Deny => f.write_str("denies it"),
            Self::Tell { contact, .. } => write!(f, "tells {contact}, and nothing is run"),
        }
    }
}

/// How it is known that the symptom is gone: by samples taken after the act.
#[derive(Debug, Clone)]
pub struct Verify {
    /// What must hold,
    pub that: Condition,
    /// for so long,
    pub stable: Duration,
    /// beginning at the latest so that it is complete this long after the act.
    pub within: Duration,
}

/// What happens when a rung did not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Otherwise {
    /// The next rung.
    Next,
    /// The rung is undone, then the next.
    Undo,
    /// People; the ladder ends.
    Page,
}

/// What holds a policy back.
#[derive(Debug, Clone)]
pub struct Guards {
    /// Least time between two acts on one target.
    pub cooldown: Duration,
    /// The policy acts only while it is open; absent: always.
    pub calendar: Option<ObjectName>,
    /// How much may be disturbed.
    pub disturb: Disturb,
    /// Acts per target and per policy.
    pub budget: Budget,
    /// Whom it gives way to on the host: `package-lock`, `boot 5m`, `human-session`.
    pub yield_to: Vec<String>,
}

/// How many hosts of a service may be disturbed, over all plans and people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disturb {
    /// Absolute.
    pub hosts: u32,
    /// Of the eligible hosts, rounded down, at least 1.
    pub percent: f64,
    /// Counted over this long.
    pub over: Duration,
}

/// How often a policy may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// On one target,
    pub per_target: u32,
    /// and in all,
    pub per_policy: u32,
    /// within this long.
    pub within: Duration,
}

/// Who is called when nothing helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalate {
    /// The contact.
    pub to: ObjectName,
    /// After firing for this long without a cure; at once when the ladder ends.
    pub after: Duration,
}

/// A service of the shop: who owns it and what it stands on.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its full name.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// Who owns it.
    pub owner: Option<String>,
    /// Its members.
    pub members: Selector,
    /// Services it stands on: their incidents inhibit its own, and both are never disturbed at once.
    pub depends_on: Vec<ObjectName>,
    /// Members that must stay undisturbed; a service with a single member must write 0 to let it be taken.
    pub keep_healthy: u32,
    /// When it may be worked on.
    pub calendar: Option<ObjectName>,
    /// Who is told.
    pub contacts: Vec<ObjectName>,
}

/// Somebody who is told.
#[derive(Debug, Clone)]
pub struct Contact {
    /// Its full name.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// How, each in turn; all of them are used.
    pub via: Vec<Channel>,
    /// Who is next, after how long without an acknowledgement.
    pub next: Option<(ObjectName, Duration)>,
}

/// A way to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Channel {
    /// A POST of JSON.
    Webhook {
        /// Absolute http or https URL.
        url: String,
    },
    /// A POST of JSON to a URL that is a secret, and so in no manifest.
    SecretWebhook {
        /// The file of the controller that holds the URL.
        file: ObjectName,
    },
    /// A line in the controller's log.
    Log,
}

/// A time in which something is suppressed.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its full name.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// Whom it covers.
    pub hosts: Selector,
    /// No messages.
    pub suppress_notify: bool,
    /// No acts.
    pub suppress_act: bool,
    /// Its beginning,
    pub from: jiff::Timestamp,
    /// and its end; there is always one.
    pub until: jiff::Timestamp,
    /// Why.
    pub reason: String,
}

/// Any manifest.
#[derive(Debug, Clone)]
pub enum Manifest {
    /// A policy.
    Policy(Arc<Policy>),
    /// A service.
    Service(Arc<Service>),
    /// A calendar.
    Calendar(Arc<Calendar>),
    /// A contact.
    Contact(Arc<Contact>),
    /// A window.
    Window(Arc<Window>),
    /// Ceilings over the namespace.
    Limits(Arc<Limits>),
}

impl Manifest {
    /// Its kind, as manifests write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Policy(_) => "Policy",
            Self::Service(_) => "Service",
            Self::Calendar(_) => "Calendar",
            Self::Contact(_) => "Contact",
            Self::Window(_) => "Window",
            Self::Limits(_) => "Limits",
        }
    }

    /// Its full name.
    pub fn name(&self) -> &FullName {
        match self {
            Self::Policy(policy) => &policy.name,
            Self::Service(service) => &service.name,
            Self::Calendar(calendar) => &calendar.name,
            Self::Contact(contact) => &contact.name,
            Self::Window(window) => &window.name,
            Self::Limits(limits) => &limits.name,
        }
    }

    /// Digest of its canonical JSON.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Policy(policy) => policy.digest,
            Self::Service(service) => service.digest,
            Self::Calendar(calendar) => calendar.digest,
            Self::Contact(contact) => contact.digest,
            Self::Window(window) => window.digest,
            Self::Limits(limits) => limits.digest,
        }
    }
}
