//! Who is at the other end of a connection.
//!
//! A certificate says what its holder is by exactly one URI: `quell:agent:<host id>:<host>`,
//! `quell:operator:<person>` or `quell:controller:<installation>`. Names alone prove nothing: the key that the
//! certificate is for is part of [`Peer`], and the controller compares it with the one that joined.

use std::{fmt, net::SocketAddr, str::FromStr};

use jiff::Timestamp;
use quell_model::{digest::Digest, name::HostName};
use tokio_util::sync::CancellationToken;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

/// What a certificate says that its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An agent or an operator.
    Role(Role),
    /// A controller.
    Controller {
        /// The installation's identifier.
        installation: String,
    },
}

/// What a client of the controller can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The agent of a host.
    Agent {
        /// The host's name.
        name: HostName,
        /// The host's identifier: random, made when it joined. A host that joins again under its old name has another.
        host_id: String,
    },
    /// A person, by the name that signatures and the audit bear as well.
    Operator {
        /// The name.
        name: String,
    },
}

/// The other end of a connection to the controller. Handlers find it in `request.extensions()`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What its certificate says; absent: it showed none, which is enough for joining only.
    pub role: Option<Role>,
    /// SHA-256 of its public key info (SPKI); all zero when it showed no certificate.
    pub key: Digest,
    /// When its certificate ends; absent without one.
    pub not_after: Option<Timestamp>,
    /// Where it connects from.
    pub address: SocketAddr,
    /// The connections that this process accepted are counted: one that a peer made later has a higher number.
    pub connection: u64,
    /// Cancel this to close the connection at once, with every stream on it.
    pub cut: CancellationToken,
}

impl Peer {
    /// Whether its certificate has ended; false without one.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| end < now)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{role} at {}", self.address),
            None => write!(f, "{} without a certificate", self.address),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { name, .. } => write!(f, "the agent of {name}"),
            Self::Operator { name } => write!(f, "operator {name}"),
        }
    }
}

/// The certificate is not one of Quell's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read at all.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It says nothing, or too much, about who holds it.
    #[error("the certificate holds {0} names of the form quell:…, where one is wanted")]
    Ambiguous(usize),
    /// Its name is not one of ours.
    #[error(
        "the certificate's name {0:?} is not of the form quell:agent:ID:HOST, quell:operator:NAME or quell:controller:ID"
    )]
    Malformed(String),
    /// It is good for something else.
    #[error("it is the certificate of {0}, not of an operator; `quell operator create` makes profiles for people")]
    NotAnOperator(String),
    /// A name that cannot stand in a certificate.
    #[error(
        "{0:?} cannot be the name of an operator: it takes letters, digits, '.', '_', '@', '+' and '-', at most 64"
    )]
    OperatorName(String),
}

/// Whether a text can be an operator's name: what `ssh-keygen` principals usually look like, without what a URI or a
/// terminal would read as something else.
pub fn is_operator_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
        && !text.starts_with('-')
}

/// Whether a text can be the identifier of a host or an installation.
fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(Role::Agent { name, host_id }) => write!(f, "quell:agent:{host_id}:{name}"),
            Self::Role(Role::Operator { name }) => write!(f, "quell:operator:{name}"),
            Self::Controller { installation } => write!(f, "quell:controller:{installation}"),
        }
    }
}

impl FromStr for Subject {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed(text.to_owned());
        let (kind, rest) = text.strip_prefix("quell:").and_then(|rest| rest.split_once(':')).ok_or_else(malformed)?;
        match kind {
            "agent" => {
                let (host_id, name) = rest.split_once(':').ok_or_else(malformed)?;
                let name = name.parse().map_err(|_| malformed())?;
                if !is_identifier(host_id) {
                    return Err(malformed());
                }
                Ok(Self::Role(Role::Agent { name, host_id: host_id.to_owned() }))
            }
            "operator" if is_operator_name(rest) => Ok(Self::Role(Role::Operator { name: rest.to_owned() })),
            "controller" if is_identifier(rest) => Ok(Self::Controller { installation: rest.to_owned() }),
            _ => Err(malformed()),
        }
    }
}

/// What a certificate says about its holder, once its signature has been checked by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The holder.
    pub subject: Subject,
    /// SHA-256 of the public key info.
    pub key: Digest,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is not X.509, or does not bear exactly one name of ours.
    pub fn read(der: &[u8]) -> Result<Self, Error> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Unreadable)?;
        if !rest.is_empty() {
            return Err(Error::Unreadable);
        }
        let names = certificate.subject_alternative_name().map_err(|_| Error::Unreadable)?;
        let ours: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("quell:") => Some(*uri),
                _ => None,
            })
            .collect();
        let [uri] = ours[..] else { return Err(Error::Ambiguous(ours.len())) };
        let validity = certificate.validity();
        Ok(Self {
            subject: uri.parse()?,
            key: Digest::of(certificate.public_key().raw),
            not_before: timestamp(validity.not_before.timestamp())?,
            not_after: timestamp(validity.not_after.timestamp())?,
        })
    }
}

/// SHA-256 of a certificate's public key info, whoever holds it.
///
/// # Errors
/// It is not X.509.
pub fn key_digest(der: &[u8]) -> Result<Digest, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Unreadable)?;
    Ok(Digest::of(certificate.public_key().raw))
}

fn timestamp(seconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_second(seconds).map_err(|_| Error::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::{Certificate, Error, Subject, is_operator_name};

    #[test]
    fn every_kind_of_name_is_read_back() {
        for text in
            ["quell:agent:0198-ab:planthost1.example", "quell:operator:ghammer@example.com", "quell:controller:0198"]
        {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in [
            "",
            "quell:",
            "quell:agent:planthost1",
            "quell:agent::planthost1",
            "quell:agent:id:Planthost1",
            "quell:agent:id:host:more",
            "quell:operator:",
            "quell:operator:a b",
            "quell:operator:a\nb",
            "quell:admin:x",
            "spiffe:operator:x",
            "quell:controller:../x",
        ] {
            assert_eq!(text.parse::<Subject>(), Err(Error::Malformed(text.to_owned())));
        }
    }

    #[test]
    fn operator_names_cannot_pass_for_options_or_escapes() {
        assert!(is_operator_name("g.hammer+oncall@example.com"));
        for bad in ["", "-x", "a:b", "a/b", "ü", "\u{1b}[31m", &"x".repeat(65)] {
            assert!(!is_operator_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn garbage_is_not_a_certificate() {
        assert_eq!(Certificate::read(b"garbage"), Err(Error::Unreadable));
    }
}
