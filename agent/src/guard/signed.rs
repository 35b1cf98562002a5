//! Nothing is done that people did not sign: an order of the wire with its evidence, put before
//! [`quell_model::trust::authorize_knowing`].

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    name::HostName,
    trust::{
        Belief, Order, SignedLimits, SignedSet, Warrant,
        approvals::{self, Vote},
        authorize::Mandate,
    },
};
use quell_wire::v1;
use serde_json::{Map, Value as Json};

use super::PARAMETERS_LIMIT;
use crate::{
    actions::Refusal,
    belief::{self, Beliefs, Step},
};

/// Characters of the longest reason that is told.
const LONGEST_REASON: usize = 1_000;

/// An order that people signed, as far as the beliefs of a moment tell.
#[derive(Debug, Clone)]
pub struct Signed {
    pub(super) warrant: Arc<Warrant>,
    plan: Digest,
    pub(super) generation: u64,
}

impl Signed {
    /// What the host said that it would touch, when that was approved.
    pub fn preview(&self) -> Option<Digest> {
        self.warrant.preview
    }

    /// The plan's hash.
    pub fn plan(&self) -> Digest {
        self.plan
    }

    /// What only one order at a time holds: the policy and its target, on this host.
    pub fn resource(&self) -> Option<String> {
        match &self.warrant.mandate {
            Mandate::Policy { policy, .. } => Some(format!("policy {} on {}", policy.name, self.warrant.target)),
            Mandate::Run(_) => None,
        }
    }

    /// The order, as the ledger knows it.
    pub(super) fn step(&self, command: &v1::Command) -> Step<'_> {
        Step { warrant: &self.warrant, plan: self.plan, step: command.step as usize, undo: command.undo }
    }
}

/// Verifies an order against what is believed. It takes up to a millisecond of computing, and no file.
///
/// # Errors
/// The first check that fails.
pub(crate) fn verify(beliefs: &Beliefs, command: &v1::Command, now: Timestamp) -> Result<Signed, Refusal> {
    let view = beliefs.view().map_err(|error| because(&error))?;
    let evidence = Evidence::of(command)?;
    let believed = Belief {
        installation: &view.root.root().installation,
        host: beliefs.host(),
        labels: &view.labels,
        root: &view.root,
        set_versions: &view.set_versions,
        begun: beliefs.ask(|ledger| ledger.has_begun(evidence.plan_hash)).map_err(|error| because(&error))?,
        now,
        zone: &belief::ZONE,
    };
    let order = evidence.order(command, beliefs.host());
    let warrant = beliefs.authorize(&believed, &order).map_err(|denied| because(&denied))?;
    Ok(Signed { warrant: Arc::new(warrant), plan: evidence.plan_hash, generation: view.generation })
}

/// A refusal with the reason of the trust model, cut where somebody else's bytes make it long.
pub(super) fn because(why: &impl std::fmt::Display) -> Refusal {
    let mut reason = why.to_string();
    if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
        reason.truncate(end);
        reason.push('…');
    }
    Refusal::because(reason)
}

/// What came along with an order, in the types of the trust model.
struct Evidence {
    plan_hash: Digest,
    parameters: Map<String, Json>,
    set: SignedSet,
    manifests: Vec<String>,
    limits: Option<SignedLimits>,
    votes: Vec<Vote>,
}

impl Evidence {
    fn of(command: &v1::Command) -> Result<Self, Refusal> {
        let Some(authority) = command.authority.as_ref().filter(|authority| !authority.policy_set.is_empty()) else {
            return Err(Refusal::because(
                "nobody signed it: no signed set came with the order; sign the policy with `quell apply`",
            ));
        };
        let bytes = <[u8; 32]>::try_from(command.plan_hash.as_slice()).map_err(|_| {
            Refusal::because("the order names no plan by its hash, so nothing says that it may be done")
        })?;
        if command.parameters.len() > PARAMETERS_LIMIT {
            return Err(Refusal::because(format!("the parameters are longer than {PARAMETERS_LIMIT} bytes")));
        }
        let parameters = serde_json::from_slice(&command.parameters)
            .map_err(|error| Refusal::because(format!("the parameters are not a JSON object: {error}")))?;
        let manifests = std::iter::once(&authority.policy).chain(&authority.referenced);
        let limits = authority.limits.as_ref().map(|limits| {
            let set = SignedSet { bytes: limits.set.clone(), signatures: limits.signatures.clone() };
            texts(&limits.manifests).map(|manifests| SignedLimits { set, manifests })
        });
        // An end that is no time is none.
        let vote = |vote: &v1::SignedVote| Vote {
            choice: command.choice.clone(),
            signed: approvals::Signed { expires: vote.expires.parse().ok(), signature: vote.signature.clone() },
        };
        Ok(Self {
            plan_hash: Digest(bytes),
            parameters,
            set: SignedSet { bytes: authority.policy_set.clone(), signatures: authority.signatures.clone() },
            manifests: texts(manifests)?,
            limits: limits.transpose()?,
            votes: command.votes.iter().map(vote).collect(),
        })
    }

    fn order<'a>(&'a self, command: &'a v1::Command, host: &'a HostName) -> Order<'a> {
        Order {
            // The wire does not say for whom a command is: the plan has to have the step for this host.
            host,
            step: command.step as usize,
            action: &command.action,
            parameters: &self.parameters,
            timeout: Duration::from_millis(command.timeout_ms),
            undo: command.undo,
            dry_run: command.dry_run,
            preview_only: command.preview_only,
            plan_hash: self.plan_hash,
            plan: &command.plan,
            approvals: &self.votes,
            set: &self.set,
            manifests: &self.manifests,
            limits: self.limits.as_ref(),
        }
    }
}

/// Manifests that came along, as text.
fn texts<'a>(manifests: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<Vec<String>, Refusal> {
    let texts: Result<_, _> = manifests.into_iter().map(|bytes| String::from_utf8(bytes.clone())).collect();
    texts.map_err(|_| Refusal::because("a manifest that came with the order is not text"))
}
