//! The commands, one file each: what each takes, what it asks of the controller, how it ends.

pub mod apply;
pub mod audit;
pub mod breaker;
pub mod cancel;
pub mod check;
pub mod countersign;
pub mod decide;
pub mod describe;
pub mod diff;
pub mod events;
pub mod explain;
pub mod generate;
pub mod get;
pub mod hold;
pub mod host;
pub mod new;
pub mod note;
pub mod operator;
pub mod promote;
pub mod run;
pub mod sign;
pub mod status;
pub mod token;
pub mod trust;
pub mod why;

use crate::{arguments::Command, connect::Context, error::Error, exit::Exit};

/// Does what was asked; without a command, shows what needs the person.
///
/// # Errors
/// Whatever stopped it.
pub async fn run(command: Option<Command>, context: &Context) -> Result<Exit, Error> {
    let Some(command) = command else { return status::run(context).await };
    match command {
        Command::Get(arguments) => get::run(&arguments, context).await,
        Command::Describe(arguments) => describe::run(&arguments, context).await,
        Command::Explain(arguments) => explain::run(&arguments),
        Command::New(arguments) => new::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments, context).await,
        Command::Apply(arguments) => apply::run(&arguments, context).await,
        Command::Sign(arguments) => sign::run(&arguments, context).await,
        Command::Trust(command) => trust::run(&command, context).await,
        Command::Countersign(arguments) => countersign::countersign(&arguments, context).await,
        Command::Send(arguments) => countersign::send(&arguments, context).await,
        Command::Run(arguments) => run::run(&arguments, context).await,
        Command::Approve(arguments) => decide::approve(&arguments, context).await,
        Command::Deny(arguments) => decide::deny(&arguments, context).await,
        Command::Cancel(arguments) => cancel::run(&arguments, context).await,
        Command::Ack(arguments) => note::acknowledge(&arguments, context).await,
        Command::Note(arguments) => note::note(&arguments, context).await,
        Command::Promote(arguments) => promote::run(&arguments, context).await,
        Command::Why(arguments) => why::run(&arguments, context).await,
        Command::Hold(arguments) => hold::hold(&arguments, context).await,
        Command::Freeze(arguments) => hold::freeze(&arguments, context).await,
        Command::Thaw(arguments) => hold::thaw(&arguments, context).await,
        Command::Events(arguments) => events::run(&arguments, context).await,
        Command::Audit(command) => audit::run(&command, context).await,
        Command::Token(command) => token::run(&command, context).await,
        Command::Host(command) => host::run(&command, context).await,
        Command::Operator(command) => operator::run(&command, context).await,
        Command::Breaker(command) => breaker::run(&command, context).await,
        Command::Completions(arguments) => generate::completions(&arguments),
        Command::Man(arguments) => generate::man(&arguments),
    }
}
