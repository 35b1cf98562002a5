//! Policies in files that pass the ceilings of their namespace, each with its place.

use super::{
    Error, File,
    find::policy_spec,
    node::{Content, Node, Place},
    yaml,
};
use crate::{
    limits::{Limits, Passed},
    name::FullName,
    policy::{Manifest, Policy},
};

/// Whether policies of files pass a ceiling of limits: those that stand in the files too, or others that are in force.
/// `manifests` are those of the files.
pub fn check_limits(files: &[File], manifests: &[&Manifest], in_force: &[&Manifest]) -> Vec<Error> {
    let all = || manifests.iter().chain(in_force).filter_map(|manifest| limits(manifest));
    let policies = manifests.iter().filter_map(|manifest| match manifest {
        Manifest::Policy(policy) => Some(policy),
        _ => None,
    });
    let mut errors: Vec<Error> = policies
        .flat_map(|policy| passed(policy, all()).into_iter().map(|passed| error(files, &policy.name, &passed)))
        .collect();
    errors.sort();
    errors.dedup();
    errors
}

/// Every ceiling that a policy passes, of limits of which some are its namespace's.
pub fn passed<'a>(policy: &Policy, limits: impl Iterator<Item = &'a Limits>) -> Vec<Passed> {
    let bounding = limits.filter(|limits| limits.name.namespace == policy.name.namespace);
    bounding.flat_map(|limits| limits.passed_by(policy)).collect()
}

fn limits(manifest: &Manifest) -> Option<&Limits> {
    match manifest {
        Manifest::Limits(limits) => Some(limits),
        _ => None,
    }
}

fn error(files: &[File], policy: &FullName, passed: &Passed) -> Error {
    let message = format!("Policy {policy}: {passed}");
    let found = files.iter().find_map(|file| {
        let (documents, _) = yaml::read(&file.text);
        let spec = policy_spec(&documents, policy)?;
        Some(Error::at(&file.name, place(spec, &passed.field), message.clone()))
    });
    found.unwrap_or_else(|| Error::at("manifest", Place::START, message))
}

/// Where a field stands; where it was left out, the nearest map around it.
fn place(spec: &Node, field: &str) -> Place {
    let mut node = spec;
    for part in field.split('.') {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(member) = node.get(name) else { break };
        node = match (&member.content, index) {
            (Content::List(items), Some(index)) => items.get(index).unwrap_or(member),
            _ => member,
        };
    }
    node.place
}
