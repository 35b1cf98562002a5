//! `quell operator`: people and programs that may call the controller.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use quell_link::{authority, files, profile::Profile};
use quell_wire::v1::{CreateOperatorRequest, CreateOperatorResponse, RevokeOperatorRequest};
use rustls_pki_types::CertificateDer;

use crate::{connect::Context, error::Error, exit::Exit, output, render::escape, settings, shown::Shown};

/// What is done with operators.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a profile for an operator. The key is made here and is in that file only.
    Create(Create),
    /// An operator's certificates are good no longer, at once.
    Revoke {
        /// The operator.
        #[arg(value_name = "NAME")]
        name: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Who is admitted.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// The operator's name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// viewer, operator, admin, alert-source, or a role that approvals ask for; may be repeated.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub roles: Vec<String>,
    /// How long the certificate lives.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = settings::span)]
    pub ttl: Duration,
    /// The file for the profile, which must not exist; without it NAME.toml.
    #[arg(long = "to", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// For a program that speaks TLS by itself, such as Alertmanager: a new directory with ca.pem, certificate.pem and
    /// key.pem instead of a profile.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "file")]
    pub pem: Option<PathBuf>,
}

/// Admits or removes an operator.
///
/// # Errors
/// The file is there already or cannot be written; the controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    match command {
        Command::Create(arguments) => create(arguments, context).await,
        Command::Revoke { name, reason } => {
            let request = RevokeOperatorRequest { name: name.clone(), reason: reason.clone() };
            context.client().await?.revoke_operator(request).await?;
            output::line(&escape::line(&format!("{name} is revoked")))?;
            Ok(Exit::Done)
        }
    }
}

async fn create(arguments: &Create, context: &Context) -> Result<Exit, Error> {
    let file = arguments.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", arguments.name)));
    let (place, option) = arguments.pem.as_ref().map_or((&file, "file with --to"), |it| (it, "directory with --pem"));
    if place.exists() {
        return Err(Error::Usage(format!("{} exists: name another {option}", place.display())));
    }
    let mut client = context.client().await?;
    let Shown { profile: mut own, believed, .. } = Shown::ask(&mut client, context, Timestamp::now()).await?;
    own.trust = believed.root().canonical();
    let failed = |error: &dyn std::fmt::Display| Error::Failed(format!("the profile cannot be made: {error}"));
    let (key, csr_der) = authority::new_key().map_err(|error| failed(&error))?;
    let request = CreateOperatorRequest {
        name: arguments.name.clone(),
        roles: arguments.roles.clone(),
        csr_der,
        ttl_ms: settings::milliseconds(arguments.ttl),
    };
    let answer = client.create_operator(request).await?.into_inner();
    let profile = profile(&arguments.name, &own, answer, key.serialize_pem());
    match &arguments.pem {
        None => profile.save(&file).map_err(|error| failed(&error))?,
        Some(directory) => write_pem(&profile, directory).map_err(|error| failed(&error))?,
    }
    output::line(&place.display().to_string())?;
    Ok(Exit::Done)
}

/// What a program needs that knows nothing of profiles; each file is for its owner only.
fn write_pem(profile: &Profile, directory: &Path) -> Result<(), files::Error> {
    files::create_directory(directory)?;
    for (name, text) in [("ca.pem", &profile.roots), ("certificate.pem", &profile.chain), ("key.pem", &profile.key)] {
        files::write(&directory.join(name), text.as_bytes())?;
    }
    Ok(())
}

fn profile(name: &str, own: &Profile, answer: CreateOperatorResponse, key: String) -> Profile {
    let certificates = |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from).collect::<Vec<_>>();
    let (roots, chain) = (certificates(answer.roots_der), certificates(answer.chain_der));
    let mut profile = Profile::new(name, &own.installation, own.addresses.clone(), &roots, &chain, key);
    profile.trust.clone_from(&own.trust);
    profile
}
