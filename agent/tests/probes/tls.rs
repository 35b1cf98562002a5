//! `tls` and `https` against real servers whose authority the host trusts, or does not.
//!
//! Authorities are read once in a process, from the file that its environment names. So the test runs itself again as a
//! process with that variable.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quell_agent::probes::Attempt;
use quell_model::{probe::ProbeSpec, value::Fields};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{ALLOW, PATIENT, context, probe};

const INSIDE: &str = "QUELL_TEST_TLS_INSIDE";
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server over TLS that answers every request with a page, and how many requests it has seen.
struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Its certificate is for this name and 127.0.0.1, ends in so many seconds, and is signed by nobody but itself when
    /// there is no authority.
    async fn start(name: &str, ends_in: i64, authority: Option<&Authority>) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if name != "other.example" {
            params.subject_alt_names.push(rcgen::SanType::IpAddress([127, 0, 0, 1].into()));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        params.not_before = at(now - 30 * DAY);
        params.not_after = at(now.saturating_add_signed(ends_in));
        let key = KeyPair::generate().unwrap();
        let certificate = match authority {
            Some(authority) => params.signed_by(&key, authority).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self::serve(certificate, &key).await
    }

    async fn serve(certificate: rcgen::Certificate, key: &KeyPair) -> Self {
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut buffer = [0; 1024];
                    if matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let page = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready";
                        let _gone = stream.write_all(page).await;
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn tls(&self, name: &str) -> ProbeSpec {
        ProbeSpec::Tls { address: self.address.to_string(), name: Some(name.to_owned()) }
    }

    fn https(&self) -> ProbeSpec {
        ProbeSpec::Http { url: format!("https://{}/health", self.address), status: None, body: Some("ready".into()) }
    }
}

async fn look(spec: &ProbeSpec) -> (Result<(), String>, Fields) {
    let data = tempfile::tempdir().unwrap();
    match probe(spec, &context(ALLOW, data.path()).await).attempt(PATIENT).await {
        Attempt::Judged { result, fields } => (result, fields),
        Attempt::Unjudged { reason, .. } => panic!("not judged: {reason}"),
    }
}

/// What is refused, by `tls` with its reason and by `https` without a request.
async fn is_refused(server: &Server, name: &str, why: &str) -> Fields {
    let (result, fields) = look(&server.tls(name)).await;
    let reason = result.unwrap_err();
    assert!(reason.contains(why), "{reason}");
    let (result, _) = look(&server.https()).await;
    assert!(result.unwrap_err().contains("the TLS handshake failed"));
    assert_eq!(server.requests.load(Ordering::Relaxed), 0, "a request was sent to a server that was refused ({why})");
    fields
}

/// This test of this program again, with the authorities that its environment names.
fn again(test: &str, bundle: &Path, inside: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SSL_CERT_FILE", bundle)
        .env(INSIDE, inside)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn only_what_a_trusted_authority_signed_for_this_name_is_accepted() {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return inside(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let trusted = authority("The shop's own authority");
    std::fs::write(directory.path().join("ca.pem"), trusted.pem()).unwrap();
    std::fs::write(directory.path().join("ca.key"), trusted.key().serialize_pem()).unwrap();
    let test = "tls::only_what_a_trusted_authority_signed_for_this_name_is_accepted";
    again(test, &directory.path().join("ca.pem"), directory.path().to_str().unwrap());
}

async fn inside(directory: &Path) {
    let key = KeyPair::from_pem(&std::fs::read_to_string(directory.join("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "The shop's own authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let trusted = CertifiedIssuer::self_signed(params, key).unwrap();
    let days = |count: i64| count * 24 * 3600;

    let good = Server::start("shop.example", days(90), Some(&trusted)).await;
    let (result, fields) = look(&good.tls("shop.example")).await;
    assert_eq!(result, Ok(()));
    let left = fields["expires_in"].number().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few months in seconds")]
    let months = days(90) as f64;
    assert!((months - left).abs() < 120.0, "{left}");
    assert!(fields["issuer"].text().unwrap().contains("The shop's own authority"));
    let (result, fields) = look(&good.https()).await;
    assert_eq!((result, &fields["status"], &fields["body_matches"]), (Ok(()), &200.0.into(), &true.into()));
    assert_eq!(good.requests.load(Ordering::Relaxed), 1);

    // It still holds, and how long is what people ask for.
    let near = Server::start("shop.example", 3600, Some(&trusted)).await;
    let (result, fields) = look(&near.tls("shop.example")).await;
    assert_eq!(result, Ok(()));
    assert!((3400.0..=3600.0).contains(&fields["expires_in"].number().unwrap()), "{fields:?}");

    let expired = Server::start("shop.example", -3600, Some(&trusted)).await;
    let fields = is_refused(&expired, "shop.example", "expired").await;
    assert!(fields["expires_in"].number().unwrap() < 0.0, "it is told all the same: {fields:?}");

    let other = Server::start("other.example", days(90), Some(&trusted)).await;
    is_refused(&other, "shop.example", "not valid for").await;

    let alone = Server::start("shop.example", days(90), None).await;
    is_refused(&alone, "shop.example", "UnknownIssuer").await;
    let stranger = Server::start("shop.example", days(90), Some(&authority("A stranger"))).await;
    is_refused(&stranger, "shop.example", "UnknownIssuer").await;
    // The same name as that of the trusted one does not help.
    let namesake = Server::start("shop.example", days(90), Some(&authority("The shop's own authority"))).await;
    is_refused(&namesake, "shop.example", "the TLS handshake failed").await;
}

#[tokio::test]
async fn a_named_bundle_that_holds_nothing_is_said_and_nothing_takes_its_place() {
    if std::env::var_os(INSIDE).is_some() {
        let server = Server::start("shop.example", 3600, None).await;
        let (result, _) = look(&server.tls("shop.example")).await;
        let reason = result.unwrap_err();
        assert!(reason.contains("SSL_CERT_FILE names") && reason.contains("holds no certificate"), "{reason}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    again("tls::a_named_bundle_that_holds_nothing_is_said_and_nothing_takes_its_place", &empty, "yes");
}
