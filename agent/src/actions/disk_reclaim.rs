//! `disk.reclaim`: deletes exactly the files that its preview listed.
//!
//! The list is what people approve. It is made anew before anything is done and has to be the same; then each file is
//! compared with it once more, by what it is and not by its name, and asked for again: is it held, has somebody got it
//! open. What does not match is left and told. A file that is not on the list is never deleted. There is no undo.

mod delete;
mod list;

use std::path::Path;

use quell_model::action::DiskReclaim;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Action, Change, Failure, Host, Preview, Refusal, Standing, Work};
use crate::{
    config::Config,
    files::{Directory, Error, open},
    managers::Promise,
};
use delete::{Knife, Place};
use list::{List, Listed};

/// An order to delete files.
#[derive(Debug)]
pub(super) struct Reclaim(pub(super) DiskReclaim);

/// What the journal keeps: the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Prepared {
    files: Vec<Listed>,
}

impl Prepared {
    fn from(prepared: &Json) -> Result<Self, String> {
        serde_json::from_value(prepared.clone()).map_err(|error| format!("the journal is strange: {error}"))
    }
}

impl Reclaim {
    fn open(&self, config: &Config) -> Result<Directory, String> {
        let directory = &self.0.directory;
        let root =
            config.allow.reclaim_root_of(directory).ok_or_else(|| Error::Missing(directory.clone()).to_string())?;
        Directory::open(root, directory).map_err(|error| error.to_string())
    }

    /// Does file work in the directory, with the rights that it asks for.
    async fn within<T: Send + 'static>(
        &self,
        host: &Host,
        work: impl FnOnce(&Directory) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, String> {
        let directory = self.open(&host.config)?;
        let done = super::blocking(move || {
            let handler = directory.handler();
            handler.run(|| work(&directory)).map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        });
        done.await.and_then(|done| done)
    }

    /// Makes the list.
    async fn list(&self, host: &Host) -> Result<List, String> {
        let rule = self.0.clone();
        let mut list = self.within(host, move |directory| list::look(directory, &rule)).await?;
        let (rule, holds, now) = (self.0.clone(), host.legal_holds.clone(), jiff::Timestamp::now());
        // With the agent's own rights: another user may neither read the holds nor see who has what open.
        let chosen = super::blocking(move || {
            let holds = holds.read().map_err(|error| error.to_string())?;
            list.due(&rule, now);
            let holders =
                open::holders(list.files.iter().map(|file| file.found)).map_err(|error| delete::unseen(&error))?;
            list.spare(|file| match holds.of(&rule.directory.join(&file.name)) {
                Some(hold) => Ok(Some(super::held(hold))),
                None => holders.of(file.found).map(|pid| pid.map(delete::opened)),
            })
            .map_err(|hidden| hidden.to_string())?;
            list.bound(&rule.directory, rule.max_total);
            Ok(list)
        });
        chosen.await.and_then(|chosen| chosen)
    }

    async fn places(&self, host: &Host, prepared: Prepared) -> Result<Vec<Place>, String> {
        self.within(host, move |directory| prepared.files.iter().map(|file| delete::place(directory, file)).collect())
            .await
    }

    async fn verified(&self, work: &Work<'_>, prepared: &Json) -> Result<(), String> {
        let prepared = Prepared::from(prepared)?;
        let files: Vec<_> = prepared.files.iter().map(|file| file.found).collect();
        let places = self.places(work.host, prepared).await?;
        if places.contains(&Place::Aside) {
            return Err("a file that was about to be deleted still stands aside".to_owned());
        }
        let looked = super::blocking(move || open::holders_of_deleted(files)).await?;
        let holders = looked.map_err(|error| delete::unseen(&error))?;
        if holders.is_empty() {
            Ok(())
        } else {
            Err("a process has a deleted file open: its bytes are not free before it is closed".to_owned())
        }
    }
}

impl Action for Reclaim {
    fn resources(&self) -> Vec<String> {
        vec![format!("path:{}", super::shown(&self.0.directory))]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        match config.allow.reclaim_root_of(&self.0.directory) {
            Some(_) => Ok(()),
            None => Err(Refusal::not_listed("reclaim", &super::shown(&self.0.directory))),
        }
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let list = self.list(host).await.map_err(Refusal::because)?;
            Ok(list.preview(&self.0.directory))
        })
    }

    fn prepare<'a>(&'a self, host: &'a Host, checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async move {
            let list = self.list(host).await.map_err(Refusal::because)?;
            if list.preview(&self.0.directory).items != checked.items {
                return Err(Refusal::because("the files changed while they were listed; nothing was deleted"));
            }
            Ok(json!(Prepared { files: list.files }))
        })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            let prepared = Prepared::from(prepared).map_err(Failure::new)?;
            let knife = Knife {
                directory: self.open(&work.host.config).map_err(Failure::new)?,
                legal_holds: work.host.legal_holds.clone(),
                deadline: work.deadline,
                cancel: work.cancel.clone(),
                resumed: work.resumed,
            };
            super::blocking(move || knife.delete(&prepared.files)).await.map_err(Failure::new)?
        })
    }

    fn verify<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async move {
            let verified = self.verified(work, prepared).await;
            verified.map_err(|reason| Failure::new(format!("what was deleted is not seen to be gone: {reason}")))
        })
    }

    fn undo<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn look<'a>(&'a self, host: &'a Host, prepared: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async move {
            let looked = async {
                let files = Prepared::from(prepared)?.files;
                Ok::<_, String>((self.places(host, Prepared { files: files.clone() }).await?, files))
            };
            match looked.await {
                Err(reason) => Standing::Doubtful(reason),
                Ok((places, files)) => standing(&self.0.directory, &files, &places),
            }
        })
    }
}

/// What an agent that comes back finds of the list: deleting is safe to repeat, whatever stands where.
fn standing(directory: &Path, files: &[Listed], places: &[Place]) -> Standing {
    let gone: Vec<&Listed> =
        files.iter().zip(places).filter(|(_, place)| **place == Place::Gone).map(|(file, _)| file).collect();
    let summary = format!("{} of {} listed files of {} are deleted", gone.len(), files.len(), directory.display());
    let change = Change::new(summary)
        .with("bytes_freed", gone.iter().map(|file| file.disk).sum())
        .with("files_deleted", gone.len() as u64)
        .with("files_kept", (files.len() - gone.len()) as u64);
    match gone.len() {
        0 => Standing::Open,
        all if all == files.len() => Standing::Done(change),
        _ => Standing::Begun(change),
    }
}

#[cfg(test)]
pub(super) mod tests;
