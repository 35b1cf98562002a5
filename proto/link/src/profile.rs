//! Operator profiles: one file that lets one person speak to one controller.

use std::path::Path;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;

use crate::{
    client::{self, Connector},
    files,
    identity::{self, Certificate, Role, Subject},
    pem,
};

/// Everything that an operator needs to call the controller. The file holds the private key: it is written with mode
/// 0600 and refused when others can read it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The person's name, as in the certificate.
    pub name: String,
    /// The installation's identifier.
    pub installation: String,
    /// Addresses of the controller, `host:port`, tried in this order.
    pub addresses: Vec<String>,
    /// The CA's certificates, PEM.
    pub roots: String,
    /// The operator's certificate and what chains it to the CA, PEM.
    pub chain: String,
    /// The private key, PEM.
    pub key: String,
    /// RFC 8785 JSON of a trust root that the operator believes: where the way to the newest one begins.
    #[serde(default)]
    pub trust: String,
    /// The key that signs what the operator applies, runs and approves, in OpenSSH's format; absent: the operator has
    /// one of their own, which is the better place for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("installation", &self.installation)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// Puts a profile together from what the authority issued.
    pub fn new(
        name: &str,
        installation: &str,
        addresses: Vec<String>,
        roots: &[CertificateDer<'_>],
        chain: &[CertificateDer<'_>],
        key_pem: String,
    ) -> Self {
        Self {
            name: name.to_owned(),
            installation: installation.to_owned(),
            addresses,
            roots: pem::encode_certificates(roots),
            chain: pem::encode_certificates(chain),
            key: key_pem,
            trust: String::new(),
            signing_key: None,
        }
    }

    /// Reads a profile. It blocks on the file.
    ///
    /// # Errors
    /// It is not there, is not a profile, or can be read by others.
    pub fn load(path: &Path) -> Result<Self, files::Error> {
        let content = files::read_secret(path)?;
        let text = String::from_utf8(content).map_err(|error| files::Error::damaged(path, error))?;
        toml::from_str(&text).map_err(|error| files::Error::damaged(path, error.message()))
    }

    /// Writes a profile, mode 0600. It blocks on the file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn save(&self, path: &Path) -> Result<(), files::Error> {
        let text = toml::to_string(self).map_err(|error| files::Error::damaged(path, error))?;
        files::write(path, text.as_bytes())
    }

    /// When the certificate ends.
    ///
    /// # Errors
    /// The chain's first certificate is not an operator's.
    pub fn expires(&self) -> Result<Timestamp, identity::Error> {
        let chain = pem::certificates(self.chain.as_bytes()).map_err(|_| identity::Error::Unreadable)?;
        let first = chain.first().ok_or(identity::Error::Unreadable)?;
        let certificate = Certificate::read(first)?;
        match certificate.subject {
            Subject::Role(Role::Operator { .. }) => Ok(certificate.not_after),
            Subject::Role(other) => Err(identity::Error::NotAnOperator(other.to_string())),
            Subject::Controller { .. } => Err(identity::Error::NotAnOperator("a controller".to_owned())),
        }
    }

    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// Nothing answers, what answers is not the installation's controller, or the profile is damaged or has ended.
    pub async fn connect(&self) -> Result<Channel, client::Error> {
        let damaged = |what: &str, reason: String| {
            client::Error::Profile(format!("its {what} is damaged: {reason}; ask an administrator for a new profile"))
        };
        let roots = pem::certificates(self.roots.as_bytes()).map_err(|reason| damaged("CA", reason))?;
        let chain = pem::certificates(self.chain.as_bytes()).map_err(|reason| damaged("certificate", reason))?;
        let key = pem::private_key(self.key.as_bytes()).map_err(|reason| damaged("key", reason))?;
        let end = self.expires().map_err(|error| match error {
            identity::Error::NotAnOperator(_) => client::Error::Profile(error.to_string()),
            _ => damaged("certificate", error.to_string()),
        })?;
        if end < Timestamp::now() {
            return Err(client::Error::Profile(format!(
                "its certificate ended on {end:.0}: ask an administrator for a new one"
            )));
        }
        let tls = client::tls::with_certificate(&roots, &self.installation, chain, key)?;
        client::connect(Connector::fixed(self.addresses.clone(), tls)).await
    }
}
