//! Whatever changes something, or is refused, leaves a record that says who wanted it.

use std::sync::Arc;

use jiff::Timestamp;
use quell_controller::{
    init,
    store::{Batch, MemoryStore, Record, Store as _},
};
use quell_engine::{
    Actor, Change, Write,
    state::{PlanState, Table},
};
use quell_link::{
    access::{Caller, Right, TABLE},
    authority, client,
    join::JoinString,
    rpc::{enrolment_service_client::EnrolmentServiceClient, operator_service_client::OperatorServiceClient},
};
use quell_model::{
    digest::Digest,
    selector::Selector,
    trust::{NAMESPACE_TRUST, TrustRoot, approvals::Ballot, labels::LabelChange, run::Run},
};
use quell_wire::v1::{
    AnnotateRequest, ApplyRequest, CancelPlanRequest, ChangeHostRequest, ChangeTrustRequest, CreateOperatorRequest,
    CreateTokenRequest, DecideRequest, Field, HoldRequest, ReleaseRequest, RenewRequest, ResetBreakerRequest,
    RevokeOperatorRequest, RunRequest, Sample, SignedChange, field,
};
use tonic::{Status, transport::Channel};

use crate::{
    harness::{PATIENCE, Running, sample, start_from},
    operators::{SERVICE, colleague, file},
};

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: hot }
spec:
  description: The processor is busy, and people are asked.
  mode: enforce
  hosts: { matchLabels: { role: orders } }
  trigger: { when: host.cpu.used_percent > 90, clear: host.cpu.used_percent <= 50 }
  ladder:
    - name: cool
      do: [{ action: exec, with: { argv: [/bin/cool] }, timeout: 30s }]
      approval: { role: admin, count: 2, expires: 10m }
      verify: { that: host.cpu.used_percent <= 50, within: 30s }
  escalate: { to: on-call }
---
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
";

type Client = OperatorServiceClient<Channel>;

/// A store in which a breaker is open.
fn with_open_breaker() -> MemoryStore {
    let mut store = MemoryStore::new();
    let fence = store.lease("test", Timestamp::UNIX_EPOCH).unwrap();
    let row = serde_json::json!({
        "policy": "plants/hot", "reason": "too many failures", "since": Timestamp::UNIX_EPOCH, "lowersTo": "propose",
    });
    let write = Write { table: Table::Breakers, key: "plants/hot".to_owned(), row: Some(row) };
    let change = Change {
        time: Timestamp::UNIX_EPOCH,
        actor: Actor::Controller,
        kind: "seeded",
        text: String::new(),
        ids: Default::default(),
        data: serde_json::Value::Null,
        writes: vec![write],
    };
    store.commit(Batch { guards: vec![], changes: vec![change], fence }).unwrap();
    store
}

/// A plan that waits for two approvals, and its hash.
async fn proposed(controller: &Running, operator: &mut Client) -> (String, String) {
    let request = controller.signed_files(vec![file("hot.yaml", POLICY)]);
    let answer = operator.apply(request).await.unwrap().into_inner();
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    let mut agent = controller.agent("planthost1").await;
    let hot = Field { name: "cpu.used_percent".into(), value: Some(field::Value::Number(99.0)) };
    agent.say(sample(Sample { probe: "host".into(), full: true, fields: vec![hot], ..Sample::default() })).await;
    crate::session::answer_preview(&mut agent).await;
    let decider = controller.decider.clone();
    let plan = move || {
        let state = decider.state();
        state.plans.values().find(|plan| plan.state == PlanState::Proposed).cloned()
    };
    crate::harness::until("a plan is proposed", || plan().is_some()).await;
    let plan = plan().unwrap();
    (plan.id.to_string(), plan.hash.to_string())
}

/// Makes a call that makes sense, or one that makes none.
async fn call(
    controller: &Running,
    client: &mut Client,
    method: &str,
    makes_sense: bool,
    plan: &(String, String),
) -> Result<(), Status> {
    let or = |good: &str, bad: &str| if makes_sense { good.to_owned() } else { bad.to_owned() };
    let reason = "because".to_owned();
    let decide = DecideRequest {
        plan: or(&plan.0, "plan-999"),
        plan_hash: plan.1.clone(),
        choice: "approve".to_owned(),
        signature: controller.sign("quell-approval.admin", ballot(&plan.1).as_bytes()),
        expires: BALLOTS_END.to_owned(),
        reason: reason.clone(),
    };
    match method {
        "Approve" => client.approve(decide).await.map(drop),
        "Deny" => client.deny(decide).await.map(drop),
        "Apply" => {
            let files = if makes_sense { vec![file("dns.yaml", SERVICE)] } else { vec![] };
            client.apply(ApplyRequest { files, ..ApplyRequest::default() }).await.map(drop)
        }
        "Run" => {
            let with = serde_json::json!({ "argv": ["/bin/true"] }).as_object().unwrap().clone();
            let run = controller.signed(&Run::new("r-1".to_owned(), "exec".to_owned(), with, Selector::All));
            let unsigned = RunRequest { set: None, ..run.clone() };
            client.run(if makes_sense { run } else { unsigned }).await.map(drop)
        }
        "CancelPlan" => {
            // What was run a moment ago is the second plan.
            client.cancel_plan(CancelPlanRequest { plan: or("plan-2", "plan-999"), reason }).await.map(drop)
        }
        "Annotate" => {
            let note = AnnotateRequest { incident: or("inc-1", "inc-999"), acknowledge: false, note: reason };
            client.annotate(note).await.map(drop)
        }
        "Hold" => {
            let hold = HoldRequest { kind: or("hosts", "planet"), name: "all".into(), for_ms: 60_000, reason };
            client.hold(hold).await.map(drop)
        }
        "Release" => {
            let release = ReleaseRequest { all: makes_sense, reason, ..ReleaseRequest::default() };
            client.release(release).await.map(drop)
        }
        "ResetBreaker" => {
            client.reset_breaker(ResetBreakerRequest { policy: or("hot", "cold"), reason }).await.map(drop)
        }
        "CreateToken" => {
            let uses = u32::from(makes_sense);
            client.create_token(CreateTokenRequest { ttl_ms: 60_000, uses, ..Default::default() }).await.map(drop)
        }
        "ChangeHost" => {
            let change = or("label", "explode");
            let signed = Some(labels(controller));
            let request = ChangeHostRequest { name: "planthost1".into(), change, reason, signed };
            client.change_host(request).await.map(drop)
        }
        "ChangeTrust" => {
            let state = controller.decider.state();
            let root = state.trust.get_max().unwrap().1.root().unwrap();
            let trust_root = TrustRoot { version: root.version + 1, ..root }.canonical().into_bytes();
            let signature = controller.sign(NAMESPACE_TRUST, &trust_root);
            let signatures = if makes_sense { vec![signature] } else { Vec::new() };
            client.change_trust(ChangeTrustRequest { trust_root, signatures }).await.map(drop)
        }
        "CreateOperator" => {
            let csr_der = authority::new_key().unwrap().1;
            let name = or("nina", "a:b");
            let request = CreateOperatorRequest { name, roles: vec!["viewer".into()], csr_der, ttl_ms: 0 };
            client.create_operator(request).await.map(drop)
        }
        "RevokeOperator" => {
            client.revoke_operator(RevokeOperatorRequest { name: or("nina", "nobody"), reason }).await.map(drop)
        }
        other => panic!("{other} changes something and is not in this table: say how it is called and what it records"),
    }
}

/// Until when what a person signs is good.
const BALLOTS_END: &str = "2100-01-01T00:00:00Z";

/// What a person signs who approves a plan.
fn ballot(hash: &str) -> String {
    let expires = BALLOTS_END.parse().unwrap();
    Ballot { choice: "approve".to_owned(), expires, plan: hash.parse().unwrap() }.canonical()
}

/// A signed change of the host's labels.
fn labels(controller: &Running) -> SignedChange {
    let change = LabelChange {
        installation: controller.decider.state().meta.installation.clone(),
        host: "planthost1".parse().unwrap(),
        version: 1,
        labels: Default::default(),
    };
    let document = change.canonical().into_bytes();
    SignedChange { signatures: vec![controller.sign(NAMESPACE_TRUST, &document)], document }
}

/// Waits for a record from a number on.
async fn recorded(controller: &Running, from: u64, what: &str, is_it: impl Fn(&Record) -> bool) -> Arc<Record> {
    let look = async {
        loop {
            let records = controller.decider.records(from, 1_000).await.unwrap();
            if let Some(found) = records.into_iter().find(|record| is_it(record)) {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("no record: {what}"))
}

/// Waits for the record of a refusal.
async fn refusal(controller: &Running, from: u64, actor: &str, method: &str) -> Arc<Record> {
    let what = format!("the refusal of {method} to {actor}");
    let is_it = |record: &Record| {
        record.kind == "requestRefused" && record.actor.to_string() == actor && record.data["call"] == method
    };
    recorded(controller, from, &what, is_it).await
}

#[tokio::test]
async fn every_call_that_changes_something_leaves_a_record_and_so_does_its_refusal() {
    let controller = start_from(with_open_breaker(), |_| {}).await;
    let mut admin = controller.operator().await;
    let mut otto = colleague(&controller, "otto", &["admin"]).await;
    let mut vera = colleague(&controller, "vera", &["viewer"]).await;
    let plan = proposed(&controller, &mut admin).await;
    let changing: Vec<&str> = TABLE
        .iter()
        .filter(|rule| matches!(rule.caller, Caller::Operator(right) if right > Right::Read))
        .filter_map(|rule| rule.path.strip_prefix("/quell.v1.OperatorService/"))
        .collect();
    assert!(changing.len() >= 12, "{changing:?}");
    for method in changing {
        let from = controller.decider.head().sequence + 1;
        call(&controller, &mut vera, method, true, &plan).await.expect_err("a viewer may not");
        let record = refusal(&controller, from, "person:vera", method).await;
        assert!(record.data["reason"].as_str().unwrap().contains("needs the role"), "{record:?}");

        let status = call(&controller, &mut admin, method, false, &plan).await.expect_err("it makes no sense");
        let record = refusal(&controller, from, "person:admin", method).await;
        assert_eq!(record.data["reason"], status.message(), "{record:?}");

        // Nobody answers twice for the same plan.
        let (client, actor) = if method == "Deny" { (&mut otto, "person:otto") } else { (&mut admin, "person:admin") };
        let from = controller.decider.head().sequence + 1;
        call(&controller, client, method, true, &plan).await.unwrap_or_else(|status| panic!("{method}: {status}"));
        let is_it = |record: &Record| record.kind != "requestRefused" && record.actor.to_string() == actor;
        recorded(&controller, from, method, is_it).await;
    }
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn joining_and_renewing_leave_records_and_so_do_their_refusals() {
    let controller = start_from(MemoryStore::new(), |_| {}).await;
    let identity = controller.join("planthost1").await;
    let record = recorded(&controller, 1, "joined", |record| record.kind == "hostEnrolled").await;
    assert_eq!(record.ids["host"], "planthost1");
    let request =
        CreateTokenRequest { ttl_ms: 60_000, uses: 1, name: "planthost2".into(), ..CreateTokenRequest::default() };
    let token = controller.operator().await.create_token(request).await.unwrap().into_inner();
    let join = JoinString {
        addresses: token.addresses,
        ca_fingerprint: token.ca_fingerprint.parse().unwrap(),
        trust: Digest::of(&std::fs::read(controller.directory.path().join("controller").join(init::TRUST)).unwrap()),
        secret: token.secret,
        labels: Default::default(),
        allow: Default::default(),
    };
    let directory = controller.directory.path().join("other");
    client::join(&join, "planthost3".parse().unwrap(), &directory).await.expect_err("the token is for another name");
    let record = refusal(&controller, 1, "controller", "Join").await;
    assert!(record.text.contains("127.0.0.1") && record.text.contains("for another name"), "{}", record.text);

    let mut agent = EnrolmentServiceClient::new(client::connect_agent(&identity.addresses, &identity).await.unwrap());
    agent.renew(RenewRequest { csr_der: vec![1] }).await.expect_err("that is no request");
    refusal(&controller, 1, "agent:planthost1", "Renew").await;
    agent.renew(RenewRequest { csr_der: authority::new_key().unwrap().1 }).await.unwrap();
    recorded(&controller, 1, "renewed", |record| record.kind == "certificateRenewed").await;
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_flood_of_refusals_is_few_records_and_none_is_uncounted() {
    let controller = start_from(MemoryStore::new(), |_| {}).await;
    let mut vera = colleague(&controller, "vera", &["viewer"]).await;
    let from = controller.decider.head().sequence + 1;
    for _ in 0..200 {
        vera.create_token(CreateTokenRequest::default()).await.expect_err("a viewer may not");
    }
    refusal(&controller, from, "person:vera", "CreateToken").await;
    let decider = controller.decider.clone();
    controller.stop().await.unwrap();
    let records = decider.records(from, 1_000).await.unwrap();
    let refused = records.iter().filter(|record| record.kind == "requestRefused");
    let counts: Vec<u64> = refused.map(|record| record.data["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 199]);
}
