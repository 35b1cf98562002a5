//! The people and their keys, made from their names: what they sign is the same in every run.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_engine::{State, input::Request, state::PlanRow};
use quell_model::{
    digest::Digest,
    manifest::{self, File},
    name::FullName,
    trust::{
        approvals::{Ballot, Signed},
        root::TrustRoot,
        run::Run,
        set::{PolicySet, SignedSet},
    },
};
use ssh_key::{
    HashAlg, LineEnding, PrivateKey, SshSig,
    private::{Ed25519Keypair, KeypairData},
};

/// The installation's identifier.
pub(crate) const INSTALLATION: &str = "simulated";

/// The other system that tells of alerts.
pub(crate) const ALERTS: &str = "prometheus";
/// Who signs policies and runs things by hand.
pub(crate) const ADMIN: &str = "mira";
/// Who approves.
pub(crate) const APPROVERS: [&str; 2] = ["ada", "bob"];
/// An operator whose signature counts for nothing.
pub(crate) const STRANGER: &str = "eve";
/// The role that one policy's approval asks for; everybody but the stranger has it.
pub(crate) const ROLES: [&str; 2] = ["operator", "compliance"];

/// How long what is applied stays signed.
const LIFE: SignedDuration = SignedDuration::from_hours(400 * 24);

const POLICIES: &str = include_str!("policies.yaml");

fn key(person: &str) -> PrivateKey {
    let seed = Digest::of(person.as_bytes()).0;
    PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&seed)), person).expect("a seed of 32 bytes is a key")
}

fn sign(person: &str, namespace: &str, bytes: &[u8]) -> String {
    let signature = SshSig::sign(&key(person), namespace, HashAlg::Sha512, bytes).expect("an Ed25519 key signs");
    signature.to_pem(LineEnding::LF).expect("a signature is text")
}

/// Whom hosts believe.
pub(crate) fn root() -> TrustRoot {
    let line = |person: &str, namespaces: &str| {
        let public = key(person).public_key().to_openssh().expect("a public key is text");
        format!("{person} namespaces=\"{namespaces}\" {public}\n")
    };
    let approvers = APPROVERS.iter().map(|person| line(person, "quell-approval.*"));
    TrustRoot {
        installation: INSTALLATION.to_owned(),
        version: 1,
        allowed_signers: line(ADMIN, "quell-policy,quell-trust") + &approvers.collect::<String>(),
        required: BTreeMap::new(),
    }
}

/// The manifests of the shop, in canonical form; `note` is part of a description, so that another note is another policy.
pub(crate) fn manifests(note: &str) -> Vec<String> {
    let text = POLICIES.replace("The cache is stale.", &format!("The cache is stale{note}."));
    let parsed = manifest::parse(&[File { name: "policies.yaml".to_owned(), text }]);
    parsed.expect("the simulation's own policies are right").into_iter().map(|one| one.canonical).collect()
}

/// The next version of the shop's set, signed.
pub(crate) fn apply(state: &State, now: Timestamp, put: Vec<String>) -> Request {
    let named = |canonical: &String| {
        let manifest = manifest::from_canonical(canonical).expect("a canonical manifest");
        let name: &FullName = manifest.name();
        (format!("{}/{}", manifest.kind(), name.name), manifest.digest())
    };
    let set = PolicySet {
        installation: INSTALLATION.to_owned(),
        namespace: "plants".parse().expect("a name"),
        version: state.meta.set_versions.get("plants").copied().unwrap_or(0) + 1,
        issued: now,
        expires: now.checked_add(LIFE).unwrap_or(Timestamp::MAX),
        manifests: put.iter().map(named).collect(),
        one_shot: None,
        limits: false,
    };
    Request::Apply { sets: vec![signed(&set)], put, remove: Vec::new() }
}

/// A signed run of an action.
pub(crate) fn run(now: Timestamp, run: Run) -> Request {
    let set = PolicySet::of_run(&run, INSTALLATION, now).expect("the simulation's own runs are right");
    Request::Run { set: signed(&set), run: Box::new(run) }
}

fn signed(set: &PolicySet) -> SignedSet {
    let bytes = set.canonical().into_bytes();
    SignedSet { signatures: vec![sign(ADMIN, "quell-policy", &bytes)], bytes }
}

/// A person's answer about a plan as it stands.
pub(crate) fn answer(person: &str, plan: &PlanRow, approve: bool) -> Request {
    let needs = plan.needs.as_ref();
    let role = needs.map_or("operator", |needs| needs.role.as_str());
    let choice = needs.and_then(|needs| needs.choices.first()).map_or("approve", String::as_str);
    let expires = needs.map_or(Timestamp::MAX, |needs| needs.expires);
    let ballot = Ballot { plan: plan.hash, expires, choice: choice.to_owned() };
    let signature = sign(person, &format!("quell-approval.{role}"), ballot.canonical().as_bytes());
    let signed = Signed { expires: Some(expires), signature };
    Request::Decide {
        plan: plan.id,
        hash: plan.hash,
        choice: None,
        reason: "seen".to_owned(),
        approve,
        roles: ROLES.map(str::to_owned).to_vec(),
        signature: approve.then_some(signed),
    }
}

/// An operator's certificate.
pub(crate) fn admit(person: &str, now: Timestamp) -> Request {
    Request::CreateOperator {
        name: person.to_owned(),
        roles: ROLES.map(str::to_owned).to_vec(),
        key: Digest::of(person.as_bytes()),
        certificate_expires: now.checked_add(LIFE).unwrap_or(Timestamp::MAX),
    }
}
