//! Whom hosts believe, and what people signed.

use jiff::Timestamp;
use quell_model::trust::{
    root::TrustRoot,
    set::{Authority, PolicySet},
};
use serde::{Deserialize, Serialize};

/// One version of whom hosts believe. All of them are kept: a host that was away takes them one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustRow {
    /// RFC 8785 JSON of the [`TrustRoot`]: the bytes that were signed.
    pub canonical: String,
    /// SSHSIG signatures by signers of the version before; none for the first.
    pub signatures: Vec<String>,
    /// Since when.
    pub at: Timestamp,
    /// Who brought it.
    pub by: String,
}

impl TrustRow {
    /// What it says.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn root(&self) -> Result<TrustRoot, String> {
        TrustRoot::parse(self.canonical.as_bytes()).map_err(|error| error.to_string())
    }
}

/// The signed set of a namespace that is in force. Its row holds what was signed; the meaning is read from that again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "SetText", try_from = "SetText")]
pub struct SetRow {
    /// RFC 8785 JSON of the [`PolicySet`]: the bytes that were signed.
    pub canonical: String,
    /// SSHSIG signatures over it.
    pub signatures: Vec<String>,
    /// What it says.
    pub set: PolicySet,
    /// What those who signed it may permit.
    pub authority: Authority,
    /// Who signed it.
    pub signers: Vec<String>,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// By whom.
    pub applied_by: String,
    /// Whether it was said that it expires soon.
    pub warned: bool,
}

/// What the row of a set holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetText {
    canonical: String,
    signatures: Vec<String>,
    authority: Authority,
    signers: Vec<String>,
    applied_at: Timestamp,
    applied_by: String,
    #[serde(default)]
    warned: bool,
}

impl From<SetRow> for SetText {
    fn from(row: SetRow) -> Self {
        let SetRow { canonical, signatures, set: _, authority, signers, applied_at, applied_by, warned } = row;
        Self { canonical, signatures, authority, signers, applied_at, applied_by, warned }
    }
}

impl TryFrom<SetText> for SetRow {
    type Error = String;

    fn try_from(text: SetText) -> Result<Self, String> {
        let set = PolicySet::parse(text.canonical.as_bytes()).map_err(|error| error.to_string())?;
        let SetText { canonical, signatures, authority, signers, applied_at, applied_by, warned } = text;
        Ok(Self { canonical, signatures, set, authority, signers, applied_at, applied_by, warned })
    }
}

/// A change of what hosts believe, as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedDocument {
    /// RFC 8785 JSON: the bytes that were signed.
    pub canonical: String,
    /// SSHSIG signatures over it.
    pub signatures: Vec<String>,
}

/// What stands behind a person's run: the signed one-shot set, and the order that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEvidence {
    /// RFC 8785 JSON of the one-shot [`PolicySet`].
    pub policy_set: String,
    /// SSHSIG signatures over it.
    pub signatures: Vec<String>,
    /// Canonical JSON of the `Run`.
    pub run: String,
}
