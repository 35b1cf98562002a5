//! `quell sign`: signs what applying manifests would put in force, where the key is; applying it needs no key then.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use quell_model::{
    manifest,
    trust::{Believed, PolicySet, Refused, SetName, SignedSet},
};

use crate::{
    connect::Context,
    error::Error,
    exit::Exit,
    manifests::Source,
    output,
    render::escape,
    sets::Files,
    settings,
    shown::Shown,
    signing::{self, Key},
};

/// What is signed.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The manifests.
    #[command(flatten)]
    pub source: Source,
    /// Sign as `apply --prune` would apply: what the files do not hold goes.
    #[arg(long)]
    pub prune: bool,
    /// With which key.
    #[command(flatten)]
    pub key: Key,
    /// How long what is signed may act; afterwards it only observes. At most 400d.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = settings::span)]
    pub expires: Duration,
    /// Only this set: NAMESPACE, or NAMESPACE/limits.
    #[arg(long, value_name = "SET")]
    pub only: Option<SetName>,
    /// Print the exact bytes and sign nothing: for `ssh-keygen -Y sign -n quell-policy` (limits: `-n quell-limits`). The
    /// bytes are written beside the manifests too, where `quell apply` looks for NAMESPACE.set and NAMESPACE.set.sig.
    #[arg(long)]
    pub print: bool,
}

/// Signs, and writes `NAMESPACE.set` and `NAMESPACE.set.sig` beside the manifests, and for limits `NAMESPACE.limits.set`
/// and its `.sig`. When others have signed the same
/// already, the signature is added to theirs.
///
/// # Errors
/// The manifests are wrong, there is no key, a file cannot be written; or the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let parsed = manifest::parse(&arguments.source.read()?).map_err(Error::Manifests)?;
    let now = Timestamp::now();
    let mut shown = Shown::ask(&mut context.client().await?, context, now).await?;
    let current = shown.current(now)?;
    let mut wanted = current.next(&parsed, arguments.prune, now, arguments.expires)?;
    wanted.retain(|set| arguments.only.as_ref().is_none_or(|only| *only == set.name()));
    wanted.iter().try_for_each(|set| current.check_seen(set, &parsed))?;
    let files = Files::beside(&arguments.source.files);
    if arguments.print {
        return print(&wanted, &files);
    }
    let key = arguments.key.need(&shown.profile)?;
    for set in &wanted {
        let signed = match files.read(set, now)? {
            Some(there) => add(there, set, &key)?,
            None => current.sign(set, &parsed, &key)?,
        };
        // Others sign the limits than the policies: the files of one are left alone by who signs the other.
        if set.limits
            && let Err(denied) = may_sign(set, &signed, &shown.believed, now)
        {
            output::line(&escape::line(&format!("set {} of {} is left to others: {denied}", set.version, set.name())))?;
            continue;
        }
        files.write(&set.name(), &signed)?;
        output::line(&escape::line(&said(set, &signed, &shown.believed, now)))?;
    }
    if wanted.is_empty() {
        output::line("nothing to sign: this is in force, signed, for a while yet")?;
    }
    Ok(Exit::Done)
}

/// Adds a signature to those of others.
fn add(mut signed: SignedSet, set: &PolicySet, key: &quell_link::signing::SigningKey) -> Result<SignedSet, Error> {
    let signature = signing::sign(key, set.name().signed_in(), &signed.bytes)?;
    if !signed.signatures.contains(&signature) {
        signed.signatures.push(signature);
    }
    Ok(signed)
}

/// Whether the last signature counts for anybody.
fn may_sign(set: &PolicySet, signed: &SignedSet, believed: &Believed, now: Timestamp) -> Result<(), Refused> {
    let last = signed.signatures.last().map_or("", String::as_str);
    let signers = believed.signers();
    signers.verify(set.name().signed_in(), &signed.bytes, last, now, &jiff::tz::TimeZone::UTC).map(drop)
}

/// What was signed, and whether that is enough.
fn said(set: &PolicySet, signed: &SignedSet, believed: &Believed, now: Timestamp) -> String {
    let name = format!("set {} of {} ({} manifests)", set.version, set.name(), set.manifests.len());
    match signed.verify_any(believed, now, &jiff::tz::TimeZone::UTC) {
        Ok(verified) => {
            let people: Vec<_> = verified.signers.into_iter().map(|signer| signer.principal).collect();
            format!("{name} is signed by {}; next: quell apply", people.join(" and "))
        }
        Err(denied) => format!("{name} is not signed by enough people yet: {denied}"),
    }
}

fn print(wanted: &[PolicySet], files: &Files) -> Result<Exit, Error> {
    let [set] = wanted else {
        let names: Vec<_> = wanted.iter().map(|set| set.name().to_string()).collect();
        return Err(Error::Usage(match wanted {
            [] => "nothing to sign: this is in force, signed, for a while yet".to_owned(),
            _ => {
                format!("--print is for one set at a time, and these are {}: choose one with --only", names.join(", "))
            }
        }));
    };
    set.check().map_err(|error| Error::Usage(error.to_string()))?;
    let bytes = set.canonical().into_bytes();
    files.write(&set.name(), &SignedSet { bytes, signatures: Vec::new() })?;
    output::text(&set.canonical())?;
    Ok(Exit::Done)
}
