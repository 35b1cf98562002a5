//! Orders as a stolen controller makes them: from what people signed, and from what it would like.

use std::{collections::BTreeMap, path::Path};

use jiff::{SignedDuration, Timestamp};
use quell_link::profile::Profile;
use quell_model::{
    digest::Digest,
    manifest::Parsed,
    name::{FullName, HostName, Target},
    plan::{ExactPlan, PlannedStep},
    trust::{PolicySet, approvals::Ballot},
};
use quell_wire::v1::{self, GetSetsRequest};
use serde_json::json;

use super::controller::{Evil, Sign};

/// A set that people signed, with its manifests.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signatures: Vec<String>,
    manifests: BTreeMap<String, String>,
}

impl Signed {
    /// The policies' set in force, from the controller itself.
    pub(crate) fn of(profile: &Path, parsed: Vec<Parsed>) -> Self {
        Self::named(profile, parsed, false)
    }

    /// The limits in force, from the controller itself.
    pub(crate) fn limits(profile: &Path, parsed: Vec<Parsed>) -> Self {
        Self::named(profile, parsed, true)
    }

    fn named(profile: &Path, parsed: Vec<Parsed>, limits: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sets = runtime.block_on(async {
            let channel = Profile::load(profile).unwrap().connect().await.unwrap();
            let mut client = quell_link::rpc::operator_service_client::OperatorServiceClient::new(channel);
            client.get_sets(GetSetsRequest {}).await.unwrap().into_inner().sets
        });
        let is_wanted = |set: &v1::SignedSet| PolicySet::parse(&set.policy_set).unwrap().limits == limits;
        let [set] = <[_; 1]>::try_from(sets.into_iter().filter(is_wanted).collect::<Vec<_>>()).expect("one namespace");
        let key = |one: &Parsed| format!("{}/{}", one.manifest.kind(), one.manifest.name().name);
        let manifests = parsed.into_iter().map(|one| (key(&one), one.canonical)).collect();
        Self { bytes: set.policy_set, signatures: set.signatures, manifests }
    }
}

impl Signed {
    /// Puts limits behind an order.
    pub(crate) fn behind(&self, mut command: v1::Command) -> v1::Command {
        if let Some(authority) = &mut command.authority {
            authority.limits = Some(v1::SignedLimits {
                set: self.bytes.clone(),
                signatures: self.signatures.clone(),
                manifests: self.manifests.values().map(|text| text.clone().into_bytes()).collect(),
            });
        }
        command
    }

    /// The same, signed by another key in another namespace.
    pub(crate) fn signed_by(&self, sign: &dyn Fn(&[u8]) -> String) -> Self {
        Self { signatures: vec![sign(&self.bytes)], ..self.clone() }
    }

    /// The same with other bytes, which nobody has signed yet.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut PolicySet)) -> Self {
        let mut set = PolicySet::parse(&self.bytes).unwrap();
        change(&mut set);
        Self { bytes: set.canonical().into_bytes(), signatures: Vec::new(), ..self.clone() }
    }

    /// This set with the manifests of another one.
    pub(crate) fn with_manifests_of(&self, other: &Self) -> Self {
        Self { manifests: other.manifests.clone(), ..self.clone() }
    }

    /// The canonical text of a manifest in it.
    pub(crate) fn manifest(&self, key: &str) -> String {
        self.manifests[key].clone()
    }
}

/// An order that is not made out yet.
pub(crate) struct Order {
    set: Signed,
    policy: String,
    plan: ExactPlan,
    command: v1::Command,
    approval: Option<String>,
    voter: Option<Sign>,
    signer: Option<Sign>,
}

impl Order {
    /// A rung of a policy on a host, as the controller would order it.
    pub(crate) fn new(set: &Signed, policy: &str, rung: &str, host: &str) -> Self {
        let host: HostName = host.parse().unwrap();
        let key = format!("Policy/{policy}");
        let canonical = set.manifests.get(&key).cloned().unwrap_or_default();
        let parsed = PolicySet::parse(&set.bytes).unwrap();
        let script = script(set);
        let with = json!({"argv": ["/bin/sh", "-c", script]}).as_object().unwrap().clone();
        let command = v1::Command {
            fence: 1 << 40,
            start_within_ms: 30_000,
            timeout_ms: 15_000,
            action: "exec".to_owned(),
            ..v1::Command::default()
        };
        let step = PlannedStep {
            step: 0,
            waves: vec![vec![host.clone()]],
            finally: false,
            action: "exec".to_owned(),
            with,
            timeout_ms: 15_000,
        };
        let plan = ExactPlan {
            installation: parsed.installation,
            epoch: 1,
            plan: "plan-1".to_owned(),
            incident: None,
            policy: Some(FullName { namespace: parsed.namespace, name: policy.parse().unwrap() }),
            policy_digest: Some(Digest::of(canonical.as_bytes())),
            target: Target::Host(host),
            rung: rung.to_owned(),
            requester: None,
            values: BTreeMap::new(),
            steps: vec![step],
            settle_ms: 0,
            max_errors: 0,
            dry_run: false,
            previews: BTreeMap::new(),
            run: None,
        };
        Self { set: set.clone(), policy: canonical, plan, command, approval: None, voter: None, signer: None }
    }

    /// Names the order, and its plan.
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.plan.plan = key.to_owned();
        self.command.idempotency_key = key.to_owned();
        self.command.command_id = format!("cmd-{key}");
        self
    }

    /// The step that brings the plan to its end.
    pub(crate) fn finally(mut self) -> Self {
        let end = PlannedStep { step: 1, finally: true, ..self.plan.steps[0].clone() };
        self.plan.steps.push(end);
        self.command.step = 1;
        self
    }

    /// With a manifest of another set.
    pub(crate) fn with(mut self, set: &Signed) -> Self {
        let name = self.plan.policy.as_ref().map(|name| format!("Policy/{}", name.name)).unwrap_or_default();
        self.policy = set.manifests[&name].clone();
        self.plan.policy_digest = Some(Digest::of(self.policy.as_bytes()));
        self
    }

    /// Does something else.
    pub(crate) fn does(mut self, script: &str) -> Self {
        self.plan.steps[0].with = json!({"argv": ["/bin/sh", "-c", script]}).as_object().unwrap().clone();
        self
    }

    /// Signed by the controller itself.
    pub(crate) fn signed_by_itself(mut self, evil: &Evil) -> Self {
        self.signer = Some(evil.signer("quell-policy"));
        self
    }

    /// Approved by the controller itself.
    pub(crate) fn approved_by(mut self, evil: &Evil) -> Self {
        self.approval = Some("approve".to_owned());
        self.voter = Some(evil.signer("quell-approval.compliance"));
        self
    }

    /// As it goes over the wire.
    pub(crate) fn seal(self) -> v1::Command {
        let mut command = self.command;
        command.parameters = serde_json::to_vec(&self.plan.steps[0].with).unwrap();
        command.plan = self.plan.canonical().into_bytes();
        let plan = Digest::of(&command.plan);
        command.plan_hash = plan.0.to_vec();
        if let (Some(choice), Some(vote)) = (self.approval, self.voter) {
            let expires = Timestamp::now() + SignedDuration::from_hours(1);
            let ballot = Ballot { choice: choice.clone(), expires, plan }.canonical();
            let signature = vote(ballot.as_bytes());
            command.votes = vec![v1::SignedVote { signature, expires: expires.to_string() }];
            command.choice = choice;
        }
        let signatures = self.signer.map_or(self.set.signatures, |sign| vec![sign(&self.set.bytes)]);
        command.authority = Some(v1::Authority {
            policy_set: self.set.bytes,
            signatures,
            policy_digest: Digest::of(self.policy.as_bytes()).0.to_vec(),
            policy: self.policy.into_bytes(),
            ..v1::Authority::default()
        });
        command
    }
}

/// The script that the policies of a set hold.
fn script(set: &Signed) -> String {
    let (_, policy) = set.manifests.iter().find(|(key, _)| key.starts_with("Policy/")).unwrap();
    let json: serde_json::Value = serde_json::from_str(policy).unwrap();
    json["spec"]["ladder"][0]["do"][0]["with"]["argv"][2].as_str().unwrap().to_owned()
}
