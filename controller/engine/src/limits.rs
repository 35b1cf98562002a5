//! Limits: the ceilings over a namespace, as they are in force, and what people signed of them.
//!
//! Limits bound whatever the engine plans, signed or not, since they only narrow. Hosts are bound by signed ones alone,
//! which go to them with the orders. Once people have signed the limits of a namespace they change by signatures only:
//! whoever may apply without them could else lift what others have set.

use jiff::Timestamp;
use quell_model::{
    limits::Limits,
    manifest,
    name::{FullName, ObjectName},
    policy::{Manifest, Policy},
    trust::{SetName, set::RUNS},
};

use crate::{State, state::SetRow};

/// The kind, as manifests write it.
const KIND: &str = "Limits";
/// Before every other name.
const FIRST: &str = "0";

/// The limits of a namespace that are in force.
pub(crate) fn of_namespace<'a>(state: &'a State, namespace: &'a ObjectName) -> impl Iterator<Item = &'a Limits> {
    let first = FIRST.parse().ok().map(|name| (KIND.to_owned(), FullName { namespace: namespace.clone(), name }));
    let from = first.into_iter().flat_map(|first| state.manifests.range(first..));
    from.take_while(|((kind, name), _)| kind == KIND && name.namespace == *namespace).filter_map(|(_, stored)| {
        match &stored.manifest {
            Manifest::Limits(limits) => Some(&**limits),
            _ => None,
        }
    })
}

/// The namespace whose limits bound an order: its policy's, or that of orders by hand.
pub(crate) fn namespace_of(policy: Option<&FullName>) -> Option<ObjectName> {
    policy.map(|policy| policy.namespace.clone()).or_else(|| RUNS.parse().ok())
}

/// The signed set of a namespace's limits.
pub(crate) fn signed_row<'a>(state: &'a State, namespace: &ObjectName) -> Option<&'a SetRow> {
    state.sets.get(&SetName::of_limits(namespace.clone()).to_string()).map(AsRef::as_ref)
}

/// What goes to a host with an order: the signed set of the limits that bound it, and their manifests.
pub fn signed_limits<'a>(state: &'a State, policy: Option<&FullName>) -> Option<(&'a SetRow, Vec<&'a str>)> {
    let namespace = namespace_of(policy)?;
    let row = signed_row(state, &namespace)?;
    let manifests = row.set.manifests.keys().filter_map(|key| {
        let name = key.split_once('/')?.1.parse().ok()?;
        let key = (KIND.to_owned(), FullName { namespace: namespace.clone(), name });
        state.manifests.get(&key).map(|stored| stored.canonical.as_str())
    });
    Some((row, manifests.collect()))
}

/// Why hosts would do nothing in a namespace, as far as the controller can tell: its limits are not signed as they have to
/// be.
pub(crate) fn lacking(state: &State, now: Timestamp, namespace: &ObjectName) -> Option<String> {
    match signed_row(state, namespace) {
        Some(row) if now >= row.set.expires => Some(format!(
            "the signed limits of {namespace} expired on {:.0}: sign them again with `quell apply` and a key for quell-limits",
            row.set.expires
        )),
        Some(_) => None,
        None if state.meta.limits_demanded => Some(format!(
            "hosts do nothing without signed limits, and {namespace} has none: apply Limits for {namespace} with a key for \
             quell-limits"
        )),
        None => None,
    }
}

/// What people should know of limits: what binds no host, and policies that do not act because they pass a ceiling.
pub(crate) fn warnings(state: &State, now: Timestamp) -> Vec<String> {
    let limits = || {
        state.manifests.values().filter_map(|stored| match &stored.manifest {
            Manifest::Limits(limits) => Some(&**limits),
            _ => None,
        })
    };
    let unsigned = limits().filter(|limits| signed_row(state, &limits.name.namespace).is_none()).map(|limits| {
        format!(
            "Limits {} are not signed: the controller keeps to them, and they bind no host; apply them with a key for \
             quell-limits",
            limits.name
        )
    });
    let policies = state.manifests.values().filter_map(|stored| match &stored.manifest {
        Manifest::Policy(policy) => Some(policy),
        _ => None,
    });
    let held = policies.flat_map(|policy: &std::sync::Arc<Policy>| {
        let passed = manifest::passed(policy, limits());
        let lacking = lacking(state, now, &policy.name.namespace);
        let why = passed.into_iter().map(|passed| passed.to_string()).chain(lacking);
        why.map(|why| format!("{} does not act: {why}", policy.name)).collect::<Vec<_>>()
    });
    unsigned.chain(held).collect()
}
