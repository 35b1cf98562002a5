//! `EnrolmentService`: how a machine becomes an agent, and how its certificate lives on.
//!
//! The engine decides whether a token is good and a name is free, in one commit that spends one use of the token and
//! enrols the host; the certificate is issued after that commit and never before. So of two machines that race for a
//! single use one gets a certificate, and a crash in between costs a use of the token at most.

use std::sync::Arc;

use jiff::Timestamp;
use quell_engine::{
    Actor,
    input::{Reply, Request as Wanted},
};
use quell_link::{
    AGENT_TTL, access,
    authority::{Authority, Issued},
    join,
    rpc::enrolment_service_server::EnrolmentService,
};
use quell_model::{digest::Digest, name::HostName};
use quell_wire::v1::{JoinRequest, JoinResponse, RenewRequest, RenewResponse};
use tonic::{Request, Response, Status};

use super::{status, trust::trust_steps};
use crate::decider::Handle;

/// Longest secret that is hashed, bytes.
const LONGEST_SECRET: usize = 256;
/// Longest version that is recorded, bytes.
const LONGEST_VERSION: usize = 64;

/// Serves joining and renewing.
#[derive(Clone)]
pub struct Enrolments {
    decider: Handle,
    authority: Arc<Authority>,
}

impl Enrolments {
    /// Over this decider's state, with this authority's certificates.
    pub fn new(decider: Handle, authority: Arc<Authority>) -> Self {
        Self { decider, authority }
    }

    /// The moment that a certificate issued now ends: certificates count whole seconds.
    fn end(now: Timestamp) -> Timestamp {
        Timestamp::from_second(now.as_second()).unwrap_or(now) + AGENT_TTL
    }

    fn issue(&self, csr: &[u8], name: &HostName, host_id: &str, now: Timestamp) -> Result<Issued, Status> {
        self.authority.issue_agent(csr, name, host_id, now, AGENT_TTL).map_err(|error| status::internal(&error))
    }

    fn roots(&self) -> Vec<Vec<u8>> {
        self.authority.roots().iter().map(|root| root.to_vec()).collect()
    }
}

impl Enrolments {
    /// Whether a token grants what the machine's join string says. Asked before anything is spent: what a token grants
    /// never changes. A token that is not known is the engine's to refuse, in its own words.
    fn agree(&self, token: Digest, grant: Digest, name: &HostName) -> Result<(), Status> {
        let state = self.decider.state();
        let known = state.tokens.values().find(|row| row.hash == token);
        if known.is_none_or(|row| join::grant_digest(&row.labels) == grant) {
            return Ok(());
        }
        tracing::warn!(%name, "refused a machine whose join string grants other labels than its token");
        Err(Status::permission_denied(
            "the join string grants other labels than its token does: it was changed after it was made; nothing was spent, \
             make a new one with `quell token create`",
        ))
    }
}

fn der(issued: &Issued) -> Vec<Vec<u8>> {
    issued.chain.iter().map(|certificate| certificate.to_vec()).collect()
}

/// What a machine that wants to join says, validated.
struct Applicant {
    token: Digest,
    name: HostName,
    csr: Vec<u8>,
    key: Digest,
    agent_version: String,
    grant: Digest,
}

impl TryFrom<JoinRequest> for Applicant {
    type Error = Status;

    fn try_from(request: JoinRequest) -> Result<Self, Status> {
        if request.token.is_empty() || request.token.len() > LONGEST_SECRET {
            return Err(Status::invalid_argument("the join string's secret is missing or too long"));
        }
        let name = request.name.parse().map_err(|error| status::invalid(&error))?;
        let key = Authority::requested_key(&request.csr_der).map_err(|error| status::invalid(&error))?;
        let is_version = |text: &str| text.len() <= LONGEST_VERSION && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_version(&request.agent_version) {
            return Err(Status::invalid_argument("the agent's version is not one"));
        }
        let grant = request.grant_digest.try_into().map(Digest).map_err(|_| {
            Status::invalid_argument("the request does not say what the join string grants: update the agent")
        })?;
        Ok(Self {
            token: join::secret_hash(&request.token),
            name,
            csr: request.csr_der,
            key,
            agent_version: request.agent_version,
            grant,
        })
    }
}

#[tonic::async_trait]
impl EnrolmentService for Enrolments {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let Applicant { token, name, csr, key, agent_version, grant } = request.into_inner().try_into()?;
        self.agree(token, grant, &name)?;
        let now = self.decider.now();
        let wanted = Wanted::Enrol {
            token,
            name: name.clone(),
            host_id: uuid::Uuid::now_v7().to_string(),
            key,
            certificate_expires: Self::end(now),
            agent_version,
        };
        let labels = match self.decider.request(Actor::Controller, wanted).await {
            Ok(Reply::Enrolled(labels)) => labels,
            Ok(other) => return Err(status::internal(&format!("joining was answered with {other:?}"))),
            Err(failed) => {
                tracing::warn!(%name, reason = %failed, "refused a machine that wants to join");
                return Err(status::of_failure(&failed));
            }
        };
        // As enrolled, not as proposed: a machine that asks again with the same key is the host that it was.
        let state = self.decider.state();
        let row = state.hosts.get(&name).filter(|row| row.key == key);
        let row = row.ok_or_else(|| status::internal(&format!("{name} joined and is not enrolled")))?;
        let issued = self.issue(&csr, &name, &row.host_id, now)?;
        tracing::info!(%name, host_id = row.host_id, "a host joined");
        Ok(Response::new(JoinResponse {
            chain_der: der(&issued),
            roots_der: self.roots(),
            host_id: row.host_id.clone(),
            labels,
            installation: self.authority.installation().to_owned(),
            trust: trust_steps(&state),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = access::require_agent(&request)?;
        let csr = request.into_inner().csr_der;
        let key = Authority::requested_key(&csr).map_err(|error| status::invalid(&error))?;
        let now = self.decider.now();
        let wanted = Wanted::Renewed { name: caller.name.clone(), key, certificate_expires: Self::end(now) };
        let actor = Actor::Agent(caller.name.clone());
        self.decider.request(actor, wanted).await.map_err(|failed| status::of_failure(&failed))?;
        let issued = self.issue(&csr, &caller.name, &caller.host_id, now)?;
        Ok(Response::new(RenewResponse { chain_der: der(&issued), roots_der: self.roots() }))
    }
}

#[cfg(test)]
mod tests;
