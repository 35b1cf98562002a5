//! How the calling side knows the controller, and what it says when it does not.

use std::{error::Error as StdError, sync::Arc};

use quell_model::digest::Digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::Error;
use crate::{
    ALPN,
    identity::{Certificate, Subject, key_digest},
    provider,
};

/// A configuration that shows a certificate and takes the controller of one installation.
pub(crate) fn with_certificate(
    roots: &[CertificateDer<'static>],
    installation: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, Error> {
    let trust = Trust::Installation { roots: store(roots)?, installation: installation.to_owned() };
    let mut config =
        builder(trust)?.with_client_auth_cert(chain, key).map_err(|error| Error::Tls(error.to_string()))?;
    finish(&mut config);
    Ok(Arc::new(config))
}

/// A configuration for joining: no certificate, and whoever holds the CA with this fingerprint.
pub(crate) fn pinned(fingerprint: Digest) -> Result<Arc<ClientConfig>, Error> {
    let mut config = builder(Trust::Fingerprint(fingerprint))?.with_no_client_auth();
    finish(&mut config);
    Ok(Arc::new(config))
}

fn builder(trust: Trust) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ControllerVerifier { trust })))
}

fn finish(config: &mut ClientConfig) {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    // Controllers are known by their URI: what is asked for by name would only tell others who listens there.
    config.enable_sni = false;
}

pub(crate) fn store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| Error::Tls(error.to_string()))?;
    }
    Ok(store)
}

/// Checks that a client's certificate is one of these roots', whatever the time. With roots that its own certificate is
/// not of, a machine would be locked out for good.
pub(crate) fn check_issuer(
    certificate: &CertificateDer<'static>,
    roots: &[CertificateDer<'static>],
    not_after: jiff::Timestamp,
) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| format!("the certificate is not of the CA that comes with it: {error}");
    let roots = store(roots).map_err(|error| words(&error))?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| words(&error))?;
    let seconds = u64::try_from(not_after.as_second()).map_err(|error| words(&error))?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier.verify_client_cert(certificate, &[], at).map(drop).map_err(|error| words(&error))
}

/// Whom the calling side takes for the controller.
#[derive(Debug)]
enum Trust {
    /// Who has a certificate of these roots for this installation.
    Installation { roots: RootCertStore, installation: String },
    /// Who shows a CA with this fingerprint, and a controller's certificate of it.
    Fingerprint(Digest),
}

/// What is wrong with a controller, beyond what X.509 knows.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error(
        "it belongs to another installation: its CA has the fingerprint {shown}, the join string names {wanted}; make a join string there with `quell token create`"
    )]
    OtherAuthority { shown: String, wanted: String },
    #[error("it is the controller of installation {shown}, not of {wanted}")]
    OtherInstallation { shown: String, wanted: String },
    #[error("it is not a controller: {0}")]
    NotAController(String),
}

impl From<Stranger> for rustls::Error {
    fn from(stranger: Stranger) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(stranger))))
    }
}

/// Checks the controller's certificate.
#[derive(Debug)]
struct ControllerVerifier {
    trust: Trust,
}

impl ControllerVerifier {
    fn check_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms.all;
        match &self.trust {
            Trust::Installation { roots, .. } => {
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
            }
            Trust::Fingerprint(wanted) => {
                let mut roots = RootCertStore::empty();
                roots.add(pinned_root(intermediates, wanted)?)?;
                verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms)
            }
        }
    }

    fn check_subject(&self, end_entity: &CertificateDer<'_>) -> Result<(), Stranger> {
        let certificate = Certificate::read(end_entity).map_err(|error| Stranger::NotAController(error.to_string()))?;
        let Subject::Controller { installation: shown } = certificate.subject else {
            return Err(Stranger::NotAController(format!("its certificate is for {}", certificate.subject)));
        };
        match &self.trust {
            Trust::Installation { installation, .. } if *installation != shown => {
                Err(Stranger::OtherInstallation { shown, wanted: installation.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// The certificate in the chain that the join string pins.
fn pinned_root(chain: &[CertificateDer<'_>], wanted: &Digest) -> Result<CertificateDer<'static>, Stranger> {
    let digests: Vec<_> = chain.iter().filter_map(|one| Some((key_digest(one).ok()?, one))).collect();
    match digests.iter().find(|(digest, _)| digest == wanted) {
        Some((_, root)) => Ok((*root).clone().into_owned()),
        None => Err(Stranger::OtherAuthority {
            shown: digests.last().map_or_else(|| "none".to_owned(), |(digest, _)| digest.short()),
            wanted: wanted.short(),
        }),
    }
}

impl ServerCertVerifier for ControllerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check_chain(end_entity, intermediates, now)?;
        self.check_subject(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = provider();
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a TLS error means to a person, if the error is one.
pub(crate) fn reason_of(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(reason(error));
    }
    // An `io::Error` hides what it was made of from `source`.
    error.downcast_ref::<std::io::Error>()?.get_ref().and_then(|inner| reason_of(inner))
}

fn reason(error: &rustls::Error) -> String {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Other(OtherError(other)) => other.to_string(),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not of this installation's CA: compare the address with that of the controller, or use a \
                 profile or a join string of the installation that is there"
                    .to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: compare this machine's clock with the controller's".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has ended: compare this machine's clock with the controller's".to_owned()
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "it is not a controller: its certificate is for another purpose".to_owned()
            }
            other => other.to_string(),
        },
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "the controller finds this certificate ended, or not valid yet; an agent's that ended over 30 days ago \
             cannot be renewed: join again"
                .to_owned()
        }
        rustls::Error::AlertReceived(
            Alert::UnknownCA | Alert::DecryptError | Alert::BadCertificate | Alert::CertificateUnknown,
        ) => "the controller does not know this certificate: it was issued by another installation; use a profile of \
              this one, or join it".to_owned(),
        rustls::Error::InvalidMessage(_) => "what listens there does not speak TLS".to_owned(),
        other => other.to_string(),
    }
}
