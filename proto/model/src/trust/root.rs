//! What an agent believes: who may sign what, and how many of them it takes.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Denied, Malformed, NAMESPACE_TRUST,
    denied::Lacking,
    document::{self, rule},
    signers::{self, AllowedSigners, LineError, Refused, Signer},
};
use crate::{digest::Digest, name::ObjectName};

const KIND: &str = "trust root";
/// The largest whole number that a double holds with all those below it.
pub(super) const LARGEST_NUMBER: u64 = (1 << 53) - 1;
/// Signatures that are looked at under one document; more are refused, so that nobody can make an agent verify for ever.
const MOST_SIGNATURES: usize = 64;
/// The name in [`TrustRoot::required`] that says how many must sign a change of the root itself.
const TRUST: &str = "trust";

/// The name in [`TrustRoot::required`] that says how many must sign limits, and that hosts demand them.
const LIMITS: &str = "limits";

/// The root of trust: signed in namespace `quell-trust`, by the signers of the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRoot {
    /// The installation that it is of.
    pub installation: String,
    /// From 1; each change adds 1.
    pub version: u64,
    /// The text of the `allowed_signers` file.
    pub allowed_signers: String,
    /// How many distinct people must sign, by namespace of policies; 1 where nothing is said. The name `trust` says it
    /// for changes of the root. The name `limits` says it for limits, and that hosts do nothing without them.
    pub required: BTreeMap<ObjectName, u32>,
}

/// A root whose signers have been read, once.
#[derive(Debug, Clone)]
pub struct Believed {
    root: TrustRoot,
    digest: Digest,
    signers: AllowedSigners,
}

impl TrustRoot {
    /// Its canonical bytes: what is signed and hashed.
    pub fn canonical(&self) -> String {
        document::write(self)
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Reads a root from its canonical bytes.
    ///
    /// # Errors
    /// The bytes are not canonical, or break a rule of a root.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let root: Self = document::read(KIND, bytes)?;
        root.check()?;
        Ok(root)
    }

    /// Whether hosts demand limits with every order that acts, whatever its namespace: said by how many must sign them.
    pub fn demands_limits(&self) -> bool {
        self.required.contains_key(LIMITS)
    }

    fn check(&self) -> Result<(), Malformed> {
        rule(KIND, !self.installation.is_empty(), || "it names no installation".to_owned())?;
        rule(KIND, (1..=LARGEST_NUMBER).contains(&self.version), || format!("version {} cannot be", self.version))?;
        let zero = self.required.iter().find(|(_, count)| **count == 0);
        rule(KIND, zero.is_none(), || {
            format!("required.{} is 0: then nobody signs", zero.map_or("", |(n, _)| n.as_str()))
        })
    }

    /// The root that follows a current one, when it is signed as the current one demands.
    ///
    /// # Errors
    /// It is not signed by enough of the current signers, is of another installation, is not the next version, cannot
    /// be read, or would leave too few people able to sign the next change.
    pub fn succeeds(
        current: &Believed,
        bytes: &[u8],
        signatures: &[String],
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Self, Denied> {
        let signed = current.signed_by(NAMESPACE_TRUST, bytes, signatures, now, zone)?;
        let needed = current.required_for_trust();
        if signed.people.len() < needed as usize {
            return Err(signed.lacking(NAMESPACE_TRUST, needed));
        }
        let next = Self::parse(bytes)?;
        if next.installation != current.root.installation {
            return Err(Denied::Installation {
                what: KIND,
                found: next.installation,
                wanted: current.root.installation.clone(),
            });
        }
        if next.version != current.root.version + 1 {
            return Err(Denied::RootVersion { found: next.version, current: current.root.version });
        }
        Believed::new(next.clone())?.is_changeable(now, zone)?;
        Ok(next)
    }
}

/// Who signed some bytes, and why other signatures do not count.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) people: Vec<Signer>,
    pub(super) refused: Vec<Refused>,
}

impl Signed {
    pub(super) fn lacking(self, namespace: &str, needed: u32) -> Denied {
        let found = self.people.into_iter().map(|signer| signer.principal).collect();
        Denied::Signatures(Lacking { namespace: namespace.to_owned(), needed, found, refused: self.refused })
    }
}

impl Believed {
    /// Reads the signers of a root.
    ///
    /// # Errors
    /// The root breaks a rule, or a line of its `allowed_signers` is wrong.
    pub fn new(root: TrustRoot) -> Result<Self, Malformed> {
        root.check()?;
        let signers = AllowedSigners::parse(&root.allowed_signers).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(LineError::to_string).collect();
            Malformed { kind: KIND, why: format!("allowed_signers: {}", lines.join("; ")) }
        })?;
        Ok(Self { digest: root.digest(), root, signers })
    }

    /// The root.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// The root's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who may sign what.
    pub fn signers(&self) -> &AllowedSigners {
        &self.signers
    }

    /// How many distinct people must sign for a namespace of policies.
    pub fn required(&self, namespace: &ObjectName) -> u32 {
        self.root.required.get(namespace).copied().unwrap_or(1).max(1)
    }

    /// How many distinct people must sign a change of the root.
    pub fn required_for_trust(&self) -> u32 {
        self.root.required.get(TRUST).copied().unwrap_or(1).max(1)
    }

    /// How many distinct people must sign a namespace's limits.
    pub fn required_for_limits(&self) -> u32 {
        self.root.required.get(LIMITS).copied().unwrap_or(1).max(1)
    }

    /// Whether hosts demand limits with every order that acts.
    pub fn demands_limits(&self) -> bool {
        self.root.demands_limits()
    }

    /// Whether the root can still be changed: enough people could sign a change now.
    ///
    /// # Errors
    /// Too few could.
    pub fn is_changeable(&self, now: Timestamp, zone: &TimeZone) -> Result<(), Denied> {
        let able = self.signers.people(NAMESPACE_TRUST, now, zone).len();
        let needed = self.required_for_trust();
        if able < needed as usize { Err(Denied::Unchangeable { able, needed }) } else { Ok(()) }
    }

    /// The distinct people who signed exact bytes in a namespace.
    pub(super) fn signed_by(
        &self,
        namespace: &str,
        bytes: &[u8],
        signatures: &[String],
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Signed, Denied> {
        if signatures.len() > MOST_SIGNATURES {
            return Err(Denied::TooMany { what: "signatures", found: signatures.len(), most: MOST_SIGNATURES });
        }
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for signature in signatures {
            match self.signers.verify(namespace, bytes, signature, now, zone) {
                Ok(signer) => good.push(signer),
                Err(why) => refused.push(why),
            }
        }
        Ok(Signed { people: signers::distinct(good), refused })
    }
}
