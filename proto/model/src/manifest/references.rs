//! References between manifests, checked over the whole set that is to be in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    name::{FullName, ObjectName},
    policy::{Does, Manifest, Policy, Service},
};

/// A reference to something that is not there, or that leads in a circle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Dangling {
    /// Kind of the manifest that refers.
    pub kind: &'static str,
    /// Its name.
    pub name: FullName,
    /// What is wrong and how it would be right.
    pub message: String,
}

impl fmt::Display for Dangling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.name, self.message)
    }
}

/// Checks that everything that manifests refer to is there, in the same namespace, and that services and contacts do
/// not refer to themselves through others. `manifests` is the whole set that would be in force.
pub fn check_references(manifests: &[&Manifest]) -> Vec<Dangling> {
    let known: BTreeSet<_> = manifests.iter().map(|manifest| (manifest.kind(), manifest.name().clone())).collect();
    let mut checker = Checker { known, found: Vec::new() };
    for manifest in manifests {
        match manifest {
            Manifest::Policy(policy) => checker.policy(policy),
            Manifest::Service(service) => checker.service(service),
            Manifest::Contact(contact) => {
                if let Some((next, _)) = &contact.next {
                    checker.wants("Contact", &contact.name, "Contact", "next.contact", next);
                }
            }
            Manifest::Calendar(_) | Manifest::Window(_) | Manifest::Limits(_) => {}
        }
    }
    checker.circles(
        "Service",
        &edges(manifests, |manifest| match manifest {
            Manifest::Service(service) => service.depends_on.clone(),
            _ => Vec::new(),
        }),
    );
    checker.circles(
        "Contact",
        &edges(manifests, |manifest| match manifest {
            Manifest::Contact(contact) => contact.next.iter().map(|(next, _)| next.clone()).collect(),
            _ => Vec::new(),
        }),
    );
    checker.found.sort();
    checker.found.dedup();
    checker.found
}

/// Who refers to whom.
type Edges = BTreeMap<FullName, Vec<FullName>>;

fn edges(manifests: &[&Manifest], of: impl Fn(&Manifest) -> Vec<ObjectName>) -> Edges {
    let full = |from: &FullName, name: ObjectName| FullName { namespace: from.namespace.clone(), name };
    manifests
        .iter()
        .map(|manifest| {
            let from = manifest.name();
            (from.clone(), of(manifest).into_iter().map(|name| full(from, name)).collect::<Vec<_>>())
        })
        .filter(|(_, to)| !to.is_empty())
        .collect()
}

struct Checker {
    known: BTreeSet<(&'static str, FullName)>,
    found: Vec<Dangling>,
}

impl Checker {
    fn wants(&mut self, kind: &'static str, from: &FullName, wanted: &'static str, field: &str, name: &ObjectName) {
        let full = FullName { namespace: from.namespace.clone(), name: name.clone() };
        if !self.known.contains(&(wanted, full.clone())) {
            let message =
                format!("`{field}` names {wanted} {full}, which is not there: apply it too, or mend the name");
            self.found.push(Dangling { kind, name: from.clone(), message });
        }
    }

    fn policy(&mut self, policy: &Policy) {
        let mut wants = |wanted, field: &str, name| self.wants("Policy", &policy.name, wanted, field, name);
        if let Some(service) = &policy.service {
            wants("Service", "service", service);
        }
        if let Some(calendar) = &policy.guards.calendar {
            wants("Calendar", "guards.calendar", calendar);
        }
        for tell in &policy.tell {
            wants("Contact", "tell.contact", &tell.contact);
        }
        let rules = policy.ladder.iter().filter_map(|rung| rung.approval.as_ref());
        for choice in rules.flat_map(|rule| &rule.choices) {
            if let Does::Tell { contact, .. } = &choice.does {
                wants("Contact", "approval.choices.tell", contact);
            }
        }
        if let Some(escalate) = &policy.escalate {
            wants("Contact", "escalate.to", &escalate.to);
        }
    }

    fn service(&mut self, service: &Service) {
        let mut wants = |wanted, field: &str, name| self.wants("Service", &service.name, wanted, field, name);
        for other in &service.depends_on {
            wants("Service", "dependsOn", other);
        }
        if let Some(calendar) = &service.calendar {
            wants("Calendar", "calendar", calendar);
        }
        for contact in &service.contacts {
            wants("Contact", "contacts", contact);
        }
    }

    /// Reports each name that leads back to itself.
    fn circles(&mut self, kind: &'static str, edges: &Edges) {
        for from in edges.keys() {
            let mut seen = BTreeSet::new();
            let mut ahead: Vec<&FullName> = edges[from].iter().collect();
            while let Some(next) = ahead.pop() {
                if next == from {
                    let message = "leads back to itself through what it refers to: break the circle".to_owned();
                    self.found.push(Dangling { kind, name: from.clone(), message });
                    break;
                }
                if seen.insert(next) {
                    ahead.extend(edges.get(next).into_iter().flatten());
                }
            }
        }
    }
}
