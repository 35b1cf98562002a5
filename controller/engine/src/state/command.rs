//! Commands: one order to one agent, and how it ended.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{name::HostName, value::Fields};
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
