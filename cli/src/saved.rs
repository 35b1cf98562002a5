//! What more than one person has to sign, in files: a change of whom hosts believe, a host's labels, a run.
//!
//! `FILE` holds exactly the bytes that are signed, so that anybody can sign them with `ssh-keygen` alone; `FILE.sig` holds
//! one armoured signature after the other. A run is named in what is signed by its digest only: it stands in `FILE.run`.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use quell_link::signing::SigningKey;
use quell_model::trust::{
    Believed, Denied, NAMESPACE_POLICY, NAMESPACE_TRUST, PolicySet, SignedSet, TrustRoot, labels::LabelChange, run::Run,
};

use crate::{
    error::Error,
    files::{self, beside},
    render::yaml,
    sets, signing,
};

/// Where something is put that others sign too.
#[derive(Debug, Clone, Default, Args)]
pub struct Save {
    /// Write it to this file, your signature to FILE.sig, and send nothing: others add theirs with `quell countersign
    /// FILE`, and when enough have signed one of you says `quell send FILE`.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// What can be signed by several people.
#[derive(Debug, Clone, PartialEq)]
pub enum Paper {
    /// The next version of whom hosts believe.
    Trust(TrustRoot),
    /// A host's labels.
    Labels(LabelChange),
    /// A run, and the one-shot set that makes it good.
    Run(Box<Run>, PolicySet),
}

impl Paper {
    /// The bytes that are signed.
    fn canonical(&self) -> String {
        match self {
            Self::Trust(root) => root.canonical(),
            Self::Labels(change) => change.canonical(),
            Self::Run(_, set) => set.canonical(),
        }
    }

    /// The namespace of its signatures.
    pub fn namespace(&self) -> &'static str {
        match self {
            Self::Trust(_) | Self::Labels(_) => NAMESPACE_TRUST,
            Self::Run(..) => NAMESPACE_POLICY,
        }
    }

    /// What it is, in a few words.
    pub fn name(&self) -> String {
        match self {
            Self::Trust(root) => format!("version {} of whom hosts believe", root.version),
            Self::Labels(change) => format!("change {} of the labels of {}", change.version, change.host),
            Self::Run(run, _) => format!("the run of {}", run.action),
        }
    }

    /// What it says, for people who are asked to sign it: of a trust root, what changes.
    ///
    /// # Errors
    /// Never for what can be signed.
    pub fn text(&self, believed: &Believed) -> Result<String, Error> {
        let as_yaml = |value: serde_json::Result<serde_json::Value>| {
            value.map(|value| yaml::write(&value)).map_err(|error| Error::Failed(error.to_string()))
        };
        match self {
            Self::Trust(root) => Ok(similar::TextDiff::from_lines(&readable(believed.root()), &readable(root))
                .unified_diff()
                .header("in force", "new")
                .to_string()),
            Self::Labels(change) => as_yaml(serde_json::to_value(change)),
            Self::Run(run, _) => as_yaml(serde_json::to_value(run)),
        }
    }
}

fn readable(root: &TrustRoot) -> String {
    let required = root.required.iter().map(|(namespace, count)| format!("{namespace}: {count} people must sign\n"));
    format!("{}{}", required.collect::<String>(), root.allowed_signers)
}

/// A paper with the signatures that it has so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    /// What is signed.
    pub paper: Paper,
    /// By whom, armoured.
    pub signatures: Vec<String>,
}

impl Signed {
    /// A paper that nobody has signed yet.
    pub fn new(paper: Paper) -> Self {
        Self { paper, signatures: Vec::new() }
    }

    /// Adds a signature.
    ///
    /// # Errors
    /// The key refuses.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), Error> {
        let signature = signing::sign(key, self.paper.namespace(), &self.bytes())?;
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
        Ok(())
    }

    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        self.paper.canonical().into_bytes()
    }

    /// Whether those whom hosts believe signed enough.
    ///
    /// # Errors
    /// Too few did, or it does not follow what is in force.
    pub fn check(&self, believed: &Believed, now: Timestamp) -> Result<(), Denied> {
        let (bytes, zone) = (self.bytes(), TimeZone::UTC);
        match &self.paper {
            Paper::Trust(_) => TrustRoot::succeeds(believed, &bytes, &self.signatures, now, &zone).map(drop),
            Paper::Labels(_) => LabelChange::verify(believed, &bytes, &self.signatures, now, &zone).map(drop),
            Paper::Run(..) => {
                SignedSet { bytes, signatures: self.signatures.clone() }.verify(believed, now, &zone).map(drop)
            }
        }
    }

    /// Reads what was saved.
    ///
    /// # Errors
    /// A file cannot be read, or holds nothing that is signed by several people.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = files::read(path)?;
        let paper = paper(path, &bytes)?;
        if paper.canonical().as_bytes() != bytes {
            return Err(Error::Usage(format!("{} was changed after it was written: make it anew", path.display())));
        }
        let armoured = files::read_if_there(&beside(path, ".sig"))?.unwrap_or_default();
        Ok(Self { paper, signatures: sets::split(&String::from_utf8_lossy(&armoured)) })
    }

    /// Writes it for the first time.
    ///
    /// # Errors
    /// There is something already, or a file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let run = beside(path, ".run");
        if let Some(there) = [path, &run, &beside(path, ".sig")].into_iter().find(|file| file.exists()) {
            return Err(Error::Usage(format!("{} exists: name another file, or remove it", there.display())));
        }
        if let Paper::Run(order, _) = &self.paper {
            files::write(&run, order.canonical().as_bytes())?;
        }
        files::write(path, &self.bytes())?;
        self.save_signatures(path)
    }

    /// Writes the signatures alone.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_signatures(&self, path: &Path) -> Result<(), Error> {
        files::write(&beside(path, ".sig"), self.signatures.concat().as_bytes())
    }
}

fn paper(path: &Path, bytes: &[u8]) -> Result<Paper, Error> {
    if let Ok(root) = TrustRoot::parse(bytes) {
        return Ok(Paper::Trust(root));
    }
    if let Ok(change) = LabelChange::parse(bytes) {
        return Ok(Paper::Labels(change));
    }
    let set = PolicySet::parse(bytes).ok().filter(|set| set.one_shot.is_some()).ok_or_else(|| {
        Error::Usage(format!(
            "{} is none of what --save writes; signed manifests are for `quell sign` and `quell apply`",
            path.display()
        ))
    })?;
    let file = beside(path, ".run");
    let run = Run::parse(&files::read(&file)?).map_err(|error| Error::Usage(format!("{}: {error}", file.display())))?;
    if set.manifests.get(&run.key()) != Some(&run.digest()) {
        return Err(Error::Usage(format!("{} is not the run that {} is for", file.display(), path.display())));
    }
    Ok(Paper::Run(Box::new(run), set))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quell_link::signing::NewKey;
    use quell_model::selector::Selector;

    use super::*;

    fn run() -> Paper {
        let run = Run::new("a-1".to_owned(), "exec".to_owned(), serde_json::Map::new(), Selector::All);
        let set = PolicySet::of_run(&run, "here", Timestamp::now()).unwrap();
        Paper::Run(Box::new(run), set)
    }

    fn papers() -> Vec<Paper> {
        let change = LabelChange {
            installation: "here".to_owned(),
            host: "planthost1".parse().unwrap(),
            version: 2,
            labels: [("role".to_owned(), "web".to_owned())].into(),
        };
        vec![Paper::Trust(root(&[&NewKey::make("").unwrap()])), Paper::Labels(change), run()]
    }

    fn root(keys: &[&NewKey]) -> TrustRoot {
        let lines = keys.iter().enumerate().map(|(at, key)| format!("p{at} {}\n", key.public));
        TrustRoot {
            installation: "here".to_owned(),
            version: 1,
            allowed_signers: lines.collect(),
            required: [("trust".parse().unwrap(), 2), ("run".parse().unwrap(), 2)].into(),
        }
    }

    #[test]
    fn what_is_saved_is_read_again_with_all_signatures() {
        let scratch = tempfile::tempdir().unwrap();
        let key = SigningKey::from_text(&NewKey::make("").unwrap().private).unwrap();
        for (at, paper) in papers().into_iter().enumerate() {
            let path = scratch.path().join(at.to_string());
            let mut signed = Signed::new(paper);
            signed.sign(&key).unwrap();
            signed.save(&path).unwrap();
            assert_eq!(Signed::open(&path).unwrap(), signed);
            assert_eq!(std::fs::read(&path).unwrap(), signed.bytes(), "others sign these bytes without us");
            assert!(signed.save(&path).unwrap_err().to_string().contains("exists"));
        }
    }

    #[test]
    fn two_people_are_two_and_one_with_two_keys_is_one() {
        let (one, two, second) = (NewKey::make("").unwrap(), NewKey::make("").unwrap(), NewKey::make("").unwrap());
        let mut root = root(&[&one, &two]);
        root.allowed_signers.push_str(&format!("p0 {}\n", second.public));
        let believed = Believed::new(root.clone()).unwrap();
        let key = |key: &NewKey| SigningKey::from_text(&key.private).unwrap();
        let next = Paper::Trust(TrustRoot { version: 2, ..root });
        for paper in [next, papers().remove(1), run()] {
            let mut signed = Signed::new(paper);
            signed.sign(&key(&one)).unwrap();
            assert!(signed.check(&believed, Timestamp::now()).is_err());
            signed.sign(&key(&second)).unwrap();
            assert!(signed.check(&believed, Timestamp::now()).is_err(), "the same person's other key");
            signed.sign(&key(&two)).unwrap();
            signed.check(&believed, Timestamp::now()).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_no_paper_or_another_run_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("x");
        std::fs::write(&path, "{}").unwrap();
        assert!(Signed::open(&path).unwrap_err().to_string().contains("none of what --save writes"));
        std::fs::remove_file(&path).unwrap();
        Signed::new(run()).save(&path).unwrap();
        let other = Run::new("a-1".to_owned(), "service.restart".to_owned(), serde_json::Map::new(), Selector::All);
        std::fs::write(beside(&path, ".run"), other.canonical()).unwrap();
        assert!(Signed::open(&path).unwrap_err().to_string().contains("is not the run"));
    }

    #[test]
    fn people_read_what_changes_before_they_sign() {
        let keys = [NewKey::make("").unwrap(), NewKey::make("").unwrap()];
        let before = root(&[&keys[0]]);
        let after = TrustRoot { required: BTreeMap::new(), ..root(&[&keys[0], &keys[1]]) };
        let text = Paper::Trust(after).text(&Believed::new(before).unwrap()).unwrap();
        assert!(
            text.contains("-run: 2 people must sign") && text.contains(&format!("+p1 {}", keys[1].public)),
            "{text}"
        );
        assert!(run().text(&Believed::new(root(&[&keys[0]])).unwrap()).unwrap().contains("\"exec\""));
    }
}
