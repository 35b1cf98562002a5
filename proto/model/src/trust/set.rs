//! Policy sets: what is signed. Namespace, version, expiry and the digest of every manifest, so that one number covers
//! deletion, replay, mix-and-match and roll-back.
//!
//! The limits of a namespace form a set of their own, in the same form: other people sign it, in another namespace of
//! signatures, and its versions count by themselves.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Believed, Denied, Malformed, NAMESPACE_LIMITS, NAMESPACE_OBSERVE, NAMESPACE_POLICY,
    document::{self, rule},
    root::{LARGEST_NUMBER, Signed},
    run::{self, Run},
    signers::{self, Signer},
};
use crate::{
    digest::Digest,
    name::{Invalid, ObjectName},
    policy::Manifest,
};

const KIND: &str = "policy set";
/// The longest life of a set.
pub const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(400 * 24);
/// The longest life of a one-shot set.
pub const LONGEST_ONE_SHOT: SignedDuration = SignedDuration::from_hours(24);
/// How long a person's order can be carried out.
const RUN_LIFE: SignedDuration = SignedDuration::from_hours(2);
/// The namespace of people's orders.
pub const RUNS: &str = "run";
/// How the keys of limits begin.
const LIMITS_KEY: &str = "Limits/";
/// Manifests of a set of limits: all of them go with every order.
const MOST_LIMITS: usize = 8;
/// How far the clocks of a signer and a host may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// A policy set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySet {
    /// The installation that it is for.
    pub installation: String,
    /// The namespace of its manifests.
    pub namespace: ObjectName,
    /// From 1, and it only goes up; 0 for a one-shot.
    pub version: u64,
    /// When it was made.
    pub issued: Timestamp,
    /// From when on it lets nothing start.
    pub expires: Timestamp,
    /// The digest of every manifest's canonical JSON, by kind and name: `Policy/dns-failover`.
    pub manifests: BTreeMap<String, Digest>,
    /// For a person's order, its identifier: the set is good for one plan, and then never again.
    pub one_shot: Option<String>,
    /// Whether it is the set of the namespace's limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limits: bool,
}

/// Which set it is: that of a namespace's policies and what belongs to them, or that of its limits (`plants/limits`).
/// Each counts its versions by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName {
    /// The namespace of its manifests.
    pub namespace: ObjectName,
    /// Whether it is the set of the namespace's limits.
    pub limits: bool,
}

impl SetName {
    /// The set in which a manifest stands.
    pub fn of(manifest: &Manifest) -> Self {
        Self { namespace: manifest.name().namespace.clone(), limits: matches!(manifest, Manifest::Limits(_)) }
    }

    /// The set of a namespace's limits.
    pub fn of_limits(namespace: ObjectName) -> Self {
        Self { namespace, limits: true }
    }

    /// The namespace in which people sign it.
    pub fn signed_in(&self) -> &'static str {
        if self.limits { NAMESPACE_LIMITS } else { NAMESPACE_POLICY }
    }
}

impl From<ObjectName> for SetName {
    /// The set of a namespace's policies.
    fn from(namespace: ObjectName) -> Self {
        Self { namespace, limits: false }
    }
}

impl From<SetName> for String {
    fn from(name: SetName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for SetName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl FromStr for SetName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_suffix("/limits") {
            Some(namespace) => namespace.parse().map(Self::of_limits),
            None => text.parse::<ObjectName>().map(Self::from),
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.namespace, if self.limits { "/limits" } else { "" })
    }
}

impl PolicySet {
    /// The set that makes a person's order good for one plan, for two hours.
    ///
    /// # Errors
    /// The order breaks a rule of orders.
    pub fn of_run(run: &Run, installation: &str, now: Timestamp) -> Result<Self, Malformed> {
        run.check()?;
        let namespace = RUNS.parse().map_err(|error| Malformed { kind: KIND, why: format!("{error}") })?;
        Ok(Self {
            installation: installation.to_owned(),
            namespace,
            version: 0,
            issued: now,
            expires: now.checked_add(RUN_LIFE).unwrap_or(Timestamp::MAX),
            manifests: BTreeMap::from([(run.key(), run.digest())]),
            one_shot: Some(run.id.clone()),
            limits: false,
        })
    }

    /// Which set it is.
    pub fn name(&self) -> SetName {
        SetName { namespace: self.namespace.clone(), limits: self.limits }
    }

    /// Its canonical bytes: what is signed, stored, sent and hashed.
    pub fn canonical(&self) -> String {
        document::write(self)
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Reads a set from its canonical bytes. Verify their signatures first.
    ///
    /// # Errors
    /// The bytes are not canonical, or break a rule of a set.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let set: Self = document::read(KIND, bytes)?;
        set.check()?;
        Ok(set)
    }

    /// Checks what holds for every set; whoever makes one asks this before signing.
    ///
    /// # Errors
    /// A rule does not hold.
    pub fn check(&self) -> Result<(), Malformed> {
        let rule = |holds: bool, why: &dyn Fn() -> String| rule(KIND, holds, why);
        rule(!self.installation.is_empty(), &|| "it names no installation".to_owned())?;
        rule(self.version <= LARGEST_NUMBER, &|| format!("version {} cannot be", self.version))?;
        rule(self.expires > self.issued, &|| "it expires before it is issued".to_owned())?;
        let wrong = self.manifests.keys().find(|key| !is_key(key));
        rule(wrong.is_none(), &|| format!("{wrong:?} is not of the form Policy/name"))?;
        let stray = self.manifests.keys().find(|key| key.starts_with(LIMITS_KEY) != self.limits);
        rule(stray.is_none(), &|| {
            let belongs = if self.limits { "is no limits" } else { "belongs into the namespace's set of limits" };
            format!("{} {belongs}", stray.map_or("", String::as_str))
        })?;
        let few = !self.limits || (self.manifests.len() <= MOST_LIMITS && self.one_shot.is_none());
        rule(few, &|| format!("a set of limits has at most {MOST_LIMITS} of them, and is no one-shot"))?;
        let life = self.expires.duration_since(self.issued);
        match &self.one_shot {
            None => {
                rule(self.version > 0, &|| "versions begin with 1".to_owned())?;
                rule(life <= LONGEST_LIFE, &|| "it lives longer than 400 days".to_owned())
            }
            Some(id) => {
                rule(run::is_id(id), &|| format!("{id:?} is not an identifier: 1 to 64 of letters, digits and -"))?;
                rule(self.version == 0, &|| "a one-shot has version 0".to_owned())?;
                rule(life <= LONGEST_ONE_SHOT, &|| "a one-shot lives longer than 24 hours".to_owned())?;
                rule(self.manifests.len() == 1, &|| "a one-shot has exactly one manifest".to_owned())
            }
        }
    }
}

/// `Policy/dns-failover`, `Run/019a…`.
fn is_key(key: &str) -> bool {
    key.split_once('/').is_some_and(|(kind, name)| {
        let good = if kind == run::KIND { run::is_id(name) } else { name.parse::<ObjectName>().is_ok() };
        good && !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

/// What a set may do, by who signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Authority {
    /// Its policies may look, and try things out with no effect.
    Observe,
    /// Its policies may act, as far as their mode goes.
    Full,
}

/// The exact bytes of a set and the signatures over them, as they are stored and sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SignedSet {
    /// Canonical bytes of a [`PolicySet`].
    pub bytes: Vec<u8>,
    /// Armoured signatures, in `quell-policy` or `quell-policy.observe`; of a set of limits in `quell-limits`.
    pub signatures: Vec<String>,
}

/// A set whose signatures have been verified, in time.
#[derive(Debug, Clone)]
pub struct VerifiedSet {
    /// The set.
    pub set: PolicySet,
    /// The distinct people by whose signatures it has its authority.
    pub signers: Vec<Signer>,
    /// The digest of its bytes.
    pub digest: Digest,
    /// What it may do.
    pub authority: Authority,
}

impl SignedSet {
    /// Verifies the signatures, then reads the set, then looks whether it is of this installation and in time. Versions
    /// are for those to compare who keep the highest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, root: &Believed, now: Timestamp, zone: &TimeZone) -> Result<VerifiedSet, Denied> {
        let verified = self.verify_signed(root, now, zone)?;
        verified.check_installation(&root.root().installation)?;
        verified.check_time(now)?;
        Ok(verified)
    }

    /// Verifies as [`Self::verify`] does, a set of limits too: by the signatures that it takes itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify_any(&self, root: &Believed, now: Timestamp, zone: &TimeZone) -> Result<VerifiedSet, Denied> {
        // Not believed: it only says which check the bytes have to pass, and each refuses what belongs to the other.
        if !PolicySet::parse(&self.bytes).is_ok_and(|set| set.limits) {
            return self.verify(root, now, zone);
        }
        let verified = self.verify_limits(root, now, zone)?;
        verified.check_time(now)?;
        Ok(verified)
    }

    /// Verifies the signatures of a set of limits, then reads it, then looks whether it is of this installation. Such a
    /// set lets nothing be done.
    pub(super) fn verify_limits(
        &self,
        root: &Believed,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<VerifiedSet, Denied> {
        let signed = root.signed_by(NAMESPACE_LIMITS, &self.bytes, &self.signatures, now, zone)?;
        let needed = root.required_for_limits();
        if signed.people.len() < needed as usize {
            return Err(signed.lacking(NAMESPACE_LIMITS, needed));
        }
        let set = PolicySet::parse(&self.bytes)?;
        rule(KIND, set.limits, || "it is no set of limits".to_owned())?;
        let (signers, digest) = (signed.people, Digest::of(&self.bytes));
        let verified = VerifiedSet { set, signers, digest, authority: Authority::Observe };
        verified.check_installation(&root.root().installation)?;
        Ok(verified)
    }

    /// Verifies the signatures, then reads the set.
    pub(super) fn verify_signed(
        &self,
        root: &Believed,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<VerifiedSet, Denied> {
        let full = root.signed_by(NAMESPACE_POLICY, &self.bytes, &self.signatures, now, zone)?;
        let observe = root.signed_by(NAMESPACE_OBSERVE, &self.bytes, &self.signatures, now, zone)?;
        if full.people.is_empty() && observe.people.is_empty() {
            return Err(full.or(observe).lacking(NAMESPACE_POLICY, 1));
        }
        let set = PolicySet::parse(&self.bytes)?;
        rule(KIND, !set.limits, || "it is a set of limits".to_owned())?;
        let needed = root.required(&set.namespace);
        let enough = |people: &[Signer]| people.len() >= needed as usize;
        // Who signs that it may act also says that it may look.
        let either = signers::distinct(full.people.iter().chain(&observe.people).cloned());
        let (signers, authority) = if enough(&full.people) {
            (full.people, Authority::Full)
        } else if enough(&either) {
            (either, Authority::Observe)
        } else {
            return Err(full.or(observe).lacking(NAMESPACE_POLICY, needed));
        };
        Ok(VerifiedSet { set, signers, digest: Digest::of(&self.bytes), authority })
    }
}

impl Signed {
    /// The reasons of both attempts, where a signature failed in each; a signature for the other namespace is no fault.
    fn or(mut self, other: Self) -> Self {
        use super::{signature::Fault, signers::Refused};
        let is_other = |refused: &Refused| {
            matches!(refused, Refused::Signature { fault: Fault::Namespace { found, .. }, .. }
                if found == NAMESPACE_POLICY || found == NAMESPACE_OBSERVE)
        };
        self.refused.extend(other.refused);
        self.refused.retain(|refused| !is_other(refused));
        self.refused.dedup();
        self
    }
}

impl VerifiedSet {
    /// Whether it is of this installation.
    pub(super) fn check_installation(&self, installation: &str) -> Result<(), Denied> {
        if self.set.installation == installation {
            return Ok(());
        }
        let (found, wanted) = (self.set.installation.clone(), installation.to_owned());
        Err(Denied::Installation { what: KIND, found, wanted })
    }

    /// Whether it is in time.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Denied> {
        let set = &self.set;
        if set.issued.duration_since(now) > CLOCKS {
            return Err(Denied::NotYet { issued: set.issued, now });
        }
        if now >= set.expires {
            return Err(Denied::Expired { set: set.name(), version: set.version, expired: set.expires });
        }
        Ok(())
    }
}
