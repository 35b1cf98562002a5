//! Approvals: distinct people of a role, for this plan, and not who asked for it.

use jiff::tz::TimeZone;
use quell_model::{
    digest::Digest,
    trust::{
        Denied,
        approvals::{Question, Vote, count},
    },
};

use super::{
    commands::denied,
    world::{Case, NOW, Person, VOTES_END, ann, believed, bob, cat, eve},
};

/// A role and a choice.
type By = (Person, &'static str, &'static str);

fn compliance(person: Person, choice: &'static str) -> By {
    (person, "compliance", choice)
}

#[test]
fn enough_distinct_people_approve() {
    let with = |votes: Vec<By>| Case { votes, ..Case::new() }.rung("careful").authorize();
    denied!(with(vec![]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "now")]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "now"), compliance(ann(), "now")]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "now"), compliance(eve(), "now")]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "now"), compliance(bob(), "later")]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "now"), (bob(), "finance", "now")]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "reject"), compliance(bob(), "reject")]), Denied::NotApproved { .. });
    denied!(with(vec![compliance(ann(), "maybe"), compliance(bob(), "maybe")]), Denied::NotApproved { .. });
    // What people signed to have somebody told lets nothing run.
    denied!(with(vec![compliance(ann(), "storage"), compliance(bob(), "storage")]), Denied::NotApproved { .. });
    let warrant = with(vec![compliance(ann(), "later"), compliance(cat(), "later")]).unwrap();
    assert_eq!(warrant.choice.as_deref(), Some("later"));
}

#[test]
fn a_vote_is_for_one_plan_and_one_choice() {
    let case = Case::new().rung("careful");
    let evidence = case.evidence();
    let other = Digest::of(b"another plan");
    let votes = [ann().vote("compliance", "now", evidence.plan_hash), bob().vote("compliance", "now", other)];
    denied!(case.authorize_with(&evidence, &votes), Denied::NotApproved { .. });
    let mut turned = bob().vote("compliance", "later", evidence.plan_hash);
    turned.choice = "now".to_owned();
    let votes = [ann().vote("compliance", "now", evidence.plan_hash), turned];
    denied!(case.authorize_with(&evidence, &votes), Denied::NotApproved { .. });
    let many = vec![ann().vote("compliance", "now", evidence.plan_hash); 129];
    denied!(case.authorize_with(&evidence, &many), Denied::TooMany { what: "votes", .. });
}

#[test]
fn who_asked_does_not_approve() {
    let votes = vec![compliance(ann(), "now"), compliance(bob(), "now")];
    let mut case = Case { votes, ..Case::new() }.rung("careful");
    case.authorize().unwrap();
    case.plan.requester = Some("bob".to_owned());
    denied!(case.authorize(), Denied::NotApproved { .. });
    // Under another name that the file gives to the same key, too.
    case.plan.requester = Some("robert@shop".to_owned());
    case.authorize().unwrap();
    case.root.allowed_signers = case.root.allowed_signers.replace("bob ", "bob,*@shop ");
    denied!(case.authorize(), Denied::NotApproved { .. });
}

#[test]
fn one_vote_a_person_and_a_key() {
    let mut root = super::world::root();
    let second = Person::new("ann", 9);
    root.allowed_signers.push_str(&second.line(""));
    let root = believed(&root);
    let plan = Digest::of(b"plan");
    let question = Question { role: "compliance", plan, requester: None };
    let votes = [ann(), second, bob()].map(|person| person.vote("compliance", "now", plan));
    let now = super::world::NOW.parse().unwrap();
    let counted = count(&root, &question, "now", &votes, now, &TimeZone::UTC).unwrap();
    let people: Vec<_> = counted.people.iter().map(|signer| signer.principal.as_str()).collect();
    assert_eq!(people, ["ann", "bob"]);
}

#[test]
fn propose_always_asks() {
    let with = |rung: &str, votes: Vec<By>| Case { votes, ..Case::in_mode("propose") }.rung(rung).authorize();
    denied!(with("restart", vec![]), Denied::NotApproved { .. });
    with("restart", vec![(ann(), "operator", "approve")]).unwrap();
    denied!(with("twice", vec![]), Denied::NotApproved { .. });
    with("twice", vec![compliance(ann(), "approve")]).unwrap();
    with("easy", vec![]).unwrap();
}

#[test]
fn a_condition_is_passed_on_to_who_can_judge_it() {
    let mut case = Case::new().rung("twice");
    let rule = case.authorize().unwrap().conditional_approval.unwrap();
    assert_eq!((rule.role.as_str(), rule.count), ("compliance", 1));
    case.votes = vec![compliance(ann(), "approve")];
    let warrant = case.authorize().unwrap();
    assert!(warrant.conditional_approval.is_none());
    assert_eq!(warrant.choice.as_deref(), Some("approve"));
}

#[test]
fn a_vote_ends_when_it_says_and_says_so_under_its_signature() {
    let case = Case::new().rung("careful");
    let evidence = case.evidence();
    let votes = [ann(), bob()].map(|person| person.vote("compliance", "now", evidence.plan_hash));
    let at =
        |now: &str, votes: &[Vote]| Case { now: now.parse().unwrap(), ..case.clone() }.authorize_with(&evidence, votes);
    at("2026-11-27T17:59:59Z", &votes).unwrap();
    let refused = at(VOTES_END, &votes).unwrap_err().to_string();
    assert!(refused.contains("the vote was good until 2026-11-27T18:00:00Z"), "{refused}");
    let mut longer = votes.clone();
    longer[0].signed.expires = Some("2026-12-27T18:00:00Z".parse().unwrap());
    denied!(at(NOW, &longer), Denied::NotApproved { .. });
    // As they were made before votes had an end.
    let mut endless = votes;
    endless[0].signed.expires = None;
    let refused = at(NOW, &endless).unwrap_err().to_string();
    assert!(refused.contains("does not say until when"), "{refused}");
}

#[test]
fn an_unsigned_approval_is_allowed_by_name() {
    let warrant = Case::new().rung("easy").authorize().unwrap();
    assert!(warrant.choice.is_none() && warrant.conditional_approval.is_none());
}

#[test]
fn looking_and_recovery_need_no_approval() {
    let case = Case::new().rung("careful");
    Case { dry_run: true, ..case.clone() }.authorize().unwrap();
    Case { preview_only: true, ..case.clone() }.authorize().unwrap();
    Case { undo: true, ..case }.authorize().unwrap();
    Case::in_mode("propose").finally().authorize().unwrap();
    let never_begun = Case { begun: false, ..Case::in_mode("propose").finally() };
    denied!(never_begun.authorize(), Denied::NotApproved { .. });
}
