//! The people's keys, and what they sign: made from their names, so that every run of a story is the same.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_engine::{State, input::Request, state::SignedDocument};
use quell_model::{
    digest::Digest,
    manifest,
    name::{FullName, HostName},
    trust::{
        approvals::{Ballot, Signed},
        labels::LabelChange,
        root::TrustRoot,
        run::Run,
        set::{PolicySet, SetName, SignedSet},
    },
};
use ssh_key::{
    HashAlg, LineEnding, PrivateKey, SshSig,
    private::{Ed25519Keypair, KeypairData},
};

/// Everybody who ever signs anything in a story.
const PEOPLE: [&str; 9] = ["admin", "root", "ada", "ann", "bob", "cyd", "dan", "eve", "nora"];
/// How long what is applied in a story stays signed.
const LIFE: SignedDuration = SignedDuration::from_hours(400 * 24);

fn key(person: &str) -> PrivateKey {
    let seed = Digest::of(person.as_bytes()).0;
    PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&seed)), person).expect("a key from its seed")
}

/// A person's signature over some bytes.
pub fn sign(person: &str, namespace: &str, bytes: &[u8]) -> String {
    let signature = SshSig::sign(&key(person), namespace, HashAlg::Sha512, bytes).expect("an Ed25519 key signs");
    signature.to_pem(LineEnding::LF).expect("a signature is text")
}

/// The root in which everybody may sign everything.
pub fn root(installation: &str) -> TrustRoot {
    root_of(installation, &PEOPLE)
}

/// A root in which these people may sign everything.
pub fn root_of(installation: &str, people: &[&str]) -> TrustRoot {
    let line = |person: &&str| {
        let public = key(person).public_key().to_openssh().expect("a public key is text");
        format!("{person} namespaces=\"quell-*\" {public}\n")
    };
    TrustRoot {
        installation: installation.to_owned(),
        version: 1,
        allowed_signers: people.iter().map(line).collect(),
        required: BTreeMap::new(),
    }
}

/// The next set of each namespace that an apply touches, signed by a person.
pub fn apply(
    person: &str,
    state: &State,
    now: Timestamp,
    put: Vec<String>,
    remove: Vec<(String, FullName)>,
) -> Request {
    let mut held: BTreeMap<(String, FullName), Digest> =
        state.manifests.iter().map(|(key, stored)| (key.clone(), stored.manifest.digest())).collect();
    let removed =
        |(kind, name): &(String, FullName)| SetName { namespace: name.namespace.clone(), limits: kind == "Limits" };
    let mut names: Vec<SetName> = remove.iter().map(removed).collect();
    for key in &remove {
        held.remove(key);
    }
    for canonical in &put {
        let manifest = manifest::from_canonical(canonical).expect("a canonical manifest");
        names.push(SetName::of(&manifest));
        held.insert((manifest.kind().to_owned(), manifest.name().clone()), manifest.digest());
    }
    names.sort();
    names.dedup();
    let set = |of: SetName| {
        let in_it =
            held.iter().filter(|((kind, name), _)| name.namespace == of.namespace && (kind == "Limits") == of.limits);
        PolicySet {
            installation: state.meta.installation.clone(),
            version: state.meta.set_versions.get(&of.to_string()).copied().unwrap_or(0) + 1,
            issued: now,
            expires: now + LIFE,
            manifests: in_it.map(|((kind, name), digest)| (format!("{kind}/{}", name.name), *digest)).collect(),
            one_shot: None,
            limits: of.limits,
            namespace: of.namespace,
        }
    };
    let sets = names.into_iter().map(|name| signed(person, &set(name))).collect();
    Request::Apply { put, remove, sets }
}

/// A person's signed set.
pub fn signed(person: &str, set: &PolicySet) -> SignedSet {
    let bytes = set.canonical().into_bytes();
    SignedSet { signatures: vec![sign(person, set.name().signed_in(), &bytes)], bytes }
}

/// A person's signed run.
pub fn order(person: &str, state: &State, now: Timestamp, run: Run) -> Request {
    // What breaks a rule is signed all the same: the engine must refuse it.
    let set = PolicySet::of_run(&run, &state.meta.installation, now)
        .map_or_else(|_| SignedSet::default(), |set| signed(person, &set));
    Request::Run { set, run: Box::new(run) }
}

/// A person's signed change of a host's labels.
pub fn relabel(person: &str, state: &State, name: &str, labels: &[(&str, &str)]) -> Request {
    let host: HostName = name.parse().expect("a host's name");
    let last = state.hosts.get(&host).and_then(|row| row.relabelled.as_ref()).map_or(0, |(version, _)| *version);
    let change = LabelChange {
        installation: state.meta.installation.clone(),
        host,
        version: last + 1,
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    let canonical = change.canonical();
    let signatures = vec![sign(person, "quell-trust", canonical.as_bytes())];
    Request::Relabel { change: SignedDocument { canonical, signatures } }
}

/// A person's signed vote.
pub fn vote(person: &str, role: &str, plan: Digest, choice: &str) -> Signed {
    vote_until(person, role, plan, choice, "2100-01-01T00:00:00Z".parse().expect("a time"))
}

/// A person's signed vote that is good until then.
pub fn vote_until(person: &str, role: &str, plan: Digest, choice: &str, expires: Timestamp) -> Signed {
    let ballot = Ballot { plan, expires, choice: choice.to_owned() };
    let signature = sign(person, &format!("quell-approval.{role}"), ballot.canonical().as_bytes());
    Signed { expires: Some(expires), signature }
}
