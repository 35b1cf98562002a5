//! What is recorded: a typed change, and the writes to the state that it causes.
//!
//! Replay applies the writes only, so a log can be replayed by any version that knows the tables, without deciding
//! anything again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_model::name::{FullName, HostName};
use serde::{Deserialize, Serialize};

use crate::state::Table;

/// Who caused a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "camelCase")]
pub enum Actor {
    /// An operator, by the name in the certificate.
    Person(String),
    /// A policy, deciding unattended.
    Policy(FullName),
    /// The passing of time.
    Timer,
    /// An agent's report.
    Agent(HostName),
    /// The controller itself: start, restore, join.
    Controller,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Policy(name) => write!(f, "policy:{name}"),
            Self::Timer => f.write_str("timer"),
            Self::Agent(host) => write!(f, "agent:{host}"),
            Self::Controller => f.write_str("controller"),
        }
    }
}

/// The names by which a change is found again: `incident`, `plan`, `command`, `host`, `policy`, `target`, `rung`.
pub type Ids = BTreeMap<&'static str, String>;

/// One write to the state: the row's new JSON, or its removal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// The row's key.
    pub key: String,
    /// The row; absent: removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<serde_json::Value>,
}

/// A change: what a record holds besides its place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When, by the engine's time.
    pub time: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What happened: `incidentOpened`, `planMade`, `planHeld`, `commandSent`, ….
    pub kind: &'static str,
    /// One sentence for people.
    pub text: String,
    /// The names by which it is found again.
    pub ids: Ids,
    /// The change's own data: the values that were seen, the guard that said no.
    pub data: serde_json::Value,
    /// The writes that it causes.
    pub writes: Vec<Write>,
}
