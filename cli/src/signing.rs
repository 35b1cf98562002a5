//! The key that an operator signs with, and whom the operator believes.

use std::path::PathBuf;

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use quell_link::{profile::Profile, signing::SigningKey};
use quell_model::trust::{Believed, TrustRoot};
use quell_wire::v1::TrustRootStep;

use crate::error::Error;

/// With which key.
#[derive(Debug, Clone, Default, Args)]
pub struct Key {
    /// An SSH key to sign with: a private key, or a .pub whose private key is in ssh-agent or a hardware token. Without
    /// it the profile's own.
    #[arg(long, env = "QUELL_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

impl Key {
    /// The key, if there is one. It may read a file.
    ///
    /// # Errors
    /// What was named is no key.
    pub fn find(&self, profile: &Profile) -> Result<Option<SigningKey>, Error> {
        let found = match (&self.key, &profile.signing_key) {
            (Some(path), _) => SigningKey::open(path).map(Some),
            (None, Some(text)) => SigningKey::from_text(text).map(Some),
            (None, None) => Ok(None),
        };
        found.map_err(|error| Error::Usage(format!("nothing was signed: {error}")))
    }

    /// The key, which must be there.
    ///
    /// # Errors
    /// There is none, or what was named is none.
    pub fn need(&self, profile: &Profile) -> Result<SigningKey, Error> {
        self.find(profile)?.ok_or_else(|| {
            Error::Usage(
                "this must be signed, and the profile holds no key: name yours with --key (~/.ssh/id_ed25519)"
                    .to_owned(),
            )
        })
    }
}

/// Signs bytes for a namespace.
///
/// # Errors
/// The key refuses.
pub fn sign(key: &SigningKey, namespace: &str, bytes: &[u8]) -> Result<String, Error> {
    key.sign(namespace, bytes).map_err(|error| Error::Failed(format!("nothing was signed: {error}")))
}

/// Whom the operator believes: the profile's trust root, and what its signers made of it since.
///
/// # Errors
/// The profile says nothing, or the controller gives versions that were not signed by those before them.
pub fn believed(profile: &Profile, steps: &[TrustRootStep], now: Timestamp) -> Result<Believed, Error> {
    if profile.trust.is_empty() {
        return Err(Error::Usage(
            "the profile does not say whom hosts believe: ask an administrator for a new one (`quell operator create`)"
                .to_owned(),
        ));
    }
    let damaged = |reason: String| Error::Usage(format!("the profile's trust root is damaged: {reason}"));
    let root = TrustRoot::parse(profile.trust.as_bytes()).map_err(|error| damaged(error.to_string()))?;
    let mut believed = Believed::new(root).map_err(|error| damaged(error.to_string()))?;
    let newer = steps.iter().skip_while(|step| step.root != profile.trust.as_bytes()).skip(1);
    for step in newer {
        let next = TrustRoot::succeeds(&believed, &step.root, &step.signatures, now, &TimeZone::UTC)
            .map_err(|denied| unsigned(&denied.to_string()))?;
        believed = Believed::new(next).map_err(|error| unsigned(&error.to_string()))?;
    }
    if steps.last().is_none_or(|newest| newest.root != believed.root().canonical().as_bytes()) {
        return Err(unsigned("none of its trust roots is the one that this profile believes"));
    }
    Ok(believed)
}

fn unsigned(reason: &str) -> Error {
    Error::Failed(format!(
        "the controller names other signers than this profile believes ({reason}); nothing was signed: if you trust it, ask \
         an administrator for a new profile"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quell_link::signing::NewKey;
    use quell_model::trust::NAMESPACE_TRUST;

    use super::*;

    fn root(version: u64, keys: &[&NewKey]) -> TrustRoot {
        let lines = keys.iter().enumerate().map(|(at, key)| format!("p{at} {}\n", key.public));
        TrustRoot {
            installation: "here".to_owned(),
            version,
            allowed_signers: lines.collect(),
            required: BTreeMap::new(),
        }
    }

    fn step(root: &TrustRoot, by: Option<&NewKey>) -> TrustRootStep {
        let bytes = root.canonical().into_bytes();
        let sign = |key: &NewKey| SigningKey::from_text(&key.private).unwrap().sign(NAMESPACE_TRUST, &bytes).unwrap();
        TrustRootStep { signatures: by.map(sign).into_iter().collect(), root: bytes }
    }

    fn profile(root: &TrustRoot) -> Profile {
        let mut profile = Profile::new("ada", "here", Vec::new(), &[], &[], String::new());
        profile.trust = root.canonical();
        profile
    }

    #[test]
    fn the_newest_root_is_reached_by_signatures_only() {
        let (one, two, evil) = (NewKey::make("").unwrap(), NewKey::make("").unwrap(), NewKey::make("").unwrap());
        let first = root(1, &[&one]);
        let second = root(2, &[&one, &two]);
        let steps = [step(&first, None), step(&second, Some(&one))];
        let now = Timestamp::now();
        assert_eq!(believed(&profile(&first), &steps, now).unwrap().root(), &second);
        assert_eq!(believed(&profile(&second), &steps, now).unwrap().root(), &second);
        let planted = root(2, &[&evil]);
        let forged = [step(&first, None), step(&planted, Some(&evil))];
        assert!(believed(&profile(&first), &forged, now).is_err(), "signed by itself");
        assert!(believed(&profile(&first), &[step(&planted, Some(&evil))], now).is_err(), "another chain");
        assert!(believed(&Profile { trust: String::new(), ..profile(&first) }, &steps, now).is_err());
    }
}
