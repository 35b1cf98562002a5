//! Commands: one order to one agent, and how it ended.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{digest::Digest, name::HostName, preview::Item, value::Fields};
use serde::{Deserialize, Serialize};

use crate::id::{CommandId, PlanId};

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
    /// Its host's preview, where one was asked for.
    #[serde(default)]
    pub look: Option<Look>,
    /// Whom it gives way to on the host.
    #[serde(default)]
    pub yield_to: Vec<String>,
}

/// A question to a host: what a command would touch there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// The fence of the question.
    pub fence: u64,
    /// When it was asked last.
    pub asked_at: Timestamp,
    /// The answer.
    #[serde(default)]
    pub preview: Option<Preview>,
}

/// What a host says that a command would touch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// The objects; none: there is nothing to do.
    pub items: Vec<Item>,
    /// Their digest ([`quell_model::preview::digest`]).
    pub digest: Digest,
    /// Why the host would refuse, if so.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Why there is nothing to do, or what would be left out and why; no approval binds it.
    #[serde(default)]
    pub note: String,
}

impl CommandRow {
    /// What its host said that it would touch.
    pub fn preview(&self) -> Option<&Preview> {
        self.look.as_ref()?.preview.as_ref()
    }

    /// Whether its host is asked what it would touch, when its plan is previewed: what runs in any case is not.
    pub fn is_previewed(&self) -> bool {
        !self.finally && self.undoes.is_none()
    }
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
    /// Whether it was refused because what it would touch is not what was previewed any more.
    #[serde(default)]
    pub moved: bool,
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
