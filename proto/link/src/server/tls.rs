//! The listening side's TLS: a certificate that is replaced while it serves, and the check of client certificates.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::Error;
use crate::{
    ALPN, RENEWAL_GRACE, SERVER_TTL,
    authority::Authority,
    identity::{Certificate, Role, Subject},
    provider,
};

/// The TLS side of a listener. Its certificate is replaced at two thirds of its life, for later connections.
#[derive(Debug)]
pub struct Tls {
    authority: Arc<Authority>,
    addresses: Vec<String>,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<rustls::ServerConfig>,
    replace_at: Timestamp,
}

impl Tls {
    /// Issues the first certificate, for these IP addresses and DNS names (without ports).
    ///
    /// # Errors
    /// The authority or the TLS library refused.
    pub fn new(authority: Arc<Authority>, addresses: Vec<String>, now: Timestamp) -> Result<Arc<Self>, Error> {
        let current = issue(&authority, &addresses, now)?;
        Ok(Arc::new(Self { authority, addresses, current: ArcSwap::from_pointee(current) }))
    }

    /// Replaces the certificate for later connections; those that stand go on.
    ///
    /// # Errors
    /// The authority or the TLS library refused; the old certificate stays.
    pub fn rotate(&self, now: Timestamp) -> Result<(), Error> {
        self.current.store(Arc::new(issue(&self.authority, &self.addresses, now)?));
        Ok(())
    }

    /// Replaces the certificate when two thirds of its life are over. [`super::serve`] calls it at each sweep.
    pub(crate) fn rotate_if_due(&self, now: Timestamp) {
        if now < self.current.load().replace_at {
            return;
        }
        match self.rotate(now) {
            Ok(()) => tracing::info!("replaced the controller's certificate"),
            Err(error) => tracing::error!(%error, "cannot replace the controller's certificate"),
        }
    }

    pub(crate) fn config(&self) -> Arc<rustls::ServerConfig> {
        self.current.load().config.clone()
    }
}

fn issue(authority: &Authority, addresses: &[String], now: Timestamp) -> Result<Current, Error> {
    let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let (issued, key) = authority.issue_server(addresses, now, SERVER_TTL)?;
    let verifier = Arc::new(ClientVerifier::new(authority)?);
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(issued.chain, key)
        .map_err(|error| tls(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not be verified again; and a fleet's tickets would be memory for nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let replace_at = now + SERVER_TTL * 2 / 3;
    Ok(Current { config: Arc::new(config), replace_at })
}

/// Takes certificates of the installation's CA, and none at all; those of agents also for some time after their end,
/// since [`crate::access`] then lets them renew and nothing else.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    fn new(authority: &Authority) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for root in authority.roots() {
            roots.add(root).map_err(|error| Error::Tls(error.to_string()))?;
        }
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::Tls(error.to_string()))?;
        Ok(Self { inner })
    }
}

/// The moment at which an ended certificate is to be judged instead: its own end, if that may be overlooked.
fn moment_of_grace(end_entity: &CertificateDer<'_>, now: UnixTime) -> Option<UnixTime> {
    let certificate = Certificate::read(end_entity).ok()?;
    let Subject::Role(Role::Agent { .. }) = certificate.subject else { return None };
    let end = u64::try_from(certificate.not_after.as_second()).ok()?;
    let late = now.as_secs().saturating_sub(end);
    (late <= RENEWAL_GRACE.as_secs()).then(|| UnixTime::since_unix_epoch(std::time::Duration::from_secs(end)))
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => match moment_of_grace(end_entity, now) {
                Some(then) => self.inner.verify_client_cert(end_entity, intermediates, then),
                None => verified,
            },
            other => other,
        }
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
