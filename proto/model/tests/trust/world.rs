//! A host that believes something, a policy that people signed, a plan of it, and a command: all right, until a test
//! changes something.

use std::{collections::BTreeMap, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use quell_model::{
    digest::Digest,
    manifest::{self, File},
    name::{HostName, ObjectName, Target},
    plan::{ExactPlan, PlannedStep},
    selector::{Labels, Selector},
    trust::{
        Authority, Belief, Believed, Denied, NAMESPACE_LIMITS, NAMESPACE_POLICY, Order, PolicySet, SetName,
        SignedLimits, SignedSet, TrustRoot, Warrant, approval_namespace,
        approvals::{Ballot, Signed, Vote},
        authorize,
        run::Run,
    },
    value::Value,
};
use serde_json::{Map, json};
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

pub(crate) const NOW: &str = "2026-11-27T12:00:00Z";
/// Until when votes are good.
pub(crate) const VOTES_END: &str = "2026-11-27T18:00:00Z";
const MANIFESTS: &str = include_str!("policy.yaml");
static UTC: TimeZone = TimeZone::UTC;

/// Somebody with a key.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    key: PrivateKey,
}

impl Person {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        Self { name, key: PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32])) }
    }

    /// A line of `allowed_signers`.
    pub(crate) fn line(&self, options: &str) -> String {
        let key = self.key.public_key().to_openssh().unwrap();
        format!("{} {options} {key}\n", self.name)
    }

    pub(crate) fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        self.key.sign(namespace, HashAlg::Sha512, bytes).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    pub(crate) fn vote(&self, role: &str, choice: &str, plan: Digest) -> Vote {
        let expires = VOTES_END.parse().unwrap();
        let ballot = Ballot { choice: choice.to_owned(), expires, plan };
        let signature = self.sign(&approval_namespace(role), ballot.canonical().as_bytes());
        Vote { choice: choice.to_owned(), signed: Signed { expires: Some(expires), signature } }
    }
}

pub(crate) fn ann() -> Person {
    Person::new("ann", 1)
}

pub(crate) fn bob() -> Person {
    Person::new("bob", 2)
}

pub(crate) fn cat() -> Person {
    Person::new("cat", 3)
}

/// In nobody's file.
pub(crate) fn eve() -> Person {
    Person::new("eve", 66)
}

/// Ann may sign everything, Bob policies and approvals, Cat approvals and sets that look only.
pub(crate) fn root() -> TrustRoot {
    let lines = [
        ann().line(""),
        bob().line("namespaces=\"quell-policy,quell-approval.*\""),
        cat().line("namespaces=\"quell-policy.observe,quell-approval.*\""),
    ];
    TrustRoot {
        installation: "shop".to_owned(),
        version: 3,
        allowed_signers: lines.concat(),
        required: BTreeMap::new(),
    }
}

pub(crate) fn believed(root: &TrustRoot) -> Believed {
    Believed::new(root.clone()).unwrap()
}

pub(crate) fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "what json! gives")]
pub(crate) fn object(json: serde_json::Value) -> Map<String, serde_json::Value> {
    json.as_object().unwrap().clone()
}

pub(crate) fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// What goes over the wire with a command.
pub(crate) struct Evidence {
    pub(crate) set: SignedSet,
    pub(crate) plan: Vec<u8>,
    pub(crate) plan_hash: Digest,
    pub(crate) manifests: Vec<String>,
    pub(crate) limits: Option<SignedLimits>,
}

/// Limits that come along with a command.
#[derive(Clone)]
pub(crate) struct Ceilings {
    pub(crate) set: PolicySet,
    pub(crate) signed_by: Vec<(Person, &'static str)>,
    pub(crate) manifests: Vec<String>,
}

impl Ceilings {
    /// Limits of a namespace with this specification, which Ann signed.
    pub(crate) fn new(namespace: &str, spec: &str) -> Self {
        let text = format!(
            "apiVersion: quell/v1\nkind: Limits\nmetadata: {{ namespace: {namespace}, name: ceiling }}\n\
             spec: {{ description: What security allows., {spec} }}\n"
        );
        let parsed = manifest::parse(&[File { name: "limits.yaml".to_owned(), text }]).unwrap();
        let digests = parsed.iter().map(|one| ("Limits/ceiling".to_owned(), one.manifest.digest())).collect();
        Self {
            set: PolicySet {
                namespace: name(namespace),
                version: 3,
                manifests: digests,
                limits: true,
                ..Case::new().set
            },
            signed_by: vec![(ann(), NAMESPACE_LIMITS)],
            manifests: parsed.into_iter().map(|one| one.canonical).collect(),
        }
    }

    fn signed(&self) -> SignedLimits {
        let bytes = self.set.canonical().into_bytes();
        let signatures = self.signed_by.iter().map(|(person, namespace)| person.sign(namespace, &bytes)).collect();
        SignedLimits { set: SignedSet { bytes, signatures }, manifests: self.manifests.clone() }
    }
}

/// A command and all around it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) installation: String,
    pub(crate) host: HostName,
    pub(crate) labels: Labels,
    pub(crate) root: TrustRoot,
    pub(crate) set_versions: BTreeMap<SetName, u64>,
    pub(crate) begun: bool,
    pub(crate) now: Timestamp,
    pub(crate) set: PolicySet,
    pub(crate) signed_by: Vec<(Person, &'static str)>,
    pub(crate) manifests: Vec<String>,
    pub(crate) plan: ExactPlan,
    pub(crate) to: HostName,
    pub(crate) step: usize,
    pub(crate) action: String,
    pub(crate) parameters: Map<String, serde_json::Value>,
    pub(crate) timeout: Duration,
    pub(crate) undo: bool,
    pub(crate) dry_run: bool,
    pub(crate) preview_only: bool,
    /// The limits that come along: their set, who signs it in which namespace, and the manifests.
    pub(crate) limits: Option<Ceilings>,
    /// Who votes: role and choice.
    pub(crate) votes: Vec<(Person, &'static str, &'static str)>,
}

impl Case {
    /// A policy in enforce restarts nginx on web1; signed, approved by nobody, and nobody has to.
    pub(crate) fn new() -> Self {
        Self::in_mode("enforce")
    }

    pub(crate) fn in_mode(mode: &str) -> Self {
        let host: HostName = "web1".parse().unwrap();
        let (manifests, policy, digests) = manifests(mode);
        let with = object(json!({ "service": "nginx" }));
        let step = PlannedStep {
            step: 0,
            waves: vec![vec![host.clone()]],
            finally: false,
            action: "service.restart".to_owned(),
            with: with.clone(),
            timeout_ms: 30_000,
        };
        let undrain = PlannedStep {
            step: 1,
            finally: true,
            action: "exec".to_owned(),
            with: object(json!({ "argv": ["/bin/undrain"] })),
            timeout_ms: 10_000,
            ..step.clone()
        };
        Self {
            installation: "shop".to_owned(),
            labels: labels("role=web"),
            root: root(),
            set_versions: [(name("plants").into(), 7)].into(),
            begun: true,
            now: NOW.parse().unwrap(),
            set: PolicySet {
                installation: "shop".to_owned(),
                namespace: name("plants"),
                version: 7,
                issued: "2026-11-01T00:00:00Z".parse().unwrap(),
                expires: "2027-11-01T00:00:00Z".parse().unwrap(),
                manifests: digests,
                one_shot: None,
                limits: false,
            },
            signed_by: vec![(ann(), NAMESPACE_POLICY)],
            manifests,
            plan: ExactPlan {
                installation: "shop".to_owned(),
                epoch: 1,
                plan: "plan-7".to_owned(),
                incident: Some("inc-4".to_owned()),
                policy: Some("plants/web".parse().unwrap()),
                policy_digest: Some(policy),
                target: Target::Host(host.clone()),
                rung: "restart".to_owned(),
                requester: None,
                values: [("unit".to_owned(), Value::from("nginx")), ("place".to_owned(), Value::from("lb1"))].into(),
                steps: vec![step, undrain],
                settle_ms: 60_000,
                max_errors: 0,
                dry_run: false,
                previews: BTreeMap::new(),
                run: None,
            },
            to: host.clone(),
            host,
            step: 0,
            action: "service.restart".to_owned(),
            parameters: with,
            timeout: Duration::from_secs(30),
            undo: false,
            dry_run: false,
            preview_only: false,
            limits: None,
            votes: Vec::new(),
        }
    }

    /// The same command, of another rung that has one step.
    pub(crate) fn rung(mut self, rung: &str) -> Self {
        rung.clone_into(&mut self.plan.rung);
        self.plan.steps.truncate(1);
        self
    }

    /// The command of `finally`.
    pub(crate) fn finally(mut self) -> Self {
        let step = &self.plan.steps[1];
        (self.step, self.action, self.parameters) = (1, step.action.clone(), step.with.clone());
        self.timeout = step.timeout();
        self
    }

    /// A person's order instead of a policy.
    pub(crate) fn order(change: impl FnOnce(&mut Run)) -> Self {
        let mut case = Self::new();
        let with = object(json!({ "service": "nginx" }));
        let hosts = Selector::labels(labels("role=web"));
        let mut run = Run::new("019a-7".to_owned(), "service.restart".to_owned(), with, hosts);
        change(&mut run);
        run.check().unwrap();
        case.manifests = vec![run.canonical()];
        case.set.version = 0;
        case.set.one_shot = Some(run.id.clone());
        case.set.manifests = [(run.key(), run.digest())].into();
        case.set.issued = case.now;
        case.set.expires = "2026-11-27T12:10:00Z".parse().unwrap();
        case.plan.policy = None;
        case.plan.policy_digest = None;
        case.plan.run = Some(run.digest());
        case.plan.rung = "service.restart".to_owned();
        case.plan.requester = Some("ann".to_owned());
        case.plan.values.clear();
        case.plan.steps.truncate(1);
        case
    }

    /// Changes the ordered step, in the plan and in the command.
    pub(crate) fn change_step(&mut self, change: impl FnOnce(&mut PlannedStep)) {
        let index = self.step;
        change(&mut self.plan.steps[index]);
        let step = &self.plan.steps[index];
        (self.action, self.parameters, self.timeout) = (step.action.clone(), step.with.clone(), step.timeout());
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let bytes = self.set.canonical().into_bytes();
        let signatures = self.signed_by.iter().map(|(person, namespace)| person.sign(namespace, &bytes)).collect();
        let plan = self.plan.canonical().into_bytes();
        let plan_hash = Digest::of(&plan);
        let limits = self.limits.as_ref().map(Ceilings::signed);
        Evidence { set: SignedSet { bytes, signatures }, plan, plan_hash, manifests: self.manifests.clone(), limits }
    }

    pub(crate) fn authorize(&self) -> Result<Warrant, Denied> {
        self.authorize_by(&self.evidence())
    }

    pub(crate) fn authorize_by(&self, evidence: &Evidence) -> Result<Warrant, Denied> {
        let votes: Vec<Vote> =
            self.votes.iter().map(|(who, role, choice)| who.vote(role, choice, evidence.plan_hash)).collect();
        self.authorize_with(evidence, &votes)
    }

    pub(crate) fn authorize_with(&self, evidence: &Evidence, votes: &[Vote]) -> Result<Warrant, Denied> {
        authorize(&self.belief(&believed(&self.root)), &self.command(evidence, votes))
    }

    pub(crate) fn belief<'a>(&'a self, root: &'a Believed) -> Belief<'a> {
        Belief {
            installation: &self.installation,
            host: &self.host,
            labels: &self.labels,
            root,
            set_versions: &self.set_versions,
            begun: self.begun,
            now: self.now,
            zone: &UTC,
        }
    }

    pub(crate) fn command<'a>(&'a self, evidence: &'a Evidence, votes: &'a [Vote]) -> Order<'a> {
        Order {
            host: &self.to,
            step: self.step,
            action: &self.action,
            parameters: &self.parameters,
            timeout: self.timeout,
            undo: self.undo,
            dry_run: self.dry_run,
            preview_only: self.preview_only,
            plan_hash: evidence.plan_hash,
            plan: &evidence.plan,
            approvals: votes,
            set: &evidence.set,
            manifests: &evidence.manifests,
            limits: evidence.limits.as_ref(),
        }
    }

    /// What the set may do, by who signed it.
    pub(crate) fn authority(&self) -> Result<Authority, Denied> {
        let evidence = self.evidence();
        let verified = evidence.set.verify(&believed(&self.root), self.now, &TimeZone::UTC)?;
        Ok(verified.authority)
    }
}

/// Canonical manifests, the policy first; its digest; and what a set says of them.
fn manifests(mode: &str) -> (Vec<String>, Digest, BTreeMap<String, Digest>) {
    let text = MANIFESTS.replace("MODE", mode);
    let parsed = manifest::parse(&[File { name: "policy.yaml".to_owned(), text }]).unwrap();
    let digests = parsed
        .iter()
        .map(|one| (format!("{}/{}", one.manifest.kind(), one.manifest.name().name), one.manifest.digest()))
        .collect();
    let policy = parsed[0].manifest.digest();
    (parsed.into_iter().map(|one| one.canonical).collect(), policy, digests)
}
