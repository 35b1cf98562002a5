//! Manifests as they were applied.

use jiff::Timestamp;
use quell_model::policy::Manifest;
use serde::{Deserialize, Serialize};

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
