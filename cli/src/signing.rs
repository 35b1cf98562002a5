//! The key that an operator signs with, and whom the operator believes.

use std::path::PathBuf;

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use quell_link::{profile::Profile, signing::SigningKey};
use quell_model::trust::{Believed, TrustRoot};
use quell_wire::v1::TrustRootStep;

use crate::{
    error::Error,
    memory::{Memory, SeenRoot},
};

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

/// Whom the operator believes: the newest trust root that the profile has seen, and what its signers made of it since;
/// and the versions after the profile's own.
///
/// # Errors
/// The profile says nothing, the controller gives versions that were not signed by those before them, or it lacks the
/// newest that was seen.
pub fn believed(
    profile: &Profile,
    memory: &Memory,
    steps: &[TrustRootStep],
    now: Timestamp,
) -> Result<(Believed, Vec<SeenRoot>), Error> {
    if profile.trust.is_empty() {
        return Err(Error::Usage(
            "the profile does not say whom hosts believe: ask an administrator for a new one (`quell operator create`)"
                .to_owned(),
        ));
    }
    let damaged = |reason: String| Error::Usage(format!("the profile's trust root is damaged: {reason}"));
    let own = TrustRoot::parse(profile.trust.as_bytes()).map_err(|error| damaged(error.to_string()))?;
    // A new profile may know more than the memory of the one that was here before.
    let mut known: Vec<SeenRoot> = memory.roots().iter().filter(|seen| seen.version > own.version).cloned().collect();
    let start = match known.last() {
        Some(seen) => TrustRoot::parse(seen.root.as_bytes()).map_err(|error| damaged(error.to_string()))?,
        None => own,
    };
    let mut believed = Believed::new(start).map_err(|error| damaged(error.to_string()))?;
    let start = believed.root().canonical();
    for step in steps.iter().skip_while(|step| step.root != start.as_bytes()).skip(1) {
        let next = TrustRoot::succeeds(&believed, &step.root, &step.signatures, now, &TimeZone::UTC)
            .map_err(|denied| unsigned(&denied.to_string()))?;
        known.push(SeenRoot { version: next.version, root: next.canonical(), signatures: step.signatures.clone() });
        believed = Believed::new(next).map_err(|error| unsigned(&error.to_string()))?;
    }
    let newest = steps.last().map(|newest| newest.root.as_slice());
    if newest == Some(believed.root().canonical().as_bytes()) {
        return Ok((believed, known));
    }
    let is_older = newest.is_some_and(|newest| {
        newest == profile.trust.as_bytes() || known.iter().any(|seen| seen.root.as_bytes() == newest)
    });
    Err(if is_older {
        forgotten(believed.root().version)
    } else {
        unsigned("none of its trust roots is the one that this profile believes")
    })
}

fn forgotten(version: u64) -> Error {
    Error::Failed(format!(
        "the controller shows an older version of whom hosts believe than version {version}, which this profile has seen: it \
         was restored from a backup, or somebody hides the change; nothing was signed. If it was restored, give it back what \
         it lost with `quell trust give-back`"
    ))
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

    fn nothing_seen() -> Memory {
        Memory::of(std::path::Path::new("/nonexistent/profile.toml"), "here").unwrap()
    }

    #[test]
    fn the_newest_root_is_reached_by_signatures_only() {
        let (one, two, evil) = (NewKey::make("").unwrap(), NewKey::make("").unwrap(), NewKey::make("").unwrap());
        let first = root(1, &[&one]);
        let second = root(2, &[&one, &two]);
        let steps = [step(&first, None), step(&second, Some(&one))];
        let now = Timestamp::now();
        let believed =
            |profile: &Profile, steps: &[TrustRootStep]| super::believed(profile, &nothing_seen(), steps, now);
        assert_eq!(believed(&profile(&first), &steps).unwrap().0.root(), &second);
        assert_eq!(believed(&profile(&second), &steps).unwrap().0.root(), &second);
        let planted = root(2, &[&evil]);
        let forged = [step(&first, None), step(&planted, Some(&evil))];
        assert!(believed(&profile(&first), &forged).is_err(), "signed by itself");
        assert!(believed(&profile(&first), &[step(&planted, Some(&evil))]).is_err(), "another chain");
        assert!(believed(&Profile { trust: String::new(), ..profile(&first) }, &steps).is_err());
    }

    #[test]
    fn a_root_that_was_seen_is_not_gone_back_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) = (NewKey::make("").unwrap(), NewKey::make("").unwrap());
        let (first, second, third) = (root(1, &[&one, &two]), root(2, &[&one]), root(3, &[&one, &two]));
        let steps = [step(&first, None), step(&second, Some(&one)), step(&third, Some(&one))];
        let (profile, now) = (profile(&first), Timestamp::now());
        let mut memory = Memory::of(&scratch.path().join("profile.toml"), "here").unwrap();
        let (_, seen) = believed(&profile, &memory, &steps[..2], now).unwrap();
        memory.remember_roots(seen).unwrap();
        let refused = believed(&profile, &memory, &steps[..1], now).unwrap_err().to_string();
        assert!(
            refused.contains("older") && refused.contains("version 2") && refused.contains("give-back"),
            "{refused}"
        );
        // Somebody whose key was taken away in version 2 signs another one.
        let forked = [step(&first, None), step(&root(2, &[&two]), Some(&two))];
        assert!(believed(&profile, &memory, &forked, now).is_err());
        assert!(believed(&profile, &nothing_seen(), &forked, now).is_ok(), "only what was seen tells");
        let (newest, seen) = believed(&profile, &memory, &steps, now).unwrap();
        assert_eq!((newest.root().version, seen.len()), (3, 2));
    }
}
