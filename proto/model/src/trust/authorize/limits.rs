//! What the limits of a namespace say about something that is to begin.
//!
//! They bind whoever acts: the limits that came along are verified like a policy set, by their own signers and with their
//! own versions. A host demands them when its trust root says how many must sign limits, and when it has ever seen any for
//! the namespace, so that leaving them out gains nothing. Recovery was judged with what it brings to its end: the plan that
//! begins is looked at with the steps of its `finally`.

use std::sync::Arc;

use super::{Bounds, Case, Known, Mandate, SignedLimits};
use crate::{
    digest::Digest,
    limits::Limits,
    name::ObjectName,
    policy::Manifest,
    trust::{
        Denied,
        set::{RUNS, SetName, VerifiedSet},
    },
};

/// Checks what begins against the limits of its namespace; nothing where there are none and none are demanded.
pub(super) fn bound(case: &Case<'_>, mandate: &Mandate, known: &mut Known) -> Result<Option<Bounds>, Denied> {
    if case.recovery || !case.order.acts() {
        return Ok(None);
    }
    let namespace = match mandate {
        Mandate::Policy { policy, .. } => policy.name.namespace.clone(),
        // Whoever signs an order by hand chooses the namespace of its set, and must not choose its limits with it.
        Mandate::Run(_) => runs()?,
    };
    let name = SetName::of_limits(namespace.clone());
    let seen = case.belief.set_versions.get(&name).copied();
    let Some(shown) = case.order.limits else {
        let demanded = seen.is_some() || case.belief.root.demands_limits();
        return if demanded { Err(Denied::NoLimits { namespace }) } else { Ok(None) };
    };
    let verified = verify(case, shown, &name, seen.unwrap_or_default())?;
    let limits = read(&verified, &shown.manifests, known)?;
    for limits in &limits {
        check(case, mandate, limits)?;
    }
    Ok(Some(Bounds { namespace, version: verified.set.version, digest: verified.digest, limits }))
}

/// The namespace of orders by hand.
fn runs() -> Result<ObjectName, Denied> {
    RUNS.parse().map_err(|error| Denied::Manifest { why: format!("{error}") })
}

fn verify(case: &Case<'_>, shown: &SignedLimits, name: &SetName, seen: u64) -> Result<VerifiedSet, Denied> {
    let belief = case.belief;
    let verified = shown.set.verify_limits(belief.root, belief.now, belief.zone)?;
    verified.check_installation(belief.installation)?;
    verified.check_time(belief.now)?;
    let set = &verified.set;
    if set.namespace != name.namespace {
        return Err(Denied::OtherLimits { found: set.namespace.clone(), wanted: name.namespace.clone() });
    }
    if set.version < seen {
        return Err(Denied::OldSet { set: name.clone(), version: set.version, seen });
    }
    Ok(verified)
}

/// All limits of a set: one that was kept back would bound nothing.
fn read(verified: &VerifiedSet, manifests: &[String], known: &mut Known) -> Result<Vec<Arc<Limits>>, Denied> {
    let set = &verified.set;
    if manifests.len() > set.manifests.len() {
        return Err(Denied::TooMany { what: "limits", found: manifests.len(), most: set.manifests.len() });
    }
    let shown: Vec<_> = manifests.iter().map(|text| (Digest::of(text.as_bytes()), text)).collect();
    let find = |(key, digest): (&String, &Digest)| {
        let Some((_, text)) = shown.iter().find(|(shown, _)| shown == digest) else {
            return Err(Denied::Missing { what: format!("{key} of {}", set.name()) });
        };
        match known.manifest(text, *digest)? {
            Manifest::Limits(limits)
                if limits.name.namespace == set.namespace && *key == format!("Limits/{}", limits.name.name) =>
            {
                Ok(limits)
            }
            _ => Err(Denied::NotInSet { what: key.clone(), set: set.name(), version: set.version }),
        }
    };
    set.manifests.iter().map(find).collect()
}

fn check(case: &Case<'_>, mandate: &Mandate, limits: &Limits) -> Result<(), Denied> {
    let (name, mut passed) = match mandate {
        Mandate::Policy { policy, .. } => {
            (format!("policy {}", policy.name), limits.passed_by_rung(policy, &case.plan.rung))
        }
        Mandate::Run(run) => (run.key(), limits.passed_by_run(run)),
    };
    passed.extend(limits.passed_by_plan(case.plan));
    if let Some(passed) = passed.into_iter().next() {
        return Err(Denied::Passed { name, passed: Box::new(passed) });
    }
    if !limits.permit_host(case.belief.labels) {
        return Err(Denied::HostLimited { limits: limits.name.clone(), host: case.belief.host.clone() });
    }
    Ok(())
}
