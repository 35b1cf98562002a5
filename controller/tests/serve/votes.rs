//! Votes through the calls that people make: whose counts, for what, and until when.

use jiff::Timestamp;
use quell_engine::state::{PlanRow, PlanState};
use quell_link::{
    rpc::operator_service_client::OperatorServiceClient,
    signing::{NewKey, SigningKey},
};
use quell_model::{
    digest::Digest,
    selector::Selector,
    trust::{NAMESPACE_TRUST, TrustRoot, approvals::Ballot, run::Run},
};
use quell_wire::v1::{
    ChangeTrustRequest, DecideRequest, Field, HoldRequest, ReleaseRequest, RevokeOperatorRequest, Sample, field,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{FakeAgent, Running, sample, start, until},
    operators::{colleague, file},
    session::{answer_preview, command},
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
      approval: { role: compliance, count: COUNT, choices: [approve, later, reject], expires: 10m }
      verify: { that: host.cpu.used_percent <= 50, within: 30s }
  escalate: { to: on-call }
---
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
";
const NAMESPACE: &str = "quell-approval.compliance";

/// Until when votes are good.
fn end() -> Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

/// Somebody with a role and a key that hosts believe for approvals.
struct Person {
    client: OperatorServiceClient<Channel>,
    key: SigningKey,
}

impl Person {
    /// A signature over a ballot.
    fn sign(&self, namespace: &str, choice: &str, plan: Digest) -> String {
        let ballot = Ballot { choice: choice.to_owned(), expires: end(), plan }.canonical();
        self.key.sign(namespace, ballot.as_bytes()).unwrap()
    }

    /// Says yes to a plan, with a signature that may be any.
    async fn says_yes(&mut self, plan: &PlanRow, signature: String) -> Result<(), Status> {
        let request = DecideRequest {
            plan: plan.id.to_string(),
            plan_hash: plan.hash.to_string(),
            choice: "approve".to_owned(),
            signature,
            expires: end().to_string(),
            reason: "seen".to_owned(),
        };
        self.client.approve(request).await.map(drop)
    }

    /// Approves a plan as it should be done.
    async fn approves(&mut self, plan: &PlanRow) -> Result<(), Status> {
        let signature = self.sign(NAMESPACE, "approve", plan.hash);
        self.says_yes(plan, signature).await
    }
}

/// People whom hosts believe, all of the role that the policy asks.
async fn people<const N: usize>(controller: &Running, names: [&str; N]) -> [Person; N] {
    let state = controller.decider.state();
    let root = state.trust.get_max().unwrap().1.root().unwrap();
    let mut root = TrustRoot { version: root.version + 1, ..root };
    let mut people = Vec::new();
    for name in names {
        let key = NewKey::make(name).unwrap();
        root.allowed_signers.push_str(&format!("{name} namespaces=\"quell-approval.*\" {}\n", key.public));
        let client = colleague(controller, name, &["compliance"]).await;
        people.push(Person { client, key: SigningKey::from_text(&key.private).unwrap() });
    }
    let trust_root = root.canonical().into_bytes();
    let signatures = vec![controller.sign(NAMESPACE_TRUST, &trust_root)];
    controller.operator().await.change_trust(ChangeTrustRequest { trust_root, signatures }).await.unwrap();
    people.try_into().ok().unwrap()
}

/// A host whose symptom makes a plan that waits for so many people.
async fn proposed(controller: &Running, count: u32) -> (FakeAgent, PlanRow) {
    let policy = POLICY.replace("COUNT", &count.to_string());
    let request = controller.signed_files(vec![file("hot.yaml", &policy)]);
    let answer = controller.operator().await.apply(request).await.unwrap().into_inner();
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    let mut agent = controller.agent("planthost1").await;
    let hot = Field { name: "cpu.used_percent".into(), value: Some(field::Value::Number(99.0)) };
    agent.say(sample(Sample { probe: "host".into(), full: true, fields: vec![hot], ..Sample::default() })).await;
    answer_preview(&mut agent).await;
    let is_proposed = |plan: &std::sync::Arc<PlanRow>| plan.state == PlanState::Proposed;
    until("a plan is proposed", || controller.decider.state().plans.values().any(is_proposed)).await;
    let plan = controller.decider.state().plans.values().next().unwrap().as_ref().clone();
    assert_eq!(plan.state, PlanState::Proposed);
    (agent, plan)
}

/// The plan as it is now.
fn now(controller: &Running, plan: &PlanRow) -> PlanRow {
    controller.decider.state().plans[&plan.id].as_ref().clone()
}

fn assert_waits_for_people(controller: &Running, plan: &PlanRow) {
    let plan = now(controller, plan);
    let guard = plan.hold.as_ref().map(|hold| hold.guard.as_str());
    assert_eq!((plan.state, plan.started_at, guard), (PlanState::Proposed, None, Some("approval")), "{plan:?}");
}

async fn revoke(controller: &Running, name: &str) {
    let request = RevokeOperatorRequest { name: name.to_owned(), reason: "left".to_owned() };
    controller.operator().await.revoke_operator(request).await.unwrap();
}

#[tokio::test]
async fn the_vote_of_somebody_who_was_revoked_does_not_count() {
    let controller = start().await;
    let [mut mira, mut otto, mut nina] = people(&controller, ["mira", "otto", "nina"]).await;
    let (mut agent, plan) = proposed(&controller, 2).await;
    mira.approves(&plan).await.unwrap();
    let twice = mira.approves(&plan).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition, "{twice}");
    revoke(&controller, "mira").await;
    otto.approves(&plan).await.unwrap();
    assert_waits_for_people(&controller, &plan);
    nina.approves(&plan).await.unwrap();
    let order = command(&mut agent).await;
    assert_eq!(order.plan_id, plan.id.to_string());
    assert_eq!(order.votes.len(), 2, "agents are shown the votes that count");
    controller.stop().await.unwrap();
}

/// The same person with another key, or somebody else of that name: the vote was not theirs.
#[tokio::test]
async fn a_vote_does_not_come_back_when_the_name_is_given_again() {
    let controller = start().await;
    let [mut mira, mut otto, mut nina] = people(&controller, ["mira", "otto", "nina"]).await;
    let (mut agent, plan) = proposed(&controller, 2).await;
    mira.approves(&plan).await.unwrap();
    revoke(&controller, "mira").await;
    let _another_mira = colleague(&controller, "mira", &["compliance"]).await;
    otto.approves(&plan).await.unwrap();
    assert_waits_for_people(&controller, &plan);
    nina.approves(&plan).await.unwrap();
    assert_eq!(command(&mut agent).await.plan_id, plan.id.to_string());
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn an_approval_that_is_lost_before_the_plan_starts_is_asked_for_again() {
    let controller = start().await;
    let [mut mira, mut otto, mut nina] = people(&controller, ["mira", "otto", "nina"]).await;
    let (mut agent, plan) = proposed(&controller, 2).await;
    let (kind, name, reason) = ("hosts".to_owned(), "all".to_owned(), "an outage".to_owned());
    let freeze = HoldRequest { kind, name, for_ms: 60_000, reason };
    controller.operator().await.hold(freeze).await.unwrap();
    mira.approves(&plan).await.unwrap();
    otto.approves(&plan).await.unwrap();
    until("it is approved, and frozen", || {
        let plan = now(&controller, &plan);
        plan.state == PlanState::Held && plan.hold.is_some_and(|hold| hold.guard == "freeze")
    })
    .await;
    revoke(&controller, "otto").await;
    let thaw = ReleaseRequest { all: true, reason: "it is over".to_owned(), ..ReleaseRequest::default() };
    controller.operator().await.release(thaw).await.unwrap();
    assert_waits_for_people(&controller, &plan);
    nina.approves(&plan).await.unwrap();
    assert_eq!(command(&mut agent).await.plan_id, plan.id.to_string());
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_vote_counts_only_with_the_signature_of_who_gives_it_over_that_choice_and_plan() {
    let controller = start().await;
    let [mut mira, otto] = people(&controller, ["mira", "otto"]).await;
    let mut oona = Person {
        client: colleague(&controller, "oona", &["operator"]).await,
        key: SigningKey::from_text(&NewKey::make("oona").unwrap().private).unwrap(),
    };
    let (mut agent, plan) = proposed(&controller, 1).await;
    let other = Digest::of(b"another plan");
    let wrong = [
        ("not signed", String::new(), "must be approved with a signature"),
        ("by somebody else", otto.sign(NAMESPACE, "approve", plan.hash), "signed by otto, and mira gave it"),
        ("by a stranger", oona.sign(NAMESPACE, "approve", plan.hash), "does not count"),
        ("for another choice", mira.sign(NAMESPACE, "later", plan.hash), "does not count"),
        ("for another plan", mira.sign(NAMESPACE, "approve", other), "does not count"),
        ("for another role", mira.sign("quell-approval.admin", "approve", plan.hash), "does not count"),
        ("no signature at all", "signed, mira".to_owned(), "does not count"),
    ];
    for (what, signature, words) in wrong {
        let refused = mira.says_yes(&plan, signature).await.expect_err(what);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
        assert!(refused.message().contains(words), "{what}: {refused}");
    }
    let stale = mira.approves(&PlanRow { hash: other, ..plan.clone() }).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition, "{stale}");
    let refused = oona.approves(&plan).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("is decided by role compliance"), "{refused}");
    assert!(now(&controller, &plan).votes.is_empty());
    assert_waits_for_people(&controller, &plan);

    mira.approves(&plan).await.unwrap();
    assert_eq!(command(&mut agent).await.plan_id, plan.id.to_string());
    controller.stop().await.unwrap();
}

/// A run needs what its requester signed and no vote; nothing that the requester says later adds to it.
#[tokio::test]
async fn who_asked_for_a_run_cannot_approve_it() {
    let controller = start().await;
    let _never_connected = controller.join("planthost1").await;
    let mut admin = controller.operator().await;
    let with = serde_json::json!({ "argv": ["/bin/true"] }).as_object().unwrap().clone();
    let run = controller.signed(&Run::new("r-1".to_owned(), "exec".to_owned(), with, Selector::All));
    admin.run(run).await.unwrap();
    let plan = controller.decider.state().plans.values().next().unwrap().as_ref().clone();
    let ballot = Ballot { choice: "approve".to_owned(), expires: end(), plan: plan.hash }.canonical();
    let request = DecideRequest {
        plan: plan.id.to_string(),
        plan_hash: plan.hash.to_string(),
        choice: "approve".to_owned(),
        signature: controller.sign("quell-approval.operator", ballot.as_bytes()),
        expires: end().to_string(),
        reason: "it is mine".to_owned(),
    };
    let refused = admin.approve(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(now(&controller, &plan), plan, "nothing has changed");
    controller.stop().await.unwrap();
}
