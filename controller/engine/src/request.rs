//! What people and the controller's edges ask for: looked at whole before anything is changed.

mod cancel;
mod fleet;
mod holds;
mod run;

use std::collections::BTreeSet;

use quell_model::{
    manifest,
    name::FullName,
    policy::Manifest,
    trust::{SetName, set::SignedSet},
};

use crate::{
    Actor,
    approval::{self, Answer},
    draft::Entry,
    external, host,
    id::IncidentId,
    input::{Refusal, Reply, Request},
    state::{BreakerRow, IncidentRow, IncidentState, Note, StoredManifest},
    trust,
    turn::{Subject, Turn},
};

/// Grants a request, or says why not.
///
/// # Errors
/// Why it was not granted; nothing is changed then.
pub(crate) fn grant(turn: &mut Turn<'_>, actor: &Actor, request: Request) -> Result<Reply, Refusal> {
    match request {
        Request::Apply { put, remove, sets } => apply(turn, actor, put, remove, sets),
        Request::ChangeTrust { root, signatures } => trust::change_root(turn, actor, &root, signatures),
        Request::Enrol { token, name, host_id, key, certificate_expires, agent_version } => {
            fleet::enrol(turn, fleet::Newcomer { token, name, host_id, key, certificate_expires, agent_version })
        }
        Request::Renewed { name, key, certificate_expires } => fleet::renewed(turn, &name, key, certificate_expires),
        Request::CreateToken { hash, expires, uses, labels, name } => {
            fleet::create_token(turn, actor, hash, expires, uses, labels, name)
        }
        Request::RevokeHost { name, reason } => host::revoke(turn, actor, &name, &reason).map(|()| Reply::Done),
        Request::RetireHost { name, reason } => host::retire(turn, actor, &name, &reason).map(|()| Reply::Done),
        Request::Relabel { change } => fleet::relabel(turn, actor, change),
        Request::CreateOperator { name, roles, key, certificate_expires } => {
            fleet::create_operator(turn, actor, name, roles, key, certificate_expires)
        }
        Request::RevokeOperator { name, reason } => fleet::revoke_operator(turn, actor, &name, &reason),
        Request::Run { run, set } => run::run(turn, actor, &run, &set),
        Request::Decide { plan, hash, choice, reason, approve, roles, signature } => {
            approval::decide(turn, actor, &Answer { plan, hash, choice, reason, approve, roles, signature })
        }
        Request::Cancel { plan, reason } => cancel::cancel(turn, actor, plan, &reason),
        Request::Annotate { incident, acknowledge, note } => annotate(turn, actor, incident, acknowledge, &note),
        Request::Hold { scope, span, reason } => holds::hold(turn, actor, &scope, span, &reason),
        Request::Release { window, reason } => holds::release(turn, actor, window, &reason),
        Request::TellAlerts { alerts } => external::take(turn, actor, &alerts),
        Request::ResetBreaker { policy, reason } => reset_breaker(turn, actor, &policy, &reason),
    }
}

/// Replaces, adds and removes manifests: all of them or none.
fn apply(
    turn: &mut Turn<'_>,
    actor: &Actor,
    put: Vec<String>,
    remove: Vec<(String, FullName)>,
    sets: Vec<SignedSet>,
) -> Result<Reply, Refusal> {
    let mut manifests = Vec::with_capacity(put.len());
    for canonical in put {
        let manifest = manifest::from_canonical(&canonical).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Refusal::Invalid(lines.join("\n"))
        })?;
        manifests.push((canonical, manifest));
    }
    for (kind, name) in &remove {
        if !turn.state().manifests.contains_key(&(kind.clone(), name.clone())) {
            return Err(Refusal::NotFound(format!("there is no {kind} {name} to remove")));
        }
    }
    let removed =
        |(kind, name): &(String, FullName)| SetName { namespace: name.namespace.clone(), limits: kind == "Limits" };
    let mut changed: BTreeSet<SetName> = remove.iter().map(removed).collect();
    let mut words = Vec::new();
    for (canonical, manifest) in manifests {
        let (kind, name) = (manifest.kind().to_owned(), manifest.name().clone());
        let key = (kind, name.clone());
        if turn.state().manifests.get(&key).is_some_and(|stored| stored.canonical == canonical) {
            continue;
        }
        words.push(format!("{} {name}", key.0));
        changed.insert(SetName::of(&manifest));
        put_manifest(turn, actor, key, canonical, manifest);
    }
    for key in remove {
        words.push(format!("no {} {}", key.0, key.1));
        turn.draft.remove::<StoredManifest>(&key);
    }
    let mut signed = BTreeSet::new();
    for (name, said) in trust::take_sets(turn, actor, sets)? {
        signed.insert(name);
        words.push(said);
    }
    check_limits_signed(turn, changed.difference(&signed))?;
    changed.extend(signed);
    if words.is_empty() {
        return Ok(Reply::Done);
    }
    let rows = turn.state().sets.clone();
    turn.draft.change_meta(|meta| {
        for name in changed {
            let signed = rows.get(&name.to_string()).map_or(0, |row| row.set.version);
            if name.limits && signed == 0 {
                // Unsigned limits have no version: they bind no host that could count it.
                continue;
            }
            let last = meta.set_versions.entry(name.to_string()).or_default();
            // An unsigned change is a version too, so that no signed one is taken for what is in force.
            *last = if signed > *last { signed } else { *last + 1 };
        }
    });
    turn.record(
        Entry::new("applied", actor.clone(), format!("applied: {}", words.join(", ")))
            .data(serde_json::json!({ "manifests": words })),
    );
    turn.touch_live();
    Ok(Reply::Done)
}

/// Limits that people have signed once change by signatures only.
fn check_limits_signed<'a>(turn: &Turn<'_>, unsigned: impl Iterator<Item = &'a SetName>) -> Result<(), Refusal> {
    let versions = &turn.state().meta.set_versions;
    match unsigned.filter(|name| name.limits).find(|name| versions.contains_key(&name.to_string())) {
        None => Ok(()),
        Some(name) => Err(Refusal::Forbidden(format!(
            "the limits of {} are signed, so they change by a signature only: sign them with a key for quell-limits; nothing \
             was applied",
            name.namespace
        ))),
    }
}

fn put_manifest(turn: &mut Turn<'_>, actor: &Actor, key: (String, FullName), canonical: String, manifest: Manifest) {
    let stored = StoredManifest { canonical, manifest, applied_at: turn.now, applied_by: who(actor) };
    turn.draft.put(key, stored);
}

/// An actor's name without its kind.
pub(crate) fn who(actor: &Actor) -> String {
    match actor {
        Actor::Person(name) => name.clone(),
        other => other.to_string(),
    }
}

fn annotate(
    turn: &mut Turn<'_>,
    actor: &Actor,
    id: IncidentId,
    acknowledge: bool,
    note: &str,
) -> Result<Reply, Refusal> {
    let incident =
        turn.state().incidents.get(&id).cloned().ok_or_else(|| Refusal::NotFound(format!("there is no {id}")))?;
    if acknowledge && !incident.is_open() {
        return Err(Refusal::Conflict(format!("{id} is over")));
    }
    if !acknowledge && note.is_empty() {
        return Err(Refusal::Invalid("a note needs a text".to_owned()));
    }
    let (who, at) = (who(actor), turn.now);
    turn.draft.change::<IncidentRow>(&id, |row| {
        if acknowledge {
            row.acknowledged_by.get_or_insert(who.clone());
            if row.state == IncidentState::Open {
                row.state = IncidentState::Acknowledged;
            }
        }
        if !note.is_empty() {
            row.notes.push(Note { at, who: who.clone(), text: note.to_owned() });
        }
    });
    let kind = if acknowledge { "incidentAcknowledged" } else { "incidentNoted" };
    let verb = if acknowledge { "acknowledges" } else { "notes on" };
    turn.record(
        Entry::new(kind, actor.clone(), format!("{who} {verb} {id}: {note}"))
            .id("incident", id)
            .id("target", &incident.target),
    );
    turn.touch(Subject::Incident(id));
    Ok(Reply::Done)
}

fn reset_breaker(turn: &mut Turn<'_>, actor: &Actor, policy: &FullName, reason: &str) -> Result<Reply, Refusal> {
    if !turn.state().breakers.contains_key(policy) {
        return Err(Refusal::NotFound(format!("the breaker of {policy} is not open")));
    }
    turn.draft.remove::<BreakerRow>(policy);
    turn.record(
        Entry::new("breakerReset", actor.clone(), format!("the breaker of {policy} is reset: {reason}"))
            .id("policy", policy),
    );
    turn.touch_live();
    Ok(Reply::Done)
}
