//! An agent's identity: its files, and the certificate in use, which changes while the agent runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use quell_model::{name::HostName, selector::Labels};
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::{Error, tls};
use crate::{
    files,
    identity::{Certificate, Role, Subject},
    pem,
};

/// The private key, made on the host; it never leaves it.
pub(super) const KEY_FILE: &str = "key.pem";
/// The certificate and what chains it to the CA.
const CHAIN_FILE: &str = "chain.pem";
/// The CA's certificates.
const ROOTS_FILE: &str = "roots.pem";
/// Everything else; written last, so that its presence says that the machine has joined.
const IDENTITY_FILE: &str = "identity.toml";

/// What `identity.toml` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) name: HostName,
    pub(super) host_id: String,
    pub(super) installation: String,
    pub(super) addresses: Vec<String>,
    #[serde(default)]
    pub(super) labels: Labels,
}

/// Who this machine is, to the controller and to itself.
pub struct AgentIdentity {
    /// The host's name.
    pub name: HostName,
    /// The host's identifier: random, made when it joined.
    pub host_id: String,
    /// The labels that the join string gave.
    pub labels: Labels,
    /// Addresses of the controller, `host:port`.
    pub addresses: Vec<String>,
    /// The installation's identifier.
    pub installation: String,
    directory: PathBuf,
    key: KeyPair,
    current: ArcSwap<Current>,
}

/// The certificate in use.
struct Current {
    tls: Arc<ClientConfig>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl std::fmt::Debug for AgentIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentIdentity")
            .field("name", &self.name)
            .field("host_id", &self.host_id)
            .finish_non_exhaustive()
    }
}

impl AgentIdentity {
    /// Reads the identity from its directory. It blocks on files.
    ///
    /// # Errors
    /// The machine has not joined, or a file is damaged or, for the key, readable by others.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        Self::read(directory).map_err(|error| match error {
            // Who may read a file can be mended in place; what is not there, or not what it was, cannot.
            Error::Files(source @ (files::Error::Io { .. } | files::Error::Damaged { .. })) => {
                Error::Identity { directory: directory.display().to_string(), source }
            }
            other => other,
        })
    }

    fn read(directory: &Path) -> Result<Self, Error> {
        let facts = read_facts(directory)?.ok_or_else(|| Error::NotJoined(directory.display().to_string()))?;
        let key = read_key(directory)?;
        let read = |name: &str| -> Result<Vec<CertificateDer<'static>>, files::Error> {
            let path = directory.join(name);
            pem::certificates(&files::read(&path)?).map_err(|reason| files::Error::damaged(&path, reason))
        };
        let (chain, roots) = (read(CHAIN_FILE)?, read(ROOTS_FILE)?);
        let current = current(&facts, &key, chain, &roots)
            .map_err(|error| files::Error::damaged(&directory.join(CHAIN_FILE), error))?;
        Ok(Self::assemble(directory, facts, key, current))
    }

    fn assemble(directory: &Path, facts: Facts, key: KeyPair, current: Current) -> Self {
        Self {
            name: facts.name,
            host_id: facts.host_id,
            labels: facts.labels,
            addresses: facts.addresses,
            installation: facts.installation,
            directory: directory.to_owned(),
            key,
            current: ArcSwap::from_pointee(current),
        }
    }

    /// Writes what joining gave, `identity.toml` last. It blocks on files.
    pub(super) fn establish(
        directory: &Path,
        facts: Facts,
        key: KeyPair,
        chain: Vec<CertificateDer<'static>>,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, Error> {
        let chain_pem = pem::encode_certificates(&chain);
        let current = current(&facts, &key, chain, roots).map_err(Error::Answer)?;
        let path = directory.join(IDENTITY_FILE);
        let text = toml::to_string(&facts).map_err(|error| files::Error::damaged(&path, error))?;
        files::write(&directory.join(CHAIN_FILE), chain_pem.as_bytes())?;
        files::write(&directory.join(ROOTS_FILE), pem::encode_certificates(roots).as_bytes())?;
        files::write(&path, text.as_bytes())?;
        Ok(Self::assemble(directory, facts, key, current))
    }

    /// Takes a new certificate into use, on disk first. It blocks on files.
    pub(super) fn adopt(
        &self,
        chain: Vec<CertificateDer<'static>>,
        roots: &[CertificateDer<'static>],
    ) -> Result<(), Error> {
        let facts = Facts {
            name: self.name.clone(),
            host_id: self.host_id.clone(),
            installation: self.installation.clone(),
            addresses: self.addresses.clone(),
            labels: self.labels.clone(),
        };
        let chain_pem = pem::encode_certificates(&chain);
        let current = current(&facts, &self.key, chain, roots).map_err(Error::Answer)?;
        // The CA first: if the machine dies between the two, the old certificate is still one of a CA in the file.
        files::write(&self.directory.join(ROOTS_FILE), pem::encode_certificates(roots).as_bytes())?;
        files::write(&self.directory.join(CHAIN_FILE), chain_pem.as_bytes())?;
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// When the certificate in use ends.
    pub fn expires(&self) -> Timestamp {
        self.current.load().not_after
    }

    /// Whether the certificate in use has ended: it can then only be renewed.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires() < now
    }

    /// How long until two thirds of the certificate's life are over; zero when they are.
    pub fn until_renewal(&self, now: Timestamp) -> Duration {
        let current = self.current.load();
        let life = current.not_after.duration_since(current.not_before);
        let due = current.not_before + life * 2 / 3;
        Duration::try_from(due.duration_since(now)).unwrap_or_default()
    }

    /// The configuration for the next connection.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        self.current.load().tls.clone()
    }

    /// The key, for a signing request.
    pub(super) fn key(&self) -> &KeyPair {
        &self.key
    }
}

/// Checks that a certificate is this host's, by this key and these roots, and makes the configuration that shows it.
fn current(
    facts: &Facts,
    key: &KeyPair,
    chain: Vec<CertificateDer<'static>>,
    roots: &[CertificateDer<'static>],
) -> Result<Current, String> {
    let first = chain.first().ok_or("it holds no certificate")?;
    let certificate = Certificate::read(first).map_err(|error| error.to_string())?;
    let wanted = Subject::Role(Role::Agent { name: facts.name.clone(), host_id: facts.host_id.clone() });
    if certificate.subject != wanted {
        return Err(format!("the certificate is for {}, not for {wanted}", certificate.subject));
    }
    tls::check_issuer(first, roots, certificate.not_after)?;
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let key: PrivateKeyDer<'static> = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    // This also compares the certificate's public key with ours.
    let tls = tls::with_certificate(roots, &facts.installation, chain, key).map_err(|error| error.to_string())?;
    Ok(Current { tls, not_before, not_after })
}

/// `identity.toml`; absent when the machine has not joined.
pub(super) fn read_facts(directory: &Path) -> Result<Option<Facts>, files::Error> {
    let path = directory.join(IDENTITY_FILE);
    let content = match files::read(&path) {
        Err(error) if error.is_missing() => return Ok(None),
        other => other?,
    };
    let text = String::from_utf8(content).map_err(|error| files::Error::damaged(&path, error))?;
    let facts = toml::from_str(&text).map_err(|error| files::Error::damaged(&path, error.message()))?;
    Ok(Some(facts))
}

/// The private key.
pub(super) fn read_key(directory: &Path) -> Result<KeyPair, files::Error> {
    let path = directory.join(KEY_FILE);
    let content = files::read_secret(&path)?;
    let text = String::from_utf8(content).map_err(|error| files::Error::damaged(&path, error))?;
    KeyPair::from_pem(&text).map_err(|error| files::Error::damaged(&path, error))
}
