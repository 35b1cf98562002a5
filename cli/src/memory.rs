//! What a profile has seen: the newest trust root and the newest signed sets of each namespace, in a file beside the
//! profile.
//!
//! The controller says what is in force, and a stolen one may say what was in force last year. Signatures do not tell
//! the two apart, since both are good; having seen the newer one does. Everything here was verified before it is
//! remembered, and only grows: when two commands remember at once, the newer of each counts.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use quell_link::files;
use quell_model::{
    digest::Digest,
    trust::{PolicySet, SetName},
};
use quell_wire::v1::TrustRootStep;
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    files::{beside, error},
};

/// What one profile has seen.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
    installation: String,
    seen: Seen,
}

/// As it is kept: JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen {
    installation: String,
    /// The versions of the trust root that followed the profile's own, oldest first.
    #[serde(default)]
    roots: Vec<SeenRoot>,
    #[serde(default)]
    sets: BTreeMap<SetName, SeenSet>,
}

/// A trust root, with what makes others believe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeenRoot {
    /// Its version.
    pub version: u64,
    /// Its canonical bytes.
    pub root: String,
    /// The signatures of those who were believed before it.
    pub signatures: Vec<String>,
}

impl SeenRoot {
    /// As the wire has it.
    pub fn step(&self) -> TrustRootStep {
        TrustRootStep { root: self.root.clone().into_bytes(), signatures: self.signatures.clone() }
    }
}

/// The newest signed set of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeenSet {
    /// Its version.
    pub version: u64,
    /// The digest of its bytes.
    pub digest: Digest,
    /// When it was seen first.
    pub at: Timestamp,
}

impl Memory {
    /// What the profile in a file has seen of its installation; nothing, when it has not seen any yet. It blocks on the
    /// file.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn of(profile: &Path, installation: &str) -> Result<Self, Error> {
        let path = beside(profile, ".seen");
        let seen = read(&path, installation)?;
        Ok(Self { path, installation: installation.to_owned(), seen })
    }

    /// The trust roots that were seen after the profile's own, oldest first.
    pub fn roots(&self) -> &[SeenRoot] {
        &self.seen.roots
    }

    /// The newest set that was seen of a name.
    pub fn set(&self, name: &SetName) -> Option<&SeenSet> {
        self.seen.sets.get(name)
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers the versions of the trust root that followed the profile's own; they were verified.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn remember_roots(&mut self, roots: Vec<SeenRoot>) -> Result<(), Error> {
        let newest = |roots: &[SeenRoot]| roots.last().map_or(0, |root| root.version);
        self.update(|seen| {
            if newest(&roots) > newest(&seen.roots) {
                seen.roots = roots;
            }
        })
    }

    /// Remembers sets; their signatures were verified.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn remember_sets<'a>(
        &mut self,
        sets: impl IntoIterator<Item = &'a PolicySet>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.update(|seen| {
            for set in sets {
                let is_newer = seen.sets.get(&set.name()).is_none_or(|known| known.version < set.version);
                if is_newer {
                    let digest = Digest::of(set.canonical().as_bytes());
                    seen.sets.insert(set.name(), SeenSet { version: set.version, digest, at: now });
                }
            }
        })
    }

    /// Changes what is kept, as it is by now: others may have changed it since it was read.
    fn update(&mut self, change: impl FnOnce(&mut Seen)) -> Result<(), Error> {
        let mut wanted = self.seen.clone();
        change(&mut wanted);
        if wanted == self.seen {
            return Ok(());
        }
        let _lock = lock(&beside(&self.path, ".lock"))?;
        let mut seen = read(&self.path, &self.installation)?;
        merge(&mut seen, wanted);
        let text = serde_json::to_string_pretty(&seen).map_err(|error| Error::Failed(error.to_string()))?;
        files::write(&self.path, format!("{text}\n").as_bytes())
            .map_err(|error| Error::Failed(format!("what was seen cannot be remembered: {error}")))?;
        self.seen = seen;
        Ok(())
    }
}

/// Takes over what is newer.
fn merge(seen: &mut Seen, other: Seen) {
    if other.roots.last().map(|root| root.version) > seen.roots.last().map(|root| root.version) {
        seen.roots = other.roots;
    }
    for (name, set) in other.sets {
        match seen.sets.get(&name) {
            Some(known) if known.version >= set.version => {}
            _ => drop(seen.sets.insert(name, set)),
        }
    }
}

fn read(path: &Path, installation: &str) -> Result<Seen, Error> {
    let damaged = |reason: String| {
        Error::Usage(format!(
            "{} is damaged ({reason}): remove it, and the profile begins to remember anew with what the controller shows",
            path.display()
        ))
    };
    let none = || Seen { installation: installation.to_owned(), ..Seen::default() };
    match files::read(path) {
        Ok(bytes) => {
            let seen: Seen = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
            // Another installation's profile was put in this one's place.
            Ok(if seen.installation == installation { seen } else { none() })
        }
        Err(error) if error.is_missing() => Ok(none()),
        Err(error) => Err(Error::Usage(format!("what this profile has seen cannot be read: {error}"))),
    }
}

/// Held until the file is dropped.
fn lock(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let locked = opened.and_then(|file| file.lock().map(|()| file));
    locked.map_err(error("lock", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn set(namespace: &str, version: u64) -> PolicySet {
        PolicySet {
            installation: "here".to_owned(),
            namespace: namespace.parse().unwrap(),
            version,
            issued: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
            manifests: BTreeMap::new(),
            one_shot: None,
            limits: false,
        }
    }

    fn root(version: u64) -> SeenRoot {
        SeenRoot { version, root: format!("root {version}"), signatures: vec!["signed".to_owned()] }
    }

    #[test]
    fn what_was_seen_is_there_the_next_time_and_never_goes_back() {
        let scratch = tempfile::tempdir().unwrap();
        let profile = scratch.path().join("admin.toml");
        let now = Timestamp::now();
        let mut memory = Memory::of(&profile, "here").unwrap();
        memory.remember_sets([&set("plants", 7)], now).unwrap();
        memory.remember_sets([&set("plants", 6)], now).unwrap();
        memory.remember_roots(vec![root(2), root(3)]).unwrap();
        memory.remember_roots(vec![root(2)]).unwrap();
        let again = Memory::of(&profile, "here").unwrap();
        assert_eq!(again.set(&"plants".parse().unwrap()).unwrap().version, 7);
        assert_eq!(again.roots(), [root(2), root(3)]);
        assert_eq!(std::fs::metadata(again.path()).unwrap().mode() & 0o777, 0o600);
        let other = Memory::of(&profile, "elsewhere").unwrap();
        assert!(other.roots().is_empty() && other.set(&"plants".parse().unwrap()).is_none());
    }

    #[test]
    fn two_commands_at_once_lose_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let profile = scratch.path().join("admin.toml");
        let now = Timestamp::now();
        let (mut one, mut two) = (Memory::of(&profile, "here").unwrap(), Memory::of(&profile, "here").unwrap());
        one.remember_sets([&set("plants", 9), &set("shop", 2)], now).unwrap();
        two.remember_sets([&set("plants", 8), &set("farm", 1)], now).unwrap();
        let seen = Memory::of(&profile, "here").unwrap().seen.sets;
        let versions: Vec<_> = seen.iter().map(|(name, set)| (name.namespace.as_str(), set.version)).collect();
        assert_eq!(versions, [("farm", 1), ("plants", 9), ("shop", 2)]);
    }

    #[test]
    fn a_damaged_memory_is_an_error_and_stays_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let profile = scratch.path().join("admin.toml");
        std::fs::write(beside(&profile, ".seen"), "{").unwrap();
        let error = Memory::of(&profile, "here").unwrap_err().to_string();
        assert!(error.contains("admin.toml.seen is damaged") && error.contains("remove it"), "{error}");
        assert_eq!(std::fs::read(beside(&profile, ".seen")).unwrap(), b"{");
    }
}
