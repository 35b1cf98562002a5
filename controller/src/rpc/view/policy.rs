//! Policies: what they say, and how far they go at the moment.

use jiff::SignedDuration;
use quell_engine::state::{AlertState, HostState};
use quell_model::policy::{Manifest, Policy};
use quell_wire::v1::PolicyView;

use super::{Filter, Viewer, manifest, word};

/// The span over which acts are counted.
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Viewer<'_> {
    /// Policies.
    pub fn policies(&self, filter: &Filter) -> Vec<PolicyView> {
        let policies = self.state.manifests.values().filter_map(|stored| match &stored.manifest {
            Manifest::Policy(policy) => Some((policy, &stored.canonical)),
            _ => None,
        });
        policies
            .filter(|(policy, canonical)| {
                let named = filter.wants(&policy.name.to_string()) || filter.wants(policy.name.name.as_str());
                named && manifest::wants_labels(filter, canonical)
            })
            .map(|(policy, _)| {
                let shadow = self.shadow(policy, !filter.name.is_empty());
                PolicyView { shadow, ..self.policy(policy) }
            })
            .collect()
    }

    /// One policy.
    pub fn policy(&self, policy: &Policy) -> PolicyView {
        let state = self.state;
        let breaker = state.breakers.get(&policy.name);
        let alerts = |wanted: AlertState| {
            count(state.alerts.values().filter(|row| row.policy == policy.name && row.state == wanted))
        };
        let acted = state.ledger.values().filter(|row| {
            row.policy.as_ref() == Some(&policy.name) && !row.void && self.now.duration_since(row.at) < DAY
        });
        PolicyView {
            namespace: policy.name.namespace.to_string(),
            name: policy.name.name.to_string(),
            mode: word(policy.mode),
            effective_mode: word(quell_engine::effective_mode(state, self.now, policy)),
            description: policy.description.clone(),
            severity: word(policy.severity),
            problem: policy.problem.clone(),
            hosts: count(state.hosts.values().filter(|host| {
                !matches!(host.state, HostState::Revoked | HostState::Retired) && policy.hosts.matches(&host.labels)
            })),
            firing: alerts(AlertState::Firing),
            pending: alerts(AlertState::Pending),
            digest: policy.digest.to_string(),
            set_version: state.meta.set_versions.get(policy.name.namespace.as_str()).copied().unwrap_or_default(),
            breaker: breaker.map(|row| row.reason.clone()),
            acted: count(acted),
            defaults: policy.defaults.clone(),
            shadow: None,
        }
    }
}

fn count(things: impl Iterator) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}
