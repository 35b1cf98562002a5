//! `disk.reclaim`: not carried out by this version of the agent, which refuses it.

use quell_model::action::DiskReclaim;
use serde_json::Value as Json;

use super::{Action, Change, Failure, Host, Preview, Refusal, Standing, Work};
use crate::{config::Config, managers::Promise};

/// An order to delete files.
#[derive(Debug)]
pub(super) struct Reclaim(pub(super) DiskReclaim);

fn unknown() -> Refusal {
    Refusal::because("this version of the agent deletes no files")
}

impl Action for Reclaim {
    fn resources(&self) -> Vec<String> {
        vec![format!("path:{}", super::shown(&self.0.directory))]
    }

    fn permitted(&self, _: &Config) -> Result<(), Refusal> {
        Err(unknown())
    }

    fn check<'a>(&'a self, _: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async { Err(unknown()) })
    }

    fn prepare<'a>(&'a self, _: &'a Host) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async { Err(unknown()) })
    }

    fn apply<'a>(&'a self, _: &'a Work<'a>, _: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async { Err(Failure::new(unknown().reason)) })
    }

    fn verify<'a>(&'a self, _: &'a Work<'a>, _: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async { Err(Failure::new(unknown().reason)) })
    }

    fn undo<'a>(&'a self, _: &'a Work<'a>, _: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn look<'a>(&'a self, _: &'a Host, _: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async { Standing::Doubtful(unknown().reason) })
    }
}
