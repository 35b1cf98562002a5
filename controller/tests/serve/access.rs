//! Who may call what: the rows come from the descriptors and from the table of HTTP routes, and each is called over real
//! TLS by every kind of caller. What happens is what the table says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use jiff::Timestamp;
use prost::Message as _;
use quell_controller::{init, web};
use quell_link::{
    access::{ALERT_SOURCE, ALERTMANAGER, Caller, Right, Rule, TABLE},
    authority::{self, Authority},
    join,
    rpc::{enrolment_service_client::EnrolmentServiceClient, operator_service_client::OperatorServiceClient},
};
use quell_wire::v1::{
    ChangeHostRequest, CreateOperatorRequest, CreateTokenRequest, GetRequest, JoinRequest, RenewRequest,
    RevokeOperatorRequest,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    harness::{PATIENCE, Running, next, start},
    web::call as call_http,
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Every service that the controller serves, and every method of it, as its path.
fn served() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for descriptors in [
        quell_wire::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in prost_types::FileDescriptorSet::decode(descriptors).unwrap().file {
            for service in &file.service {
                let of = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                paths.extend(service.method.iter().map(|method| of(method.name())));
            }
        }
    }
    paths
}

/// The service of a path.
fn service(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap()
}

#[test]
fn every_call_that_is_served_has_one_row_and_no_row_is_left_over() {
    let rows: BTreeSet<String> = TABLE.iter().map(|rule| rule.path.to_owned()).collect();
    assert_eq!(rows.len(), TABLE.len(), "a call has two rows");
    let mut served = served();
    served.insert(ALERTMANAGER.to_owned());
    assert_eq!(rows, served);
}

#[test]
fn agents_and_operators_have_services_of_their_own() {
    for rule in TABLE {
        let is_right = match service(rule.path) {
            "quell.v1.AgentService" => rule.caller == Caller::Agent,
            "quell.v1.EnrolmentService" => matches!(rule.caller, Caller::Anyone | Caller::LateAgent),
            _ if rule.path == "/grpc.health.v1.Health/Check" => rule.caller == Caller::Anyone,
            _ if rule.path == ALERTMANAGER => rule.caller == Caller::AlertSource,
            _ => matches!(rule.caller, Caller::Operator(_)),
        };
        assert!(is_right, "{rule:?}");
    }
}

/// What a caller shows in the handshake.
pub(crate) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Shown {
    fn new(chain: impl IntoIterator<Item = impl Into<CertificateDer<'static>>>, key: &rcgen::KeyPair) -> Self {
        Self { chain: chain.into_iter().map(Into::into).collect(), key: key.serialize_der() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Agent,
    Operator(Right),
    AlertSource,
}

/// A kind of caller.
struct Kind {
    name: &'static str,
    who: Who,
    is_expired: bool,
    is_revoked: bool,
    shown: Option<Shown>,
}

impl Kind {
    fn good(name: &'static str, who: Who, shown: Option<Shown>) -> Self {
        Self { name, who, is_expired: false, is_revoked: false, shown }
    }

    /// What the table means for this kind. Absent: it may call.
    fn refusal(&self, wanted: Caller) -> Option<Refusal> {
        // Only agents renew by themselves: an operator whose certificate has ended does not even reach the table.
        if self.is_expired && self.who != Who::Agent {
            return Some(Refusal::Handshake("CertificateExpired"));
        }
        if self.is_revoked {
            return Some(Refusal::Told(Code::PermissionDenied, "revoked"));
        }
        let code = if self.who == Who::Nobody { Code::Unauthenticated } else { Code::PermissionDenied };
        match (wanted, self.who) {
            (Caller::Anyone, _) | (Caller::LateAgent, Who::Agent) => None,
            (Caller::Agent, Who::Agent) => {
                self.is_expired.then_some(Refusal::Told(Code::Unauthenticated, "the certificate of"))
            }
            (Caller::LateAgent | Caller::Agent, _) => {
                Some(Refusal::Told(code, "takes an agent's certificate, and the caller"))
            }
            (Caller::Operator(needed), Who::Operator(has)) => {
                (has < needed).then_some(Refusal::Told(Code::PermissionDenied, "needs the role"))
            }
            (Caller::AlertSource, Who::AlertSource) => None,
            (Caller::AlertSource, Who::Operator(_)) | (Caller::Operator(_), Who::AlertSource) => {
                Some(Refusal::Told(Code::PermissionDenied, "needs the role"))
            }
            (Caller::Operator(_) | Caller::AlertSource, _) => {
                Some(Refusal::Told(code, "takes an operator's certificate, and the caller"))
            }
        }
    }

    /// What becomes of a call that is in no row.
    fn refusal_of_the_unknown(&self) -> Refusal {
        let unknown = Refusal::Told(Code::PermissionDenied, "is not a call that anybody may make");
        // Who may not even make the calls that are open to anyone hears that.
        self.refusal(Caller::Anyone).unwrap_or(unknown)
    }
}

/// How a call is refused.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// By a status with this code and these words.
    Told(Code, &'static str),
    /// By the TLS alert of this name.
    Handshake(&'static str),
}

impl Refusal {
    fn is(self, result: &Result<(), Status>) -> bool {
        result.as_ref().is_err_and(|status| match self {
            Self::Told(code, words) => status.code() == code && status.message().contains(words),
            Self::Handshake(alert) => format!("{status:?}").contains(alert),
        })
    }
}

/// A connection by whoever has this certificate, as it is: nothing is checked or renewed before it is shown.
pub(crate) async fn connect(controller: &Running, shown: Option<&Shown>) -> Result<Channel, Status> {
    let authority = authority(controller);
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(authority.roots().remove(0)).unwrap();
    let builder = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(
        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&tokio_rustls::rustls::version::TLS13])
    .unwrap()
    .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let key = PrivateKeyDer::Pkcs8(shown.key.clone().into());
            builder.with_client_auth_cert(shown.chain.clone(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (tls, address) = (tokio_rustls::TlsConnector::from(Arc::new(config)), controller.address);
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = tls.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = ServerName::from(address.ip());
            tls.connect(name, stream).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://quell.controller");
    endpoint.connect_with_connector(connector).await.map_err(|error| Status::from_error(error.into()))
}

fn authority(controller: &Running) -> Authority {
    Authority::load(&controller.directory.path().join("controller").join(init::AUTHORITY)).unwrap()
}

/// A host that has joined, what it shows, and the same with a certificate that ended two days ago.
pub(crate) async fn agent(controller: &Running, name: &str) -> (Shown, Shown) {
    let request =
        CreateTokenRequest { ttl_ms: 60_000, uses: 1, name: name.to_owned(), ..CreateTokenRequest::default() };
    let token = controller.operator().await.create_token(request).await.unwrap().into_inner();
    let (key, csr_der) = authority::new_key().unwrap();
    let request = JoinRequest {
        token: token.secret,
        name: name.to_owned(),
        csr_der: csr_der.clone(),
        agent_version: "0.0.0-fake".to_owned(),
        grant_digest: join::grant_digest(&Default::default()).0.to_vec(),
    };
    let mut anonymous = EnrolmentServiceClient::new(connect(controller, None).await.unwrap());
    let joined = anonymous.join(request).await.unwrap().into_inner();
    let (name, issued) = (name.parse().unwrap(), Timestamp::now() - 3 * DAY);
    let late = authority(controller).issue_agent(&csr_der, &name, &joined.host_id, issued, DAY).unwrap();
    (Shown::new(joined.chain_der, &key), Shown::new(late.chain, &key))
}

/// An operator with a role, what it shows, and the same with a certificate that ended two days ago.
pub(crate) async fn operator(controller: &Running, name: &str, role: &str) -> (Shown, Shown) {
    let (key, csr_der) = authority::new_key().unwrap();
    let request = CreateOperatorRequest {
        name: name.to_owned(),
        roles: vec![role.to_owned()],
        csr_der: csr_der.clone(),
        ttl_ms: 0,
    };
    let admitted = controller.operator().await.create_operator(request).await.unwrap().into_inner();
    let late = authority(controller).issue_operator(&csr_der, name, Timestamp::now() - 3 * DAY, DAY).unwrap();
    (Shown::new(admitted.chain_der, &key), Shown::new(late.chain, &key))
}

/// Every kind of caller; those that are revoked had a connection before, and it is good for nothing any more.
async fn kinds(controller: &Running) -> Vec<Kind> {
    let (current_agent, late_agent) = agent(controller, "planthost1").await;
    let (revoked_agent, _) = agent(controller, "planthost2").await;
    let (viewer, _) = operator(controller, "vera", "viewer").await;
    let (compliance, _) = operator(controller, "carl", "compliance").await;
    let (acting, _) = operator(controller, "oona", "operator").await;
    let (source, _) = operator(controller, "prometheus", ALERT_SOURCE).await;
    let (admin, late_admin) = operator(controller, "ada", "admin").await;
    let (revoked_admin, _) = operator(controller, "rudi", "admin").await;

    let mut of_agent = EnrolmentServiceClient::new(connect(controller, Some(&revoked_agent)).await.unwrap());
    let mut of_admin = OperatorServiceClient::new(connect(controller, Some(&revoked_admin)).await.unwrap());
    let get = || GetRequest { kind: "hosts".to_owned(), ..GetRequest::default() };
    of_admin.get(get()).await.unwrap();
    let (host, reason) = ("planthost2".to_owned(), "sold".to_owned());
    let request = ChangeHostRequest { name: host, change: "revoke".to_owned(), reason, ..ChangeHostRequest::default() };
    controller.operator().await.change_host(request).await.unwrap();
    of_agent.renew(RenewRequest { csr_der: authority::new_key().unwrap().1 }).await.expect_err("it was revoked");
    let request = RevokeOperatorRequest { name: "rudi".to_owned(), reason: "left".to_owned() };
    controller.operator().await.revoke_operator(request).await.unwrap();
    of_admin.get(get()).await.expect_err("rudi was revoked");

    let everything = Who::Operator(Right::Administer);
    vec![
        Kind::good("no certificate", Who::Nobody, None),
        Kind::good("agent", Who::Agent, Some(current_agent)),
        Kind { is_expired: true, ..Kind::good("agent, expired", Who::Agent, Some(late_agent)) },
        Kind { is_revoked: true, ..Kind::good("agent, revoked", Who::Agent, Some(revoked_agent)) },
        Kind::good("viewer", Who::Operator(Right::Read), Some(viewer)),
        Kind::good("compliance", Who::Operator(Right::Decide), Some(compliance)),
        Kind::good("operator", Who::Operator(Right::Act), Some(acting)),
        Kind::good("source of alerts", Who::AlertSource, Some(source)),
        Kind::good("admin", everything, Some(admin)),
        Kind { is_expired: true, ..Kind::good("admin, expired", everything, Some(late_admin)) },
        Kind { is_revoked: true, ..Kind::good("admin, revoked", everything, Some(revoked_admin)) },
    ]
}

/// Calls a path with one empty message, on a connection of its own, and takes the first answer.
async fn call(controller: &Running, kind: &Kind, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(connect(controller, kind.shown.as_ref()).await?);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let request = Request::new(tokio_stream::once(()));
    let answer = client.streaming(request, PathAndQuery::from_static(path), codec);
    let mut answers = tokio::time::timeout(PATIENCE, answer).await.expect("no answer")?.into_inner();
    next(&mut answers).await.map(drop)
}

/// Like [`call`]. Who is revoked may be cut before the answer has come, and asks again to hear it.
async fn call_until_told(controller: &Running, kind: &Kind, path: &'static str) -> Result<(), Status> {
    let mut result = call(controller, kind, path).await;
    for _ in 0..10 {
        let was_cut = result.as_ref().is_err_and(|status| std::error::Error::source(status).is_some());
        if !was_cut || !kind.is_revoked {
            break;
        }
        result = call(controller, kind, path).await;
    }
    result
}

/// Whether the service itself has answered: the table, and the router that knows no such call, have words of their own.
fn is_of_the_service(result: &Result<(), Status>) -> bool {
    const OF_THE_TABLE: [&str; 5] =
        ["certificate, and the caller", "the certificate of", "needs the role", "revoked", "anybody may make"];
    match result {
        Ok(()) => true,
        Err(status) => {
            matches!(
                status.code(),
                Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::FailedPrecondition
            ) && OF_THE_TABLE.iter().all(|words| !status.message().contains(words))
        }
    }
}

/// Calls one row as one kind of caller.
async fn check(controller: &Running, rule: &Rule, kind: &Kind) {
    let result = call_until_told(controller, kind, rule.path).await;
    let is_right = match kind.refusal(rule.caller) {
        Some(refusal) => refusal.is(&result),
        // It answers over HTTP, with 400 to what is not Alertmanager's.
        None if rule.path == ALERTMANAGER => result.as_ref().is_err_and(|status| status.message().contains("400")),
        None => is_of_the_service(&result),
    };
    assert!(is_right, "{} on {} ({:?}): {result:?}", kind.name, rule.path, rule.caller);
}

#[tokio::test]
async fn every_row_holds_for_every_kind_of_caller() {
    let controller = start().await;
    for kind in kinds(&controller).await {
        for rule in TABLE {
            check(&controller, rule, &kind).await;
        }
        // What is served elsewhere, and what is served nowhere.
        let routes = web::ROUTES.iter().map(|route| route.path);
        for path in routes.chain(["/", "/quell.v1.OperatorService/Shutdown", "/quell.v1.OperatorService/get"]) {
            let result = call_until_told(&controller, &kind, path).await;
            assert!(kind.refusal_of_the_unknown().is(&result), "{} on {path}: {result:?}", kind.name);
        }
    }
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn every_http_route_is_open_can_only_be_read_and_there_are_no_others() {
    let controller = start().await;
    let _admitted = controller.operator().await;
    for route in web::ROUTES {
        assert_eq!(call_http(&controller, "GET", route.path).await.0, 200, "{}: {}", route.path, route.purpose);
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(call_http(&controller, method, route.path).await.0, 405, "{method} {}", route.path);
        }
    }
    for path in TABLE.iter().map(|rule| rule.path).chain(["/", "/metrics/", "/debug/pprof"]) {
        for verb in ["GET", "POST"] {
            assert_eq!(call_http(&controller, verb, path).await.0, 404, "{verb} {path}");
        }
    }
    controller.stop().await.unwrap();
}
