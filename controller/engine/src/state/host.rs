//! Hosts: who they are and how they stand.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_model::{digest::Digest, name::HostName, selector::Labels, trust::SetName};
use serde::{Deserialize, Serialize};

use super::SignedDocument;

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
    /// Version of the trust root that its agent believes, as far as it said.
    #[serde(default)]
    pub trust_version: u64,
    /// Versions of signed sets that it says it has seen and that were not here when it said so; a bounded number of them.
    /// Nothing is decided by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen_newer: BTreeMap<SetName, u64>,
    /// The last signed change of its labels, with its version; absent: they are those of its join.
    #[serde(default)]
    pub relabelled: Option<(u64, SignedDocument)>,
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
