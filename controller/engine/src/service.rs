//! Services: who belongs to one, what it stands on, who is told.

use std::{collections::BTreeSet, sync::Arc};

use quell_model::{
    name::{FullName, HostName, ObjectName},
    policy::{Manifest, Service},
};

use crate::{
    State,
    scope::View,
    state::{LedgerRow, PlanRow},
    windows::{Compiled, is_enrolled},
};

/// All services.
pub(crate) fn all(state: &State) -> impl Iterator<Item = &Arc<Service>> {
    state.manifests.values().filter_map(|stored| match &stored.manifest {
        Manifest::Service(service) => Some(service),
        _ => None,
    })
}

/// The service of a name, in a namespace when one is known.
pub(crate) fn find(state: &State, namespace: Option<&ObjectName>, name: &str) -> Option<Arc<Service>> {
    all(state)
        .find(|service| {
            service.name.name.as_str() == name && namespace.is_none_or(|wanted| service.name.namespace == *wanted)
        })
        .cloned()
}

/// The enrolled members of a service.
pub(crate) fn members(state: &State, service: &Service) -> BTreeSet<HostName> {
    let hosts = state.hosts.iter().filter(|(_, row)| is_enrolled(row) && service.members.matches(&row.labels));
    hosts.map(|(name, _)| name.clone()).collect()
}

/// The names of the services that a service stands on, and of those that stand on it.
pub(crate) fn related(state: &State, policy: Option<&FullName>, name: &str) -> BTreeSet<String> {
    let namespace = policy.map(|policy| &policy.namespace);
    let below = find(state, namespace, name);
    let below = below.iter().flat_map(|service| &service.depends_on).map(|name| name.as_str().to_owned());
    let above = all(state)
        .filter(|service| service.depends_on.iter().any(|under| under.as_str() == name))
        .map(|service| service.name.name.as_str().to_owned());
    below.chain(above).collect()
}

/// The hosts that open incidents of a service are about.
pub(crate) fn troubled<'a>(state: &'a State, service: &str) -> BTreeSet<&'a HostName> {
    let is_of_service = |policy: &FullName| of_policy(state, policy).is_some_and(|name| name.as_str() == service);
    let open = state.live.incidents.iter().filter_map(|id| state.incidents.get(id));
    open.filter(|incident| incident.policies.iter().any(is_of_service))
        .filter_map(|incident| incident.target.host())
        .collect()
}

/// The service that a policy looks after.
pub(crate) fn of_policy(state: &State, policy: &FullName) -> Option<ObjectName> {
    match &state.manifests.get(&("Policy".to_owned(), policy.clone()))?.manifest {
        Manifest::Policy(policy) => policy.service.clone(),
        _ => None,
    }
}

/// Whose disturbance is counted together.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its name, for people.
    pub(crate) name: String,
    /// The hosts that count.
    pub(crate) members: BTreeSet<HostName>,
    service: Option<String>,
    policy: Option<FullName>,
}

impl Group {
    /// Whether a plan disturbs this group.
    pub(crate) fn has(&self, plan: &PlanRow) -> bool {
        match &self.service {
            Some(service) => plan.services().any(|other| other == service),
            None => {
                let concerns = plan.concerns.iter().any(|concern| Some(&concern.policy) == self.policy.as_ref());
                concerns || (plan.service.is_none() && plan.policy == self.policy)
            }
        }
    }

    /// Whether an act disturbed this group.
    pub(crate) fn is_of(&self, row: &LedgerRow) -> bool {
        match &self.service {
            Some(service) => row.service.iter().chain(&row.also).any(|other| other == service),
            None => {
                let counts = self.policy.as_ref().is_some_and(|policy| row.is_of_policy(policy));
                counts || (row.service.is_none() && row.policy == self.policy)
            }
        }
    }
}

/// The group that a plan disturbs: its service's members; without a service, the hosts of its policy; for a person's
/// run without either, the hosts of the plan.
pub(crate) fn group(view: View<'_>, plan: &PlanRow, compiled: Option<&Compiled>) -> Group {
    let namespace = plan.policy.as_ref().map(|policy| &policy.namespace);
    let service = plan.service.as_ref().and_then(|name| find(view.state, namespace, name));
    let members = match (&service, compiled) {
        (Some(service), _) => members(view.state, service),
        (None, Some(compiled)) => compiled.observers.clone(),
        (None, None) => plan.hosts.iter().cloned().collect(),
    };
    let name = match (&plan.service, &plan.policy) {
        (Some(service), _) => format!("service {service}"),
        (None, Some(policy)) => format!("policy {policy}"),
        (None, None) => "this run".to_owned(),
    };
    Group { name, members, service: plan.service.clone(), policy: plan.policy.clone() }
}

/// The group that a policy's plans disturb.
pub(crate) fn of_compiled(view: View<'_>, compiled: &Compiled) -> Group {
    let policy = &compiled.policy;
    let service = policy.service.as_ref().map(|name| name.as_str().to_owned());
    let found = service.as_ref().and_then(|name| find(view.state, Some(&policy.name.namespace), name));
    let members = found.map_or_else(|| compiled.observers.clone(), |service| members(view.state, &service));
    let name = service.as_ref().map_or_else(|| format!("policy {}", policy.name), |name| format!("service {name}"));
    Group { name, members, service, policy: Some(policy.name.clone()) }
}

/// The group of one of the services that a plan disturbs.
pub(crate) fn group_of(view: View<'_>, plan: &PlanRow, service: &str) -> Group {
    let members = find(view.state, plan.policy.as_ref().map(|policy| &policy.namespace), service)
        .map(|service| members(view.state, &service))
        .unwrap_or_default();
    Group { name: format!("service {service}"), members, service: Some(service.to_owned()), policy: None }
}

/// The services that a person's run disturbs: the one that its parameters name, else every one that has one of the hosts.
pub(crate) fn of_run(
    state: &State,
    with: &serde_json::Map<String, serde_json::Value>,
    hosts: &[HostName],
) -> Vec<String> {
    let has_host = |service: &Service| {
        let members = members(state, service);
        hosts.iter().any(|host| members.contains(host))
    };
    let mut names: Vec<String> =
        all(state).filter(|service| has_host(service)).map(|service| service.name.name.as_str().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    let named = with.get("service").and_then(serde_json::Value::as_str);
    match names.iter().find(|name| named == Some(name.as_str())) {
        Some(name) => vec![name.clone()],
        None => names,
    }
}
