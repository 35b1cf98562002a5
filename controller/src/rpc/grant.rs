//! CreateToken, ChangeHost, CreateOperator, RevokeOperator: who belongs to the installation.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_engine::{
    input::{Reply, Request as Wanted},
    state::SignedDocument,
};
use quell_link::{authority::Authority, identity, join};
use quell_model::{
    name::{HostName, ObjectName},
    trust::labels::LabelChange,
};
use quell_wire::v1::{
    ChangeHostRequest, ChangeHostResponse, CreateOperatorRequest, CreateOperatorResponse, CreateTokenRequest,
    CreateTokenResponse, RevokeOperatorRequest, RevokeOperatorResponse, SignedChange,
};
use tonic::Status;

use super::{
    argument,
    change::unexpected,
    operator::{Caller, Operators},
    status,
};

/// The longest that a join token can be used.
const LONGEST_TOKEN: Duration = Duration::from_secs(7 * 86_400);
/// The most machines that may join with one token.
const MOST_USES: u32 = 10_000;
/// The longest life of an operator's certificate.
const LONGEST_OPERATOR: Duration = Duration::from_secs(366 * 86_400);
/// The most roles of an operator.
const ROLES: usize = 32;

impl Operators {
    /// Makes a join token. The secret is in the answer and nowhere else: the controller keeps its hash.
    pub(super) async fn make_token(
        &self,
        caller: Caller,
        request: CreateTokenRequest,
    ) -> Result<CreateTokenResponse, Status> {
        let ttl = argument::span("the life of a token", request.ttl_ms, LONGEST_TOKEN)?;
        if !(1..=MOST_USES).contains(&request.uses) {
            return Err(Status::invalid_argument(format!(
                "a token is used 1 to {MOST_USES} times, not {}",
                request.uses
            )));
        }
        let name: Option<HostName> = (!request.name.is_empty()).then(|| argument::parse(&request.name)).transpose()?;
        let secret = join::new_secret().map_err(|error| status::internal(&error))?;
        let wanted = Wanted::CreateToken {
            hash: join::secret_hash(&secret),
            expires: self.after(ttl),
            uses: request.uses,
            labels: argument::labels(request.labels)?,
            name,
        };
        match self.ask(caller.actor, wanted).await? {
            Reply::Token(id) => Ok(CreateTokenResponse {
                secret,
                token_id: id.to_string(),
                addresses: self.context.addresses.clone(),
                ca_fingerprint: self.context.authority.fingerprint().to_string(),
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Revokes, retires or relabels a host. A revoked host's session is cut as soon as the revocation is durable.
    pub(super) async fn change_one_host(
        &self,
        caller: Caller,
        request: ChangeHostRequest,
    ) -> Result<ChangeHostResponse, Status> {
        let name: HostName = argument::parse(&request.name)?;
        let wanted = match request.change.as_str() {
            "revoke" => Wanted::RevokeHost { name: name.clone(), reason: argument::reason(&request.reason)? },
            "retire" => Wanted::RetireHost { name: name.clone(), reason: argument::reason(&request.reason)? },
            "label" => Wanted::Relabel { change: relabelling(&name, request.signed)? },
            other => {
                let message = format!("a host cannot be {other:?}; there are revoke, retire and label");
                return Err(Status::invalid_argument(message));
            }
        };
        self.ask(caller.actor, wanted).await?;
        let state = self.context.decider.state();
        let host = state.hosts.get(&name).map(|row| self.look(|viewer| viewer.host(row)));
        Ok(ChangeHostResponse { host })
    }

    /// Issues a certificate to an operator, whose key stays with the operator.
    pub(super) async fn admit_operator(
        &self,
        caller: Caller,
        request: CreateOperatorRequest,
    ) -> Result<CreateOperatorResponse, Status> {
        let ttl = match request.ttl_ms {
            0 => quell_link::OPERATOR_TTL,
            millis => argument::span("the life of an operator's certificate", millis, LONGEST_OPERATOR)?,
        };
        let roles = roles(request.roles)?;
        if !identity::is_operator_name(&request.name) {
            return Err(status::invalid(&identity::Error::OperatorName(request.name)));
        }
        let authority: &Authority = &self.context.authority;
        let issued = authority
            .issue_operator(&request.csr_der, &request.name, self.context.decider.now(), ttl)
            .map_err(|error| status::invalid(&error))?;
        let wanted = Wanted::CreateOperator {
            name: request.name,
            roles,
            key: issued.key,
            certificate_expires: issued.not_after,
        };
        self.ask(caller.actor, wanted).await?;
        Ok(CreateOperatorResponse {
            chain_der: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            roots_der: authority.roots().iter().map(|certificate| certificate.to_vec()).collect(),
        })
    }

    /// Revokes an operator's certificates; open streams end with the next thing that they would send, and the
    /// connection is cut.
    pub(super) async fn dismiss_operator(
        &self,
        caller: Caller,
        request: RevokeOperatorRequest,
    ) -> Result<RevokeOperatorResponse, Status> {
        let reason = argument::reason(&request.reason)?;
        self.ask(caller.actor, Wanted::RevokeOperator { name: request.name, reason }).await?;
        Ok(RevokeOperatorResponse {})
    }

    /// The moment that lies so far ahead.
    fn after(&self, span: Duration) -> Timestamp {
        let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        self.context.decider.now().checked_add(span).unwrap_or(Timestamp::MAX)
    }
}

/// The signed change of a host's labels, which must be that host's.
fn relabelling(name: &HostName, signed: Option<SignedChange>) -> Result<SignedDocument, Status> {
    let signed = signed.ok_or_else(|| {
        Status::invalid_argument("a host's labels are the host's: a change of them must be signed, or made on the host itself with `quell-agent label`")
    })?;
    let change = LabelChange::parse(&signed.document).map_err(|error| status::invalid(&error))?;
    if change.host != *name {
        return Err(Status::invalid_argument(format!("the signed labels are those of {}, not of {name}", change.host)));
    }
    argument::labels(change.labels)?;
    Ok(SignedDocument {
        // What was parsed as JSON is text.
        canonical: String::from_utf8_lossy(&signed.document).into_owned(),
        signatures: signed.signatures,
    })
}

/// Roles: at least one, each a name.
fn roles(mut roles: Vec<String>) -> Result<Vec<String>, Status> {
    roles.sort();
    roles.dedup();
    if roles.is_empty() || roles.len() > ROLES {
        return Err(Status::invalid_argument(format!(
            "an operator has 1 to {ROLES} roles: admin, operator, viewer, or one that approvals ask for"
        )));
    }
    for role in &roles {
        argument::parse::<ObjectName>(role)?;
    }
    Ok(roles)
}
