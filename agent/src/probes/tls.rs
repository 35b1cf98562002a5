//! `tls`: a handshake succeeds, and how long the certificate still lives.
//!
//! Expiry and issuer are reported also when the chain is not accepted: an expired certificate is what people want to
//! hear of. No secret is sent to a server whose chain was refused.

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Attempt, Boxed, Built, Context, Kind, Probe,
    address::{self, Endpoint},
};
use crate::config::Config;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Tls, build };

/// A variable of the agent's environment that names the authorities to trust, as with OpenSSL.
const NAMED_BUNDLE: &str = "SSL_CERT_FILE";

/// Where distributions keep the authorities that the host trusts, its administrator's own among them.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::Tls { address, name } = spec else { return None };
    Some(Tls::new(address, name.as_deref(), &context.config).map(|probe| Box::new(probe) as Box<dyn Probe>))
}

struct Tls {
    endpoint: Endpoint,
    name: ServerName<'static>,
    config: Arc<Config>,
}

impl Tls {
    fn new(address: &str, name: Option<&str>, config: &Arc<Config>) -> Result<Self, String> {
        let endpoint: Endpoint = address.parse()?;
        let name = server_name(name.unwrap_or(&endpoint.host))?;
        Ok(Self { endpoint, name, config: Arc::clone(config) })
    }

    async fn look(&self) -> Result<Attempt, Attempt> {
        let addresses = self.endpoint.resolve(&self.config.allow).await?;
        let stream = address::connect(&addresses).await.map_err(|error| Attempt::bad(error, Fields::new()))?;
        let mut seen = None;
        let result = handshake(stream, self.name.clone(), &mut seen).await.map(|_stream| ());
        let fields = seen.as_ref().map(certificate_fields).unwrap_or_default();
        Ok(Attempt::Judged { result, fields })
    }
}

impl Probe for Tls {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            match tokio::time::timeout(timeout, self.look()).await {
                Ok(result) => Attempt::either(result),
                Err(_) => Attempt::bad(format!("no TLS handshake within {timeout:?}"), Fields::new()),
            }
        })
    }
}

/// A name as TLS knows it.
///
/// # Errors
/// It is neither a DNS name nor an address.
pub fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is not a name that a certificate can have"))
}

/// Shakes hands over an open connection, with the authorities that the host trusts. What certificate the server showed
/// is left in `seen`, accepted or not.
///
/// # Errors
/// Why there is no connection, in words.
pub async fn handshake(
    stream: TcpStream,
    name: ServerName<'static>,
    seen: &mut Option<CertificateDer<'static>>,
) -> Result<TlsStream<TcpStream>, String> {
    let verifier = Arc::new(Witness { inner: verifier()?, seen: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let result = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    *seen = verifier.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.map_err(|error| format!("the TLS handshake failed: {error}"))
}

fn certificate_fields(certificate: &CertificateDer<'static>) -> Fields {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Fields::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in a double")]
    let not_after = parsed.validity().not_after.timestamp() as f64;
    Fields::from([
        ("expires_in".to_owned(), (not_after - now).round().into()),
        ("issuer".to_owned(), super::pattern::captured(parsed.issuer().to_string().as_bytes())),
    ])
}

/// The standard verifier over the host's authorities. They are read when the first such probe runs: most agents never
/// need them.
fn verifier() -> Result<Arc<WebPkiServerVerifier>, String> {
    static VERIFIER: OnceLock<Result<Arc<WebPkiServerVerifier>, String>> = OnceLock::new();
    VERIFIER
        .get_or_init(|| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            WebPkiServerVerifier::builder_with_provider(Arc::new(authorities()?), provider)
                .build()
                .map_err(|error| format!("no certificate authority is trusted on this host: {error}"))
        })
        .clone()
}

/// The authorities that `SSL_CERT_FILE` names; without it the host's own list, or Mozilla's as built in where the host
/// has none.
fn authorities() -> Result<RootCertStore, String> {
    // Somebody chose this file: nothing else is trusted in its place.
    if let Some(named) = std::env::var_os(NAMED_BUNDLE) {
        return read_bundle(Path::new(&named)).ok_or_else(|| {
            format!("{NAMED_BUNDLE} names {}, which holds no certificate", Path::new(&named).display())
        });
    }
    Ok(BUNDLES.iter().find_map(|bundle| read_bundle(Path::new(bundle))).unwrap_or_else(|| {
        let mut store = RootCertStore::empty();
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        store
    }))
}

/// The certificates of a PEM file, unless there are none.
fn read_bundle(path: &Path) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_file_iter(path).ok()?.filter_map(Result::ok));
    (!store.is_empty()).then_some(store)
}

/// The standard verifier, which also keeps the certificate that it was shown.
#[derive(Debug)]
struct Witness {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
