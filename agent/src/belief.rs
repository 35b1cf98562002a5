//! What the agent believes, durably and by itself: whom, its own labels, and what it has seen and done.
//!
//! Three files in `belief/` of the data directory, each written whole, synced with its directory, and sealed with its
//! digest: whom it believes ([`TrustRoot`]), the labels, and the ledger. What is to be remembered is durable before
//! anything is done on its strength. A file that is damaged or gone is an error that says what to do, never a fresh
//! beginning: whoever could make an agent forget could make it do things twice. What cannot be written is not believed, and
//! not done.
//!
//! The trust root is written last, so that its presence says that the others are there. Without one the agent watches
//! and refuses every order.

mod ledger;
mod sealed;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{Timestamp, tz::TimeZone};
use quell_link::files;
use quell_model::{
    name::HostName,
    selector::Labels,
    trust::{
        self, Believed, Denied, LabelChange, Malformed, Order, SetName, TrustRoot, Warrant, authorize::Known,
        authorize_knowing,
    },
};
use serde::{Deserialize, Serialize};

pub(crate) use ledger::{Held, Ledger, Step};

/// The directory's name in the data directory.
const DIRECTORY: &str = "belief";
const ROOT: &str = "trust-root";
const LABELS: &str = "labels";
const LEDGER: &str = "ledger";

/// Why what is believed cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("what this host believes: {0}")]
    File(#[from] files::Error),
    /// A file is damaged or gone.
    #[error(
        "what this host believes cannot be used: {path} {why}; put the file back from a copy, or move {directory} and the \
         identity beside it away, run `quell host retire` for the host and join it again",
        path = path.display(), directory = path.parent().unwrap_or(path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Nobody is believed.
    #[error(
        "this host believes nobody, so nothing that people sign counts here: {0} is not there; move the identity beside \
         it away, run `quell host retire` for the host and join it again with a join string of `quell token create`"
    )]
    Nobody(PathBuf),
    /// A sync failed earlier, and what is on the disk is not known.
    #[error(
        "what was done could not be made durable ({0}), so nothing is done any more; repair the disk and restart the agent"
    )]
    Broken(String),
}

/// Why a signed change is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not verify.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It cannot be read or kept.
    #[error(transparent)]
    Belief(#[from] Error),
    /// It is for another host.
    #[error("the labels are those of {found}, and this is {host}")]
    OtherHost {
        /// Whose they are.
        found: HostName,
        /// Who this is.
        host: HostName,
    },
    /// It is not the next one.
    #[error("version {found} of this host's labels does not follow version {current}")]
    LabelVersion {
        /// The version that came.
        found: u64,
        /// The last that was taken.
        current: u64,
    },
}

/// A signed change that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Whom the host believes, by the version of the root.
    Root(u64),
    /// The host's labels, by the version of the change.
    Labels(u64),
}

/// What the controller is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Version of the trust root; 0: none.
    pub trust_version: u64,
    /// How many signed changes of the labels were taken.
    pub label_version: u64,
    /// The labels.
    pub labels: Labels,
    /// The highest version of each set that was seen.
    pub set_versions: BTreeMap<SetName, u64>,
}

/// What an order is judged by: as things stand at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// Whom the host believes.
    pub root: Arc<Believed>,
    /// Its labels.
    pub labels: Labels,
    /// The highest version of each set that it has seen.
    pub set_versions: BTreeMap<SetName, u64>,
    /// Counts the changes of root and labels: a judgement of an older one is asked again.
    pub generation: u64,
}

/// The labels, as the file holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Labelled {
    /// Of the last signed change; 0 after the join.
    version: u64,
    labels: Labels,
    /// Whether the host's administrator changed them since.
    by_host: bool,
}

/// What the agent believes.
#[derive(Debug)]
pub struct Beliefs {
    directory: PathBuf,
    host: HostName,
    held: Mutex<Option<Belief>>,
    /// Manifests that came with earlier orders: reading one costs more than all the signatures of an order.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Belief {
    root: TrustRoot,
    /// Its signers, read when they are first needed.
    believed: Option<Arc<Believed>>,
    labelled: Labelled,
    ledger: Ledger,
    generation: u64,
    broken: Option<String>,
}

/// The zone of times in `allowed_signers` that have no `Z`: the same on every host.
pub(crate) const ZONE: TimeZone = TimeZone::UTC;

impl Beliefs {
    /// Reads what the agent of a data directory believes. Blocks.
    ///
    /// # Errors
    /// A file is damaged or gone. Believing nobody is no error.
    pub fn open(data_directory: &Path, host: HostName) -> Result<Self, Error> {
        let directory = data_directory.join(DIRECTORY);
        let held = read(&directory)?;
        Ok(Self { directory, host, held: Mutex::new(held), known: Mutex::default() })
    }

    /// Believes a root and labels from now on, as a join says it. What was seen and done in the same installation
    /// stays, so that joining again forgets nothing. Blocks.
    ///
    /// # Errors
    /// The files cannot be written, or those that are there are damaged.
    pub fn establish(data_directory: &Path, root: &TrustRoot, labels: &Labels) -> Result<(), Error> {
        let directory = data_directory.join(DIRECTORY);
        let before = read(&directory)?.filter(|before| before.root.installation == root.installation);
        let ledger = before.map(|before| before.ledger).unwrap_or_default();
        let labelled = Labelled { labels: labels.clone(), ..Labelled::default() };
        files::create_directory(&directory)?;
        sealed::write(&directory.join(LEDGER), &sealed::json(&ledger))?;
        sealed::write(&directory.join(LABELS), &sealed::json(&labelled))?;
        sealed::write(&directory.join(ROOT), root.canonical().as_bytes())
    }

    /// Changes the labels, because the host's administrator says so. Blocks.
    ///
    /// # Errors
    /// Nobody is believed yet, or the file cannot be written.
    pub fn relabel(&self, labels: Labels) -> Result<(), Error> {
        let mut held = self.lock();
        let belief = self.sound(&mut held)?;
        let labelled = Labelled { version: belief.labelled.version, labels, by_host: true };
        self.put_labels(belief, labelled)
    }

    /// What the controller is told.
    pub fn told(&self) -> Told {
        self.lock().as_ref().map(Belief::told).unwrap_or_default()
    }

    /// The host.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// Decides by signatures alone whether an order may be carried out.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) fn authorize(&self, belief: &trust::Belief<'_>, order: &Order<'_>) -> Result<Warrant, Denied> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        authorize_knowing(belief, order, &mut known)
    }

    /// Counts the changes of root and labels.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().as_ref().map_or(0, |belief| belief.generation)
    }

    /// Whether the labels are those that the host's administrator gave.
    pub fn labelled_by_host(&self) -> bool {
        self.lock().as_ref().is_some_and(|belief| belief.labelled.by_host)
    }

    /// What an order is judged by.
    ///
    /// # Errors
    /// Nobody is believed, or what is believed cannot be used.
    pub fn view(&self) -> Result<View, Error> {
        let mut held = self.lock();
        let belief = self.sound(&mut held)?;
        Ok(View {
            root: belief.believed().map_err(|why| self.damaged(ROOT, &why))?,
            labels: belief.labelled.labels.clone(),
            set_versions: belief.ledger.set_versions(),
            generation: belief.generation,
        })
    }

    /// Takes in a signed change of the root or of the labels, durably. Blocks.
    ///
    /// # Errors
    /// It is not signed by those who are believed now, is not the next one, or cannot be kept.
    pub fn take(&self, document: &[u8], signatures: &[String], now: Timestamp) -> Result<Taken, Refused> {
        let mut held = self.lock();
        let belief = self.sound(&mut held)?;
        let current = belief.believed().map_err(|why| self.damaged(ROOT, &why))?;
        // The two cannot be taken for each other: each has fields that the other refuses.
        if LabelChange::parse(document).is_err() {
            let next = TrustRoot::succeeds(&current, document, signatures, now, &ZONE)?;
            let version = next.version;
            self.keep(belief, ROOT, document)?;
            belief.root = next;
            belief.believed = None;
            belief.generation += 1;
            return Ok(Taken::Root(version));
        }
        let change = LabelChange::verify(&current, document, signatures, now, &ZONE)?;
        if change.host != self.host {
            return Err(Refused::OtherHost { found: change.host, host: self.host.clone() });
        }
        let last = belief.labelled.version;
        if change.version != last + 1 {
            return Err(Refused::LabelVersion { found: change.version, current: last });
        }
        let version = change.version;
        self.put_labels(belief, Labelled { version, labels: change.labels, by_host: false })?;
        Ok(Taken::Labels(version))
    }

    /// Asks the ledger; nothing is written.
    ///
    /// # Errors
    /// Nobody is believed, or the ledger can no longer be written.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&Ledger) -> T) -> Result<T, Error> {
        let mut held = self.lock();
        Ok(ask(&self.sound(&mut held)?.ledger))
    }

    /// Changes the ledger durably, before anything is done on its strength; `change` says whether there is anything to
    /// write. Blocks.
    ///
    /// # Errors
    /// Nobody is believed, or the ledger cannot be written.
    pub(crate) fn note(
        &self,
        change: impl FnOnce(&mut Ledger) -> Result<bool, Held>,
    ) -> Result<Result<(), Held>, Error> {
        let mut held = self.lock();
        let belief = self.sound(&mut held)?;
        let mut next = belief.ledger.clone();
        match change(&mut next) {
            Err(held) => return Ok(Err(held)),
            Ok(false) => return Ok(Ok(())),
            Ok(true) => {}
        }
        self.keep(belief, LEDGER, &sealed::json(&next))?;
        belief.ledger = next;
        Ok(Ok(()))
    }

    fn put_labels(&self, belief: &mut Belief, labelled: Labelled) -> Result<(), Error> {
        self.keep(belief, LABELS, &sealed::json(&labelled))?;
        belief.labelled = labelled;
        belief.generation += 1;
        Ok(())
    }

    /// Writes a file. When that fails the old one is still in its place; only when the directory's sync fails it is not
    /// known which of them will be there after a power cut, and nothing is believed any more.
    fn keep(&self, belief: &mut Belief, name: &str, content: &[u8]) -> Result<(), Error> {
        sealed::write(&self.directory.join(name), content).inspect_err(|error| {
            tracing::error!(%error, "what this host believes could not be made durable");
            if matches!(error, Error::File(files::Error::Io { action: "sync", .. })) {
                belief.broken = Some(error.to_string());
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Belief>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sound<'b>(&self, held: &'b mut Option<Belief>) -> Result<&'b mut Belief, Error> {
        let belief = held.as_mut().ok_or_else(|| Error::Nobody(self.directory.join(ROOT)))?;
        match &belief.broken {
            Some(why) => Err(Error::Broken(why.clone())),
            None => Ok(belief),
        }
    }

    fn damaged(&self, name: &str, why: &Malformed) -> Error {
        Error::Damaged { path: self.directory.join(name), why: why.to_string() }
    }
}

impl Belief {
    fn believed(&mut self) -> Result<Arc<Believed>, Malformed> {
        if let Some(believed) = &self.believed {
            return Ok(Arc::clone(believed));
        }
        let believed = Arc::new(Believed::new(self.root.clone())?);
        self.believed = Some(Arc::clone(&believed));
        Ok(believed)
    }

    fn told(&self) -> Told {
        Told {
            trust_version: self.root.version,
            label_version: self.labelled.version,
            labels: self.labelled.labels.clone(),
            set_versions: self.ledger.set_versions(),
        }
    }
}

/// Reads the three files; nothing when there is no trust root.
fn read(directory: &Path) -> Result<Option<Belief>, Error> {
    let path = directory.join(ROOT);
    let Some(bytes) = sealed::read(&path)? else { return Ok(None) };
    let damaged = |path: &Path, why: &dyn std::fmt::Display| Error::Damaged { path: path.into(), why: why.to_string() };
    let root = TrustRoot::parse(&bytes).map_err(|error| damaged(&path, &error))?;
    Ok(Some(Belief {
        root,
        believed: None,
        labelled: sealed::read_json(&directory.join(LABELS))?,
        ledger: sealed::read_json(&directory.join(LEDGER))?,
        generation: 0,
        broken: None,
    }))
}

#[cfg(test)]
mod tests;
