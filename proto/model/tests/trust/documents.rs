//! Documents: their exact bytes, which must never change.

use quell_model::{
    digest::Digest,
    plan::ExactPlan,
    selector::Selector,
    trust::{approvals::Ballot, run::Run},
};
use serde_json::json;

use super::world::{Case, object};

#[test]
fn a_plan_is_written_as_it_always_was() {
    let mut plan = Case::new().plan;
    plan.steps.truncate(1);
    for host in ["web2", "web3"] {
        plan.steps[0].add(2, host.parse().unwrap());
    }
    plan.policy_digest = Some(Digest([0xab; 32]));
    let text = concat!(
        r#"{"dryRun":false,"epoch":1,"incident":"inc-4","installation":"shop","maxErrors":0,"plan":"plan-7","#,
        r#""policy":"plants/web","policyDigest":"DIGEST","requester":null,"rung":"restart","settleMs":60000,"#,
        r#""steps":[{"action":"service.restart","finally":false,"step":0,"timeoutMs":30000,"#,
        r#""waves":[["web1"],[],["web2","web3"]],"with":{"service":"nginx"}}],"target":"web1","values":{"place":"lb1","unit":"nginx"}}"#,
    )
    .replace("DIGEST", &"ab".repeat(32));
    assert_eq!(plan.canonical(), text);
    assert_eq!(ExactPlan::parse(text.as_bytes()), Ok(plan.clone()));
    plan.run = Some(Digest([0xcd; 32]));
    plan.previews.insert("web1 0".to_owned(), Digest([1; 32]));
    assert_eq!(ExactPlan::parse(plan.canonical().as_bytes()), Ok(plan));
}

#[test]
fn an_order_writes_its_hosts_as_manifests_do() {
    let run = Run::new("a".to_owned(), "exec".to_owned(), object(json!({ "argv": ["true"] })), Selector::All);
    assert_eq!(
        run.canonical(),
        r#"{"action":"exec","apiVersion":"quell/v1","dryRun":false,"hosts":"all","id":"a","kind":"Run","reason":"","#
            .to_owned()
            + r#""timeoutMs":300000,"waves":[1,2,4],"with":{"argv":["true"]}}"#
    );
    let labels = run.canonical().replace("\"all\"", r#"{"matchLabels":{"role":"web"}}"#);
    let parsed = Run::parse(labels.as_bytes()).unwrap();
    assert_eq!(parsed.hosts, Selector::labels([("role".to_owned(), "web".to_owned())].into()).into());
    assert_eq!(parsed.canonical(), labels);
}

#[test]
fn an_order_keeps_its_rules() {
    let text = Run::new("a".to_owned(), "exec".to_owned(), object(json!({})), Selector::All).canonical();
    Run::parse(text.as_bytes()).unwrap();
    for (from, to) in [
        ("\"all\"", "\"everybody\""),
        ("\"all\"", r#"{"matchLabels":{}}"#),
        ("\"all\"", "{}"),
        ("\"all\"", r#"{"matchLabels":{"a":"b"},"pick":1}"#),
        ("\"all\"", r#"{"matchLabels":{"a":"b"},"names":[]}"#),
        ("quell/v1", "quell/v2"),
        ("\"Run\"", "\"Policy\""),
        ("\"id\":\"a\"", "\"id\":\"\""),
        ("\"exec\"", "\"\""),
        ("[1,2,4]", "[]"),
        ("[1,2,4]", "[1,0]"),
        ("300000", "0"),
        ("300000", "86400001"),
        ("{\"action\"", "{\"a\":1,\"action\""),
    ] {
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text);
        assert!(Run::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_ballot_is_three_words() {
    let expires = "2026-11-27T18:00:00Z".parse().unwrap();
    let ballot = Ballot { choice: "clear".to_owned(), expires, plan: Digest([0x0f; 32]) };
    let text = format!(r#"{{"choice":"clear","expires":"2026-11-27T18:00:00Z","plan":"{}"}}"#, "0f".repeat(32));
    assert_eq!(ballot.canonical(), text);
}
