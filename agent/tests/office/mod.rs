//! The people who sign, for tests: real keys and real signatures, by the same code that the CLI signs with.

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::{SignedDuration, Timestamp};
use quell_link::signing::{NewKey, SigningKey};
use quell_model::{
    name::HostName,
    plan::{ExactPlan, PlannedStep},
    selector::{Labels, Selector},
    trust::{PolicySet, TrustRoot, run::Run},
};
use quell_wire::v1;

/// The installation.
pub(crate) const INSTALLATION: &str = "shop";

/// The host on which everything happens.
pub(crate) fn host() -> HostName {
    "web1".parse().unwrap()
}

/// Its labels.
pub(crate) fn labels() -> Labels {
    Labels::from([("role".to_owned(), "web".to_owned())])
}

/// Somebody with a key.
pub(crate) struct Person {
    name: &'static str,
    key: NewKey,
}

impl Person {
    fn new(name: &'static str) -> Self {
        Self { name, key: NewKey::make(name).unwrap() }
    }

    pub(crate) fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        SigningKey::from_text(&self.key.private).unwrap().sign(namespace, bytes).unwrap()
    }

    /// A line of `allowed_signers`.
    pub(crate) fn line(&self, namespaces: &str) -> String {
        format!("{} namespaces=\"{namespaces}\" {}\n", self.name, self.key.public)
    }
}

/// The people.
pub(crate) struct Office {
    /// May sign everything but approvals.
    pub(crate) mira: Person,
    /// Approves for the role `compliance`.
    pub(crate) noor: Person,
    /// May sign what only looks.
    pub(crate) olav: Person,
    /// Sets limits.
    pub(crate) lena: Person,
    /// Is in no file.
    pub(crate) eve: Person,
}

/// The same people for all tests of a process.
pub(crate) static OFFICE: LazyLock<Office> = LazyLock::new(|| Office {
    mira: Person::new("mira"),
    noor: Person::new("noor"),
    olav: Person::new("olav"),
    lena: Person::new("lena"),
    eve: Person::new("eve"),
});

impl Office {
    /// Whom the host believes.
    pub(crate) fn root(&self) -> TrustRoot {
        TrustRoot {
            installation: INSTALLATION.to_owned(),
            version: 1,
            allowed_signers: self.mira.line("quell-policy,quell-trust,quell-approval.staff")
                + &self.noor.line("quell-approval.compliance")
                + &self.olav.line("quell-policy.observe")
                + &self.lena.line("quell-limits"),
            required: BTreeMap::new(),
        }
    }
}

/// A plan of one step on the host, as an order has it.
pub(crate) fn plan(command: &v1::Command) -> ExactPlan {
    ExactPlan {
        installation: INSTALLATION.to_owned(),
        epoch: 1,
        plan: "plan-1".to_owned(),
        incident: None,
        policy: None,
        policy_digest: None,
        target: quell_model::name::Target::Host(host()),
        rung: command.action.clone(),
        requester: Some("mira".to_owned()),
        values: BTreeMap::new(),
        steps: vec![PlannedStep {
            step: 0,
            waves: vec![vec![host()]],
            finally: false,
            action: command.action.clone(),
            with: serde_json::from_slice(&command.parameters).unwrap_or_default(),
            timeout_ms: command.timeout_ms,
        }],
        settle_ms: 0,
        max_errors: 0,
        dry_run: command.dry_run,
        previews: BTreeMap::new(),
        run: None,
    }
}

/// Puts a plan into an order.
pub(crate) fn planned(mut command: v1::Command, plan: &ExactPlan) -> v1::Command {
    command.plan = plan.canonical().into_bytes();
    command.plan_hash = quell_model::digest::Digest::of(&command.plan).0.to_vec();
    command
}

/// A person's order with this identifier, for what a command does.
pub(crate) fn run(id: &str, command: &v1::Command) -> Run {
    let with = serde_json::from_slice(&command.parameters).unwrap_or_default();
    let mut run = Run::new(id.to_owned(), command.action.clone(), with, Selector::labels(labels()));
    run.timeout_ms = command.timeout_ms;
    run
}

/// The one-shot set of a person's order.
pub(crate) fn one_shot(run: &Run) -> PolicySet {
    let now = Timestamp::now();
    PolicySet {
        installation: INSTALLATION.to_owned(),
        namespace: "runs".parse().unwrap(),
        version: 0,
        issued: now,
        expires: now + SignedDuration::from_hours(1),
        manifests: [(run.key(), run.digest())].into(),
        one_shot: Some(run.id.clone()),
        limits: false,
    }
}

/// What stands behind an order: a set that these people signed in a namespace, and manifests.
pub(crate) fn authority(set: &PolicySet, namespace: &str, people: &[&Person], manifests: &[&str]) -> v1::Authority {
    let policy_set = set.canonical().into_bytes();
    let (first, others) = manifests.split_first().unwrap();
    v1::Authority {
        namespace: set.namespace.to_string(),
        set_version: set.version,
        signatures: people.iter().map(|person| person.sign(namespace, &policy_set)).collect(),
        policy_set,
        policy: first.as_bytes().to_vec(),
        policy_digest: quell_model::digest::Digest::of(first.as_bytes()).0.to_vec(),
        referenced: others.iter().map(|manifest| manifest.as_bytes().to_vec()).collect(),
        limits: None,
    }
}

/// The order as Mira runs it: with a plan, and a one-shot set that she signed.
pub(crate) fn signed(command: v1::Command) -> v1::Command {
    signed_by_plan(command, |_| ())
}

/// The same, by a plan that says more.
pub(crate) fn signed_by_plan(command: v1::Command, edit: impl FnOnce(&mut ExactPlan)) -> v1::Command {
    let id: String = quell_model::digest::Digest::of(command.idempotency_key.as_bytes()).short();
    let run = run(&id, &command);
    let mut plan = ExactPlan { run: Some(run.digest()), ..plan(&command) };
    edit(&mut plan);
    let behind = authority(&one_shot(&run), "quell-policy", &[&OFFICE.mira], &[&run.canonical()]);
    v1::Command { authority: Some(behind), ..planned(command, &plan) }
}
