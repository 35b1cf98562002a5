//! What can happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    name::{FullName, HostName, Target},
    probe::ProbeKey,
    selector::{Labels, Selector},
    trust::{SetName, approvals::Signed, run::Run, set::SignedSet},
    value::{Fields, Value},
};
use serde::{Deserialize, Serialize};

use crate::{
    Actor,
    id::{CommandId, IncidentId, MessageId, PlanId, TokenId, WindowId},
    state::{Outcome, Preview, SignedDocument},
};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The controller started, with this state; no window of samples is known.
    Started {
        /// True after a restore: everything is observed only until an operator says otherwise.
        restored: bool,
    },
    /// Time passed.
    Tick,
    /// The wall clock jumped by more than 60 s; new plans are held until an operator explains it (`thaw`).
    ClockJumped {
        /// By how many seconds, forward positive.
        seconds: f64,
    },
    /// An agent's session began.
    Connected {
        /// The host.
        host: HostName,
        /// What the agent said of itself.
        hello: Box<Hello>,
    },
    /// An agent's session ended.
    Disconnected {
        /// The host.
        host: HostName,
    },
    /// Samples came in.
    Samples {
        /// From this host.
        host: HostName,
        /// In the order in which they were taken.
        samples: Vec<Sample>,
    },
    /// An agent has journaled the intent of a command and begins.
    Begun {
        /// The host.
        host: HostName,
        /// The command.
        command: CommandId,
    },
    /// A command ended.
    Ended {
        /// The host.
        host: HostName,
        /// The command.
        command: CommandId,
        /// How.
        outcome: Outcome,
        /// When, in the controller's time: the arrival less the age that the agent gave.
        ended_at: Timestamp,
        /// The agent's session sequence number, to be acknowledged once durable.
        sequence: u64,
    },
    /// What a command would do.
    Previewed {
        /// The host.
        host: HostName,
        /// The command.
        command: CommandId,
        /// The answer, with the digest as the agent computed it.
        preview: Preview,
    },
    /// The end of a log came back.
    LogTail {
        /// For this message.
        message: MessageId,
        /// From this host.
        host: HostName,
        /// The lines, or why there are none.
        lines: Result<Vec<String>, String>,
    },
    /// A message was delivered, or was not.
    Delivered {
        /// The message.
        message: MessageId,
        /// Why not.
        result: Result<(), String>,
    },
    /// The host's own administrator holds the host, or lifted it.
    HostHeld {
        /// The host.
        host: HostName,
        /// The reason and the end; absent: lifted.
        hold: Option<(String, Timestamp)>,
    },
    /// Somebody wants something.
    Request {
        /// Who.
        actor: Actor,
        /// What.
        request: Box<Request>,
    },
}

/// What an agent says of itself when it connects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hello {
    /// Version of its binary.
    pub agent_version: String,
    /// Facts about the host.
    pub facts: BTreeMap<String, String>,
    /// The highest fence that it has seen.
    pub fence: u64,
    /// Commands that its journal holds, with the outcome of those that ended.
    pub journal: Vec<(CommandId, Option<Outcome>)>,
    /// Commands that it has and that its journal does not tell of: it may begin them at any moment, and owes an outcome
    /// of each.
    pub at_hand: BTreeSet<CommandId>,
    /// The reason and the end of its administrator's hold, when there is one. Absent: it says so in a message of its own.
    pub held: Option<Option<(String, Timestamp)>>,
    /// The connection on which it said so: a later one of the same agent has a higher number.
    pub connection: u64,
    /// Samples that it dropped.
    pub dropped: u64,
    /// Random at each start of the agent.
    pub instance: String,
    /// Version of the trust root that it believes.
    pub trust_version: u64,
    /// Version of the signed change of its labels that it took in last; 0: none.
    pub label_version: u64,
    /// The newest version of each signed set that it has seen, as it says.
    pub set_versions: BTreeMap<SetName, u64>,
}

/// One sample of one probe, whole (the session has undone the delta).
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The assigned probe, or [`ProbeKey::host`].
    pub probe: ProbeKey,
    /// When it was taken, in the controller's time: the arrival less the age that the agent gave.
    pub taken_at: Timestamp,
    /// Its fields, `ok`, `failures` and `successes` among them. One that says the same as the one before may share them
    /// with it: then they need not be compared.
    pub fields: Arc<Fields>,
}

/// Failures and successes in a row are counted so far: beyond, one more is no news.
pub const COUNTED: u32 = 1_000;

/// Stops the counters of a sample where one more is no news, so that a probe that has long been well says the same each
/// time.
pub fn bound_counts(fields: &mut Fields) {
    for count in ["failures", "successes"] {
        if let Some(Value::Number(number)) = fields.get_mut(count) {
            *number = number.min(f64::from(COUNTED));
        }
    }
}

/// Whether [`bound_counts`] would change something.
pub(crate) fn counts_too_far(fields: &Fields) -> bool {
    let count = |name| fields.get(name).and_then(Value::number);
    ["failures", "successes"].iter().filter_map(|name| count(*name)).any(|count| count > f64::from(COUNTED))
}

/// What people and the controller's own edges ask of the engine.
#[derive(Debug, Clone)]
pub enum Request {
    /// Replace, add and remove manifests; validated already.
    Apply {
        /// Canonical JSON of every manifest that is new or changed.
        put: Vec<String>,
        /// Kind and name of every manifest that goes.
        remove: Vec<(String, FullName)>,
        /// The next set of each namespace that is signed; what is in none only observes.
        sets: Vec<SignedSet>,
    },
    /// Change whom hosts believe.
    ChangeTrust {
        /// RFC 8785 JSON of the next trust root.
        root: Vec<u8>,
        /// Signatures over it by those who are believed now.
        signatures: Vec<String>,
    },
    /// A host joined with a token: one use of it is spent, in the same commit as the host is enrolled.
    Enrol {
        /// The token's hash.
        token: Digest,
        /// The name it wants.
        name: HostName,
        /// Random identifier made at the edge.
        host_id: String,
        /// SHA-256 of its public key info.
        key: Digest,
        /// When its certificate ends.
        certificate_expires: Timestamp,
        /// Version of its binary.
        agent_version: String,
    },
    /// A certificate was renewed, perhaps with a new key.
    Renewed {
        /// The host.
        name: HostName,
        /// SHA-256 of its public key info.
        key: Digest,
        /// When the new certificate ends.
        certificate_expires: Timestamp,
    },
    /// A join token was made.
    CreateToken {
        /// SHA-256 of the secret.
        hash: Digest,
        /// Until when it can be used.
        expires: Timestamp,
        /// How often.
        uses: u32,
        /// What it grants.
        labels: Labels,
        /// The only name that may join; absent: any.
        name: Option<HostName>,
    },
    /// A host's certificate is no longer good.
    RevokeHost {
        /// The host.
        name: HostName,
        /// Why.
        reason: String,
    },
    /// A host is gone for good: its incidents close.
    RetireHost {
        /// The host.
        name: HostName,
        /// Why.
        reason: String,
    },
    /// A host's labels, all of them, as they were signed.
    Relabel {
        /// RFC 8785 JSON of the change and signatures over it.
        change: SignedDocument,
    },
    /// An operator was given a certificate.
    CreateOperator {
        /// Name.
        name: String,
        /// Roles.
        roles: Vec<String>,
        /// SHA-256 of the public key info.
        key: Digest,
        /// When the certificate ends.
        certificate_expires: Timestamp,
    },
    /// An operator's certificates are no longer good.
    RevokeOperator {
        /// Name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Run an action by hand.
    Run {
        /// What, as it was signed. Asked again with the same identifier, it is answered with the same plan.
        run: Box<Run>,
        /// The one-shot set that names it.
        set: SignedSet,
    },
    /// Approve or deny a plan.
    Decide {
        /// The plan.
        plan: PlanId,
        /// The hash that the person saw.
        hash: Digest,
        /// What was chosen; absent: the first choice.
        choice: Option<String>,
        /// Why.
        reason: String,
        /// False: denied.
        approve: bool,
        /// The person's roles.
        roles: Vec<String>,
        /// Signature over the ballot.
        signature: Option<Signed>,
    },
    /// Call a plan off, whether it waits or runs.
    Cancel {
        /// The plan.
        plan: PlanId,
        /// Why.
        reason: String,
    },
    /// Acknowledge an incident, or add a note.
    Annotate {
        /// The incident.
        incident: IncidentId,
        /// Acknowledge it.
        acknowledge: bool,
        /// A note; may be empty.
        note: String,
    },
    /// Hold something, or freeze hosts.
    Hold {
        /// What.
        scope: HoldScope,
        /// How long.
        span: Duration,
        /// Why.
        reason: String,
    },
    /// End holds and freezes.
    Release {
        /// Which; absent: all.
        window: Option<WindowId>,
        /// Why.
        reason: String,
    },
    /// Another system tells of its alerts.
    TellAlerts {
        /// Those that fire and those that are over.
        alerts: Vec<ForeignAlert>,
    },
    /// Close a policy's breaker.
    ResetBreaker {
        /// The policy.
        policy: FullName,
        /// Why.
        reason: String,
    },
}

/// An alert of another system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignAlert {
    /// What it is known by there.
    pub fingerprint: String,
    /// Its labels.
    pub labels: Labels,
    /// Whether it fires; otherwise it is over.
    pub fires: bool,
}

/// What a hold covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HoldScope {
    /// One host.
    Host(HostName),
    /// One policy.
    Policy(FullName),
    /// One incident.
    Incident(IncidentId),
    /// Every act on the hosts chosen: a freeze.
    Hosts(Selector),
}

/// What a request led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// A host was enrolled, with these labels.
    Enrolled(Labels),
    /// A token was made.
    Token(TokenId),
    /// A plan was made (or had been, for the same request), and perhaps held.
    Plan {
        /// The plan.
        plan: PlanId,
        /// The hosts that it covers.
        targets: u32,
        /// Hosts that were named and are not covered: not enrolled, or of other labels.
        missing: Vec<HostName>,
        /// Why it waits.
        hold: Option<crate::state::Hold>,
    },
    /// A hold was made.
    Window(WindowId),
    /// A version was taken in.
    Version(u64),
    /// Holds ended.
    Released(Vec<WindowId>),
    /// Alerts were taken in.
    Told {
        /// So many,
        of: u32,
        /// of which so many concern a policy.
        concerning: u32,
        /// How often one that does named no host that its policy means.
        unplaced: u32,
    },
}

/// Why a request was not granted; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It makes no sense as it stands.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or has moved on.
    #[error("{0}")]
    Conflict(String),
    /// The person may not.
    #[error("{0}")]
    Forbidden(String),
}

/// A verdict that somebody asks for.
#[derive(Debug, Clone)]
pub struct WhyQuestion {
    /// The policy.
    pub policy: FullName,
    /// The target; absent: all.
    pub target: Option<Target>,
}

/// A value that a signal saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saw {
    /// On this host.
    pub host: HostName,
    /// `probe.dns1.failures`.
    pub name: String,
    /// Absent: missing or stale.
    pub value: Option<Value>,
}
