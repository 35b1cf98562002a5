//! Between the wire's messages and the domain's types: each conversion stands here, once.
//!
//! What comes from an agent is hostile until it has passed: numbers are parsed into their types, texts are cut at
//! their documented lengths, and an enumeration's value that this version does not know is refused, never defaulted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use quell_engine::{
    State,
    id::{CommandId, MessageId},
    input::Hello,
    state::{Assignment, CommandRow, Outcome, OutcomeKind, PlanRow, Preview, SignedDocument, Vote},
};
use quell_model::{
    digest::Digest,
    name::FullName,
    preview::Item,
    probe::ProbeKey,
    value::{Fields, Value},
};
use quell_wire::v1;

/// Longest name of a field or probe, bytes.
const NAME_BYTES: usize = 256;
/// Longest text of a field, bytes; more is cut.
const TEXT_BYTES: usize = 16 << 10;
/// Longest output of a command, bytes; more is cut.
const OUTPUT_BYTES: usize = 8 << 10;
/// Longest line of a log's tail, bytes; more is cut.
const LINE_BYTES: usize = 4 << 10;
/// Most lines of a log's tail.
const LINES: usize = 1_000;
/// Most facts, journal entries or preview items in one message.
const ITEMS: usize = 1_000;
/// Most commands that an agent may have at hand: more than fit into its queues.
const AT_HAND: usize = 10_000;
/// How the specification of a probe that reads the host begins, whatever else it says; more than is needed goes along when
/// another one happens to hold this.
const READS_HOST: [&str; 3] = ["\"command\":", "\"file\":", "\"logMatch\":"];
/// The greatest age that is believed; clocks and counters do not run longer.
const OLDEST: Duration = Duration::from_secs(400 * 86_400);

/// A message that this version cannot take in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A name or number is not of the form wanted.
    #[error("{what}: {reason}")]
    Malformed {
        /// The field of the message.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// There is more of it than a message may hold.
    #[error("{what}: {count} are more than the {most} that a message may hold")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many may.
        most: usize,
    },
    /// A newer version's value.
    #[error("{what} {number} is not known to this version; update the controller, or the agent if it is older")]
    UnknownValue {
        /// The enumeration.
        what: &'static str,
        /// The value.
        number: i32,
    },
}

impl Invalid {
    /// A malformed field.
    pub fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { what, reason: reason.into() }
    }
}

/// What an agent says of itself, on the connection with this number.
///
/// # Errors
/// A journal entry is malformed, or there are too many facts or entries.
pub fn hello(message: v1::Hello, connection: u64) -> Result<Hello, Invalid> {
    at_most("hello.facts", message.facts.len(), ITEMS)?;
    at_most("hello.journal", message.journal.len(), ITEMS)?;
    at_most("hello.at_hand", message.at_hand.len(), AT_HAND)?;
    let held = message.host_hold.map(host_hold).transpose()?;
    let at_hand = message.at_hand.iter().map(|id| command_id(id)).collect::<Result<_, _>>()?;
    let journal = message.journal.into_iter().map(journal_entry).collect::<Result<_, _>>()?;
    let facts = message.facts.into_iter().map(|(name, fact)| (cut(name, NAME_BYTES), cut(fact, NAME_BYTES))).collect();
    Ok(Hello {
        agent_version: cut(message.agent_version, NAME_BYTES),
        facts,
        fence: message.fence,
        journal,
        at_hand,
        held,
        connection,
        dropped: message.spool_dropped,
        trust_version: message.trust_version,
        label_version: message.label_version,
        // Only people are told of these: what is no name of a set, or is too much, is no reason to turn a host away.
        set_versions: message
            .set_versions
            .into_iter()
            .filter_map(|(name, version)| Some((name.parse().ok()?, version)))
            .take(ITEMS)
            .collect(),
        instance: cut(message.instance, NAME_BYTES),
    })
}

fn journal_entry(entry: v1::JournalEntry) -> Result<(CommandId, Option<Outcome>), Invalid> {
    let command = command_id(&entry.command_id)?;
    Ok((command, entry.outcome.map(outcome).transpose()?))
}

/// The number of a command.
///
/// # Errors
/// The text is not of the form `cmd-1`.
pub fn command_id(text: &str) -> Result<CommandId, Invalid> {
    text.parse().map_err(|reason| Invalid::malformed("command_id", reason))
}

/// How a command ended.
///
/// # Errors
/// The kind is not one that this version knows.
pub fn outcome(message: v1::Outcome) -> Result<Outcome, Invalid> {
    let kind = match v1::OutcomeKind::try_from(message.kind) {
        Ok(v1::OutcomeKind::Succeeded) => OutcomeKind::Succeeded,
        Ok(v1::OutcomeKind::NoChange) => OutcomeKind::NoChange,
        Ok(v1::OutcomeKind::Refused) => OutcomeKind::Refused,
        Ok(v1::OutcomeKind::Failed) => OutcomeKind::Failed,
        Ok(v1::OutcomeKind::Undone) => OutcomeKind::Undone,
        Ok(v1::OutcomeKind::Unknown) => OutcomeKind::Unknown,
        Ok(v1::OutcomeKind::NotStarted) => OutcomeKind::NotStarted,
        Ok(v1::OutcomeKind::Unspecified) | Err(_) => {
            return Err(Invalid::UnknownValue { what: "outcome.kind", number: message.kind });
        }
    };
    Ok(Outcome {
        kind,
        summary: cut(message.summary, LINE_BYTES),
        duration: Duration::from_millis(message.duration_ms),
        values: fields(message.values)?,
        output: cut(message.output, OUTPUT_BYTES),
        remedy: cut(message.remedy, LINE_BYTES),
        moved: message.moved,
    })
}

/// What a command would do: its objects, the digest that the agent computed, and its refusal. Nothing of an object is cut:
/// what is shown would not be what is approved.
///
/// # Errors
/// The digest is not 32 bytes, or there is more than people can read.
pub fn preview(message: v1::Preview) -> Result<(CommandId, Preview), Invalid> {
    at_most("preview.items", message.items.len(), ITEMS)?;
    let command = command_id(&message.command_id)?;
    let digest = message
        .digest
        .as_slice()
        .try_into()
        .map(Digest)
        .map_err(|_| Invalid::malformed("preview.digest", "a SHA-256 has 32 bytes"))?;
    let item = |item: v1::PreviewItem| Item {
        verb: item.verb,
        object: item.object,
        size: item.size_bytes,
        detail: item.detail,
        moving: item.moving,
    };
    let items: Vec<Item> = message.items.into_iter().map(item).collect();
    quell_model::preview::check(&items).map_err(|too_much| Invalid::malformed("preview", too_much.to_string()))?;
    let refusal = (!message.refusal.is_empty()).then(|| cut(message.refusal, LINE_BYTES));
    Ok((command, Preview { items, digest, refusal, note: cut(message.note, LINE_BYTES) }))
}

/// The end of a log, and the message that waits for it.
///
/// # Errors
/// The request is not one of ours.
pub fn log_tail(message: v1::LogTail) -> Result<(MessageId, Result<Vec<String>, String>), Invalid> {
    let request =
        message.request_id.parse().map_err(|reason: String| Invalid::malformed("log_tail.request_id", reason))?;
    let lines = if message.error.is_empty() {
        Ok(message.lines.into_iter().take(LINES).map(|line| cut(line, LINE_BYTES)).collect())
    } else {
        Err(cut(message.error, LINE_BYTES))
    };
    Ok((request, lines))
}

/// The reason and the end of a hold by the host's own administrator; absent: lifted.
///
/// # Errors
/// The end is not a time.
pub fn host_hold(message: v1::HostHold) -> Result<Option<(String, Timestamp)>, Invalid> {
    if !message.held {
        return Ok(None);
    }
    let until = Timestamp::from_millisecond(message.until_unix_ms)
        .map_err(|error| Invalid::malformed("host_hold.until_unix_ms", error.to_string()))?;
    Ok(Some((cut(message.reason, LINE_BYTES), until)))
}

/// Named values. A number that is none (infinite, not a number) is a missing value.
///
/// # Errors
/// A name is empty or too long, or a field has no value.
pub fn fields(list: Vec<v1::Field>) -> Result<Fields, Invalid> {
    at_most("fields", list.len(), ITEMS)?;
    let mut fields = Fields::new();
    for field in list {
        let name = field_name(field.name)?;
        let value = match field.value.ok_or(Invalid::Missing("the value of a field"))? {
            v1::field::Value::Number(number) if !number.is_finite() => continue,
            v1::field::Value::Number(number) => Value::Number(number),
            v1::field::Value::Text(text) => Value::Text(cut(text, TEXT_BYTES)),
            v1::field::Value::Flag(flag) => Value::Flag(flag),
        };
        fields.insert(name, value);
    }
    Ok(fields)
}

/// The name of a field.
///
/// # Errors
/// It is empty or too long.
pub fn field_name(name: String) -> Result<String, Invalid> {
    match name.len() {
        1..=NAME_BYTES => Ok(name),
        length => {
            Err(Invalid::malformed("a field's name", format!("{length} bytes long; 1 to {NAME_BYTES} are allowed")))
        }
    }
}

/// The key of a probe.
///
/// # Errors
/// It is empty or too long.
pub fn probe_key(key: String) -> Result<ProbeKey, Invalid> {
    match key.len() {
        1..=NAME_BYTES => Ok(ProbeKey::from(key)),
        length => {
            Err(Invalid::malformed("a sample's probe", format!("{length} bytes long; 1 to {NAME_BYTES} are allowed")))
        }
    }
}

/// When something was, in the controller's time, that had this age when it arrived.
pub fn time_of(now: Timestamp, age_ms: u64) -> Timestamp {
    let age = Duration::from_millis(age_ms).min(OLDEST);
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::ZERO);
    now.checked_sub(age).unwrap_or(now)
}

/// An order, as it goes to the agent at `now`.
///
/// An undo carries the idempotency key of the command that it undoes: that is how the agent's journal knows it.
pub fn command(state: &State, now: Timestamp, command: &CommandRow, plan: &PlanRow) -> v1::Command {
    let remaining = command
        .not_after
        .map_or(Duration::ZERO, |end| Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO));
    let undone = command.undoes.and_then(|undone| state.commands.get(&undone));
    v1::Command {
        command_id: command.id.to_string(),
        host: command.host.to_string(),
        idempotency_key: undone.map_or(&command.idempotency_key, |undone| &undone.idempotency_key).clone(),
        fence: command.fence,
        start_within_ms: millis(remaining),
        timeout_ms: millis(command.timeout),
        plan_hash: plan.hash.0.to_vec(),
        action: command.action.clone(),
        parameters: serde_json::Value::Object(command.parameters.clone()).to_string().into_bytes(),
        resources: command.resources.clone(),
        dry_run: command.dry_run,
        preview_only: false,
        authority: behind(state, plan),
        votes: votes(plan),
        incident_id: plan.incident.map(|id| id.to_string()).unwrap_or_default(),
        plan_id: plan.id.to_string(),
        plan: plan.canonical.clone().into_bytes(),
        step: u32::try_from(command.step).unwrap_or(u32::MAX),
        undo: command.undoes.is_some(),
        yield_to: command.yield_to.clone(),
        choice: plan.choice.clone().unwrap_or_default(),
    }
}

/// The question what an order would touch, as it goes to the agent: the same order, under the fence of the question.
pub fn question(state: &State, now: Timestamp, asked: &CommandRow, plan: &PlanRow) -> v1::Command {
    let until = plan.preview_until.unwrap_or(now);
    let remaining = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
    v1::Command {
        fence: asked.look.as_ref().map_or(0, |look| look.fence),
        start_within_ms: millis(remaining),
        preview_only: true,
        ..command(state, now, asked, plan)
    }
}

/// The whole list of a host's probes.
pub fn assign(state: &State, generation: u64, assignments: &[Assignment]) -> v1::AssignProbes {
    let probe = |assignment: &Assignment| v1::ProbeAssignment {
        key: assignment.key.to_string(),
        spec: assignment.spec.clone().into_bytes(),
        authorities: assignment.policies.iter().map(|policy| authority(state, policy)).collect(),
    };
    v1::AssignProbes {
        generation,
        probes: assignments.iter().map(probe).collect(),
        signed: signed_policies(state, assignments),
    }
}

/// The signed policies behind probes that read the host, by namespace.
fn signed_policies(state: &State, assignments: &[Assignment]) -> Vec<v1::SignedPolicies> {
    let reads_host = |assignment: &&Assignment| READS_HOST.iter().any(|kind| assignment.spec.contains(kind));
    let names: BTreeSet<&FullName> = assignments.iter().filter(reads_host).flat_map(|one| &one.policies).collect();
    let mut by_namespace: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for name in names {
        if let Some(canonical) = state.policy_canonical(name) {
            by_namespace.entry(name.namespace.as_str()).or_default().push(canonical.as_bytes().to_vec());
        }
    }
    let signed = by_namespace.into_iter().filter_map(|(namespace, policies)| {
        let row = state.sets.get(namespace)?;
        Some(v1::SignedPolicies {
            policy_set: row.canonical.clone().into_bytes(),
            signatures: row.signatures.clone(),
            policies,
        })
    });
    signed.collect()
}

/// The signed votes for a plan.
fn votes(plan: &PlanRow) -> Vec<v1::SignedVote> {
    let signed = |vote: &Vote| {
        let (signature, expires) = (vote.signature.clone()?, vote.expires?);
        Some(v1::SignedVote { signature, expires: expires.to_string() })
    };
    plan.votes.iter().filter(|vote| !vote.denied).filter_map(signed).collect()
}

/// What stands behind an order: the signed set of the policy's namespace, or what the person who runs it signed.
fn behind(state: &State, plan: &PlanRow) -> Option<v1::Authority> {
    if let Some(evidence) = &plan.evidence {
        return Some(v1::Authority {
            namespace: String::new(),
            set_version: 0,
            policy_set: evidence.policy_set.clone().into_bytes(),
            signatures: evidence.signatures.clone(),
            policy: evidence.run.clone().into_bytes(),
            policy_digest: Digest::of(evidence.run.as_bytes()).0.to_vec(),
            referenced: Vec::new(),
            limits: signed_limits(state, None),
        });
    }
    let name = plan.policy.as_ref()?;
    let mut authority = authority(state, name);
    if let Some(row) = state.sets.get(name.namespace.as_str()) {
        authority.policy_set = row.canonical.clone().into_bytes();
        authority.signatures.clone_from(&row.signatures);
    }
    authority.policy = state.policy_canonical(name).unwrap_or_default().as_bytes().to_vec();
    if let Some(policy) = state.policy(name) {
        let referenced = quell_engine::referenced(state, policy);
        authority.referenced = referenced.into_iter().map(|canonical| canonical.as_bytes().to_vec()).collect();
    }
    authority.limits = signed_limits(state, Some(name));
    Some(authority)
}

/// The limits that bound a policy, or orders by hand, where people signed some.
fn signed_limits(state: &State, policy: Option<&FullName>) -> Option<v1::SignedLimits> {
    let (row, manifests) = quell_engine::signed_limits(state, policy)?;
    Some(v1::SignedLimits {
        set: row.canonical.clone().into_bytes(),
        signatures: row.signatures.clone(),
        manifests: manifests.into_iter().map(|canonical| canonical.as_bytes().to_vec()).collect(),
    })
}

/// What stands behind a probe, by its digest alone: many policies stand behind one probe, and an agent is small.
fn authority(state: &State, policy: &FullName) -> v1::Authority {
    let canonical = state.policy_canonical(policy).unwrap_or_default();
    v1::Authority {
        namespace: policy.namespace.to_string(),
        set_version: state.sets.get(policy.namespace.as_str()).map_or(0, |row| row.set.version),
        policy_digest: Digest::of(canonical.as_bytes()).0.to_vec(),
        ..v1::Authority::default()
    }
}

/// Changes of what an agent believes, as they were signed.
pub fn change(change: SignedDocument) -> v1::SignedChange {
    v1::SignedChange { document: change.canonical.into_bytes(), signatures: change.signatures }
}

/// Whole milliseconds, as the wire counts.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A message of the controller.
pub fn message(body: v1::controller_message::Body) -> v1::ControllerMessage {
    v1::ControllerMessage { body: Some(body) }
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), Invalid> {
    if count > most { Err(Invalid::TooMany { what, count, most }) } else { Ok(()) }
}

/// Cuts a text at the last character that fits.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests;
