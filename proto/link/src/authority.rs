//! The installation's certificate authority: one key, made at `init`, that signs every certificate of the installation.
//!
//! A certificate's serial number, lifetime, usages and names are set here. From a signing request only the public key is
//! taken, after the request's own signature has shown that the asker holds it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use quell_model::{digest::Digest, name::HostName};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SigningKey as _,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    files,
    identity::{self, Role, Subject},
    pem,
};

/// How long the CA's own certificate lives.
const ROOT_TTL: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far certificates reach back at most, so that a host whose clock is a little behind does not refuse a fresh one; a
/// tenth of their life where that is less.
const LEEWAY: Duration = Duration::from_secs(3600);
/// The CA's key inside its directory.
const KEY_FILE: &str = "ca.key.pem";
/// The CA's certificate inside its directory.
const CERTIFICATE_FILE: &str = "ca.pem";
/// The installation's identifier inside the CA's directory.
const INSTALLATION_FILE: &str = "installation";
/// Largest signing request that is looked at, bytes.
const LARGEST_REQUEST: usize = 16 * 1024;

/// The authority could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// There is one already; a second one would cut every agent off.
    #[error("{path} holds a certificate authority already", path = .0.display())]
    Exists(PathBuf),
    /// What asks for a certificate is not a proper request.
    #[error("the signing request is not usable: {0}")]
    Request(String),
    /// A name that cannot stand in a certificate.
    #[error(transparent)]
    Name(#[from] identity::Error),
    /// An address that cannot stand in a certificate.
    #[error("{0:?} is neither an IP address nor a DNS name")]
    Address(String),
    /// The cryptographic library refused.
    #[error("cannot sign: {0}")]
    Sign(String),
}

/// The common name of an installation's CA.
fn holder(installation: &str) -> String {
    format!("Quell {installation}")
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

fn sign_error(error: impl std::fmt::Display) -> Error {
    Error::Sign(error.to_string())
}

/// A certificate and what chains it to the CA, the way the other end is shown it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends.
    pub not_after: Timestamp,
    /// SHA-256 of its public key info.
    pub key: Digest,
}

/// The certificate authority of one installation.
pub struct Authority {
    installation: String,
    root: CertificateDer<'static>,
    fingerprint: Digest,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("installation", &self.installation)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority and writes it to a directory, which is created with mode 0700. It blocks on files.
    ///
    /// # Errors
    /// The directory holds one already, or cannot be written; the identifier cannot stand in a certificate.
    pub fn create(directory: &Path, installation: &str, now: Timestamp) -> Result<Self, Error> {
        // Read back first: what cannot be parsed must not be signed.
        format!("quell:controller:{installation}").parse::<Subject>()?;
        let key_path = directory.join(KEY_FILE);
        if key_path.exists() {
            return Err(Error::Exists(directory.to_owned()));
        }
        let key = KeyPair::generate().map_err(sign_error)?;
        let mut params = params(now, ROOT_TTL)?.0;
        params.distinguished_name.push(DnType::CommonName, holder(installation));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).map_err(sign_error)?;
        files::create_directory(directory)?;
        files::write(&directory.join(INSTALLATION_FILE), format!("{installation}\n").as_bytes())?;
        files::write(&directory.join(CERTIFICATE_FILE), root.pem().as_bytes())?;
        files::write(&key_path, key.serialize_pem().as_bytes())?;
        Self::assemble(installation.to_owned(), root.der().clone(), key)
    }

    /// Reads the authority from its directory. It blocks on files.
    ///
    /// # Errors
    /// A file is missing, damaged or, for the key, readable by others; the key is not that of the certificate.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let text = |path: &Path, content: Vec<u8>| {
            String::from_utf8(content).map_err(|error| files::Error::damaged(path, error))
        };
        let path = directory.join(INSTALLATION_FILE);
        let installation = text(&path, files::read(&path)?)?.trim().to_owned();
        format!("quell:controller:{installation}")
            .parse::<Subject>()
            .map_err(|error| files::Error::damaged(&path, error))?;
        let path = directory.join(CERTIFICATE_FILE);
        let mut roots =
            pem::certificates(&files::read(&path)?).map_err(|reason| files::Error::damaged(&path, reason))?;
        let key_path = directory.join(KEY_FILE);
        let key = KeyPair::from_pem(&text(&key_path, files::read_secret(&key_path)?)?)
            .map_err(|error| files::Error::damaged(&key_path, error))?;
        if common_name(&roots[0]).as_deref() != Some(&holder(&installation)) {
            let reason = format!("its certificate is not that of the installation in {INSTALLATION_FILE}");
            return Err(files::Error::damaged(&path, reason).into());
        }
        let authority = Self::assemble(installation, roots.swap_remove(0), key)
            .map_err(|error| files::Error::damaged(&path, error))?;
        if authority.fingerprint != Digest::of(&authority.issuer.key().subject_public_key_info()) {
            return Err(files::Error::damaged(&key_path, format!("it is not the key of {}", path.display())).into());
        }
        Ok(authority)
    }

    /// An authority's public half: the installation's identifier and the certificates. It blocks on files.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn public(directory: &Path) -> Result<(String, Vec<CertificateDer<'static>>), Error> {
        let path = directory.join(INSTALLATION_FILE);
        let installation =
            String::from_utf8(files::read(&path)?).map_err(|error| files::Error::damaged(&path, error))?;
        let path = directory.join(CERTIFICATE_FILE);
        let roots = pem::certificates(&files::read(&path)?).map_err(|reason| files::Error::damaged(&path, reason))?;
        Ok((installation.trim().to_owned(), roots))
    }

    fn assemble(installation: String, root: CertificateDer<'static>, key: KeyPair) -> Result<Self, Error> {
        let fingerprint = identity::key_digest(&root)?;
        let issuer = Issuer::from_ca_cert_der(&root, key).map_err(sign_error)?;
        Ok(Self { installation, root, fingerprint, issuer })
    }

    /// The installation's identifier.
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// SHA-256 of the public key info of the CA: what join strings pin.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The certificates that agents and operators are to trust.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.root.clone()]
    }

    /// Signs something that is not a certificate: ECDSA over SHA-256, DER. It must begin so that it can never be one.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.issuer.key().sign(bytes).map_err(sign_error)
    }

    /// The digest of the key that a signing request is for, once the request's signature has been checked.
    ///
    /// # Errors
    /// It is not a proper request.
    pub fn requested_key(csr_der: &[u8]) -> Result<Digest, Error> {
        Ok(key_digest(&requested(csr_der)?))
    }

    /// Issues an agent's certificate.
    ///
    /// # Errors
    /// The request is not a proper one, or the identifier cannot stand in a certificate.
    pub fn issue_agent(
        &self,
        csr_der: &[u8],
        name: &HostName,
        host_id: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Issued, Error> {
        let subject = Subject::Role(Role::Agent { name: name.clone(), host_id: host_id.to_owned() });
        self.issue(&requested(csr_der)?, &subject, &[], now, ttl)
    }

    /// Issues an operator's certificate.
    ///
    /// # Errors
    /// The request is not a proper one, or the name cannot be an operator's.
    pub fn issue_operator(&self, csr_der: &[u8], name: &str, now: Timestamp, ttl: Duration) -> Result<Issued, Error> {
        if !identity::is_operator_name(name) {
            return Err(identity::Error::OperatorName(name.to_owned()).into());
        }
        let subject = Subject::Role(Role::Operator { name: name.to_owned() });
        self.issue(&requested(csr_der)?, &subject, &[], now, ttl)
    }

    /// Issues a certificate for the controller itself, with a new key, for these IP addresses and DNS names. The CA's
    /// certificate is part of the chain: who joins knows the CA by its fingerprint only.
    ///
    /// # Errors
    /// An address is neither.
    pub fn issue_server(
        &self,
        addresses: &[String],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<(Issued, PrivateKeyDer<'static>), Error> {
        let key = KeyPair::generate().map_err(sign_error)?;
        let addresses = addresses.iter().map(|address| alternative_name(address)).collect::<Result<Vec<_>, _>>()?;
        let subject = Subject::Controller { installation: self.installation.clone() };
        let mut issued = self.issue(&key, &subject, &addresses, now, ttl)?;
        issued.chain.push(self.root.clone());
        Ok((issued, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    fn issue(
        &self,
        key: &impl PublicKeyData,
        subject: &Subject,
        addresses: &[SanType],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Issued, Error> {
        let uri = subject.to_string();
        // Read back first: what cannot be parsed must not be signed.
        uri.parse::<Subject>()?;
        let (mut params, not_after) = params(now, ttl)?;
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().map_err(sign_error)?)];
        params.subject_alt_names.extend_from_slice(addresses);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (usage, name) = match subject {
            Subject::Role(Role::Agent { .. }) => (ExtendedKeyUsagePurpose::ClientAuth, "Quell agent"),
            Subject::Role(Role::Operator { .. }) => (ExtendedKeyUsagePurpose::ClientAuth, "Quell operator"),
            Subject::Controller { .. } => (ExtendedKeyUsagePurpose::ServerAuth, "Quell controller"),
        };
        params.extended_key_usages = vec![usage];
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        let certificate = params.signed_by(key, &self.issuer).map_err(sign_error)?;
        Ok(Issued { chain: vec![certificate.into()], not_after, key: key_digest(key) })
    }
}

/// Parameters with a random serial number, the lifetime, no name and no usage; and the end of the lifetime.
fn params(now: Timestamp, ttl: Duration) -> Result<(CertificateParams, Timestamp), Error> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| Error::Sign("no randomness".to_owned()))?;
    // Positive, and never shorter (RFC 5280 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    let seconds = |at: Timestamp| u64::try_from(at.as_second()).map_err(|_| sign_error("the clock stands before 1970"));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let end = seconds(now)?.saturating_add(ttl.as_secs());
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    params.distinguished_name = DistinguishedName::new();
    params.not_before = epoch + Duration::from_secs(seconds(now)?.saturating_sub(LEEWAY.min(ttl / 10).as_secs()));
    params.not_after = epoch + Duration::from_secs(end);
    let not_after = i64::try_from(end).ok().and_then(|end| Timestamp::from_second(end).ok());
    Ok((params, not_after.ok_or_else(|| sign_error("the certificate would live too long"))?))
}

/// The public key of a signing request whose signature is good.
fn requested(csr_der: &[u8]) -> Result<rcgen::PublicKey, Error> {
    if csr_der.len() > LARGEST_REQUEST {
        return Err(Error::Request(format!("it is larger than {LARGEST_REQUEST} bytes")));
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
        .map_err(|error| Error::Request(error.to_string()))?;
    let algorithm = request.public_key.algorithm();
    let accepted = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    if !accepted.contains(&algorithm) {
        return Err(Error::Request("its key is neither ECDSA (P-256, P-384) nor Ed25519".to_owned()));
    }
    Ok(request.public_key)
}

fn key_digest(key: &impl PublicKeyData) -> Digest {
    Digest::of(&key.subject_public_key_info())
}

fn alternative_name(address: &str) -> Result<SanType, Error> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    address
        .parse::<HostName>()
        .ok()
        .and_then(|name| name.as_str().try_into().ok())
        .map(SanType::DnsName)
        .ok_or_else(|| Error::Address(address.to_owned()))
}

/// A new key and a signing request for it, the way agents and operators make them.
///
/// # Errors
/// The cryptographic library refused.
pub fn new_key() -> Result<(KeyPair, Vec<u8>), Error> {
    let key = KeyPair::generate().map_err(sign_error)?;
    let csr = request_for(&key)?;
    Ok((key, csr))
}

/// A signing request for a key, DER. It asks for nothing: the controller decides what the certificate says.
///
/// # Errors
/// The cryptographic library refused.
pub fn request_for(key: &KeyPair) -> Result<Vec<u8>, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(sign_error)?.der().to_vec())
}

#[cfg(test)]
mod tests;
