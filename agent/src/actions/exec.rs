//! `exec`: runs a program that `agent.toml` lists, by argv and never by a shell.
//!
//! Nobody knows what it does, so it is never repeated: an agent that died while it ran reports it as unknown.

use quell_model::value::Value;
use serde_json::Value as Json;

use super::{Action, Change, Failure, Host, Item, Preview, Refusal, Standing, Work, permission};
use crate::{
    config::Config,
    managers::Promise,
    process::run::{self, End, Program},
};

/// An order to run a program.
#[derive(Debug)]
pub(super) struct Run(pub(super) quell_model::action::Exec);

impl Action for Run {
    fn resources(&self) -> Vec<String> {
        vec![format!("program:{}", self.0.argv[0])]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        permission::program(config, &self.0.argv)?;
        if let Some(directory) = &self.0.directory
            && config.allow.root_of(directory).is_none()
        {
            return Err(Refusal::not_listed("paths", &super::shown(directory)));
        }
        match self.0.environment.keys().find(|name| !config.allow.environment.contains(*name)) {
            Some(name) => Err(Refusal::not_listed("environment", name)),
            None => Ok(()),
        }
    }

    fn check<'a>(&'a self, _host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let (program, user) = (self.0.argv[0].clone(), self.0.user.clone());
            super::blocking(move || {
                use std::os::unix::fs::PermissionsExt as _;
                let metadata = std::fs::metadata(&program).map_err(|error| format!("{program}: {error}"))?;
                if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
                    return Err(format!("{program} is not a program that can be run"));
                }
                user.as_deref().map(run::user_ids).transpose().map(|_| ()).map_err(|error| error.to_string())
            })
            .await
            .and_then(|checked| checked)
            .map_err(Refusal::because)?;
            let detail = self.0.user.as_ref().map(|user| format!("as {user}")).unwrap_or_default();
            let item = Item { verb: "run", object: super::shown_argv(&self.0.argv), size: 0, detail, moving: false };
            Ok(Preview { items: vec![item], note: String::new() })
        })
    }

    fn prepare<'a>(&'a self, _host: &'a Host, _checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async { Ok(Json::Null) })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            let program = Program {
                argv: self.0.argv.clone(),
                directory: self.0.directory.clone(),
                user: self.0.user.clone(),
                environment: self.0.environment.clone(),
                output_limit: self.0.output_limit,
            };
            let name = &self.0.argv[0];
            let output = run::run(&program, work.left(), &work.cancel)
                .await
                .map_err(|error| Failure::new(format!("{name} could not be started: {error}")))?;
            let mut change = Change::new(format!("{name} {}", output.end));
            if let End::Status(status) = output.end {
                change.values.insert("exit".to_owned(), Value::Number(status.into()));
            }
            change.output = output.stdout;
            if !output.stderr.is_empty() {
                change.output.push_str(&output.stderr);
            }
            if output.end.is_success() {
                return Ok(change);
            }
            Err(Failure { reason: change.summary.clone(), change, in_doubt: false })
        })
    }

    fn verify<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        // Its exit status, which apply has judged, is all that it says of itself.
        Box::pin(async { Ok(()) })
    }

    fn undo<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn look<'a>(&'a self, _host: &'a Host, _prepared: &'a Json) -> Promise<'a, Standing> {
        let doubt = format!("the agent ended while {} ran; whether it finished is not known", self.0.argv[0]);
        Box::pin(async move { Standing::Doubtful(doubt) })
    }
}
