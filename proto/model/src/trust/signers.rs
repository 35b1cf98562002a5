//! Who may sign what: a file in OpenSSH's format `allowed_signers` (`ssh-keygen(1)`, ALLOWED SIGNERS).
//!
//! A line, a signature and a moment mean here what they mean to `ssh-keygen -Y verify` and `find-principals`; a test
//! compares the two over a generated corpus. Deliberately different are:
//!
//! - `cert-authority`, certificates, DSA keys, RSA keys below 2048 and above 4096 bits and WebAuthn signatures are
//!   refused, with a message.
//! - [`AllowedSigners::parse`] refuses a file with a faulty line, which `ssh-keygen` skips.
//! - A line that has patterns only (`*@example.com`) names nobody in particular, and people are counted here, so its
//!   key signs nothing in [`AllowedSigners::verify`]. `ssh-keygen` is told a name to compare with by whoever asks it.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    line::{self, Line},
    signature::{Fault, Signature},
};

/// What is wrong with a line, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct LineError {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// What is wrong and how it would be right.
    pub message: String,
}

/// Who signed: a person, by one of their keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// The person's name: the first principal of the key's line that is no pattern.
    pub principal: String,
    /// The key's fingerprint, `SHA256:…`.
    pub key: String,
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.principal, self.key)
    }
}

/// Why a signature counts for nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The signature itself.
    #[error("the signature by key {key} is {fault}", key = .key.as_deref().unwrap_or("?"))]
    Signature {
        /// The key that it names, as far as it could be read.
        key: Option<String>,
        /// What is wrong.
        fault: Fault,
    },
    /// Nobody is known by this key.
    #[error("key {0} is not in allowed_signers: nobody is known by it; add it with a signed change of trust")]
    UnknownKey(String),
    /// The key may sign other things.
    #[error("key {key} may not sign in namespace {namespace:?}: line {line} of allowed_signers names others")]
    Namespace {
        /// The key.
        key: String,
        /// Where it was used.
        namespace: String,
        /// The last line that names the key.
        line: u32,
    },
    /// The key is not valid at this time.
    #[error(
        "key {key} is not valid at {at}: see valid-after and valid-before on line {line} of allowed_signers, and the \
         host's clock"
    )]
    Time {
        /// The key.
        key: String,
        /// The moment.
        at: Timestamp,
        /// The last line that names the key.
        line: u32,
    },
    /// What was signed is a ballot without an end.
    #[error("the vote does not say until when it is good: give it again, with a newer quell")]
    Endless,
    /// What was signed is a ballot that has ended.
    #[error("the vote was good until {expires:.0}, and it is {now:.0}: give it again")]
    Over {
        /// Its end.
        expires: Timestamp,
        /// The moment.
        now: Timestamp,
    },
    /// The line has patterns only.
    #[error("line {line} of allowed_signers has patterns only, and key {key} is nobody's in particular: write a name")]
    Nameless {
        /// The key.
        key: String,
        /// The line.
        line: u32,
    },
    /// The key is somebody else's.
    #[error("key {key} is not {principal}'s")]
    Principal {
        /// The key.
        key: String,
        /// Who was asked for.
        principal: String,
    },
}

/// The lines of an `allowed_signers` file.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners {
    lines: Vec<Line>,
}

impl AllowedSigners {
    /// Reads a file in which every line has to be right.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<LineError>> {
        let (signers, errors) = Self::read(text);
        if errors.is_empty() { Ok(signers) } else { Err(errors) }
    }

    /// Reads a file as `ssh-keygen` does: a line that is wrong means nobody.
    pub fn read(text: &str) -> (Self, Vec<LineError>) {
        let mut lines = Vec::new();
        let mut errors = Vec::new();
        for (number, text) in (1..).zip(text.split('\n')) {
            match line::parse(number, text) {
                Ok(line) => lines.extend(line),
                Err(fault) => {
                    let before = text.get(..fault.offset).unwrap_or(text).chars().count();
                    let column = u32::try_from(before + 1).unwrap_or(u32::MAX);
                    errors.push(LineError { line: number, column, message: fault.message });
                }
            }
        }
        (Self { lines }, errors)
    }

    /// Its lines, without comments and empty ones.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Who made an armoured signature over exact bytes in a namespace, by a key that was valid at a time. Times without
    /// `Z` are in `zone`.
    ///
    /// # Errors
    /// The signature counts for nobody.
    pub fn verify(
        &self,
        namespace: &str,
        message: &[u8],
        armoured: &str,
        at: Timestamp,
        zone: &TimeZone,
    ) -> Result<Signer, Refused> {
        let signature = checked(namespace, message, armoured)?;
        let key = signature.fingerprint();
        let line = self.find(&signature, &key, namespace, at, zone, |_| true)?;
        let principal = line.principal().ok_or_else(|| Refused::Nameless { key: key.clone(), line: line.number })?;
        Ok(Signer { principal: principal.to_owned(), key })
    }

    /// Whether a signature is this principal's, as `ssh-keygen -Y verify -I principal` asks.
    ///
    /// # Errors
    /// It is not.
    pub fn verify_as(
        &self,
        principal: &str,
        namespace: &str,
        message: &[u8],
        armoured: &str,
        at: Timestamp,
        zone: &TimeZone,
    ) -> Result<(), Refused> {
        let signature = checked(namespace, message, armoured)?;
        let key = signature.fingerprint();
        let found = self.find(&signature, &key, namespace, at, zone, |line| line.is_of(principal));
        match found {
            Ok(_) => Ok(()),
            Err(Refused::UnknownKey(_)) if self.lines.iter().any(|line| line.key == *signature.key()) => {
                Err(Refused::Principal { key, principal: principal.to_owned() })
            }
            Err(refused) => Err(refused),
        }
    }

    /// The principals of the first line with the signature's key that is valid at a time, as `ssh-keygen -Y
    /// find-principals` prints them. Neither the bytes nor the namespace are looked at.
    pub fn find_principals(&self, signature: &Signature, at: Timestamp, zone: &TimeZone) -> Option<&str> {
        let mut lines = self.lines.iter().filter(|line| line.key == *signature.key());
        lines.find(|line| line.is_valid(at, zone)).map(Line::principals)
    }

    /// The people who could sign in a namespace at a time.
    pub fn people(&self, namespace: &str, at: Timestamp, zone: &TimeZone) -> BTreeSet<&str> {
        let able = self.lines.iter().filter(|line| line.permits(namespace) && line.is_valid(at, zone));
        able.filter_map(Line::principal).collect()
    }

    /// Whether a key is this person's on any line, patterns included.
    pub fn is_key_of(&self, fingerprint: &str, principal: &str) -> bool {
        self.lines.iter().any(|line| line.fingerprint == fingerprint && line.is_of(principal))
    }

    /// The first line with the signature's key by which it counts.
    fn find(
        &self,
        signature: &Signature,
        key: &str,
        namespace: &str,
        at: Timestamp,
        zone: &TimeZone,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<&Line, Refused> {
        let mut refused = Refused::UnknownKey(key.to_owned());
        for line in self.lines.iter().filter(|line| line.key == *signature.key() && wanted(line)) {
            if !line.permits(namespace) {
                let namespace = namespace.to_owned();
                refused = Refused::Namespace { key: key.to_owned(), namespace, line: line.number };
            } else if !line.is_valid(at, zone) {
                refused = Refused::Time { key: key.to_owned(), at, line: line.number };
            } else {
                return Ok(line);
            }
        }
        Err(refused)
    }
}

/// Reads a signature and verifies it over the bytes.
fn checked(namespace: &str, message: &[u8], armoured: &str) -> Result<Signature, Refused> {
    let signature = Signature::parse(armoured).map_err(|fault| Refused::Signature { key: None, fault })?;
    signature
        .verify(namespace, message)
        .map_err(|fault| Refused::Signature { key: Some(signature.fingerprint()), fault })?;
    Ok(signature)
}

/// Distinct people: one vote a person and a key. Who signed twice, or with two keys, counts once.
pub fn distinct(signers: impl IntoIterator<Item = Signer>) -> Vec<Signer> {
    let mut people: Vec<Signer> = Vec::new();
    for signer in signers {
        if !people.iter().any(|known| known.principal == signer.principal || known.key == signer.key) {
            people.push(signer);
        }
    }
    people
}
