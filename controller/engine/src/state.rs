//! What is known durably: everything that follows from the records.
//!
//! Rows are plain data with serde; a row's JSON is what the log holds and what sled holds. Fields are only ever added,
//! with a default, so that an older log can be read for ever. Maps are persistent ([`imbl`]): a copy of the state costs
//! nothing, so a step decides on a copy and the caller may drop it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    name::{FullName, HostName, Target},
    policy::{Manifest, Mode, Severity, TellAt},
    probe::ProbeKey,
    selector::Labels,
    value::{Fields, Truth, Value},
};
use serde::{Deserialize, Serialize};

use crate::{
    id::{CommandId, IncidentId, MessageId, PlanId, TokenId, WindowId},
    input::HoldScope,
};

pub use crate::{
    invariants::{Violation, check},
    table::Unreadable,
};

/// The tables of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Table {
    /// One row, `meta`: counters, epoch, fence.
    Meta,
    /// Manifests by `Kind/namespace/name`.
    Manifests,
    /// Hosts by name.
    Hosts,
    /// Operators by name.
    Operators,
    /// Join tokens by number.
    Tokens,
    /// Alerts by `namespace/name target`.
    Alerts,
    /// Incidents by number.
    Incidents,
    /// Plans by number.
    Plans,
    /// Commands by number.
    Commands,
    /// Holds and freezes that people made, by number.
    Windows,
    /// Messages by number.
    Messages,
    /// Acts that count against cool-downs and budgets, by command number.
    Ledger,
    /// Breakers and policies' own faults, by policy.
    Breakers,
    /// The verdict of each policy on each target, by the alert's key.
    Verdicts,
    /// What may happen only once, by policy and key.
    Onces,
    /// When schedules last ran and were due, by the alert's key.
    Schedules,
}

/// Everything that is known durably.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Counters, epoch, fence.
    pub meta: Arc<Meta>,
    /// Manifests by kind and name.
    pub manifests: OrdMap<(String, FullName), Arc<StoredManifest>>,
    /// Hosts by name.
    pub hosts: OrdMap<HostName, Arc<HostRow>>,
    /// Operators by name.
    pub operators: OrdMap<String, Arc<OperatorRow>>,
    /// Join tokens.
    pub tokens: OrdMap<TokenId, Arc<TokenRow>>,
    /// Alerts by policy and target.
    pub alerts: OrdMap<(FullName, Target), Arc<AlertRow>>,
    /// Incidents.
    pub incidents: OrdMap<IncidentId, Arc<IncidentRow>>,
    /// Plans.
    pub plans: OrdMap<PlanId, Arc<PlanRow>>,
    /// Commands.
    pub commands: OrdMap<CommandId, Arc<CommandRow>>,
    /// Holds and freezes.
    pub windows: OrdMap<WindowId, Arc<WindowRow>>,
    /// Messages.
    pub messages: OrdMap<MessageId, Arc<Message>>,
    /// Acts that count.
    pub ledger: OrdMap<CommandId, Arc<LedgerRow>>,
    /// Breakers.
    pub breakers: OrdMap<FullName, Arc<BreakerRow>>,
    /// Verdicts.
    pub verdicts: OrdMap<(FullName, Target), Arc<VerdictRow>>,
    /// What may happen only once: policy and key, and when it happened.
    pub onces: OrdMap<(FullName, String), Arc<OnceRow>>,
    /// Schedules.
    pub schedules: OrdMap<(FullName, Target), Arc<ScheduleRow>>,
    /// What follows from the rows and is looked up often; never stored.
    pub live: Live,
}

/// Rows that are not over, and the newest incident of each problem and target. Kept by [`State::put`], never stored.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Incidents that are not resolved.
    pub incidents: OrdSet<IncidentId>,
    /// Plans that have not ended.
    pub plans: OrdSet<PlanId>,
    /// Commands that were sent and have no outcome.
    pub commands: OrdSet<CommandId>,
    /// Messages to be sent.
    pub messages: OrdSet<MessageId>,
    /// The newest incident by problem and target.
    pub latest: OrdMap<(String, Target), IncidentId>,
}

/// Counters and the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Last number given out, by prefix (`inc`, `plan`, …).
    pub counters: BTreeMap<String, u64>,
    /// Grows at each restore.
    pub epoch: u64,
    /// The highest fence given out.
    pub fence: u64,
    /// Why every policy only observes, if so (after a restore).
    pub observe_only: Option<String>,
    /// Why new plans are held, if so (after a clock jump).
    pub clock_suspect: Option<String>,
    /// Random, made at `init`.
    pub installation: String,
    /// Version of each namespace's set; it only goes up.
    pub set_versions: BTreeMap<String, u64>,
}

/// A manifest as it was applied. Its row holds the canonical JSON; the meaning is read from that again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "ManifestText", try_from = "ManifestText")]
pub struct StoredManifest {
    /// Its canonical JSON.
    pub canonical: String,
    /// What it means.
    pub manifest: Manifest,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// By whom.
    pub applied_by: String,
}

impl PartialEq for StoredManifest {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical && self.applied_at == other.applied_at && self.applied_by == other.applied_by
    }
}

/// What the row of a manifest holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestText {
    canonical: String,
    applied_at: Timestamp,
    applied_by: String,
}

impl From<StoredManifest> for ManifestText {
    fn from(stored: StoredManifest) -> Self {
        Self { canonical: stored.canonical, applied_at: stored.applied_at, applied_by: stored.applied_by }
    }
}

impl TryFrom<ManifestText> for StoredManifest {
    type Error = String;

    fn try_from(text: ManifestText) -> Result<Self, String> {
        let manifest = quell_model::manifest::from_canonical(&text.canonical).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("the manifest is not one that this version knows: {}", lines.join("; "))
        })?;
        Ok(Self { canonical: text.canonical, manifest, applied_at: text.applied_at, applied_by: text.applied_by })
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRow {
    /// Its name.
    pub name: HostName,
    /// Random, made when it joined.
    pub host_id: String,
    /// Its labels.
    pub labels: Labels,
    /// SHA-256 of its public key info.
    pub key: Digest,
    /// When its certificate ends.
    pub certificate_expires: Timestamp,
    /// Version of its agent.
    pub agent_version: String,
    /// Facts.
    pub facts: BTreeMap<String, String>,
    /// How it stands.
    pub state: HostState,
    /// Since when.
    pub since: Timestamp,
    /// When the last session ended; absent while one lasts. Samples are not recorded, so this is as fine as it gets.
    pub last_seen: Option<Timestamp>,
    /// Random at each start of its agent.
    pub instance: String,
    /// Held by its own administrator: why, until when.
    pub held: Option<(String, Timestamp)>,
    /// Highest session sequence number whose content is durably taken in.
    #[serde(default)]
    pub acknowledged: u64,
    /// Since when its samples are missing, once that was said.
    #[serde(default)]
    pub no_data_since: Option<Timestamp>,
}

/// How a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostState {
    /// It has a session.
    Online,
    /// It has none, or three samples are missing.
    Lost,
    /// Its certificate was revoked.
    Revoked,
    /// It is gone for good.
    Retired,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorRow {
    /// Name: the principal.
    pub name: String,
    /// Roles.
    pub roles: Vec<String>,
    /// SHA-256 of the public key info.
    pub key: Digest,
    /// When the certificate ends.
    pub certificate_expires: Timestamp,
    /// Why it is no longer good.
    pub revoked: Option<String>,
}

/// A join token. The secret is never here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRow {
    /// Its number.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub hash: Digest,
    /// Until when.
    pub expires: Timestamp,
    /// How often still.
    pub uses_left: u32,
    /// What it grants.
    pub labels: Labels,
    /// The only name that may join.
    pub name: Option<HostName>,
    /// Who made it.
    pub created_by: String,
}

/// Policy × target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertRow {
    /// The policy.
    pub policy: FullName,
    /// The target.
    pub target: Target,
    /// How it stands.
    pub state: AlertState,
    /// When the trigger first held without a known break: what `for` counts from.
    pub since: Timestamp,
    /// When it fired: what `after` counts from.
    pub firing_since: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
    /// The times of the last 21 changes between firing and not: flapping is judged from them.
    #[serde(default)]
    pub changes: Vec<Timestamp>,
}

/// How an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AlertState {
    /// The trigger holds, but not for long enough.
    Pending,
    /// It fired.
    Firing,
    /// It is over.
    Resolved,
}

/// Problem × target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentRow {
    /// Its number.
    pub id: IncidentId,
    /// The problem.
    pub problem: String,
    /// The target.
    pub target: Target,
    /// The policies whose alerts feed it; the first one's ladder is climbed.
    pub policies: Vec<FullName>,
    /// How it stands.
    pub state: IncidentState,
    /// How loudly people are told.
    pub severity: Severity,
    /// A sentence: the policy's description.
    pub summary: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// How it ended.
    pub resolution: Option<String>,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
    /// Where on the ladder it is: the rung to be tried next.
    pub rung: usize,
    /// Its plans.
    pub plans: Vec<PlanId>,
    /// Why nothing is done at the moment.
    pub hold: Option<Hold>,
    /// Notes of people.
    pub notes: Vec<Note>,
    /// When people were called.
    pub escalated_at: Option<Timestamp>,
    /// Messages of the firing that will not be sent: their condition was known not to hold, by policy and index.
    #[serde(default)]
    pub untold: Vec<(FullName, usize)>,
    /// Messages sent already: each goes once.
    #[serde(default)]
    pub told: Vec<Told>,
    /// Records that people read as its story, by time; the log has them all.
    #[serde(default)]
    pub timeline: Vec<Note>,
    /// The index of the rung that healed it: a recurrence within 6 h starts after that one.
    #[serde(default)]
    pub healed_by: Option<usize>,
    /// What opened it.
    #[serde(default)]
    pub cause: Cause,
    /// The policy whose ladder is climbed; set when the first plan is made.
    #[serde(default)]
    pub leader: Option<FullName>,
    /// Why no further rung is tried: people have it.
    #[serde(default)]
    pub ladder_ended: Option<String>,
    /// Who was called, in order.
    #[serde(default)]
    pub called: Vec<Called>,
    /// The open incident of a service underneath, which explains this one.
    #[serde(default)]
    pub inhibited_by: Option<IncidentId>,
}

impl IncidentRow {
    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        self.state != IncidentState::Resolved
    }
}

/// What opened an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A policy's trigger.
    #[default]
    Symptom,
    /// A scheduled run that did not help.
    RunFailed,
    /// A run that should have been and was not.
    RunMissed,
    /// A fault of the policy itself: a condition that cannot be judged.
    PolicyFault,
}

/// A message of a policy that went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The moment.
    pub at: TellAt,
    /// The contact, told once a moment and incident.
    pub contact: FullName,
    /// The plan that was carried out, of which each contact is told once.
    #[serde(default)]
    pub plan: Option<PlanId>,
}

/// Somebody who was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// The contact.
    pub contact: FullName,
    /// When.
    pub at: Timestamp,
}

/// How an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IncidentState {
    /// Nobody looks at it but the policies.
    Open,
    /// A person has it.
    Acknowledged,
    /// A rung was verified; the alerts have not cleared yet.
    Mitigated,
    /// It is over.
    Resolved,
}

/// A remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What.
    pub text: String,
}

/// A "no": the first guard that said it, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The guard: `cooldown`, `calendar`, `disturb`, `budget`, `freeze`, `require`, `resource`, `quorum`, ….
    pub guard: String,
    /// Why, for people.
    pub reason: String,
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
    /// Since when.
    pub since: Timestamp,
}

/// An exact plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRow {
    /// Its number.
    pub id: PlanId,
    /// SHA-256 of [`PlanRow::canonical`]: what is approved, what agents check.
    pub hash: Digest,
    /// RFC 8785 JSON of what is to be done: policy digest, rung, steps with frozen values, hosts in waves.
    pub canonical: String,
    /// The incident; absent for a schedule's or a person's run.
    pub incident: Option<IncidentId>,
    /// The policy; absent for a person's run.
    pub policy: Option<FullName>,
    /// Digest of the policy's manifest.
    pub policy_digest: Option<Digest>,
    /// The target.
    pub target: Target,
    /// The rung's name, and its index.
    pub rung: String,
    /// Its index on the ladder.
    pub rung_index: usize,
    /// Who asked for it; a policy's plan has no requester.
    pub requester: Option<String>,
    /// Why a person asked for it.
    #[serde(default)]
    pub reason: String,
    /// How it stands.
    pub state: PlanState,
    /// Values frozen into it.
    pub values: BTreeMap<String, Value>,
    /// Its commands in the order in which they run: by wave, then step.
    pub commands: Vec<CommandId>,
    /// Sizes of its waves.
    pub waves: Vec<u32>,
    /// The wave that runs, from 0.
    #[serde(default)]
    pub wave: usize,
    /// Pause between waves.
    pub settle: Duration,
    /// It stops after one more failure than this.
    pub max_errors: u32,
    /// When it was made,
    pub created_at: Timestamp,
    /// begun,
    pub started_at: Option<Timestamp>,
    /// carried out: what verification counts from,
    pub acted_at: Option<Timestamp>,
    /// and over.
    pub ended_at: Option<Timestamp>,
    /// Since when the symptom's verification holds without a break.
    pub verified_since: Option<Timestamp>,
    /// How verification went, in words.
    #[serde(default)]
    pub verification: String,
    /// The approval that it needs.
    pub needs: Option<Needs>,
    /// The votes.
    #[serde(default)]
    pub votes: Vec<Vote>,
    /// Why it waits.
    pub hold: Option<Hold>,
    /// Nothing is changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Identifier of the request that asked for it.
    #[serde(default)]
    pub request_id: String,
    /// Hosts disturbed: counted for `disturb`.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// The service that they belong to.
    #[serde(default)]
    pub service: Option<String>,
    /// Resources that it holds: `planthost1 unit:named`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Whether a timetable asked for it.
    #[serde(default)]
    pub scheduled: bool,
    /// What it uses up of what may happen only once.
    #[serde(default)]
    pub onces: Vec<PlannedOnce>,
    /// How many hosts of the service may be disturbed, fixed when it was made; absent: none are disturbed.
    #[serde(default)]
    pub disturb: Option<DisturbLimit>,
    /// When the next wave may be judged.
    #[serde(default)]
    pub next_wave_at: Option<Timestamp>,
    /// Why nothing more of it is sent but what runs in any case.
    #[serde(default)]
    pub stopped: Option<String>,
    /// How it ends once what runs in any case (undo, `finally`) has ended.
    #[serde(default)]
    pub closing: Option<PlanState>,
    /// What was chosen by the people who approved it.
    #[serde(default)]
    pub choice: Option<String>,
}

/// Something that a plan may do only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOnce {
    /// The key.
    pub key: String,
    /// For how long it is used up; absent: as long as the incident is remembered.
    pub within: Option<Duration>,
}

/// How many hosts of a service may be disturbed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisturbLimit {
    /// So many,
    pub limit: u32,
    /// of so many that count,
    pub eligible: u32,
    /// over so long.
    pub over: Duration,
}

/// Something that happened and may not happen again for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceRow {
    /// When.
    pub at: Timestamp,
    /// Until when it is remembered.
    pub until: Timestamp,
    /// The plan that did it.
    pub plan: PlanId,
}

/// How a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlanState {
    /// It waits for an approval.
    Proposed,
    /// It may start as soon as nothing holds it.
    Held,
    /// Its commands run.
    Running,
    /// Its commands have ended; the symptom is being judged.
    Verifying,
    /// The symptom is gone (for a person's run: the actions succeeded).
    Succeeded,
    /// It did not help, or an action failed.
    Failed,
    /// People said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The symptom went away first, or a person stopped it.
    Cancelled,
    /// The world moved: a newer plan took its place.
    Superseded,
}

impl PlanState {
    /// Whether it is over.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Proposed | Self::Held | Self::Running | Self::Verifying)
    }
}

/// An approval that a plan needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The role.
    pub role: String,
    /// How many distinct people.
    pub count: u32,
    /// When the question falls.
    pub expires: Timestamp,
    /// What can be chosen.
    pub choices: Vec<String>,
    /// How often people are reminded.
    pub remind: Option<Duration>,
    /// When they were last.
    pub reminded_at: Timestamp,
}

/// A vote on a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What was chosen.
    pub choice: String,
    /// Why.
    pub reason: String,
    /// Whether it is a no.
    pub denied: bool,
}

/// One order to one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandRow {
    /// Its number.
    pub id: CommandId,
    /// Its plan.
    pub plan: PlanId,
    /// Digest of plan hash, step, host and attempt, in hexadecimal.
    pub idempotency_key: String,
    /// Its fence; 0 until sent.
    pub fence: u64,
    /// The host.
    pub host: HostName,
    /// Number of the step in the rung; those of `finally` come after.
    pub step: usize,
    /// Its wave.
    pub wave: usize,
    /// Whether it runs whatever happened.
    #[serde(default)]
    pub finally: bool,
    /// Whether it undoes the command with this number.
    #[serde(default)]
    pub undoes: Option<CommandId>,
    /// The action.
    pub action: String,
    /// Parameters, every value filled in.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// How long it may take.
    pub timeout: Duration,
    /// Resources that it holds on its host.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Nothing is changed.
    #[serde(default)]
    pub dry_run: bool,
    /// How it stands.
    pub state: CommandState,
    /// When it was sent,
    pub sent_at: Option<Timestamp>,
    /// and until when it may begin.
    pub not_after: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How.
    pub outcome: Option<Outcome>,
    /// What it would do.
    #[serde(default)]
    pub preview: Vec<String>,
    /// Whom it gives way to on the host.
    #[serde(default)]
    pub yield_to: Vec<String>,
}

/// How a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommandState {
    /// Its turn has not come.
    Waiting,
    /// It is committed and released to the agent.
    Sent,
    /// The agent has journaled its intent.
    Begun,
    /// It has an outcome.
    Ended,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// In one word.
    pub kind: OutcomeKind,
    /// In one line.
    pub summary: String,
    /// From intent to outcome.
    pub duration: Duration,
    /// What the action reported.
    #[serde(default)]
    pub values: Fields,
    /// The end of its output.
    #[serde(default)]
    pub output: String,
    /// The line for `agent.toml` that would permit it.
    #[serde(default)]
    pub remedy: String,
}

/// How a command can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeKind {
    /// Applied, and the action's own verification held.
    Succeeded,
    /// There was nothing to do.
    NoChange,
    /// The agent said no.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// It failed and was undone.
    Undone,
    /// Nobody can say.
    Unknown,
    /// An earlier step or wave failed, or a condition skipped it.
    Skipped,
    /// It was cancelled or expired before it began.
    NotStarted,
}

impl OutcomeKind {
    /// Whether the step did what was wanted.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::NoChange)
    }
}

/// A hold or freeze that a person made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowRow {
    /// Its number.
    pub id: WindowId,
    /// What it covers.
    pub scope: HoldScope,
    /// From,
    pub from: Timestamp,
    /// until.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
}

/// A message to a contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its number.
    pub id: MessageId,
    /// The contact's full name.
    pub contact: FullName,
    /// One line.
    pub subject: String,
    /// The rest: values, log tails, links to commands.
    pub body: String,
    /// How loud.
    pub severity: Severity,
    /// The incident.
    pub incident: Option<IncidentId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// A log tail that it waits for, at most until this time.
    pub waits_for_log: Option<Timestamp>,
    /// How many log tails have not come yet.
    #[serde(default)]
    pub logs_awaited: usize,
    /// How it stands.
    pub state: MessageState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_attempt: Option<Timestamp>,
}

/// How a message stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MessageState {
    /// To be sent.
    Waiting,
    /// Sent.
    Delivered,
    /// Given up, with the last error.
    Failed(String),
}

/// An act that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRow {
    /// The command.
    pub command: CommandId,
    /// The plan.
    pub plan: PlanId,
    /// The policy; absent for a person's.
    pub policy: Option<FullName>,
    /// The target.
    pub target: Target,
    /// The host disturbed.
    pub host: HostName,
    /// The service it belongs to.
    pub service: Option<String>,
    /// When it was sent.
    pub at: Timestamp,
    /// The name of the rung; empty for a person's run.
    #[serde(default)]
    pub rung: String,
    /// The incident.
    #[serde(default)]
    pub incident: Option<IncidentId>,
    /// Whether it turned out not to count: refused or not started.
    #[serde(default)]
    pub void: bool,
}

/// What keeps a policy from acting until a person has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerRow {
    /// The policy.
    pub policy: FullName,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// The mode that it lowers the policy to.
    pub lowers_to: Mode,
}

/// A policy's verdict on a target, recorded when it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictRow {
    /// In one word.
    pub verdict: Verdict,
    /// Since when.
    pub since: Timestamp,
    /// The first guard that said no.
    pub first_no: Option<Hold>,
    /// The signals and what they were.
    pub signals: BTreeMap<String, Truth>,
}

/// What a policy makes of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The symptom is there and an act was started.
    Fired,
    /// The symptom is there and a guard says no.
    Held,
    /// The symptom is there, but not for long enough.
    Pending,
    /// The symptom is not there.
    NotFiring,
    /// Samples are missing.
    Unknown,
    /// The symptom is there and the policy only observes.
    ObserveOnly,
    /// A plan waits for people.
    AwaitingApproval,
}

/// A schedule's place in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleRow {
    /// The last due time that was run, skipped or given up.
    pub last_due: Timestamp,
    /// The last time a plan of it succeeded: what `expect` judges.
    pub last_success: Option<Timestamp>,
    /// When the policy came into force.
    pub since: Timestamp,
}

/// A probe for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its key.
    pub key: ProbeKey,
    /// Its specification as canonical JSON.
    pub spec: String,
    /// The policies that want it.
    pub policies: Vec<FullName>,
}
