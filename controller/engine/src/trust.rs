//! What people signed: taken in when it verifies, asked whenever a policy wants to act.
//!
//! A policy acts no further than what was signed for it. Its manifest, its service's and its calendars' must all stand,
//! by their digests, in the namespace's signed set, and the set must not have expired; else the policy observes. Agents
//! hold their orders to the same rule by themselves, so nothing here is what keeps a host safe: it is what keeps the
//! controller from planning what hosts would refuse, and what tells people why.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use quell_model::{
    digest::Digest,
    name::{FullName, HostName, ObjectName},
    policy::{Manifest, Mode, Policy},
    trust::{
        Denied,
        approvals::{self, Question, Signed},
        labels::LabelChange,
        root::{Believed, TrustRoot},
        run::Run,
        set::{Authority, SetName, SignedSet, VerifiedSet},
    },
};

use crate::{
    Actor, State,
    draft::Entry,
    input::{Refusal, Reply},
    limits, newer,
    request::who,
    state::{HostState, PlanRow, RunEvidence, SetRow, SignedDocument, StoredManifest, TrustRow},
    tell::{self, Draught},
    turn::{Subject, Turn},
    windows::is_enrolled,
};

/// People are told so long before a set expires.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Whom hosts believe now.
///
/// # Errors
/// The installation has no trust root, or its row is damaged.
pub(crate) fn believed(state: &State) -> Result<Believed, Refusal> {
    let Some((_, row)) = state.trust.get_max() else {
        return Err(Refusal::Conflict(
            "this installation has no trust root: nothing can be signed; make a new one with `quell-controller init`"
                .to_owned(),
        ));
    };
    let root = row.root().map_err(Refusal::Conflict)?;
    Believed::new(root).map_err(|damaged| Refusal::Conflict(damaged.to_string()))
}

/// How far what was signed lets a policy go, and why not further.
pub(crate) fn signed_mode(state: &State, now: Timestamp, policy: &Policy) -> (Mode, Option<String>) {
    let namespace = policy.name.namespace.as_str();
    let Some(row) = state.sets.get(namespace) else {
        return (Mode::Observe, Some(format!("namespace {namespace} has no signed set: sign it with `quell apply`")));
    };
    if now >= row.set.expires {
        let why = format!(
            "the signed set of {namespace} expired on {:.0}: sign it again with `quell apply`",
            row.set.expires
        );
        return (Mode::Observe, Some(why));
    }
    let unsigned = relied_on(state, policy)
        .into_iter()
        .find(|(key, digest)| row.set.manifests.get(key).is_none_or(|signed| signed != digest));
    match (unsigned, row.authority) {
        (Some((key, _)), _) => {
            (Mode::Observe, Some(format!("{key} is not what was signed: sign it with `quell apply`")))
        }
        (None, Authority::Observe) => (Mode::Observe, Some("it was signed by a key that may only observe".to_owned())),
        (None, Authority::Full) => (Mode::Enforce, None),
    }
}

/// What people should know of what was signed: sets and keys that expire soon, policies that go less far than they say
/// because nobody signed them so, and what hosts say that they have seen and is not here.
pub fn signing_warnings(state: &State, now: Timestamp) -> Vec<String> {
    let soon = now.checked_add(WARN_BEFORE).unwrap_or(Timestamp::MAX);
    let mut warnings: Vec<String> = state
        .sets
        .values()
        .filter(|row| now < row.set.expires && row.set.expires <= soon)
        .map(|row| expires_soon(&row.set.name(), row.set.expires))
        .collect();
    warnings.extend(believed(state).iter().flat_map(|believed| believed.signers().lines()).filter_map(|line| {
        let end = Timestamp::from_second(line.valid_before(&TimeZone::UTC)?).ok()?;
        let who = line.principals();
        (now < end && end <= soon)
            .then(|| format!("the key of {who} signs until {end:.0}: give {who} a new one with `quell trust add`"))
    }));
    warnings.extend(state.manifests.values().filter_map(|stored| {
        let Manifest::Policy(policy) = &stored.manifest else { return None };
        let (mode, why) = signed_mode(state, now, policy);
        (mode < policy.mode).then(|| format!("{} only observes: {}", policy.name, why.unwrap_or_default()))
    }));
    warnings.extend(limits::warnings(state, now));
    warnings.extend(newer::warnings(state));
    warnings
}

fn expires_soon(set: &SetName, expires: Timestamp) -> String {
    let then = if set.limits { "hosts do nothing in its namespace" } else { "its policies only observe" };
    format!("the signed set of {set} expires on {expires:.0}; {then} from then on: sign it again with `quell apply`")
}

/// What a policy's acting relies on: itself, its service and the calendars of both, as a set names them.
fn relied_on(state: &State, policy: &Policy) -> Vec<(String, Digest)> {
    let stored = |kind: &str, name: &ObjectName| {
        let full = FullName { namespace: policy.name.namespace.clone(), name: name.clone() };
        state.manifests.get(&(kind.to_owned(), full)).map(|stored| &stored.manifest)
    };
    let mut found = vec![(format!("Policy/{}", policy.name.name), policy.digest)];
    let service = policy.service.as_ref().and_then(|name| stored("Service", name));
    let mut calendars: BTreeSet<&ObjectName> = policy.guards.calendar.iter().collect();
    if let Some(Manifest::Service(service)) = service {
        calendars.extend(&service.calendar);
    }
    let calendars = calendars.into_iter().filter_map(|name| stored("Calendar", name));
    found.extend(service.into_iter().chain(calendars).map(|manifest| (key_of(manifest), manifest.digest())));
    found
}

/// The canonical manifests that an agent needs beside a policy to judge an order by itself.
pub fn referenced<'a>(state: &'a State, policy: &Policy) -> Vec<&'a str> {
    let keys: BTreeSet<String> = relied_on(state, policy).into_iter().skip(1).map(|(key, _)| key).collect();
    let in_namespace = state.manifests.iter().filter(|((_, name), _)| name.namespace == policy.name.namespace);
    in_namespace
        .filter(|(_, stored)| keys.contains(&key_of(&stored.manifest)))
        .map(|(_, stored)| stored.canonical.as_str())
        .collect()
}

/// How a set names a manifest.
fn key_of(manifest: &Manifest) -> String {
    format!("{}/{}", manifest.kind(), manifest.name().name)
}

/// Puts signed sets in force for what the draft holds by now: all of them or none.
///
/// # Errors
/// One does not verify, is not newer, or does not name exactly what its namespace would hold.
pub(crate) fn take_sets(
    turn: &mut Turn<'_>,
    actor: &Actor,
    sets: Vec<SignedSet>,
) -> Result<Vec<(SetName, String)>, Refusal> {
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let believed = believed(turn.state())?;
    let mut words = Vec::new();
    for signed in sets {
        let verified = signed.verify_any(&believed, turn.now, &TimeZone::UTC).map_err(|denied| forbidden(&denied))?;
        fits(turn, &verified)?;
        words.push(put_set(turn, actor, signed, verified));
    }
    Ok(words)
}

fn fits(turn: &Turn<'_>, verified: &VerifiedSet) -> Result<(), Refusal> {
    let set = &verified.set;
    let name = set.name();
    if set.one_shot.is_some() {
        return Err(Refusal::Invalid("a one-shot set belongs to a run: it cannot be applied".to_owned()));
    }
    let last = turn.state().meta.set_versions.get(&name.to_string()).copied().unwrap_or_default();
    if set.version <= last {
        return Err(Refusal::Conflict(format!(
            "the signed set of {name} has version {}, and version {last} was in force already: somebody else applied \
             meanwhile; look with `quell diff`, then apply again",
            set.version
        )));
    }
    let held: BTreeMap<String, Digest> = manifests_of(turn.state(), set.namespace.as_str())
        .filter(|stored| SetName::of(&stored.manifest) == name)
        .map(|stored| (key_of(&stored.manifest), stored.manifest.digest()))
        .collect();
    let differing = held.keys().chain(set.manifests.keys()).find(|key| held.get(*key) != set.manifests.get(*key));
    match differing {
        None => Ok(()),
        Some(key) => Err(Refusal::Conflict(format!(
            "what was signed for {name} is not what would be in force: {key} differs; sign it again with `quell apply`"
        ))),
    }
}

fn manifests_of<'a>(state: &'a State, namespace: &'a str) -> impl Iterator<Item = &'a StoredManifest> {
    let of_namespace = move |name: &FullName| name.namespace.as_str() == namespace;
    state.manifests.iter().filter(move |((_, name), _)| of_namespace(name)).map(|(_, stored)| stored.as_ref())
}

fn put_set(turn: &mut Turn<'_>, actor: &Actor, signed: SignedSet, verified: VerifiedSet) -> (SetName, String) {
    let VerifiedSet { set, signers, authority, .. } = verified;
    let name = set.name();
    let signers: Vec<String> = signers.into_iter().map(|signer| signer.principal).collect();
    let words = format!("set {} of {name}, signed by {}", set.version, signers.join(" and "));
    let row = SetRow {
        // A set that verified is JSON text.
        canonical: String::from_utf8_lossy(&signed.bytes).into_owned(),
        signatures: signed.signatures,
        set,
        authority,
        signers,
        applied_at: turn.now,
        applied_by: who(actor),
        warned: false,
    };
    turn.draft.put(name.to_string(), row);
    turn.touch(Subject::SignedSet(name.to_string()));
    (name, words)
}

/// Looks at a signed set: people are told before it expires, and its policies are judged again when it has.
pub(crate) fn reconcile(turn: &mut Turn<'_>, name: &str) -> Option<Timestamp> {
    let row = turn.state().sets.get(name).cloned()?;
    let namespace = row.set.namespace.as_str();
    turn.touch_namespace(namespace);
    turn.assign_namespace(namespace);
    let expires = row.set.expires;
    if turn.now >= expires {
        return None;
    }
    let warn_at = expires.checked_sub(WARN_BEFORE).unwrap_or(Timestamp::MIN);
    if turn.now < warn_at {
        return Some(warn_at);
    }
    if !row.warned {
        warn(turn, name, &row);
    }
    Some(expires)
}

fn warn(turn: &mut Turn<'_>, name: &str, row: &SetRow) {
    let namespace = row.set.namespace.as_str();
    let text = expires_soon(&row.set.name(), row.set.expires);
    turn.draft.change::<SetRow>(&name.to_owned(), |row| row.warned = true);
    turn.record(Entry::new("setExpiresSoon", Actor::Timer, text.clone()).id("namespace", namespace));
    let policies = manifests_of(turn.state(), namespace).filter_map(|stored| match &stored.manifest {
        Manifest::Policy(policy) => policy.escalate.as_ref().map(|escalate| (policy.name.clone(), escalate.to.clone())),
        _ => None,
    });
    let contacts: BTreeSet<FullName> =
        policies.map(|(policy, to)| FullName { namespace: policy.namespace, name: to }).collect();
    for contact in contacts {
        let draught = Draught {
            contact,
            subject: text.clone(),
            body: text.clone(),
            severity: quell_model::policy::Severity::Ticket,
            incident: None,
            logs: Vec::new(),
        };
        tell::send(turn, draught);
    }
}

/// Takes in a new version of whom hosts believe.
///
/// # Errors
/// Those who are believed now have not signed it, or it is not the next version.
pub(crate) fn change_root(
    turn: &mut Turn<'_>,
    actor: &Actor,
    bytes: &[u8],
    signatures: Vec<String>,
) -> Result<Reply, Refusal> {
    let current = believed(turn.state())?;
    let next = TrustRoot::succeeds(&current, bytes, &signatures, turn.now, &TimeZone::UTC)
        .map_err(|denied| forbidden(&denied))?;
    let (version, limits_demanded) = (next.version, next.demands_limits());
    let row =
        TrustRow { canonical: String::from_utf8_lossy(bytes).into_owned(), signatures, at: turn.now, by: who(actor) };
    turn.draft.put(version, row);
    turn.draft.change_meta(|meta| meta.limits_demanded = limits_demanded);
    turn.record(
        Entry::new(
            "trustChanged",
            actor.clone(),
            format!("{} brings version {version} of whom hosts believe", who(actor)),
        )
        .data(serde_json::json!({ "version": version, "digest": Digest::of(bytes) })),
    );
    let online: Vec<HostName> =
        turn.state().hosts.values().filter(|row| row.state == HostState::Online).map(|row| row.name.clone()).collect();
    for host in online {
        owed(turn, &host, version - 1, u64::MAX);
    }
    let namespaces: Vec<String> = turn.state().sets.keys().cloned().collect();
    for namespace in namespaces {
        verify_again(turn, &namespace);
    }
    turn.touch_live();
    Ok(Reply::Version(version))
}

/// Checks a change of a host's labels.
///
/// # Errors
/// It is not signed by those whom hosts believe, is not the next one, or its host is not enrolled.
pub(crate) fn label_change(turn: &Turn<'_>, change: &SignedDocument) -> Result<LabelChange, Refusal> {
    let verified = LabelChange::verify(
        &believed(turn.state())?,
        change.canonical.as_bytes(),
        &change.signatures,
        turn.now,
        &TimeZone::UTC,
    )
    .map_err(|denied| forbidden(&denied))?;
    let Some(row) = turn.state().hosts.get(&verified.host).filter(|row| is_enrolled(row)) else {
        return Err(Refusal::NotFound(format!("there is no host {}", verified.host)));
    };
    let last = row.relabelled.as_ref().map_or(0, |(version, _)| *version);
    if verified.version == last + 1 {
        Ok(verified)
    } else {
        Err(Refusal::Conflict(format!(
            "the signed labels of {} have version {}, and {} is next: somebody else changed them meanwhile; try again",
            verified.host,
            verified.version,
            last + 1
        )))
    }
}

/// Tells an agent of everything signed that it has not taken in yet.
pub(crate) fn owed(turn: &mut Turn<'_>, host: &HostName, trust_version: u64, label_version: u64) {
    let roots = turn.state().trust.iter().filter(|(version, _)| **version > trust_version);
    let mut changes: Vec<SignedDocument> = roots
        .map(|(_, row)| SignedDocument { canonical: row.canonical.clone(), signatures: row.signatures.clone() })
        .collect();
    let relabelled = turn.state().hosts.get(host).and_then(|row| row.relabelled.as_ref());
    changes.extend(relabelled.filter(|(version, _)| *version > label_version).map(|(_, change)| change.clone()));
    if !changes.is_empty() {
        turn.effect(crate::Effect::Believe { host: host.clone(), changes });
    }
}

/// Those who signed a set may be believed no longer.
fn verify_again(turn: &mut Turn<'_>, name: &str) {
    let (Some(row), Ok(believed)) = (turn.state().sets.get(name).cloned(), believed(turn.state())) else { return };
    let signed = SignedSet { bytes: row.canonical.clone().into_bytes(), signatures: row.signatures.clone() };
    match signed.verify_any(&believed, turn.now, &TimeZone::UTC) {
        Ok(verified) if verified.authority == row.authority => {}
        Ok(verified) => turn.draft.change::<SetRow>(&name.to_owned(), |row| row.authority = verified.authority),
        Err(denied) => {
            turn.draft.remove::<SetRow>(&name.to_owned());
            let then = if row.set.limits { "hosts that saw it do nothing there" } else { "its policies only observe" };
            let text = format!("the signed set of {name} counts no longer: {denied}; {then}");
            turn.record(Entry::new("setVoid", Actor::Controller, text).id("namespace", &row.set.namespace));
        }
    }
    turn.touch(Subject::SignedSet(name.to_owned()));
}

/// Checks what stands behind a person's run.
///
/// # Errors
/// It is not signed, not by somebody who may, or names another run.
pub(crate) fn run_evidence(
    state: &State,
    now: Timestamp,
    run: &Run,
    signed: &SignedSet,
) -> Result<RunEvidence, Refusal> {
    let verified = signed.verify(&believed(state)?, now, &TimeZone::UTC).map_err(|denied| forbidden(&denied))?;
    let canonical = run.canonical();
    let named = verified.set.manifests.get(&run.key());
    if verified.set.one_shot.as_deref() != Some(run.id.as_str()) || named != Some(&run.digest()) {
        return Err(Refusal::Forbidden(format!("what was signed does not name the run {}: run it again", run.id)));
    }
    if verified.authority != Authority::Full {
        return Err(Refusal::Forbidden(
            "the run was signed by a key that may only observe: sign it with one that may speak for quell-policy"
                .to_owned(),
        ));
    }
    Ok(RunEvidence {
        policy_set: String::from_utf8_lossy(&signed.bytes).into_owned(),
        signatures: signed.signatures.clone(),
        run: canonical,
    })
}

/// Checks a signed vote.
///
/// # Errors
/// The signature is not that person's for this role, this plan and this choice.
pub(crate) fn check_vote(
    turn: &Turn<'_>,
    plan: &PlanRow,
    person: &str,
    role: &str,
    choice: &str,
    signed: &Signed,
) -> Result<(), Refusal> {
    let question = Question { role, plan: plan.hash, requester: plan.requester.as_deref() };
    let vote = approvals::Vote { choice: choice.to_owned(), signed: signed.clone() };
    let counted = approvals::count(&believed(turn.state())?, &question, choice, &[vote], turn.now, &TimeZone::UTC)
        .map_err(|denied| forbidden(&denied))?;
    match (counted.people.first(), counted.refused.first()) {
        (Some(signer), _) if signer.principal == person => Ok(()),
        (Some(signer), _) => {
            Err(Refusal::Forbidden(format!("the vote was signed by {}, and {person} gave it", signer.principal)))
        }
        (None, Some(why)) => Err(Refusal::Forbidden(format!("the vote's signature does not count: {why}"))),
        (None, None) => {
            Err(Refusal::Forbidden(format!("{person} asked for {}: somebody else must decide it", plan.id)))
        }
    }
}

fn forbidden(denied: &Denied) -> Refusal {
    Refusal::Forbidden(denied.to_string())
}
