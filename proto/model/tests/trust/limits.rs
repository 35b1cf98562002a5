//! Limits behind a command: whoever may sign policies, or send what others signed, cannot pass them.

use proptest::prelude::*;
use quell_model::{
    limits::Limits,
    manifest::{self, File},
    policy::Manifest,
    trust::{Denied, NAMESPACE_POLICY, PolicySet, SetName},
};

use super::{
    commands::denied,
    world::{Case, Ceilings, ann, bob, cat, eve, name},
};

/// The command, bounded by limits of its namespace.
fn bounded(spec: &str) -> Case {
    Case { limits: Some(Ceilings::new("plants", spec)), ..Case::new() }
}

/// The host's trust root says that one person signs limits, and so that there have to be some.
fn demanding(mut case: Case) -> Case {
    case.root.required.insert(name("limits"), 1);
    case
}

#[test]
fn limits_that_are_kept_go_into_the_warrant() {
    assert!(Case::new().authorize().unwrap().bounds.is_none(), "nobody demands any");
    let warrant =
        demanding(bounded("actions: [service.restart, exec], mode: enforce, wave: 1, hosts: all")).authorize().unwrap();
    let bounds = warrant.bounds.unwrap();
    assert_eq!((bounds.namespace.as_str(), bounds.version, bounds.limits.len()), ("plants", 3, 1));
}

#[test]
fn each_ceiling_is_refused_by_its_name() {
    for (spec, wanted) in [
        ("actions: [exec]", "`ladder[0].do[0].action` passes Limits plants/ceiling: it is service.restart"),
        ("actions: [service.restart]", "`ladder[0].finally[0].action` passes Limits plants/ceiling: it is exec"),
        ("mode: propose", "`mode` passes Limits plants/ceiling: it is enforce, and at most propose"),
        ("cooldown: 1h", "`guards.cooldown` passes Limits plants/ceiling: it is 10m, and at least 1h"),
        ("disturb: { hosts: 1 }", "`guards.disturb.hosts` passes"),
        ("disturb: { percent: 1 }", "`guards.disturb.percent` passes"),
        ("approvals: [{ actions: [exec], role: compliance }]", "the rung asks nobody"),
    ] {
        let refused = bounded(spec).authorize().unwrap_err();
        assert!(matches!(refused, Denied::Passed { .. }), "{spec}: {refused}");
        assert!(refused.to_string().contains(wanted), "{spec}: {refused}");
    }
    denied!(bounded("hosts: { matchLabels: { role: db } }").authorize(), Denied::HostLimited { .. });
    let mut wide = bounded("wave: 1");
    wide.plan.steps[0].add(0, "web2".parse().unwrap());
    let refused = wide.authorize().unwrap_err().to_string();
    assert!(refused.contains("a wave has 2 hosts, and at most 1"), "{refused}");
}

#[test]
fn another_rung_is_not_held_by_what_one_passes() {
    let spec = "approvals: [{ actions: [service.restart], role: compliance, count: 2 }]";
    denied!(bounded(spec).authorize(), Denied::Passed { .. });
    let votes = vec![(ann(), "compliance", "now"), (bob(), "compliance", "now")];
    Case { votes, ..bounded(spec) }.rung("careful").authorize().unwrap();
}

#[test]
fn what_is_demanded_has_to_come_along() {
    denied!(demanding(Case::new()).authorize(), Denied::NoLimits { .. });
    let mut seen = Case::new();
    seen.set_versions.insert(SetName::of_limits(name("plants")), 1);
    denied!(seen.authorize(), Denied::NoLimits { .. });
    seen.set_versions = [(SetName::of_limits(name("other")), 1)].into();
    seen.authorize().expect("limits of another namespace");
    // What changes nothing, and what brings to its end, needs none.
    let bare = demanding(Case::new());
    Case { dry_run: true, ..bare.clone() }.authorize().unwrap();
    Case { preview_only: true, ..bare.clone() }.authorize().unwrap();
    Case { undo: true, ..bare.clone() }.authorize().unwrap();
    bare.clone().finally().authorize().unwrap();
    denied!(Case { begun: false, ..bare }.finally().authorize(), Denied::NoLimits { .. });
}

#[test]
fn limits_take_their_own_signers() {
    let signed_by = |people| {
        let mut case = bounded("mode: enforce");
        case.limits.as_mut().unwrap().signed_by = people;
        case.authorize()
    };
    signed_by(vec![(ann(), "quell-limits")]).unwrap();
    denied!(signed_by(vec![]), Denied::Signatures(_));
    denied!(signed_by(vec![(bob(), "quell-limits")]), Denied::Signatures(_));
    denied!(signed_by(vec![(bob(), NAMESPACE_POLICY)]), Denied::Signatures(_));
    denied!(signed_by(vec![(ann(), NAMESPACE_POLICY)]), Denied::Signatures(_));
    denied!(signed_by(vec![(cat(), "quell-limits"), (eve(), "quell-limits")]), Denied::Signatures(_));
    let mut two = bounded("mode: enforce");
    two.root.required.insert(name("limits"), 2);
    denied!(two.authorize(), Denied::Signatures(_));
    two.root.allowed_signers.push_str(&eve().line("namespaces=\"quell-limits\""));
    two.limits.as_mut().unwrap().signed_by = vec![(ann(), "quell-limits"), (eve(), "quell-limits")];
    two.authorize().unwrap();
}

#[test]
fn older_expired_and_foreign_limits_are_refused() {
    let with = |change: &dyn Fn(&mut Case, &mut PolicySet)| {
        let mut case = bounded("mode: enforce");
        let mut set = case.limits.as_ref().unwrap().set.clone();
        change(&mut case, &mut set);
        case.limits.as_mut().unwrap().set = set;
        case.authorize()
    };
    let seen = |version| {
        with(&|case, _| {
            case.set_versions.insert(SetName::of_limits(name("plants")), version);
        })
    };
    seen(3).unwrap();
    let replaced = seen(4);
    assert!(
        replaced.as_ref().is_err_and(|why| why.to_string().contains("version 3 of set plants/limits")),
        "{replaced:?}"
    );
    denied!(replaced, Denied::OldSet { .. });
    denied!(with(&|case, set| set.expires = case.now), Denied::Expired { .. });
    denied!(with(&|_, set| set.installation = "other".to_owned()), Denied::Installation { .. });
    denied!(with(&|_, set| set.namespace = name("other")), Denied::OtherLimits { .. });
    denied!(with(&|_, set| set.limits = false), Denied::Malformed(_));
    with(&|case, set| {
        set.manifests.clear();
        case.limits.as_mut().unwrap().manifests.clear();
    })
    .expect("people signed that there are none");
}

#[test]
fn limits_that_are_kept_back_or_changed_are_refused() {
    let mut back = bounded("mode: enforce");
    back.limits.as_mut().unwrap().manifests.clear();
    denied!(back.authorize(), Denied::Missing { .. });
    let mut other = bounded("mode: enforce");
    other.limits.as_mut().unwrap().manifests = Ceilings::new("plants", "wave: 9").manifests;
    denied!(other.authorize(), Denied::Missing { .. });
    let mut more = bounded("mode: enforce");
    let again = more.limits.as_ref().unwrap().manifests[0].clone();
    more.limits.as_mut().unwrap().manifests.push(again);
    denied!(more.authorize(), Denied::TooMany { .. });
    // A policy set is no place for limits, and the other way round.
    let mut moved = bounded("mode: enforce");
    let digest = moved.limits.as_ref().unwrap().set.manifests["Limits/ceiling"];
    moved.set.manifests.insert("Limits/ceiling".to_owned(), digest);
    denied!(moved.authorize(), Denied::Malformed(_));
}

#[test]
fn orders_by_hand_are_bounded_by_the_limits_of_run() {
    let order = |spec: &str| Case { limits: Some(Ceilings::new("run", spec)), ..Case::order(|_| ()) };
    demanding(order("actions: [service.restart], mode: propose, wave: 4")).authorize().unwrap();
    denied!(demanding(Case::order(|_| ())).authorize(), Denied::NoLimits { .. });
    for spec in
        ["actions: [exec]", "mode: observe", "wave: 2", "approvals: [{ actions: [service.restart], role: compliance }]"]
    {
        denied!(order(spec).authorize(), Denied::Passed { .. });
    }
    denied!(order("hosts: { matchLabels: { role: db } }").authorize(), Denied::HostLimited { .. });
    // Whoever signs the order chooses the namespace of its set, and not its limits.
    let elsewhere = Case { limits: Some(Ceilings::new("plants", "mode: enforce")), ..Case::order(|_| ()) };
    denied!(elsewhere.authorize(), Denied::OtherLimits { .. });
}

/// Limits out of some ceilings, so that the rest of the manifest can be anything.
fn ceilings() -> impl Strategy<Value = String> {
    let one = |ceiling: &'static [&'static str]| prop::option::of(prop::sample::select(ceiling));
    let some = (
        one(&["actions: [exec]", "actions: [service.restart, exec]"]),
        one(&["mode: observe", "mode: propose", "mode: enforce"]),
        one(&["cooldown: 1m", "cooldown: 2h"]),
        one(&["wave: 1", "wave: 5"]),
        one(&["hosts: all", "hosts: { matchLabels: { role: db } }"]),
        one(&["disturb: { hosts: 2 }", "disturb: { hosts: 50, percent: 60 }"]),
        one(&["approvals: [{ actions: [exec], role: compliance }]"]),
    );
    some.prop_map(|(a, b, c, d, e, f, g)| {
        let given: Vec<&str> = [a, b, c, d, e, f, g].into_iter().flatten().collect();
        if given.is_empty() { "mode: enforce".to_owned() } else { given.join(", ") }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// With limits nothing is let through that was not let through without, and nothing of the warrant gets wider.
    #[test]
    fn limits_only_narrow(
        spec in ceilings(),
        mode in prop::sample::select(&["observe", "propose", "enforce"][..]),
        role in prop::sample::select(&["role=web", "role=db"][..]),
        finally in any::<bool>(),
        begun in any::<bool>(),
        demands in any::<bool>(),
    ) {
        let mut case = Case { begun, labels: super::world::labels(role), ..Case::in_mode(mode) };
        if finally {
            case = case.finally();
        }
        let without = case.authorize();
        let mut with = Case { limits: Some(Ceilings::new("plants", &spec)), ..case };
        if demands {
            with = demanding(with);
        }
        if let Ok(bounded) = with.authorize() {
            let free = without.expect("limits let nothing through by themselves");
            prop_assert_eq!(bounded.cooldown, free.cooldown);
            prop_assert_eq!(bounded.recovery, free.recovery);
            prop_assert_eq!(bounded.calendars.len(), free.calendars.len());
        }
    }
}

fn limits(spec: &str) -> Limits {
    let text = format!(
        "apiVersion: quell/v1\nkind: Limits\nmetadata: {{ name: a }}\nspec: {{ description: Some., {spec} }}\n"
    );
    let parsed = manifest::parse(&[File { name: "a".to_owned(), text }]).unwrap();
    match &parsed[0].manifest {
        Manifest::Limits(limits) => (**limits).clone(),
        _ => unreachable!("it is limits"),
    }
}

#[test]
fn what_is_left_out_is_not_bounded() {
    let free = limits("mode: enforce");
    assert!(free.actions.is_none() && free.hosts.is_none() && free.budget.is_none() && free.wave.is_none());
    assert!(free.permit_host(&super::world::labels("any=thing")));
}
