//! Hosts, join tokens and operators.

use jiff::Timestamp;
use quell_model::{digest::Digest, name::HostName, selector::Labels, trust::labels::LabelChange};

use super::who;
use crate::{
    Actor, approval,
    draft::Entry,
    host,
    id::TokenId,
    input::{Refusal, Reply},
    state::{HostRow, HostState, OperatorRow, SignedDocument, TokenRow},
    trust,
    turn::{Subject, Turn},
    windows::is_enrolled,
};

/// A host that wants to join.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) token: Digest,
    pub(crate) name: HostName,
    pub(crate) host_id: String,
    pub(crate) key: Digest,
    pub(crate) certificate_expires: Timestamp,
    pub(crate) agent_version: String,
}

/// Enrols a host and spends one use of its token.
///
/// # Errors
/// The token is not good for it, or the name is taken.
pub(crate) fn enrol(turn: &mut Turn<'_>, newcomer: Newcomer) -> Result<Reply, Refusal> {
    let old = turn.state().hosts.get(&newcomer.name).cloned();
    let token = turn.state().tokens.values().find(|token| token.hash == newcomer.token).cloned();
    let Some(token) = token else {
        return Err(Refusal::Forbidden(
            "the join token is not known here: it was made by another controller, or has gone".to_owned(),
        ));
    };
    if let Some(old) = old.as_ref().filter(|old| is_enrolled(old) && old.key == newcomer.key) {
        // The same agent asks again because the answer was lost: that costs nothing.
        return Ok(Reply::Enrolled(old.labels.clone()));
    }
    may_join(turn, &token, &newcomer, old.as_deref())?;
    if old.is_some() {
        host::start_afresh(turn, &newcomer.name);
    }
    turn.draft.change::<TokenRow>(&token.id, |row| row.uses_left -= 1);
    let name = newcomer.name.clone();
    let text = format!("{name} joined with {} ({} uses left)", token.id, token.uses_left - 1);
    let row = HostRow {
        name: name.clone(),
        host_id: newcomer.host_id,
        labels: token.labels.clone(),
        key: newcomer.key,
        certificate_expires: newcomer.certificate_expires,
        agent_version: newcomer.agent_version,
        facts: std::collections::BTreeMap::new(),
        state: HostState::Lost,
        since: turn.now,
        last_seen: None,
        instance: String::new(),
        held: None,
        acknowledged: 0,
        no_data_since: None,
        trust_version: 0,
        seen_newer: std::collections::BTreeMap::new(),
        relabelled: None,
    };
    turn.draft.put(name.clone(), row);
    turn.record(Entry::new("hostEnrolled", Actor::Agent(name.clone()), text).id("host", &name).id("token", token.id));
    turn.windows.hear(&name, turn.now);
    turn.touch(Subject::Host(name));
    Ok(Reply::Enrolled(token.labels.clone()))
}

fn may_join(turn: &Turn<'_>, token: &TokenRow, newcomer: &Newcomer, old: Option<&HostRow>) -> Result<(), Refusal> {
    let name = &newcomer.name;
    if turn.now >= token.expires {
        return Err(Refusal::Forbidden(format!(
            "the join token {} expired at {}; make a new one with `quell token create`",
            token.id, token.expires
        )));
    }
    if token.uses_left == 0 {
        return Err(Refusal::Forbidden(format!(
            "the join token {} is used up; make a new one with `quell token create`",
            token.id
        )));
    }
    if token.name.as_ref().is_some_and(|only| only != name) {
        return Err(Refusal::Forbidden(format!("the join token {} is for another name than {name}", token.id)));
    }
    if old.is_some_and(is_enrolled) {
        return Err(Refusal::Conflict(format!(
            "a host {name} is enrolled; choose another name, or retire that one with `quell host retire {name}`"
        )));
    }
    Ok(())
}

/// Takes in that a certificate was renewed.
///
/// # Errors
/// The host is not enrolled.
pub(crate) fn renewed(turn: &mut Turn<'_>, name: &HostName, key: Digest, expires: Timestamp) -> Result<Reply, Refusal> {
    if turn.state().hosts.get(name).is_none_or(|row| !is_enrolled(row)) {
        return Err(Refusal::Forbidden(format!("{name} is not enrolled: it must join again")));
    }
    turn.draft.change::<HostRow>(name, |row| {
        row.key = key;
        row.certificate_expires = expires;
    });
    turn.record(
        Entry::new(
            "certificateRenewed",
            Actor::Agent(name.clone()),
            format!("{name}: the certificate is good until {expires}"),
        )
        .id("host", name),
    );
    Ok(Reply::Done)
}

/// Makes a join token.
///
/// # Errors
/// It could never be used.
pub(crate) fn create_token(
    turn: &mut Turn<'_>,
    actor: &Actor,
    hash: Digest,
    expires: Timestamp,
    uses: u32,
    labels: Labels,
    name: Option<HostName>,
) -> Result<Reply, Refusal> {
    if uses == 0 || expires <= turn.now {
        return Err(Refusal::Invalid("a join token needs at least one use and a time to live".to_owned()));
    }
    let id = TokenId(turn.draft.number("tok"));
    let row = TokenRow { id, hash, expires, uses_left: uses, labels, name, created_by: who(actor) };
    let text = format!("{id}: {uses} uses until {expires}");
    let data = serde_json::json!({ "labels": row.labels, "name": row.name });
    turn.draft.put(id, row);
    turn.record(Entry::new("tokenCreated", actor.clone(), text).id("token", id).data(data));
    Ok(Reply::Token(id))
}

/// Gives a host its labels, all of them, as they were signed; the host takes them in by itself.
///
/// # Errors
/// There is no such host, or those whom hosts believe have not signed it.
pub(crate) fn relabel(turn: &mut Turn<'_>, actor: &Actor, change: SignedDocument) -> Result<Reply, Refusal> {
    let LabelChange { host: name, version, labels, .. } = trust::label_change(turn, &change)?;
    let data = serde_json::json!({ "labels": labels, "version": version });
    turn.draft.change::<HostRow>(&name, |row| {
        row.labels = labels;
        row.relabelled = Some((version, change));
    });
    turn.record(
        Entry::new("hostRelabelled", actor.clone(), format!("{name} has other labels")).id("host", &name).data(data),
    );
    let has_session = turn.state().hosts.get(&name).is_some_and(|row| row.state == HostState::Online);
    if has_session {
        trust::owed(turn, &name, u64::MAX, version - 1);
    }
    turn.touch_live();
    Ok(Reply::Done)
}

/// Takes in that an operator was given a certificate.
///
/// # Errors
/// The name belongs to somebody else.
pub(crate) fn create_operator(
    turn: &mut Turn<'_>,
    actor: &Actor,
    name: String,
    roles: Vec<String>,
    key: Digest,
    expires: Timestamp,
) -> Result<Reply, Refusal> {
    if name.is_empty() {
        return Err(Refusal::Invalid("an operator needs a name".to_owned()));
    }
    if turn.state().operators.get(&name).is_some_and(|old| old.revoked.is_none() && old.key != key) {
        return Err(Refusal::Conflict(format!("an operator {name} exists; revoke it first")));
    }
    let text = format!(
        "{name} is an operator with {}",
        if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") }
    );
    turn.draft
        .put(name.clone(), OperatorRow { name: name.clone(), roles, key, certificate_expires: expires, revoked: None });
    turn.record(Entry::new("operatorCreated", actor.clone(), text).id("operator", name));
    Ok(Reply::Done)
}

/// An operator's certificates are no longer good, and neither are open votes.
///
/// # Errors
/// There is no such operator.
pub(crate) fn revoke_operator(turn: &mut Turn<'_>, actor: &Actor, name: &str, reason: &str) -> Result<Reply, Refusal> {
    let key = name.to_owned();
    match turn.state().operators.get(&key) {
        None => return Err(Refusal::NotFound(format!("there is no operator {name}"))),
        Some(row) if row.revoked.is_some() => return Err(Refusal::Conflict(format!("{name} is revoked already"))),
        Some(_) => {}
    }
    turn.draft.change::<OperatorRow>(&key, |row| row.revoked = Some(reason.to_owned()));
    turn.record(
        Entry::new("operatorRevoked", actor.clone(), format!("{name} is no operator any more: {reason}"))
            .id("operator", name),
    );
    approval::void_votes(turn, name);
    turn.touch_live();
    Ok(Reply::Done)
}
