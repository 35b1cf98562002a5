//! What hosts say that they have seen and the controller does not hold: newer versions of signed sets and of the trust root.
//!
//! A controller that was restored from an older backup has lost versions, and hosts refuse what comes by the older ones.
//! Only the hosts know that. A host may also lie, so what it says is bounded, shown to people, and decides nothing: no
//! version of the controller follows from it. Once the controller holds the version, nothing more is said of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use quell_model::{name::HostName, trust::SetName};

use crate::{Actor, State, draft::Entry, input::Hello, state::HostRow, turn::Turn, windows::is_enrolled};

/// So many sets of which a host says so are kept; the first ones by name.
pub(crate) const MOST_SETS: usize = 32;
/// So many sets people are warned of one by one.
const MOST_WARNINGS: usize = 8;
/// So many hosts a warning names.
const MOST_NAMES: usize = 3;

/// What has versions that only go up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Versioned {
    /// Whom hosts believe.
    TrustRoot,
    /// A signed set.
    Set(SetName),
}

impl fmt::Display for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrustRoot => write!(f, "the trust root"),
            Self::Set(name) => write!(f, "the signed set of {name}"),
        }
    }
}

/// A version that a host says that it has seen, and the lower one that is the newest here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// Of what.
    pub what: Versioned,
    /// What the host says.
    pub seen: u64,
    /// The newest here; 0: there is none.
    pub here: u64,
}

/// What a host said of sets that is newer than what is here.
pub(crate) fn newer_sets(state: &State, hello: &Hello) -> BTreeMap<SetName, u64> {
    let newer = hello.set_versions.iter().filter(|(name, seen)| **seen > set_version(state, name));
    newer.take(MOST_SETS).map(|(name, seen)| (name.clone(), *seen)).collect()
}

/// Puts on record what a host says now and did not say before.
pub(crate) fn note(turn: &mut Turn<'_>, before: &HostRow) {
    let name = &before.name;
    let Some(now) = turn.state().hosts.get(name).map(|row| newer(turn.state(), row)) else { return };
    let said = newer(turn.state(), before);
    let is_news = |newer: &&Newer| !said.iter().any(|said| said.what == newer.what && said.seen >= newer.seen);
    let news: Vec<&Newer> = now.iter().filter(is_news).collect();
    if news.is_empty() {
        return;
    }
    let words: Vec<String> = news
        .iter()
        .map(|Newer { what, seen, here }| format!("version {seen} of {what} (version {here} is the newest here)"))
        .collect();
    let data: Vec<_> = news
        .iter()
        .map(|Newer { what, seen, here }| serde_json::json!({ "what": what.to_string(), "seen": seen, "here": here }))
        .collect();
    let text = format!("{name} says that it has seen {}", words.join(", "));
    turn.record(
        Entry::new("newerVersionSeen", Actor::Agent(name.clone()), text)
            .id("host", name)
            .data(serde_json::json!({ "newer": data })),
    );
}

/// What a host says that it has seen and is not here by now, the trust root first.
pub fn newer(state: &State, row: &HostRow) -> Vec<Newer> {
    let root = state.trust.get_max().map_or(0, |(version, _)| *version);
    let root = Newer { what: Versioned::TrustRoot, seen: row.trust_version, here: root };
    let sets = row.seen_newer.iter().map(|(name, seen)| {
        let here = set_version(state, name);
        Newer { what: Versioned::Set(name.clone()), seen: *seen, here }
    });
    std::iter::once(root).chain(sets).filter(|newer| newer.seen > newer.here).collect()
}

fn set_version(state: &State, name: &SetName) -> u64 {
    state.meta.set_versions.get(&name.to_string()).copied().unwrap_or_default()
}

/// What people should know of it, and do.
pub(crate) fn warnings(state: &State) -> Vec<String> {
    let mut found: BTreeMap<Versioned, (u64, u64, BTreeSet<&HostName>)> = BTreeMap::new();
    for row in state.hosts.values().filter(|row| is_enrolled(row)) {
        for Newer { what, seen, here } in newer(state, row) {
            let (most, _, hosts) = found.entry(what).or_insert_with(|| (seen, here, BTreeSet::new()));
            *most = seen.max(*most);
            hosts.insert(&row.name);
        }
    }
    let more = found.len().saturating_sub(MOST_WARNINGS);
    let mut warnings: Vec<String> = found
        .into_iter()
        .take(MOST_WARNINGS)
        .map(|(what, (seen, here, hosts))| {
            let (who, next) = (who(&hosts), next(&what));
            format!(
                "{who} seen version {seen} of {what}, and version {here} is the newest here. If the controller was restored \
                 from an older backup, {next}; until then hosts refuse what is older. If it was not restored, look at who \
                 says so: it is not true"
            )
        })
        .collect();
    if more > 0 {
        warnings.push(format!("hosts say so of {more} more sets: `quell get hosts -o wide` names them"));
    }
    warnings
}

fn who(hosts: &BTreeSet<&HostName>) -> String {
    let named: Vec<&str> = hosts.iter().take(MOST_NAMES).map(|host| host.as_str()).collect();
    match hosts.len() - named.len() {
        0 if named.len() == 1 => format!("{} says that it has", named[0]),
        0 => format!("{} say that they have", named.join(", ")),
        more => format!("{} and {more} more say that they have", named.join(", ")),
    }
}

/// What people do, all of it with the profile that has seen the newest: it signs the next version, and no other does.
fn next(what: &Versioned) -> String {
    match what {
        Versioned::TrustRoot => {
            "give it back with `quell trust give-back` and the profile that has seen the newest".to_owned()
        }
        Versioned::Set(name) if name.limits => format!(
            "apply the limits of {} with `quell apply --prune`, a key for quell-limits and the profile that has seen the newest",
            name.namespace
        ),
        Versioned::Set(_) => {
            "apply its manifests with `quell apply --prune` and the profile that has seen the newest".to_owned()
        }
    }
}
