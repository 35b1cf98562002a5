//! `quell promote`: lets a policy go further, after showing what it would have done.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use quell_model::{
    manifest::{self, File, holds_policy, looser, with_mode},
    name::FullName,
    policy::Mode,
    trust::{PolicySet, SignedSet},
};
use quell_wire::v1::{ApplyRequest, GetRequest, PolicyView};

use super::apply;
use crate::{
    connect::{self, Client, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    manifests::{self, Source},
    output,
    render::{self, diff::Difference, page::Page},
    sets::Files,
    settings,
    signing::Key,
};

/// What is promoted.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The policy: dns-failover, or plants/dns-failover.
    #[arg(value_name = "POLICY")]
    pub policy: String,
    /// How far it may go from now on.
    #[arg(long, value_enum, value_name = "MODE")]
    pub to: To,
    /// The policy's manifest: a file, or a directory that holds it. Its mode is changed there too, so that the files and
    /// what is in force say the same. Without it only what the policy would have done is shown.
    #[arg(short, long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// What ${NAME} in the files stands for; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = settings::pair)]
    pub set: Vec<(String, String)>,
    /// A file of NAME=VALUE lines; --set goes first.
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// With which key the next set is signed.
    #[command(flatten)]
    pub key: Key,
    /// How long what is signed may act; afterwards it only observes. At most 400d.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = settings::span)]
    pub expires: Duration,
    /// Do not ask whether that is meant.
    #[arg(long)]
    pub yes: bool,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Where a policy can be promoted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Plans wait for people.
    Propose,
    /// Plans start when no guard holds them.
    Enforce,
}

impl To {
    fn mode(self) -> Mode {
        match self {
            Self::Propose => Mode::Propose,
            Self::Enforce => Mode::Enforce,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Propose => "propose",
            Self::Enforce => "enforce",
        }
    }
}

/// Shows, asks, signs the next set with the policy in its new mode, applies it, and changes the file.
///
/// # Errors
/// There is no such policy, it goes as far already, the file says something else than what is in force, nobody said yes;
/// what `apply` refuses, or the connection's error.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let (view, name) = the_policy(&mut client, &arguments.policy).await?;
    if !context.format.is_data() {
        let mut page = Page::new();
        page.heading(&format!("{name}: from {} to {}", view.mode, arguments.to.word()));
        if let Some(shadow) = &view.shadow {
            render::shadow::draw(&mut page, shadow, Timestamp::now());
        }
        output::text(&page.into_text())?;
    }
    check_raises(&view, &name, arguments.to)?;
    if arguments.files.is_empty() {
        return without_file(arguments, &view, context);
    }
    let promotion = Promotion::prepare(arguments, &mut client, &name).await?;
    promotion.show(context)?;
    if arguments.dry_run {
        return finish(&promotion, &view, arguments, false, context);
    }
    confirm(arguments, &name)?;
    promotion.apply(arguments, &mut client, context).await?;
    finish(&promotion, &view, arguments, true, context)
}

async fn the_policy(client: &mut Client, name: &str) -> Result<(PolicyView, FullName), Error> {
    let mut found = connect::get(client, Kind::Policies, name).await?.policies;
    match (found.pop(), found.is_empty()) {
        (Some(view), true) => {
            let full = format!("{}/{}", view.namespace, view.name);
            let name = full.parse().map_err(|_| Error::Failed(format!("the controller's name {full:?} is none")))?;
            Ok((view, name))
        }
        (Some(_), false) => {
            Err(Error::Usage(format!("{name} is a policy of several namespaces: write NAMESPACE/{name}")))
        }
        (None, _) => Err(Error::NotFound(format!("there is no policy {name}; see `quell get policies`"))),
    }
}

fn check_raises(view: &PolicyView, name: &FullName, to: To) -> Result<(), Error> {
    let now = [Mode::Observe, Mode::Propose, Mode::Enforce].into_iter().find(|mode| word(*mode) == view.mode);
    match now {
        Some(now) if now < to.mode() => Ok(()),
        _ => Err(Error::Usage(format!(
            "{name} is in {} already; promote only raises: to lower it, change its manifest and apply that",
            view.mode
        ))),
    }
}

fn word(mode: Mode) -> String {
    serde_json::to_value(mode).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn without_file(arguments: &Arguments, view: &PolicyView, context: &Context) -> Result<Exit, Error> {
    if context.format.is_data() {
        let value = serde_json::json!({
            "policy": format!("{}/{}", view.namespace, view.name),
            "from": view.mode,
            "to": arguments.to.word(),
            "shadow": output::to_value(&view.shadow)?,
            "applied": false,
        });
        output::data(context.format, &value)?;
    }
    if arguments.dry_run {
        return Ok(Exit::Done);
    }
    Err(Error::Usage(format!(
        "nothing was changed: to promote it, say where its manifest is, so that its mode is changed there as well: quell \
         promote {}/{} --to {} -f FILE",
        view.namespace,
        view.name,
        arguments.to.word()
    )))
}

/// What is about to change: in force, and in the file.
struct Promotion {
    name: FullName,
    path: PathBuf,
    /// The file as it will be.
    text: String,
    line: u32,
    /// The policy alone, with its new mode, as it is applied.
    wanted: File,
    difference: Difference,
}

impl Promotion {
    async fn prepare(arguments: &Arguments, client: &mut Client, name: &FullName) -> Result<Self, Error> {
        let mode = arguments.to.mode();
        let source =
            Source { files: arguments.files.clone(), set: arguments.set.clone(), values: arguments.values.clone() };
        let mut files = source.find()?;
        let place = files.iter().position(|file| holds_policy(&file.text, name));
        let file = place.and_then(|place| files.get_mut(place)).ok_or_else(|| {
            Error::NotFound(format!("none of the files holds the policy {name}; nothing was changed"))
        })?;
        let in_file = |reason: String| Error::Usage(format!("{}: {reason}; nothing was changed", file.name));
        let with = with_mode(&file.text, name, mode).map_err(in_file)?;
        let (path, text) = (PathBuf::from(&file.name), with.text.clone());
        file.text = with.text;
        let filled = source.fill(files)?;
        let before = in_force(client, name).await?;
        let after = with_mode(&before, name, mode).map_err(Error::Failed)?.text;
        let wanted = File { name: path.display().to_string(), text: after.clone() };
        let difference = difference(name, before, after, &filled, &path)?;
        Ok(Self { name: name.clone(), path, text, line: with.line, wanted, difference })
    }

    fn show(&self, context: &Context) -> Result<(), Error> {
        if context.format.is_data() {
            return Ok(());
        }
        output::text(&format!("\n{}", render::diff::draw(std::slice::from_ref(&self.difference))))
    }

    /// First what is in force, then the file: should that fail, it is said what the file has to say.
    async fn apply(&self, arguments: &Arguments, client: &mut Client, context: &Context) -> Result<(), Error> {
        let applying = apply::Arguments {
            source: Source { files: vec![self.path.clone()], set: Vec::new(), values: None },
            prune: false,
            dry_run: false,
            key: arguments.key.clone(),
            unsigned: false,
            expires: arguments.expires,
        };
        let files = vec![self.wanted.clone()];
        let signed = apply::sign(&applying, &files, client, context).await?;
        if signed.sets.is_empty() {
            return Err(Error::Usage(format!(
                "{} is not signed, so that {} would only observe all the same: sign with --key; nothing was changed",
                self.name.namespace, self.name
            )));
        }
        let sets = signed.sets.clone();
        let request = ApplyRequest { files: manifests::to_wire(files), ..ApplyRequest::default() };
        let answer = signed.apply(request, client).await?;
        apply::warn(&answer);
        self.keep(sets)
    }

    /// Brings the operator's files in step: the manifest, and the signed set beside it where there is one.
    fn keep(&self, sets: Vec<quell_wire::v1::SignedSet>) -> Result<(), Error> {
        let in_force = |source: std::io::Error| {
            Error::Failed(format!(
                "{} is in force in its new mode, but {} cannot be written ({source}): change the mode in its line {} by \
                 hand, or the next `quell apply` takes it back",
                self.name,
                self.path.display(),
                self.line
            ))
        };
        replace(&self.path, &self.text).map_err(in_force)?;
        let beside = Files::beside(std::slice::from_ref(&self.path));
        for set in sets {
            let set = SignedSet { bytes: set.policy_set, signatures: set.signatures };
            let name = PolicySet::parse(&set.bytes).map_err(|error| Error::Failed(error.to_string()))?.name();
            if beside.bytes(&name).exists() {
                beside.write(&name, &set)?;
            }
        }
        Ok(())
    }
}

/// The YAML of the policy as it is in force.
async fn in_force(client: &mut Client, name: &FullName) -> Result<String, Error> {
    let request = GetRequest { kind: "manifests".to_owned(), ..GetRequest::default() };
    let manifests = connect::list(client, request).await?.manifests.into_iter();
    let is_it = |view: &quell_wire::v1::ManifestView| {
        view.kind == "Policy" && view.namespace == name.namespace.as_str() && view.name == name.name.as_str()
    };
    let found = manifests.into_iter().find(is_it).map(|view| view.yaml);
    found.ok_or_else(|| Error::NotFound(format!("{name} has just been removed")))
}

/// What changes; refused when the file says anything else than what is in force but for the mode.
fn difference(
    name: &FullName,
    before: String,
    after: String,
    filled: &[File],
    path: &Path,
) -> Result<Difference, Error> {
    let policy = |files: &[File]| -> Result<manifest::Parsed, Error> {
        let parsed = manifest::parse(files).map_err(Error::Manifests)?;
        let found = parsed.into_iter().find(|one| one.manifest.kind() == "Policy" && one.manifest.name() == name);
        found.ok_or_else(|| Error::NotFound(format!("there is no policy {name}")))
    };
    let alone = |text: &str| File { name: "in force".to_owned(), text: text.to_owned() };
    let (old, new, in_file) = (policy(&[alone(&before)])?, policy(&[alone(&after)])?, policy(filled)?);
    if in_file.canonical != new.canonical {
        return Err(Error::Usage(format!(
            "{} says something else of {name} than what is in force, not only its mode: see `quell diff -f {0}`, apply \
             that first, and promote it then; nothing was changed",
            path.display()
        )));
    }
    Ok(Difference {
        change: "changed".to_owned(),
        what: format!("Policy {name}"),
        looser: looser(Some(&old.manifest), Some(&new.manifest)),
        before,
        after,
        is_judged: true,
    })
}

fn confirm(arguments: &Arguments, name: &FullName) -> Result<(), Error> {
    if arguments.yes {
        return Ok(());
    }
    let no = |why: &str| Err(Error::Usage(format!("{why}; nothing was changed")));
    if !std::io::stdin().is_terminal() {
        return no("nobody is there to ask: say --yes");
    }
    let mut error = anstream::stderr();
    let asked = write!(error, "let {name} {}? [y/N] ", arguments.to.word()).and_then(|()| error.flush());
    let mut answer = String::new();
    if asked.is_err() || std::io::stdin().read_line(&mut answer).is_err() {
        return no("nobody answered");
    }
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => no("you did not say yes"),
    }
}

/// A new file in the place of the old one, whole or not at all, with its rights.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = std::fs::canonicalize(path)?;
    let rights = std::fs::metadata(&path)?.permissions();
    quell_link::files::write(&path, text.as_bytes()).map_err(std::io::Error::other)?;
    std::fs::set_permissions(&path, rights)
}

fn finish(
    promotion: &Promotion,
    view: &PolicyView,
    arguments: &Arguments,
    applied: bool,
    context: &Context,
) -> Result<Exit, Error> {
    let (name, to) = (&promotion.name, arguments.to.word());
    if context.format.is_data() {
        let looser: Vec<String> = promotion.difference.looser.iter().map(ToString::to_string).collect();
        let value = serde_json::json!({
            "policy": name.to_string(),
            "from": view.mode,
            "to": to,
            "shadow": output::to_value(&view.shadow)?,
            "diff": promotion.difference.text(),
            "looser": looser,
            "file": promotion.path.display().to_string(),
            "applied": applied,
        });
        output::data(context.format, &value)?;
    } else if applied {
        output::line(&format!("{name} may {to}; line {} of {} says so too", promotion.line, promotion.path.display()))?;
    } else {
        output::line("ok: nothing was changed (dry run)")?;
    }
    Ok(Exit::Done)
}
