//! Commands: every check of `authorize`, in its order.

use quell_model::{
    name::Target,
    selector::Selector,
    trust::{Denied, Known, NAMESPACE_OBSERVE, NAMESPACE_POLICY, authorize::Mandate, authorize_knowing, run::Hosts},
    value::Value,
};
use serde_json::json;

use super::world::{Case, ann, believed, bob, cat, eve, labels, name, object};

macro_rules! denied {
    ($result:expr, $pattern:pat) => {{
        let result = $result;
        assert!(matches!(result, Err($pattern)), "{:?}", result.map(|warrant| warrant.set_version));
    }};
}
pub(super) use denied;

#[test]
fn a_signed_command_in_scope_is_let_through_with_its_limits() {
    let warrant = Case::new().authorize().unwrap();
    assert_eq!((warrant.namespace.as_str(), warrant.set_version), ("plants", 7));
    assert_eq!(warrant.cooldown.as_secs(), 600);
    assert_eq!(warrant.target, Target::Host("web1".parse().unwrap()));
    let calendars: Vec<_> = warrant.calendars.iter().map(|calendar| calendar.name.to_string()).collect();
    assert_eq!(calendars, ["plants/hours", "plants/weekend"], "the policy's own, and its service's");
    assert_eq!(warrant.signers[0].principal, "ann");
    assert!(matches!(&warrant.mandate, Mandate::Policy { policy, rung: 0 } if policy.name.to_string() == "plants/web"));
    assert!(warrant.one_shot.is_none() && warrant.conditional_approval.is_none() && !warrant.recovery);
}

#[test]
fn unsigned_sets_start_nothing() {
    let mut case = Case::new();
    case.signed_by.clear();
    denied!(case.authorize(), Denied::Signatures(_));
    case.signed_by = vec![(eve(), NAMESPACE_POLICY)];
    denied!(case.authorize(), Denied::Signatures(_));
    case.signed_by = vec![(cat(), NAMESPACE_POLICY)];
    denied!(case.authorize(), Denied::Signatures(_));
    case.signed_by = vec![(ann(), "quell-trust")];
    denied!(case.authorize(), Denied::Signatures(_));
}

#[test]
fn a_namespace_says_how_many_people_must_sign() {
    let mut case = Case::new();
    case.root.required = [(name("plants"), 2)].into();
    denied!(case.authorize(), Denied::Signatures(_));
    case.signed_by = vec![(ann(), NAMESPACE_POLICY), (ann(), NAMESPACE_POLICY)];
    denied!(case.authorize(), Denied::Signatures(_));
    case.signed_by = vec![(ann(), NAMESPACE_POLICY), (bob(), NAMESPACE_POLICY)];
    case.authorize().unwrap();
}

#[test]
fn another_installation_is_another_world() {
    let mut case = Case::new();
    case.set.installation = "other".to_owned();
    denied!(case.authorize(), Denied::Installation { what: "policy set", .. });
    let mut case = Case::new();
    case.plan.installation = "other".to_owned();
    denied!(case.authorize(), Denied::Installation { what: "plan", .. });
}

#[test]
fn an_expired_set_lets_nothing_start_and_what_was_begun_end() {
    let at = |case: &Case, now: &str| Case { now: now.parse().unwrap(), ..case.clone() };
    let step = Case::new();
    at(&step, "2027-10-31T23:59:59Z").authorize().unwrap();
    denied!(at(&step, "2027-11-01T00:00:00Z").authorize(), Denied::Expired { version: 7, .. });
    denied!(at(&step, "2026-10-31T23:49:59Z").authorize(), Denied::NotYet { .. });
    at(&step, "2026-10-31T23:50:00Z").authorize().unwrap();
    let undo = Case { undo: true, ..Case::new() };
    for recovery in [undo, Case::new().finally()] {
        assert!(at(&recovery, "2027-11-01T23:59:59Z").authorize().unwrap().recovery);
        denied!(at(&recovery, "2027-11-02T00:00:00Z").authorize(), Denied::Expired { .. });
    }
    let never_begun = Case { begun: false, ..Case::new().finally() };
    assert!(!at(&never_begun, "2027-10-31T23:59:59Z").authorize().unwrap().recovery);
    denied!(at(&never_begun, "2027-11-01T00:00:00Z").authorize(), Denied::Expired { .. });
}

#[test]
fn a_replaced_set_starts_nothing() {
    let mut case = Case::new();
    case.set_versions = [(name("plants").into(), 8)].into();
    denied!(case.authorize(), Denied::OldSet { version: 7, seen: 8, .. });
    denied!(case.clone().finally().authorize(), Denied::OldSet { .. });
    Case { undo: true, ..case.clone() }.authorize().unwrap();
    case.set_versions = [(name("plants").into(), 6), (name("other").into(), 9)].into();
    case.authorize().unwrap();
}

#[test]
fn manifests_stand_in_the_set_as_they_are() {
    let mut case = Case::new();
    case.set.manifests.remove("Policy/web");
    denied!(case.authorize(), Denied::NotInSet { .. });
    // The policy's bytes are in the set, under the name of another.
    let mut case = Case::new();
    let digest = case.set.manifests.remove("Policy/web").unwrap();
    case.set.manifests.insert("Policy/other".to_owned(), digest);
    denied!(case.authorize(), Denied::NotInSet { .. });
    // Mix and match: the set of one mode, the policy of another.
    let (enforce, observe) = (Case::new(), Case::in_mode("observe"));
    let mixed = Case { manifests: enforce.manifests.clone(), ..observe };
    denied!(mixed.authorize(), Denied::NotInSet { .. });
    // The plan is of a policy that has been deleted from the set since.
    let mut case = Case::new();
    case.manifests.remove(0);
    case.set.manifests.remove("Policy/web");
    denied!(case.authorize(), Denied::NotInSet { .. });
    let many = Case { manifests: vec![String::new(); 9], ..Case::new() };
    denied!(many.authorize(), Denied::TooMany { what: "manifests", .. });
}

#[test]
fn evidence_has_to_come_along() {
    for (index, what) in [(0, "Policy"), (1, "Service"), (2, "Calendar"), (3, "Calendar")] {
        let mut case = Case::new();
        case.manifests.remove(index);
        let denied = case.authorize().unwrap_err();
        assert!(matches!(&denied, Denied::Missing { what: missing } if missing.starts_with(what)), "{denied}");
    }
}

#[test]
fn manifests_are_canonical_and_readable() {
    let case = Case::new();
    let resigned = |text: String| {
        let mut case = case.clone();
        let digest = quell_model::digest::Digest::of(text.as_bytes());
        case.manifests[0] = text;
        case.set.manifests.insert("Policy/web".to_owned(), digest);
        case.plan.policy_digest = Some(digest);
        case
    };
    denied!(resigned(format!(" {}", case.manifests[0])).authorize(), Denied::Manifest { .. });
    denied!(resigned("{}".to_owned()).authorize(), Denied::Manifest { .. });
    resigned(case.manifests[0].clone()).authorize().unwrap();
}

#[test]
fn a_policy_of_another_namespace_is_not_in_the_set() {
    let mut case = Case::new();
    case.set.namespace = name("garden");
    case.set_versions.clear();
    denied!(case.authorize(), Denied::NotInSet { .. });
    case.manifests.clear();
    denied!(case.authorize(), Denied::Namespace { .. });
}

#[test]
fn the_plan_is_the_one_of_the_hash() {
    let case = Case::new();
    let mut evidence = case.evidence();
    evidence.plan_hash = quell_model::digest::Digest::of(b"another");
    denied!(case.authorize_by(&evidence), Denied::PlanHash { .. });
    let mut evidence = case.evidence();
    evidence.plan.push(b' ');
    evidence.plan_hash = quell_model::digest::Digest::of(&evidence.plan);
    denied!(case.authorize_by(&evidence), Denied::Malformed(_));
}

#[test]
fn the_plan_is_in_somebodys_name() {
    let mut case = Case::new();
    case.plan.policy = None;
    denied!(case.authorize(), Denied::Nameless);
    let mut case = Case::new();
    case.plan.run = case.plan.policy_digest;
    denied!(case.authorize(), Denied::Nameless);
    // The policy was changed since the plan was made.
    let mut case = Case::new();
    case.plan.policy_digest = Some(quell_model::digest::Digest::of(b"older"));
    denied!(case.authorize(), Denied::NotInSet { .. });
}

#[test]
fn a_command_is_for_one_host() {
    let mut case = Case::new();
    case.host = "web2".parse().unwrap();
    denied!(case.authorize(), Denied::OtherHost { .. });
    case.to = "web2".parse().unwrap();
    denied!(case.authorize(), Denied::NotInPlan { .. });
}

#[test]
fn the_step_is_in_the_plan_exactly_so() {
    let changes: [fn(&mut Case); 7] = [
        |case| case.step = 2,
        |case| case.action = "exec".to_owned(),
        |case| case.parameters = object(json!({ "service": "sshd" })),
        |case| case.timeout *= 2,
        |case| case.timeout /= 2,
        |case| {
            let again = case.plan.steps[0].clone();
            case.plan.steps.push(again);
        },
        |case| case.plan.steps[0].add(1, "web1".parse().unwrap()),
    ];
    for change in changes {
        let mut case = Case::new();
        change(&mut case);
        denied!(case.authorize(), Denied::NotInPlan { .. });
    }
}

#[test]
fn a_dry_run_stays_one() {
    let mut case = Case::new();
    case.plan.dry_run = true;
    denied!(case.authorize(), Denied::DryRun);
    Case { dry_run: true, ..case }.authorize().unwrap();
}

#[test]
fn the_step_is_what_the_policy_says() {
    let changes: [fn(&mut Case); 6] = [
        |case| "format".clone_into(&mut case.plan.rung),
        |case| case.change_step(|step| "exec".clone_into(&mut step.action)),
        |case| case.change_step(|step| step.with = object(json!({ "service": "sshd" }))),
        |case| case.change_step(|step| step.with = object(json!({ "service": "nginx", "manager": "systemd" }))),
        |case| case.change_step(|step| step.timeout_ms += 1),
        |case| case.change_step(|step| step.finally = true),
    ];
    for change in changes {
        let mut case = Case::new();
        change(&mut case);
        denied!(case.authorize(), Denied::NotSigned { .. });
    }
    let mut beyond = Case::new();
    beyond.plan.steps[0].step = 2;
    beyond.step = 2;
    denied!(beyond.authorize(), Denied::NotSigned { .. });
    let mut shorter = Case::new();
    shorter.change_step(|step| step.timeout_ms = 5);
    shorter.authorize().unwrap();
}

#[test]
fn values_stay_inside_what_was_signed() {
    let with = |value: &str| {
        let mut case = Case::new().rung("chosen");
        case.plan.values.insert("unit".to_owned(), Value::from(value));
        case.change_step(|step| step.with = object(json!({ "service": value })));
        case
    };
    with("nginx").authorize().unwrap();
    with("apache").authorize().unwrap();
    denied!(with("sshd").authorize(), Denied::NotSigned { .. });
    let mut other = with("nginx");
    other.change_step(|step| step.with = object(json!({ "service": "apache" })));
    denied!(other.authorize(), Denied::NotSigned { .. });
    let mut absent = with("nginx");
    absent.plan.values.clear();
    denied!(absent.authorize(), Denied::NotSigned { .. });
}

#[test]
fn the_host_is_meant_by_its_own_labels() {
    let relabelled = Case { labels: labels("role=db"), ..Case::new() };
    denied!(relabelled.authorize(), Denied::OutOfScope { .. });
    let mut elsewhere = Case::new();
    elsewhere.plan.target = Target::Host("web2".parse().unwrap());
    denied!(elsewhere.authorize(), Denied::OutOfScope { .. });
}

#[test]
fn a_placed_step_runs_where_its_filled_selector_says() {
    let placed = |own: &str| {
        let mut case = Case { labels: labels(own), ..Case::new() }.rung("placed");
        case.plan.target = Target::Host("web9".parse().unwrap());
        case.change_step(|step| step.with = object(json!({ "service": "haproxy" })));
        case
    };
    placed("lb=lb1").authorize().unwrap();
    denied!(placed("lb=lb2").authorize(), Denied::OutOfScope { .. });
    let mut outside = placed("lb=lb3");
    outside.plan.values.insert("place".to_owned(), Value::from("lb3"));
    denied!(outside.authorize(), Denied::NotSigned { .. });
    let mut two = placed("lb=lb1");
    two.plan.steps[0].add(1, "web2".parse().unwrap());
    denied!(two.authorize(), Denied::OutOfScope { .. });
}

#[test]
fn the_target_is_one_that_the_policy_judges() {
    for target in [Target::Fleet, Target::Element("web1".parse().unwrap(), "/var".to_owned())] {
        let mut case = Case::new();
        case.plan.target = target;
        denied!(case.authorize(), Denied::Target { .. });
    }
}

#[test]
fn what_may_only_look_does_not_act() {
    let unsigned = |mut case: Case| {
        case.signed_by = vec![(cat(), NAMESPACE_OBSERVE)];
        case
    };
    for case in [unsigned(Case::new()), Case::in_mode("observe"), unsigned(Case::in_mode("observe"))] {
        denied!(case.authorize(), Denied::ObserveOnly { .. });
        denied!(case.clone().finally().authorize(), Denied::ObserveOnly { .. });
        denied!(Case { undo: true, ..case.clone() }.authorize(), Denied::ObserveOnly { .. });
        Case { dry_run: true, ..case.clone() }.authorize().unwrap();
        Case { preview_only: true, ..case }.authorize().unwrap();
    }
}

#[test]
fn a_persons_order_is_signed_like_a_policy() {
    let warrant = Case::order(|_| {}).authorize().unwrap();
    assert_eq!((warrant.one_shot.as_deref(), warrant.set_version), (Some("019a-7"), 0));
    assert!(warrant.cooldown.is_zero() && warrant.calendars.is_empty());
    assert!(matches!(&warrant.mandate, Mandate::Run(run) if run.id == "019a-7"));
    Case::order(|run| run.hosts = Selector::All.into()).authorize().unwrap();
    let mut unsigned = Case::order(|_| {});
    unsigned.signed_by = vec![(eve(), NAMESPACE_POLICY)];
    denied!(unsigned.authorize(), Denied::Signatures(_));
    let late = Case { now: "2026-11-27T12:10:00Z".parse().unwrap(), ..Case::order(|_| {}) };
    denied!(late.authorize(), Denied::Expired { .. });
}

#[test]
fn a_persons_order_says_what_and_where() {
    let changes: [fn(&mut quell_model::trust::run::Run); 4] = [
        |run| "exec".clone_into(&mut run.action),
        |run| run.with = object(json!({ "service": "sshd" })),
        |run| run.timeout_ms = 29_999,
        |run| run.dry_run = true,
    ];
    for change in changes {
        denied!(Case::order(change).authorize(), Denied::NotSigned { .. });
    }
    Case { dry_run: true, ..Case::order(|run| run.dry_run = true) }.authorize().unwrap();
    let web = || Selector::labels(labels("role=web"));
    let named = |selector, name: &str| Hosts::named(selector, [name.parse().unwrap()].into());
    Case::order(|run| run.hosts = named(web(), "web1")).authorize().unwrap();
    Case::order(|run| run.hosts = named(Selector::All, "web1")).authorize().unwrap();
    let db = Selector::labels(labels("role=db"));
    for elsewhere in [db.clone().into(), named(web(), "web2"), named(Selector::All, "web2"), named(db, "web1")] {
        denied!(Case::order(|run| run.hosts = elsewhere).authorize(), Denied::OutOfScope { .. });
    }
    let mut second = Case::order(|_| {});
    second.plan.steps[0].step = 1;
    second.step = 1;
    denied!(second.authorize(), Denied::NotSigned { .. });
    let mut finally = Case::order(|_| {});
    finally.plan.steps[0].finally = true;
    denied!(finally.authorize(), Denied::NotSigned { .. });
    let mut looking = Case::order(|_| {});
    looking.signed_by = vec![(cat(), NAMESPACE_OBSERVE)];
    denied!(looking.authorize(), Denied::ObserveOnly { .. });
}

#[test]
fn an_order_stands_in_its_own_set() {
    let mut other = Case::order(|_| {});
    other.plan.run = Some(quell_model::digest::Digest::of(b"other"));
    denied!(other.authorize(), Denied::Missing { .. });
    let mut renamed = Case::order(|_| {});
    renamed.set.one_shot = Some("019a-8".to_owned());
    denied!(renamed.authorize(), Denied::NotInSet { .. });
    let mut renamed = Case::order(|_| {});
    let digest = *renamed.set.manifests.values().next().unwrap();
    renamed.set.manifests = [("Run/019a-8".to_owned(), digest)].into();
    denied!(renamed.authorize(), Denied::NotInSet { .. });
    // An order in an ordinary set would be good for ever.
    let mut lasting = Case::order(|_| {});
    (lasting.set.one_shot, lasting.set.version) = (None, 7);
    denied!(lasting.authorize(), Denied::NotInSet { .. });
}

#[test]
fn a_preview_that_was_approved_is_named() {
    let mut case = Case::new();
    let digest = quell_model::digest::Digest::of(b"nginx");
    let key = quell_model::plan::preview_key(&case.host, 0);
    case.plan.previews.insert(key, digest);
    assert_eq!(case.authorize().unwrap().preview, Some(digest));
    assert_eq!(case.finally().authorize().unwrap().preview, None);
}

#[test]
fn what_is_known_changes_no_answer() {
    let mut known = Known::default();
    let mut ask = |case: &Case| {
        let (evidence, root) = (case.evidence(), believed(&case.root));
        authorize_knowing(&case.belief(&root), &case.command(&evidence, &[]), &mut known)
    };
    for _ in 0..2 {
        let warrant = ask(&Case::new()).unwrap();
        assert_eq!((warrant.cooldown.as_secs(), warrant.calendars.len()), (600, 2));
        denied!(ask(&Case::in_mode("observe")), Denied::ObserveOnly { .. });
        // Known, and in the set no more.
        let mut deleted = Case::new();
        deleted.set.manifests.remove("Policy/web");
        denied!(ask(&deleted), Denied::NotInSet { .. });
        let mut renamed = Case::new();
        let digest = renamed.set.manifests.remove("Policy/web").unwrap();
        renamed.set.manifests.insert("Policy/other".to_owned(), digest);
        denied!(ask(&renamed), Denied::NotInSet { .. });
    }
}
