//! Who may come in: operators, and the tokens that hosts join with.

use jiff::Timestamp;
use quell_model::{digest::Digest, name::HostName, selector::Labels};
use serde::{Deserialize, Serialize};

use crate::id::TokenId;

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
