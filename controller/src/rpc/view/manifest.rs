//! Manifests as they were applied, as YAML.

use quell_engine::state::StoredManifest;
use quell_model::manifest::to_yaml;
use quell_wire::v1::ManifestView;
use serde_json::Value;

use super::{Filter, Viewer};

impl Viewer<'_> {
    /// Manifests of every kind, each under its full name: `Policy/plants/dns-failover`.
    pub fn all_manifests(&self, filter: &Filter) -> Vec<ManifestView> {
        let stored = self.state.manifests.iter().filter(|((kind, name), stored)| {
            filter.wants(&format!("{kind}/{name}")) && wants_labels(filter, &stored.canonical)
        });
        stored.map(|(_, stored)| manifest(stored)).collect()
    }

    /// Manifests of one kind ("Service").
    pub fn manifests(&self, kind: &str, filter: &Filter) -> Vec<ManifestView> {
        let stored = self.state.manifests.iter().filter(|((of_kind, name), stored)| {
            of_kind == kind
                && (filter.wants(&name.to_string()) || filter.wants(name.name.as_str()))
                && wants_labels(filter, &stored.canonical)
        });
        stored.map(|(_, stored)| manifest(stored)).collect()
    }
}

/// One manifest.
pub(super) fn manifest(stored: &StoredManifest) -> ManifestView {
    let name = stored.manifest.name();
    ManifestView {
        kind: stored.manifest.kind().to_owned(),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        digest: stored.manifest.digest().to_string(),
        yaml: to_yaml(&stored.canonical),
    }
}

/// Whether a manifest's own labels satisfy the filter.
pub(super) fn wants_labels(filter: &Filter, canonical: &str) -> bool {
    if filter.labels.is_empty() {
        return true;
    }
    let value: Value = serde_json::from_str(canonical).unwrap_or_default();
    let labels = &value["metadata"]["labels"];
    filter.labels.iter().all(|(key, wanted)| labels[key.as_str()].as_str() == Some(wanted.as_str()))
}
