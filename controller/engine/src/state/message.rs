//! Messages to contacts.

use jiff::Timestamp;
use quell_model::{name::FullName, policy::Severity};
use serde::{Deserialize, Serialize};

use crate::id::{IncidentId, MessageId};

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
