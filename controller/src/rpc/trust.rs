//! GetSets, ChangeTrust: what is signed, and whom hosts believe.

use std::sync::Arc;

use quell_engine::{
    State,
    input::{Reply, Request as Wanted},
    state::TrustRow,
};
use quell_model::trust::set;
use quell_wire::v1::{
    ChangeTrustRequest, ChangeTrustResponse, GetSetsResponse, ManifestChange, SignedSet, TrustRootStep,
};
use tonic::Status;

use super::{
    change::unexpected,
    operator::{Caller, Operators},
};

impl Operators {
    /// What the next signed set is made from.
    pub(super) fn signed_sets(&self) -> GetSetsResponse {
        let state = self.context.decider.state();
        let sets = state.sets.values().map(|row| SignedSet {
            policy_set: row.canonical.clone().into_bytes(),
            signatures: row.signatures.clone(),
        });
        let manifests = state.manifests.iter().map(|((kind, name), stored)| ManifestChange {
            change: "unchanged".to_owned(),
            kind: kind.clone(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            digest: stored.manifest.digest().to_string(),
        });
        GetSetsResponse {
            sets: sets.collect(),
            versions: state.meta.set_versions.clone().into_iter().collect(),
            trust: trust_steps(&state),
            installation: state.meta.installation.clone(),
            manifests: manifests.collect(),
        }
    }

    /// Takes in a new version of whom hosts believe.
    pub(super) async fn change_root(
        &self,
        caller: Caller,
        request: ChangeTrustRequest,
    ) -> Result<ChangeTrustResponse, Status> {
        let wanted = Wanted::ChangeTrust { root: request.trust_root, signatures: request.signatures };
        match self.ask(caller.actor, wanted).await? {
            Reply::Version(version) => Ok(ChangeTrustResponse { version }),
            other => Err(unexpected(&other)),
        }
    }
}

/// Every version of whom hosts believe, so that whoever believes an earlier one finds its way to the newest.
pub(super) fn trust_steps(state: &State) -> Vec<TrustRootStep> {
    let step = |row: &Arc<TrustRow>| TrustRootStep {
        root: row.canonical.clone().into_bytes(),
        signatures: row.signatures.clone(),
    };
    state.trust.values().map(step).collect()
}

/// A signed set from the wire.
pub(super) fn signed_set(set: SignedSet) -> set::SignedSet {
    set::SignedSet { bytes: set.policy_set, signatures: set.signatures }
}
