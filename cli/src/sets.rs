//! The next signed set of each namespace: what would be in force once manifests are applied, in the bytes that people sign.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use quell_link::signing::SigningKey;
use quell_model::{
    digest::Digest,
    manifest::Parsed,
    name::ObjectName,
    trust::{Believed, NAMESPACE_POLICY, PolicySet, SignedSet},
};
use quell_wire::v1::{self, GetSetsResponse};

use crate::{error::Error, signing};

/// A set that expires sooner is signed again, even when nothing else changed.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Digests by key (`Policy/dns-failover`), by namespace.
type Held = BTreeMap<ObjectName, BTreeMap<String, Digest>>;

/// What is in force, as the controller says.
#[derive(Debug)]
pub struct Current {
    installation: String,
    versions: BTreeMap<String, u64>,
    held: Held,
    signed: BTreeMap<ObjectName, PolicySet>,
}

impl Current {
    /// Reads the controller's answer.
    ///
    /// # Errors
    /// It is not what this version understands.
    pub fn read(answer: &GetSetsResponse) -> Result<Self, Error> {
        let strange = |what: &str| Error::Failed(format!("the controller's answer cannot be understood: {what}"));
        let mut held = Held::new();
        for manifest in &answer.manifests {
            let namespace = manifest.namespace.parse().map_err(|_| strange(&manifest.namespace))?;
            let digest = manifest.digest.parse().map_err(|_| strange(&manifest.digest))?;
            held.entry(namespace).or_default().insert(format!("{}/{}", manifest.kind, manifest.name), digest);
        }
        let mut signed = BTreeMap::new();
        for set in &answer.sets {
            let set = PolicySet::parse(&set.policy_set).map_err(|error| strange(&error.to_string()))?;
            signed.insert(set.namespace.clone(), set);
        }
        Ok(Self {
            installation: answer.installation.clone(),
            versions: answer.versions.clone().into_iter().collect(),
            held,
            signed,
        })
    }

    /// The next set of every namespace that these manifests belong to, where it would be another than the one in force,
    /// or that one ends soon.
    pub fn next(&self, manifests: &[Parsed], prune: bool, now: Timestamp, life: Duration) -> Vec<PolicySet> {
        let mut wanted = Held::new();
        for parsed in manifests {
            let name = parsed.manifest.name();
            let namespace = wanted.entry(name.namespace.clone()).or_insert_with(|| match prune {
                true => BTreeMap::new(),
                false => self.held.get(&name.namespace).cloned().unwrap_or_default(),
            });
            namespace.insert(format!("{}/{}", parsed.manifest.kind(), name.name), parsed.manifest.digest());
        }
        wanted.retain(|namespace, manifests| {
            self.signed
                .get(namespace)
                .is_none_or(|set| set.manifests != *manifests || set.expires.duration_since(now) < RENEW_BEFORE)
        });
        let set = |(namespace, manifests): (ObjectName, _)| PolicySet {
            installation: self.installation.clone(),
            version: self.versions.get(namespace.as_str()).copied().unwrap_or(0) + 1,
            issued: now,
            expires: after(now, SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX)),
            manifests,
            one_shot: None,
            namespace,
        };
        wanted.into_iter().map(set).collect()
    }
}

fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Signs a set.
///
/// # Errors
/// The set breaks a rule of sets, or the key refuses.
pub fn sign(set: &PolicySet, key: &SigningKey) -> Result<SignedSet, Error> {
    set.check().map_err(|error| Error::Usage(error.to_string()))?;
    let bytes = set.canonical().into_bytes();
    Ok(SignedSet { signatures: vec![signing::sign(key, NAMESPACE_POLICY, &bytes)?], bytes })
}

/// As the wire has it.
pub fn to_wire(set: SignedSet) -> v1::SignedSet {
    v1::SignedSet { policy_set: set.bytes, signatures: set.signatures }
}

/// A set in files: `NAMESPACE.set`, the exact bytes, and `NAMESPACE.set.sig`, one signature after the other. They stand
/// beside the manifests, so that a repository carries what was signed and whoever applies it needs no key.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Beside the first of the sources: in it when it is a directory.
    pub fn beside(sources: &[PathBuf]) -> Self {
        let first = sources.first().cloned().unwrap_or_default();
        let directory = if first.is_dir() { first } else { first.parent().map(PathBuf::from).unwrap_or_default() };
        Self { directory }
    }

    /// The file of the bytes.
    pub fn bytes(&self, namespace: &ObjectName) -> PathBuf {
        self.directory.join(format!("{namespace}.set"))
    }

    /// The file of the signatures.
    pub fn signatures(&self, namespace: &ObjectName) -> PathBuf {
        self.directory.join(format!("{namespace}.set.sig"))
    }

    /// What was signed for a namespace, when that is exactly what is wanted now: same manifests, still the next version.
    ///
    /// # Errors
    /// A file cannot be read, or is no set.
    pub fn read(&self, wanted: &PolicySet, now: Timestamp) -> Result<Option<SignedSet>, Error> {
        let path = self.bytes(&wanted.namespace);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let set = PolicySet::parse(&bytes)
            .map_err(|error| Error::Usage(format!("{}: {error}; sign again with `quell sign`", path.display())))?;
        let fits = set.manifests == wanted.manifests
            && set.version >= wanted.version
            && set.installation == wanted.installation
            && set.expires > now;
        if !fits {
            return Ok(None);
        }
        let armoured = read_if_there(&self.signatures(&wanted.namespace))?.unwrap_or_default();
        let signatures = split(&String::from_utf8_lossy(&armoured));
        Ok((!signatures.is_empty()).then_some(SignedSet { bytes, signatures }))
    }

    /// Writes a set with its signatures.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, namespace: &ObjectName, set: &SignedSet) -> Result<(), Error> {
        write(&self.bytes(namespace), &set.bytes)?;
        write(&self.signatures(namespace), set.signatures.concat().as_bytes())
    }
}

fn read_if_there(path: &std::path::Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { action: "read", path: path.display().to_string(), source }),
    }
}

fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::File {
        action: "write",
        path: path.display().to_string(),
        source,
    })
}

/// The armoured signatures in a text.
fn split(text: &str) -> Vec<String> {
    const END: &str = "-----END SSH SIGNATURE-----\n";
    text.split_inclusive(END).filter(|part| part.ends_with(END)).map(|part| part.trim_start().to_owned()).collect()
}

/// Says whether those whom hosts believe signed enough, before the controller is asked.
///
/// # Errors
/// Too few did, or they may not.
pub fn check(set: &SignedSet, believed: &Believed, now: Timestamp) -> Result<(), Error> {
    let verified = set.verify(believed, now, &jiff::tz::TimeZone::UTC);
    verified.map(drop).map_err(|denied| Error::Answer(Box::new(tonic::Status::permission_denied(denied.to_string()))))
}

#[cfg(test)]
mod tests {
    use quell_link::signing::NewKey;
    use quell_model::manifest::{self, File};

    use super::*;

    fn contact(name: &str) -> Vec<Parsed> {
        let text = format!(
            "apiVersion: quell/v1\nkind: Contact\nmetadata: {{ namespace: plants, name: {name} }}\nspec:\n  via: [log]\n"
        );
        manifest::parse(&[File { name: "a.yaml".to_owned(), text }]).unwrap()
    }

    fn current(held: &[Parsed], signed: Option<PolicySet>) -> Current {
        let mut answer = GetSetsResponse {
            installation: "here".to_owned(),
            versions: [("plants".to_owned(), 6)].into(),
            ..GetSetsResponse::default()
        };
        for parsed in held {
            answer.manifests.push(v1::ManifestChange {
                change: String::new(),
                kind: parsed.manifest.kind().to_owned(),
                namespace: "plants".to_owned(),
                name: parsed.manifest.name().name.to_string(),
                digest: parsed.manifest.digest().to_string(),
            });
        }
        let wire = |set: PolicySet| v1::SignedSet { policy_set: set.canonical().into_bytes(), signatures: Vec::new() };
        answer.sets.extend(signed.map(wire));
        Current::read(&answer).unwrap()
    }

    const LIFE: Duration = Duration::from_secs(90 * 86_400);

    #[test]
    fn the_next_set_names_what_would_be_in_force() {
        let now = Timestamp::now();
        let (ann, bob) = (contact("ann"), contact("bob"));
        let [added] = &current(&ann, None).next(&bob, false, now, LIFE)[..] else { panic!("one namespace") };
        assert_eq!(added.version, 7);
        assert_eq!(added.manifests.keys().collect::<Vec<_>>(), ["Contact/ann", "Contact/bob"]);
        let [pruned] = &current(&ann, None).next(&bob, true, now, LIFE)[..] else { panic!("one namespace") };
        assert_eq!(pruned.manifests.keys().collect::<Vec<_>>(), ["Contact/bob"]);
        let again = current(&[ann.clone(), bob.clone()].concat(), Some(added.clone()));
        assert!(again.next(&bob, false, now, LIFE).is_empty(), "what is signed already");
        let late = added.expires - SignedDuration::from_hours(24);
        assert_eq!(again.next(&bob, false, late, LIFE).len(), 1, "it ends tomorrow");
    }

    #[test]
    fn what_was_signed_elsewhere_is_found_while_it_fits() {
        let scratch = tempfile::tempdir().unwrap();
        let files = Files::beside(&[scratch.path().to_owned()]);
        let now = Timestamp::now();
        let set = current(&[], None).next(&contact("ann"), false, now, LIFE).remove(0);
        assert!(files.read(&set, now).unwrap().is_none());
        let key = SigningKey::from_text(&NewKey::make("").unwrap().private).unwrap();
        let mut signed = sign(&set, &key).unwrap();
        signed.signatures.push(signing::sign(&key, NAMESPACE_POLICY, &signed.bytes).unwrap());
        files.write(&set.namespace, &signed).unwrap();
        assert_eq!(files.read(&set, now).unwrap(), Some(signed));
        let other = current(&[], None).next(&contact("bob"), false, now, LIFE).remove(0);
        assert_eq!(files.read(&other, now).unwrap(), None, "other manifests");
        assert_eq!(files.read(&PolicySet { version: 8, ..set.clone() }, now).unwrap(), None, "an older version");
        std::fs::write(files.bytes(&set.namespace), "{}").unwrap();
        assert!(files.read(&set, now).is_err());
    }
}
