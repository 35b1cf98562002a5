//! What people signed, and how far it lets anything go: sets, runs, votes, labels and those whom hosts believe.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::collections::BTreeMap;

use quell_engine::{
    input::{HoldScope, Refusal, Request},
    state::{PlanState, Verdict},
};
use quell_model::{
    selector::Selector,
    trust::{PolicySet, TrustRoot, approvals::Signed, set::SignedSet},
};
use world::{Done, World, signing};

const MANIFESTS: &str = "
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Calendar
metadata: { namespace: plants, name: open-hours }
spec:
  timeZone: UTC
  open: [{ days: mon-sun, from: '00:00', to: '23:59' }]
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 10s } }
  trigger: { when: '!probe.web.ok', for: 0s }
  escalate: { to: on-call, after: 15m }
  guards: { calendar: open-hours }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
";

fn shop() -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    world.join("web1", &[("role", "web")]);
    world.set_all("web", &[("ok", true.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
    world
}

/// The web server dies; how often it was restarted within two minutes.
fn restarts(world: &mut World) -> usize {
    let before = world.sent().len();
    world.set("web1", "web", &[("ok", false.into())]);
    world.run("2m");
    world.sent().len() - before
}

/// Applies manifests; what is signed may be changed on the way.
fn apply(world: &mut World, yaml: &str, meddle: impl FnOnce(&mut Vec<SignedSet>)) -> Result<(), Refusal> {
    let put = world::canonical(yaml);
    let Request::Apply { put, remove, mut sets } = signing::apply("ada", &world.state, world.now, put, Vec::new())
    else {
        unreachable!("it is an apply")
    };
    meddle(&mut sets);
    world.ask("ada", Request::Apply { put, remove, sets }).map(drop)
}

fn held_because(world: &World) -> String {
    let why = &world.why("web-down")[0];
    assert_eq!(why.verdict, Verdict::ObserveOnly, "{why:#?}");
    why.guards.iter().find(|guard| !guard.allows).map(|guard| guard.reason.clone()).unwrap_or_default()
}

#[test]
fn what_nobody_signed_observes_and_says_why() {
    let mut world = shop();
    apply(&mut world, MANIFESTS, Vec::clear).unwrap();
    assert_eq!(restarts(&mut world), 0, "{}", world.story());
    assert!(held_because(&world).contains("has no signed set"), "{}", held_because(&world));
    // Signed as it stands, it acts on what is there.
    apply(&mut world, MANIFESTS, |_| {}).unwrap();
    world.run("2m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn a_changed_policy_or_calendar_observes_until_it_is_signed_again() {
    for (from, to) in [("'23:59'", "'23:58'"), ("description: web is down", "description: it is down")] {
        let changed = MANIFESTS.replace(from, to);
        assert_ne!(changed, MANIFESTS);
        let mut world = shop();
        apply(&mut world, MANIFESTS, |_| {}).unwrap();
        apply(&mut world, &changed, Vec::clear).unwrap();
        assert_eq!(restarts(&mut world), 0, "{}", world.story());
        assert!(held_because(&world).contains("is not what was signed"), "{}", held_because(&world));
    }
}

#[test]
fn a_set_must_verify_be_newer_and_name_exactly_what_would_be_in_force() {
    let mut world = shop();
    let refused = |world: &mut World, meddle: &dyn Fn(&mut Vec<SignedSet>)| {
        let before = world.state.clone();
        let refusal = apply(world, MANIFESTS, |sets| meddle(sets)).unwrap_err();
        assert_eq!(before.rows(), world.state.rows(), "a refused apply changes nothing");
        refusal
    };
    let bare = refused(&mut world, &|sets| sets[0].signatures.clear());
    assert!(matches!(bare, Refusal::Forbidden(_)), "{bare}");
    let forged = refused(&mut world, &|sets| {
        sets[0].signatures = vec![signing::sign("mallory", "quell-policy", &sets[0].bytes)];
    });
    assert!(matches!(forged, Refusal::Forbidden(_)), "{forged}");
    let elsewhere = refused(&mut world, &|sets| {
        sets[0].signatures = vec![signing::sign("ada", "quell-trust", &sets[0].bytes)];
    });
    assert!(matches!(elsewhere, Refusal::Forbidden(_)), "{elsewhere}");
    // One manifest fewer than was signed.
    let signed = signing::apply("ada", &world.state, world.now, world::canonical(MANIFESTS), Vec::new());
    let Request::Apply { sets, .. } = signed else { unreachable!("it is an apply") };
    let fewer: Vec<String> =
        world::canonical(MANIFESTS).into_iter().filter(|text| !text.contains("Calendar")).collect();
    let mixed = world.ask("ada", Request::Apply { put: fewer, remove: Vec::new(), sets: sets.clone() });
    assert!(matches!(&mixed, Err(Refusal::Conflict(why)) if why.contains("Calendar/open-hours")), "{mixed:?}");
    // The same bytes a second time are an old version.
    let put = world::canonical(MANIFESTS);
    world.ask("ada", Request::Apply { put: put.clone(), remove: Vec::new(), sets: sets.clone() }).unwrap();
    let again = world.ask("ada", Request::Apply { put, remove: Vec::new(), sets });
    assert!(matches!(&again, Err(Refusal::Conflict(why)) if why.contains("version 1")), "{again:?}");
}

#[test]
fn people_are_told_two_weeks_before_a_set_expires_and_then_it_observes() {
    let mut world = shop();
    apply(&mut world, MANIFESTS, |sets| {
        let mut set = PolicySet::parse(&sets[0].bytes).unwrap();
        set.expires = set.issued + jiff::SignedDuration::from_hours(20 * 24);
        sets[0] = signing::signed("ada", &set);
    })
    .unwrap();
    let expires = world.state.sets["plants"].set.expires;
    world.run_until(expires - jiff::SignedDuration::from_hours(15 * 24));
    assert!(!world.kinds().contains("setExpiresSoon"));
    world.run("2d");
    let told = world.messages.iter().filter(|message| message.subject.contains("expires on")).count();
    assert_eq!(told, 1, "{}", world.story());
    world.run_until(expires);
    assert_eq!(restarts(&mut world), 0, "{}", world.story());
    assert!(held_because(&world).contains("expired on"), "{}", held_because(&world));
}

#[test]
fn whom_hosts_believe_changes_by_the_signatures_of_those_whom_they_believe() {
    let mut world = shop();
    apply(&mut world, MANIFESTS, |_| {}).unwrap();
    let first = world.state.trust[&1].root().unwrap();
    let change = |world: &mut World, root: &TrustRoot, by: &[&str]| {
        let bytes = root.canonical().into_bytes();
        let signatures = by.iter().map(|person| signing::sign(person, "quell-trust", &bytes)).collect();
        world.ask("ada", Request::ChangeTrust { root: bytes, signatures })
    };
    let planted = TrustRoot { version: 2, ..signing::root_of("test", &["mallory"]) };
    assert!(matches!(change(&mut world, &planted, &["mallory"]), Err(Refusal::Forbidden(_))));
    assert!(matches!(
        change(&mut world, &TrustRoot { version: 3, ..first.clone() }, &["ada"]),
        Err(Refusal::Forbidden(_))
    ));
    // Ada, who signed the set, goes: what she signed counts no longer.
    let without = TrustRoot { version: 2, ..signing::root_of("test", &["bob"]) };
    world.believed.clear();
    change(&mut world, &without, &["ada"]).unwrap();
    assert_eq!(world.believed.len(), 1, "the connected host is told");
    assert!(world.kinds().contains("setVoid"), "{}", world.story());
    assert_eq!(restarts(&mut world), 0, "{}", world.story());
    // A host that was away is told when it comes back.
    world.disconnect("web1");
    world.believed.clear();
    world.connect("web1");
    assert_eq!(world.believed.len(), 2, "it has taken in nothing yet");
}

#[test]
fn two_people_sign_where_two_are_required() {
    let mut world = shop();
    let first = world.state.trust[&1].root().unwrap();
    let required = BTreeMap::from([("plants".parse().unwrap(), 2)]);
    let bytes = TrustRoot { version: 2, required, ..first }.canonical().into_bytes();
    let signatures = vec![signing::sign("ada", "quell-trust", &bytes)];
    world.ask("ada", Request::ChangeTrust { root: bytes, signatures }).unwrap();
    let alone = apply(&mut world, MANIFESTS, |_| {}).unwrap_err();
    assert!(matches!(alone, Refusal::Forbidden(_)), "{alone}");
    let twice = apply(&mut world, MANIFESTS, |sets| {
        let again = sets[0].signatures[0].clone();
        sets[0].signatures.push(again);
    });
    assert!(matches!(twice, Err(Refusal::Forbidden(_))), "one person twice is one person");
    apply(&mut world, MANIFESTS, |sets| {
        let second = signing::sign("bob", "quell-policy", &sets[0].bytes);
        sets[0].signatures.push(second);
    })
    .unwrap();
    assert_eq!(restarts(&mut world), 1, "{}", world.story());
}

#[test]
fn a_run_is_what_was_signed_and_nothing_else() {
    let mut world = shop();
    let run = world.a_run("exec", Selector::All, serde_json::json!({ "argv": ["/bin/true"] }));
    let Request::Run { set, .. } = signing::order("ada", &world.state, world.now, run.clone()) else {
        unreachable!("it is a run")
    };
    let ask = |world: &mut World, run: &quell_model::trust::run::Run, set: &SignedSet| {
        world.ask("ada", Request::Run { run: Box::new(run.clone()), set: set.clone() })
    };
    let mut other = run.clone();
    other.with.insert("argv".to_owned(), serde_json::json!(["/bin/false"]));
    assert!(matches!(ask(&mut world, &other, &set), Err(Refusal::Forbidden(_))), "other parameters");
    let unsigned = SignedSet { signatures: Vec::new(), ..set.clone() };
    assert!(matches!(ask(&mut world, &run, &unsigned), Err(Refusal::Forbidden(_))));
    assert!(world.state.plans.is_empty());
    ask(&mut world, &run, &set).unwrap();
    let late = world.a_run("exec", Selector::All, serde_json::json!({ "argv": ["/bin/true"] }));
    let Request::Run { set, .. } = signing::order("ada", &world.state, world.now, late.clone()) else {
        unreachable!("it is a run")
    };
    world.run("3h");
    assert!(matches!(ask(&mut world, &late, &set), Err(Refusal::Forbidden(_))), "signed three hours ago");
}

#[test]
fn a_vote_is_a_persons_own_signature_for_this_plan_and_this_choice() {
    let mut world = shop();
    apply(&mut world, &MANIFESTS.replace("mode: enforce", "mode: propose"), |_| {}).unwrap();
    world.set("web1", "web", &[("ok", false.into())]);
    world.run("30s");
    let plan = world.plans_in(PlanState::Proposed)[0].clone();
    let decide = |world: &mut World, signature: Option<Signed>| {
        let request = Request::Decide {
            plan: plan.id,
            hash: plan.hash,
            choice: None,
            reason: String::new(),
            approve: true,
            roles: Vec::new(),
            signature,
        };
        world.ask("bob", request)
    };
    let other = quell_model::digest::Digest::of(b"another plan");
    for (what, signature) in [
        ("none", None),
        ("somebody else's", Some(signing::vote("eve", "operator", plan.hash, "approve"))),
        ("another plan's", Some(signing::vote("bob", "operator", other, "approve"))),
        ("another choice's", Some(signing::vote("bob", "operator", plan.hash, "reject"))),
        ("another role's", Some(signing::vote("bob", "compliance", plan.hash, "approve"))),
        ("one that has ended", Some(signing::vote_until("bob", "operator", plan.hash, "approve", world.now))),
        (
            "one without an end",
            Some(Signed { expires: None, ..signing::vote("bob", "operator", plan.hash, "approve") }),
        ),
    ] {
        assert!(matches!(decide(&mut world, signature), Err(Refusal::Forbidden(_))), "{what}");
    }
    assert_eq!(world.state.plans[&plan.id].state, PlanState::Proposed);
    let own = signing::vote("bob", "operator", plan.hash, "approve");
    decide(&mut world, Some(own)).unwrap();
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn a_vote_that_ends_before_its_plan_begins_starts_nothing_and_is_asked_for_again() {
    let mut world = shop();
    apply(&mut world, &MANIFESTS.replace("mode: enforce", "mode: propose"), |_| {}).unwrap();
    world.set("web1", "web", &[("ok", false.into())]);
    world.run("30s");
    let plan = world.plans_in(PlanState::Proposed)[0].clone();
    let vote = |world: &mut World, minutes: i64| {
        let end = world.now + jiff::SignedDuration::from_mins(minutes);
        let signature = Some(signing::vote_until("bob", "operator", plan.hash, "approve", end));
        let (choice, reason) = (None, String::new());
        let request =
            Request::Decide { plan: plan.id, hash: plan.hash, choice, reason, approve: true, roles: vec![], signature };
        world.ask("bob", request)
    };
    let (scope, span) = (HoldScope::Hosts(Selector::All), std::time::Duration::from_secs(3_600));
    world.ask("ada", Request::Hold { scope, span, reason: "a release".to_owned() }).unwrap();
    vote(&mut world, 30).unwrap();
    assert_eq!(world.state.plans[&plan.id].state, PlanState::Held);
    world.run("29m");
    assert_eq!(world.state.plans[&plan.id].state, PlanState::Held);
    world.run("2m");
    let lapsed = &world.state.plans[&plan.id];
    assert_eq!((lapsed.state, lapsed.votes.len()), (PlanState::Proposed, 0), "{}", world.story());
    world.run("1h");
    assert!(world.sent().is_empty(), "{}", world.story());
    vote(&mut world, 30).unwrap();
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn labels_are_changed_by_signed_changes_in_their_order() {
    let mut world = shop();
    let relabel = |world: &mut World, person: &str| {
        let request = signing::relabel(person, &world.state, "web1", &[("role", "db")]);
        world.ask("ada", request)
    };
    assert!(matches!(relabel(&mut world, "mallory"), Err(Refusal::Forbidden(_))));
    let captured = signing::relabel("ada", &world.state, "web1", &[("role", "db")]);
    world.believed.clear();
    world.ask("ada", captured.clone()).unwrap();
    assert_eq!(world.state.hosts["web1"].labels["role"], "db");
    assert!(matches!(world.ask("ada", captured), Err(Refusal::Conflict(_))), "the same change a second time");
    assert_eq!(world.believed.len(), 1, "the host is told");
}
