//! Joining and renewing.

use std::{path::Path, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use quell_model::{
    digest::Digest,
    name::HostName,
    selector::Labels,
    trust::{Believed, TrustRoot},
};
use quell_wire::v1::{JoinRequest, JoinResponse, RenewRequest};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;

use super::{
    AgentIdentity, CALL_TIMEOUT, Connector, Error, call_error, connect,
    identity::{Facts, KEY_FILE, read_facts, read_key},
    tls,
};
use crate::{
    MESSAGE_BYTES, authority, files, identity,
    join::{JoinString, grant_digest},
    rpc::enrolment_service_client::EnrolmentServiceClient,
};

/// What joining gave.
#[derive(Debug)]
pub struct Joined {
    /// The identity, in its files already.
    pub identity: AgentIdentity,
    /// Whom the host believes: the newest of the trust roots that the join string's digest leads to.
    pub trust: TrustRoot,
    /// The first allow-list of the join string, by the keys of `agent.toml`.
    pub allow: std::collections::BTreeMap<String, Vec<String>>,
}

/// Joins: makes a key on this machine, checks the controller's CA against the join string, trades the secret for a
/// certificate and writes the identity into the directory.
///
/// A join that broke off half-way can be tried again with the same join string: the key stays, and the controller knows
/// it again.
///
/// # Errors
/// The directory holds an identity already; the controller is not reached, is another one, or refuses: the token has
/// ended or is used up, the name is taken.
pub async fn join(join: &JoinString, name: HostName, directory: &Path) -> Result<Joined, Error> {
    join_with(join, name, directory, env!("CARGO_PKG_VERSION"), |_| Ok(())).await
}

/// Like [`join`], saying the version of the agent's binary. `keep` makes durable whom the host believes, before the
/// identity is complete: a machine that has joined believes somebody. It may block.
///
/// # Errors
/// Those of [`join`], and what `keep` says.
pub async fn join_with(
    join: &JoinString,
    name: HostName,
    directory: &Path,
    agent_version: &str,
    keep: impl FnOnce(&TrustRoot) -> Result<(), String> + Send + 'static,
) -> Result<Joined, Error> {
    let place = directory.to_owned();
    let key = blocking(move || prepare(&place)).await?;
    let request = JoinRequest {
        token: join.secret.clone(),
        name: name.to_string(),
        csr_der: authority::request_for(&key)?,
        agent_version: agent_version.to_owned(),
        grant_digest: grant_digest(&join.labels).0.to_vec(),
    };
    let channel = connect(Connector::fixed(join.addresses.clone(), tls::pinned(join.ca_fingerprint)?)).await?;
    let response = enrolment(channel).join(timed(request)).await.map_err(call_error)?.into_inner();
    let roots = checked_roots(join, &response)?;
    let trust = checked_trust(join, &response, Timestamp::now())?;
    if response.labels != join.labels {
        return Err(Error::Answer(differing_labels(&join.labels, &response.labels)));
    }
    let facts = Facts {
        name,
        host_id: response.host_id,
        installation: response.installation,
        addresses: join.addresses.clone(),
        labels: join.labels.clone(),
    };
    let chain = certificates(response.chain_der);
    let place = directory.to_owned();
    let (identity, trust) = blocking(move || {
        keep(&trust).map_err(Error::Keep)?;
        Ok((AgentIdentity::establish(&place, facts, key, chain, &roots)?, trust))
    })
    .await?;
    Ok(Joined { identity, trust, allow: join.allow.clone() })
}

/// Trades the certificate in use, which may have ended up to 30 days ago, for a new one by the same key.
///
/// # Errors
/// The controller is not reached, or refuses: the host was revoked, or its certificate ended too long ago.
pub async fn renew(addresses: &[String], identity: &Arc<AgentIdentity>) -> Result<(), Error> {
    let request = RenewRequest { csr_der: authority::request_for(identity.key())? };
    let channel = connect(Connector::renewing(addresses.to_vec(), Arc::clone(identity))).await?;
    let response = enrolment(channel).renew(timed(request)).await.map_err(call_error)?.into_inner();
    let (chain, roots) = (certificates(response.chain_der), certificates(response.roots_der));
    let identity = Arc::clone(identity);
    blocking(move || identity.adopt(chain, &roots)).await
}

/// The agent's key: made now, or the one of a join that broke off.
fn prepare(directory: &Path) -> Result<KeyPair, Error> {
    if let Some(facts) = read_facts(directory)? {
        return Err(Error::AlreadyJoined { directory: directory.display().to_string(), name: facts.name.to_string() });
    }
    files::create_directory(directory)?;
    match read_key(directory) {
        Err(error) if error.is_missing() => {
            let (key, _) = authority::new_key()?;
            files::write(&directory.join(KEY_FILE), key.serialize_pem().as_bytes())?;
            Ok(key)
        }
        other => Ok(other?),
    }
}

/// The CA's certificates of the answer, of which one is the pinned one.
fn checked_roots(join: &JoinString, response: &JoinResponse) -> Result<Vec<CertificateDer<'static>>, Error> {
    let roots = certificates(response.roots_der.clone());
    let is_pinned = |root: &CertificateDer<'_>| identity::key_digest(root).is_ok_and(|key| key == join.ca_fingerprint);
    if roots.iter().any(is_pinned) {
        Ok(roots)
    } else {
        Err(Error::Answer("none of its CA certificates is the one that the join string names".to_owned()))
    }
}

/// Whom the host will believe: the trust root that the join string names, and what its signers made of it since.
fn checked_trust(join: &JoinString, response: &JoinResponse, now: Timestamp) -> Result<TrustRoot, Error> {
    let mut steps = response.trust.iter().skip_while(|step| Digest::of(&step.root) != join.trust);
    let wrong = |reason: String| Error::Answer(format!("the trust roots that it gave: {reason}"));
    let first = steps.next().ok_or_else(|| {
        wrong("none is the one that the join string names; make a new join string with `quell token create`".to_owned())
    })?;
    let mut root = TrustRoot::parse(&first.root).map_err(|error| wrong(error.to_string()))?;
    for step in steps {
        let believed = Believed::new(root).map_err(|error| wrong(error.to_string()))?;
        root = TrustRoot::succeeds(&believed, &step.root, &step.signatures, now, &TimeZone::UTC)
            .map_err(|error| wrong(error.to_string()))?;
    }
    Ok(root)
}

fn differing_labels(wanted: &Labels, given: &Labels) -> String {
    let show =
        |labels: &Labels| labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    format!(
        "the join string gives this host the labels {:?}, the controller {:?}; retire the host and make a new token",
        show(wanted),
        show(given)
    )
}

fn enrolment(channel: Channel) -> EnrolmentServiceClient<Channel> {
    EnrolmentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES)
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn certificates(der: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    der.into_iter().map(CertificateDer::from).collect()
}

/// Runs file operations off the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Broken(error.to_string()))?
}
