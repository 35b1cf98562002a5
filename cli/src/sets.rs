//! The next signed set of each namespace: what would be in force once manifests are applied, in the bytes that people sign.

use std::{cmp::Ordering, collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use quell_link::signing::SigningKey;
use quell_model::{
    digest::Digest,
    manifest::Parsed,
    name::ObjectName,
    trust::{Believed, PolicySet, SetName, SignedSet},
};
use quell_wire::v1::{self, GetSetsResponse};

use crate::{
    error::Error,
    files,
    memory::{Memory, SeenSet},
    signing,
};

/// A set that expires sooner is signed again, even when nothing else changed.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Digests by key (`Policy/dns-failover`), by the set in which they stand.
type Held = BTreeMap<SetName, BTreeMap<String, Digest>>;

/// What is in force, as the controller says.
#[derive(Debug)]
pub struct Current {
    installation: String,
    versions: BTreeMap<String, u64>,
    held: Held,
    signed: BTreeMap<SetName, PolicySet>,
    /// Version and digest of the sets that are shown, those that are not good any longer included.
    shown: BTreeMap<SetName, (u64, Digest)>,
    seen: Memory,
}

impl Current {
    /// Reads the controller's answer.
    ///
    /// # Errors
    /// It is not what this version understands.
    pub fn read(answer: &GetSetsResponse, believed: &Believed, seen: &Memory, now: Timestamp) -> Result<Self, Error> {
        let strange = |what: &str| Error::Failed(format!("the controller's answer cannot be understood: {what}"));
        let mut held = Held::new();
        for manifest in &answer.manifests {
            let namespace: ObjectName = manifest.namespace.parse().map_err(|_| strange(&manifest.namespace))?;
            let name = SetName { namespace, limits: manifest.kind == "Limits" };
            let digest = manifest.digest.parse().map_err(|_| strange(&manifest.digest))?;
            held.entry(name).or_default().insert(format!("{}/{}", manifest.kind, manifest.name), digest);
        }
        let (mut signed, mut shown) = (BTreeMap::new(), BTreeMap::new());
        for set in &answer.sets {
            if let Ok(parsed) = PolicySet::parse(&set.policy_set) {
                shown.insert(parsed.name(), (parsed.version, Digest::of(&set.policy_set)));
            }
            let set = SignedSet { bytes: set.policy_set.clone(), signatures: set.signatures.clone() };
            match set.verify_any(believed, now, &TimeZone::UTC) {
                Ok(verified) => drop(signed.insert(verified.set.name(), verified.set)),
                // It ended, or those who signed it are believed no longer: as good as not signed.
                Err(_) => continue,
            }
        }
        Ok(Self {
            installation: answer.installation.clone(),
            versions: answer.versions.clone().into_iter().collect(),
            held,
            signed,
            shown,
            seen: seen.clone(),
        })
    }

    /// The sets in force whose signatures are good.
    pub fn signed(&self) -> impl Iterator<Item = &PolicySet> {
        self.signed.values()
    }

    /// What of a set was seen that is newer than what is shown, or another of the same version.
    fn hidden(&self, name: &SetName) -> Option<&SeenSet> {
        let (version, digest) = self.shown.get(name)?;
        self.seen.set(name).filter(|seen| match seen.version.cmp(version) {
            Ordering::Greater => true,
            Ordering::Equal => seen.digest != *digest,
            Ordering::Less => false,
        })
    }

    /// The next of every set that these manifests belong to, where it would be another than the one in force,
    /// or that one ends soon. Its version follows the newest that the controller or this profile has seen.
    ///
    /// # Errors
    /// It would go on from an older set than this profile has seen, or from one of which something is missing.
    pub fn next(
        &self,
        manifests: &[Parsed],
        prune: bool,
        now: Timestamp,
        life: Duration,
    ) -> Result<Vec<PolicySet>, Error> {
        let mut wanted = Held::new();
        for parsed in manifests {
            let name = parsed.manifest.name();
            let of = SetName::of(&parsed.manifest);
            let set = wanted.entry(of.clone()).or_insert_with(|| match prune {
                true => BTreeMap::new(),
                false => self.held.get(&of).cloned().unwrap_or_default(),
            });
            set.insert(format!("{}/{}", parsed.manifest.kind(), name.name), parsed.manifest.digest());
        }
        if !prune {
            wanted.iter().try_for_each(|(name, manifests)| self.check_goes_on(name, manifests))?;
        }
        wanted.retain(|name, manifests| {
            let is_signed =
                |set: &PolicySet| set.manifests == *manifests && set.expires.duration_since(now) >= RENEW_BEFORE;
            self.hidden(name).is_some() || !self.signed.get(name).is_some_and(is_signed)
        });
        let set = |(name, manifests): (SetName, _)| PolicySet {
            installation: self.installation.clone(),
            version: self.newest(&name).saturating_add(1),
            issued: now,
            expires: after(now, SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX)),
            manifests,
            one_shot: None,
            limits: name.limits,
            namespace: name.namespace,
        };
        Ok(wanted.into_iter().map(set).collect())
    }

    /// Whether these manifests may go on from what the controller shows: nothing newer was seen, and nothing that was
    /// signed is missing.
    fn check_goes_on(&self, name: &SetName, manifests: &BTreeMap<String, Digest>) -> Result<(), Error> {
        if let Some(seen) = self.hidden(name) {
            return Err(self.goes_back(name, seen));
        }
        let mut signed = self.signed.get(name).into_iter().flat_map(|set| set.manifests.keys());
        match signed.find(|key| !manifests.contains_key(*key)) {
            None => Ok(()),
            Some(key) => Err(Error::Usage(format!(
                "{key} was signed into {name} and is not in force any more, and nobody signed its end: apply the whole \
                 directory with --prune, so that your files alone say what stays"
            ))),
        }
    }

    /// The newest version of a set that the controller or this profile knows; 0: there was none.
    fn newest(&self, name: &SetName) -> u64 {
        let told = self.versions.get(&name.to_string()).copied();
        let signed = self.signed.get(name).map(|set| set.version);
        let seen = self.seen.set(name).map(|seen| seen.version);
        [told, signed, seen].into_iter().flatten().max().unwrap_or(0)
    }

    fn goes_back(&self, name: &SetName, seen: &SeenSet) -> Error {
        let shown = self.shown.get(name).map_or(0, |(version, _)| *version);
        let what = match shown == seen.version {
            true => format!("another set {shown} of {name} than the one that this profile saw"),
            false => format!("set {shown} of {name}, and this profile saw set {}", seen.version),
        };
        Error::Failed(format!(
            "the controller shows {what} on {:.0} (it stands in {}): it was restored from a backup, or somebody shows an older \
             state; nothing was signed. Apply the whole directory with --prune: set {} is then made of your files alone",
            seen.at,
            self.seen.path().display(),
            self.newest(name).saturating_add(1)
        ))
    }

    /// Signs a set, unless it names what is neither in the files nor in a set that people have signed: nobody has seen
    /// that, and a stolen controller could have put it there.
    ///
    /// # Errors
    /// It names such a thing, or the key refuses.
    pub fn sign(&self, set: &PolicySet, manifests: &[Parsed], key: &SigningKey) -> Result<SignedSet, Error> {
        self.check_seen(set, manifests)?;
        sign(set, key)
    }

    /// Whether everything that a set names is in the files or was signed before.
    ///
    /// # Errors
    /// What is not.
    pub fn check_seen(&self, set: &PolicySet, manifests: &[Parsed]) -> Result<(), Error> {
        let signed = self.signed.get(&set.name()).map(|set| &set.manifests);
        let is_seen = |key: &str, digest: &Digest| {
            signed.and_then(|signed| signed.get(key)) == Some(digest)
                || manifests.iter().any(|parsed| parsed.manifest.digest() == *digest)
        };
        match set.manifests.iter().find(|(key, digest)| !is_seen(key, digest)) {
            None => Ok(()),
            Some((key, _)) => Err(Error::Usage(format!(
                "{key} of {} is in force and nobody signed it: give its file too, so that you sign what you have seen, or \
                 remove it with --prune",
                set.namespace
            ))),
        }
    }

    /// Whether what is in force of a set is signed.
    pub fn is_signed(&self, name: &SetName) -> bool {
        self.signed.contains_key(name)
    }

    /// Until when the very manifests of a set are in force already, signed: a new one would only renew it.
    pub fn renews(&self, set: &PolicySet) -> Option<Timestamp> {
        let signed = self.signed.get(&set.name()).filter(|signed| signed.manifests == set.manifests);
        signed.map(|signed| signed.expires)
    }
}

fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Signs a set as it is.
///
/// # Errors
/// The set breaks a rule of sets, or the key refuses.
pub fn sign(set: &PolicySet, key: &SigningKey) -> Result<SignedSet, Error> {
    set.check().map_err(|error| Error::Usage(error.to_string()))?;
    let bytes = set.canonical().into_bytes();
    Ok(SignedSet { signatures: vec![signing::sign(key, set.name().signed_in(), &bytes)?], bytes })
}

/// As the wire has it.
pub fn to_wire(set: SignedSet) -> v1::SignedSet {
    v1::SignedSet { policy_set: set.bytes, signatures: set.signatures }
}

/// A set in files: `NAMESPACE.set` (of limits `NAMESPACE.limits.set`), the exact bytes, and the same with `.sig`, one
/// signature after the other. They stand beside the manifests, so that a repository carries what was signed and whoever
/// applies it needs no key.
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
    pub fn bytes(&self, name: &SetName) -> PathBuf {
        self.directory.join(file(name))
    }

    /// The file of the signatures.
    pub fn signatures(&self, name: &SetName) -> PathBuf {
        self.directory.join(format!("{}.sig", file(name)))
    }

    /// What was signed of a set, when that is exactly what is wanted now: same manifests, still the next version.
    ///
    /// # Errors
    /// A file cannot be read, or is no set.
    pub fn read(&self, wanted: &PolicySet, now: Timestamp) -> Result<Option<SignedSet>, Error> {
        let path = self.bytes(&wanted.name());
        let Some(bytes) = files::read_if_there(&path)? else { return Ok(None) };
        let set = PolicySet::parse(&bytes)
            .map_err(|error| Error::Usage(format!("{}: {error}; sign again with `quell sign`", path.display())))?;
        let fits = set.manifests == wanted.manifests
            && set.limits == wanted.limits
            && set.version >= wanted.version
            && set.installation == wanted.installation
            && set.expires > now;
        if !fits {
            return Ok(None);
        }
        let armoured = files::read_if_there(&self.signatures(&wanted.name()))?.unwrap_or_default();
        let signatures = split(&String::from_utf8_lossy(&armoured));
        Ok((!signatures.is_empty()).then_some(SignedSet { bytes, signatures }))
    }

    /// Writes a set with its signatures.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, name: &SetName, set: &SignedSet) -> Result<(), Error> {
        files::write(&self.bytes(name), &set.bytes)?;
        files::write(&self.signatures(name), set.signatures.concat().as_bytes())
    }
}

/// The name of the file of a set's bytes.
fn file(name: &SetName) -> String {
    format!("{}{}.set", name.namespace, if name.limits { ".limits" } else { "" })
}

/// The armoured signatures in a text.
pub(crate) fn split(text: &str) -> Vec<String> {
    const END: &str = "-----END SSH SIGNATURE-----\n";
    text.split_inclusive(END).filter(|part| part.ends_with(END)).map(|part| part.trim_start().to_owned()).collect()
}

/// Says whether those whom hosts believe signed enough, before the controller is asked.
///
/// # Errors
/// Too few did, or they may not.
pub fn check(set: &SignedSet, believed: &Believed, now: Timestamp) -> Result<(), Error> {
    let verified = set.verify_any(believed, now, &TimeZone::UTC);
    verified.map(drop).map_err(|denied| Error::Answer(Box::new(tonic::Status::permission_denied(denied.to_string()))))
}

#[cfg(test)]
mod tests {
    use quell_link::signing::NewKey;
    use quell_model::{
        manifest::{self, File},
        trust::TrustRoot,
    };

    use super::*;

    fn contact(name: &str) -> Vec<Parsed> {
        let text = format!(
            "apiVersion: quell/v1\nkind: Contact\nmetadata: {{ namespace: plants, name: {name} }}\nspec:\n  via: [log]\n"
        );
        manifest::parse(&[File { name: "a.yaml".to_owned(), text }]).unwrap()
    }

    /// Ada's key, and a root that believes her.
    fn ada() -> (SigningKey, Believed) {
        static KEY: std::sync::LazyLock<NewKey> = std::sync::LazyLock::new(|| NewKey::make("").unwrap());
        let root = TrustRoot {
            installation: "here".to_owned(),
            version: 1,
            allowed_signers: format!("ada {}\n", KEY.public),
            required: BTreeMap::new(),
        };
        (SigningKey::from_text(&KEY.private).unwrap(), Believed::new(root).unwrap())
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
        let (key, believed) = ada();
        answer.sets.extend(signed.map(|set| to_wire(sign(&set, &key).unwrap())));
        let seen = Memory::of(std::path::Path::new("/nonexistent/profile.toml"), "here").unwrap();
        Current::read(&answer, &believed, &seen, Timestamp::now()).unwrap()
    }

    const LIFE: Duration = Duration::from_secs(90 * 86_400);

    #[test]
    fn the_next_set_names_what_would_be_in_force() {
        let now = Timestamp::now();
        let (ann, bob) = (contact("ann"), contact("bob"));
        let next = |current: &Current, manifests: &[Parsed], prune| current.next(manifests, prune, now, LIFE).unwrap();
        let [first] = &next(&current(&[], None), &ann, false)[..] else { panic!("one namespace") };
        assert_eq!(first.version, 7);
        let [added] = &next(&current(&ann, Some(first.clone())), &bob, false)[..] else { panic!("one namespace") };
        assert_eq!(added.manifests.keys().collect::<Vec<_>>(), ["Contact/ann", "Contact/bob"]);
        let [pruned] = &next(&current(&ann, None), &bob, true)[..] else { panic!("one namespace") };
        assert_eq!(pruned.manifests.keys().collect::<Vec<_>>(), ["Contact/bob"]);
        let again = current(&[ann.clone(), bob.clone()].concat(), Some(added.clone()));
        assert!(next(&again, &bob, false).is_empty(), "what is signed already");
        let late = added.expires - SignedDuration::from_hours(24);
        assert_eq!(again.next(&bob, false, late, LIFE).unwrap().len(), 1, "it ends tomorrow");
    }

    #[test]
    fn what_was_seen_is_not_gone_back_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let (ann, bob) = (contact("ann"), contact("bob"));
        let mut shown = current(&[], None).next(&ann, false, now, LIFE).unwrap().remove(0);
        let mut looking = current(&ann, Some(shown.clone()));
        let saw = |version: u64| {
            let mut seen = Memory::of(&scratch.path().join(format!("{version}.toml")), "here").unwrap();
            seen.remember_sets([&PolicySet { version, ..looking.signed[&"plants".parse().unwrap()].clone() }], now)
                .unwrap();
            seen
        };
        let (older, same, newer) = (saw(6), saw(7), saw(9));
        for seen in [older, same] {
            looking.seen = seen;
            assert_eq!(looking.next(&bob, false, now, LIFE).unwrap()[0].version, 8);
        }
        looking.seen = newer;
        let refused = looking.next(&bob, false, now, LIFE).unwrap_err().to_string();
        assert!(
            refused.contains("shows set 7") && refused.contains("saw set 9") && refused.contains("set 10"),
            "{refused}"
        );
        let of_files = looking.next(&ann, true, now, LIFE).unwrap();
        assert_eq!(of_files[0].version, 10, "although the set that is shown names the same");
        shown.manifests.clear();
        let mut forked = Memory::of(&scratch.path().join("fork.toml"), "here").unwrap();
        forked.remember_sets([&shown], now).unwrap();
        looking.seen = forked;
        let refused = looking.next(&bob, false, now, LIFE).unwrap_err().to_string();
        assert!(refused.contains("another set 7"), "{refused}");
    }

    #[test]
    fn nobody_signs_along_what_the_controller_slips_in() {
        let now = Timestamp::now();
        let (ann, bob, eve) = (contact("ann"), contact("bob"), contact("eve"));
        let [first] = &current(&[], None).next(&ann, false, now, LIFE).unwrap()[..] else { panic!("one namespace") };
        let slipped = current(&[ann.clone(), eve.clone()].concat(), Some(first.clone()));
        let (key, _) = ada();
        let sign =
            |files: &[Parsed], prune| slipped.sign(&slipped.next(files, prune, now, LIFE).unwrap()[0], files, &key);
        let refused = sign(&bob, false).unwrap_err().to_string();
        assert!(refused.contains("Contact/eve") && refused.contains("nobody signed it"), "{refused}");
        sign(&[bob.clone(), eve].concat(), false).expect("seen: its file is there");
        sign(&bob, true).expect("it goes");
    }

    #[test]
    fn nobody_signs_away_what_the_controller_leaves_out() {
        let now = Timestamp::now();
        let (ann, bob) = (contact("ann"), contact("bob"));
        let both = current(&[], None).next(&[ann.clone(), bob.clone()].concat(), false, now, LIFE).unwrap().remove(0);
        let left_out = current(&bob, Some(both));
        let refused = left_out.next(&bob, false, now, LIFE).unwrap_err().to_string();
        assert!(refused.contains("Contact/ann") && refused.contains("--prune"), "{refused}");
        let given = left_out.next(&ann, false, now, LIFE).expect("its file is there");
        assert!(given.is_empty(), "that is what was signed");
        assert_eq!(left_out.next(&bob, true, now, LIFE).unwrap()[0].manifests.len(), 1, "the files say that it goes");
    }

    #[test]
    fn what_was_signed_elsewhere_is_found_while_it_fits() {
        let scratch = tempfile::tempdir().unwrap();
        let files = Files::beside(&[scratch.path().to_owned()]);
        let now = Timestamp::now();
        let set = current(&[], None).next(&contact("ann"), false, now, LIFE).unwrap().remove(0);
        assert!(files.read(&set, now).unwrap().is_none());
        let key = SigningKey::from_text(&NewKey::make("").unwrap().private).unwrap();
        let mut signed = sign(&set, &key).unwrap();
        signed.signatures.push(signing::sign(&key, "quell-policy", &signed.bytes).unwrap());
        files.write(&set.name(), &signed).unwrap();
        assert_eq!(files.read(&set, now).unwrap(), Some(signed));
        let other = current(&[], None).next(&contact("bob"), false, now, LIFE).unwrap().remove(0);
        assert_eq!(files.read(&other, now).unwrap(), None, "other manifests");
        assert_eq!(files.read(&PolicySet { version: 8, ..set.clone() }, now).unwrap(), None, "an older version");
        std::fs::write(files.bytes(&set.name()), "{}").unwrap();
        assert!(files.read(&set, now).is_err());
    }
}
