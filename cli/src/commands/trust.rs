//! `quell trust`: whom hosts believe. Every change is a new version, signed by those whom they believe now.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use quell_model::{
    name::ObjectName,
    trust::{Believed, TrustRoot},
};
use quell_wire::v1::{ChangeTrustRequest, GetSetsRequest};

use super::countersign::{self, Sending};
use crate::{
    connect::{Client, Context},
    error::Error,
    exit::Exit,
    files, output,
    render::escape,
    saved::{Paper, Save},
    shown::Shown,
    signing::Key,
};

/// What is done with whom hosts believe.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show who may sign what, and how many it takes.
    Show,
    /// Let a person sign.
    Add {
        /// The person: the name that the operator's certificate bears.
        #[arg(value_name = "NAME")]
        name: String,
        /// The person's public SSH key.
        #[arg(value_name = "KEY.pub")]
        public: PathBuf,
        /// For what: patterns of quell-policy, quell-policy.observe, quell-approval.ROLE, quell-trust, quell-limits.
        #[arg(long, value_name = "PATTERN,…", value_delimiter = ',', required = true)]
        namespaces: Vec<String>,
        /// With which key the change is signed.
        #[command(flatten)]
        key: Key,
        /// Whether others sign it too.
        #[command(flatten)]
        save: Save,
    },
    /// Take a person's keys away.
    Remove {
        /// The person.
        #[arg(value_name = "NAME")]
        name: String,
        /// With which key the change is signed.
        #[command(flatten)]
        key: Key,
        /// Whether others sign it too.
        #[command(flatten)]
        save: Save,
    },
    /// Say how many people must sign a namespace's sets; `trust` stands for these changes themselves. With `limits` hosts
    /// do nothing without signed limits from then on.
    Require {
        /// The namespace of manifests, `trust` or `limits`.
        #[arg(value_name = "NAMESPACE")]
        namespace: ObjectName,
        /// How many distinct people; 0: as if nothing had been said.
        #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=64))]
        count: u32,
        /// With which key the change is signed.
        #[command(flatten)]
        key: Key,
        /// Whether others sign it too.
        #[command(flatten)]
        save: Save,
    },
    /// Give a controller that was restored from a backup the changes that it lost, as this profile has seen them.
    GiveBack,
    /// Put a whole allowed_signers file in force.
    Apply {
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// With which key the change is signed.
        #[command(flatten)]
        key: Key,
        /// Whether others sign it too.
        #[command(flatten)]
        save: Save,
    },
}

/// Shows or changes whom hosts believe.
///
/// # Errors
/// A file or a key is none; the controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    if matches!(command, Command::GiveBack) {
        return give_back(&mut client, context).await;
    }
    let believed = Shown::ask(&mut client, context, Timestamp::now()).await?.believed;
    let (next, key, save) = match command {
        Command::Show | Command::GiveBack => return show(&believed, context),
        Command::Add { name, public, namespaces, key, save } => {
            (added(&believed, name, public, namespaces)?, key, save)
        }
        Command::Remove { name, key, save } => (removed(&believed, name)?, key, save),
        Command::Require { namespace, count, key, save } => (required(&believed, namespace, *count), key, save),
        Command::Apply { file, key, save } => (with_signers(&believed, files::read_text(file)?), key, save),
    };
    // Said here, before anybody is asked to sign.
    Believed::new(next.clone()).map_err(|error| Error::Usage(error.to_string()))?;
    countersign::sign_and_send(Paper::Trust(next), (key, save), Sending::default(), &mut client, context).await
}

/// Puts a signed version in force.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub(super) async fn send(trust_root: Vec<u8>, signatures: Vec<String>, client: &mut Client) -> Result<Exit, Error> {
    let version = client.change_trust(ChangeTrustRequest { trust_root, signatures }).await?.into_inner().version;
    output::line(&format!(
        "version {version} is in force; connected hosts take it in now, others when they come back"
    ))?;
    Ok(Exit::Done)
}

/// Sends what this profile has seen after the newest version that the controller has.
async fn give_back(client: &mut Client, context: &Context) -> Result<Exit, Error> {
    let (profile, memory) = context.profile_and_memory()?;
    let answer = client.get_sets(GetSetsRequest {}).await?.into_inner();
    let newest = answer.trust.last().map(|step| step.root.as_slice()).unwrap_or_default();
    let known = [profile.trust.as_bytes()].into_iter().chain(memory.roots().iter().map(|seen| seen.root.as_bytes()));
    let Some(place) = known.into_iter().position(|root| root == newest) else {
        return Err(Error::Failed(
            "the newest version that the controller has is none that this profile has seen: nothing was sent; another \
             operator's profile may have seen more"
                .to_owned(),
        ));
    };
    let lost = memory.roots().get(place..).unwrap_or_default();
    if lost.is_empty() {
        output::line("the controller has every version that this profile has seen")?;
    }
    for seen in lost {
        let step = seen.step();
        send(step.root, step.signatures, client).await?;
    }
    Ok(Exit::Done)
}

fn show(believed: &Believed, context: &Context) -> Result<Exit, Error> {
    let root = believed.root();
    if context.format.is_data() {
        output::data(context.format, root)?;
        return Ok(Exit::Done);
    }
    output::line(&format!("version {}, digest {}", root.version, believed.digest()))?;
    for (namespace, count) in &root.required {
        output::line(&escape::line(&format!("{namespace}: {count} people must sign")))?;
    }
    output::text(&escape::block(&root.allowed_signers))?;
    Ok(Exit::Done)
}

fn next(believed: &Believed) -> TrustRoot {
    let mut root = believed.root().clone();
    root.version += 1;
    root
}

fn with_signers(believed: &Believed, allowed_signers: String) -> TrustRoot {
    TrustRoot { allowed_signers, ..next(believed) }
}

fn required(believed: &Believed, namespace: &ObjectName, count: u32) -> TrustRoot {
    let mut root = next(believed);
    if count == 0 {
        root.required.remove(namespace);
    } else {
        root.required.insert(namespace.clone(), count);
    }
    root
}

fn added(believed: &Believed, name: &str, public: &Path, namespaces: &[String]) -> Result<TrustRoot, Error> {
    let text = files::read_text(public)?;
    let mut words = text.split_whitespace();
    let (Some(kind), Some(key)) = (words.next(), words.next()) else {
        return Err(Error::Usage(format!("{} holds no public key", public.display())));
    };
    let is_plain =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_graphic() && !"*?!,\"#".contains(letter));
    if !is_plain {
        return Err(Error::Usage(format!("{name:?} is not a person's name: use letters, digits and @ . - _")));
    }
    let mut signers = believed.root().allowed_signers.clone();
    if !signers.is_empty() && !signers.ends_with('\n') {
        signers.push('\n');
    }
    signers.push_str(&format!("{name} namespaces=\"{}\" {kind} {key}\n", namespaces.join(",")));
    Ok(with_signers(believed, signers))
}

fn removed(believed: &Believed, name: &str) -> Result<TrustRoot, Error> {
    let is_theirs = |line: &&str| line.split_whitespace().next() == Some(name);
    let lines: Vec<&str> = believed.root().allowed_signers.lines().collect();
    if !lines.iter().any(is_theirs) {
        return Err(Error::NotFound(format!("no line of allowed_signers is {name}'s alone: see `quell trust show`")));
    }
    let kept: Vec<&str> = lines.into_iter().filter(|line| !is_theirs(line)).collect();
    Ok(with_signers(believed, kept.iter().map(|line| format!("{line}\n")).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quell_link::signing::NewKey;

    use super::*;

    fn believed() -> Believed {
        let line = |name: &str| format!("{name} namespaces=\"quell-*\" {}\n", NewKey::make("").unwrap().public);
        Believed::new(TrustRoot {
            installation: "here".to_owned(),
            version: 3,
            allowed_signers: format!("{}{}", line("ada"), line("bob").trim_end()),
            required: BTreeMap::new(),
        })
        .unwrap()
    }

    #[test]
    fn people_come_and_go_by_the_next_version() {
        let scratch = tempfile::tempdir().unwrap();
        let public = scratch.path().join("eve.pub");
        std::fs::write(&public, format!("{} eve@laptop\n", NewKey::make("").unwrap().public)).unwrap();
        let with_eve = added(&believed(), "eve", &public, &["quell-approval.*".to_owned()]).unwrap();
        assert_eq!(with_eve.version, 4);
        assert_eq!(with_eve.allowed_signers.lines().count(), 3);
        let again = Believed::new(with_eve).unwrap();
        let without = removed(&again, "bob").unwrap();
        assert_eq!(without.version, 5);
        assert!(!without.allowed_signers.contains("bob ") && without.allowed_signers.contains("eve "));
        assert!(matches!(removed(&again, "mallory"), Err(Error::NotFound(_))));
        assert!(added(&again, "a,b", &public, &["*".to_owned()]).is_err(), "two people in one line");
        std::fs::write(&public, "ssh-ed25519").unwrap();
        assert!(added(&again, "eve", &public, &["*".to_owned()]).is_err());
        assert_eq!(required(&again, &"plants".parse().unwrap(), 2).required.len(), 1);
        assert!(required(&again, &"plants".parse().unwrap(), 0).required.is_empty());
    }
}
