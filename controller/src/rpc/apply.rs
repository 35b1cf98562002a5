//! Apply: manifests read, compared with what is in force, checked as the whole that they would make, and put in force
//! together, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use quell_engine::{Actor, State, input::Request as Wanted};
use quell_model::{
    manifest::{self, File, Parsed},
    name::FullName,
    policy::{Manifest, Policy},
    selector::Selector,
    trust::SetName,
};
use quell_wire::v1::{ApplyRequest, ApplyResponse, ManifestChange, ManifestError, ManifestFile};
use tokio::sync::oneshot;
use tonic::Status;

use super::{
    operator::{Caller, Operators},
    status,
    trust::signed_set,
};

/// Stack of the thread that reads manifests: conditions are compiled on it, and they nest.
const STACK_BYTES: usize = 16 << 20;
/// Most files of one call.
const FILES: usize = 1_000;

/// The kind of the record that an apply leaves.
const APPLIED: &str = "applied";
/// Most records among which it is looked for.
const LOOK: usize = 1_024;

/// Kind and name of a manifest.
type Key = (String, FullName);

/// What an apply would do.
#[derive(Debug, Default)]
struct Comparison {
    changes: Vec<ManifestChange>,
    put: Vec<String>,
    remove: Vec<(String, FullName)>,
    errors: Vec<ManifestError>,
    warnings: Vec<String>,
}

/// A manifest, and the file that it stands in.
struct Placed {
    parsed: Parsed,
    file: usize,
}

impl Operators {
    /// Applies manifests: all of them or none.
    pub(super) async fn apply_manifests(&self, caller: Caller, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        if request.files.is_empty() {
            return Err(Status::invalid_argument("there is no file to apply"));
        }
        if request.files.len() > FILES {
            return Err(Status::invalid_argument(format!("{} files are more than {FILES}", request.files.len())));
        }
        let Ok(_turn) = self.applying.acquire().await else { return Err(Status::unavailable("the controller stops")) };
        let decider = &self.context.decider;
        let state = decider.state();
        let (prune, dry_run) = (request.prune, request.dry_run);
        let sets: Vec<_> = request.sets.into_iter().map(signed_set).collect();
        let found = on_large_stack(move || compare(&state, &request.files, prune)).await?;
        let nothing_to_do = found.put.is_empty() && found.remove.is_empty() && sets.is_empty();
        let before = decider.head().sequence;
        let mut sequence = before;
        if found.errors.is_empty() && !dry_run && !nothing_to_do {
            self.ask(caller.actor.clone(), Wanted::Apply { put: found.put, remove: found.remove, sets }).await?;
            sequence = self.applied_by(&caller.actor, before + 1).await.unwrap_or_else(|| decider.head().sequence);
        }
        Ok(ApplyResponse {
            changes: if found.errors.is_empty() { found.changes } else { Vec::new() },
            errors: found.errors,
            sequence,
            warnings: found.warnings,
        })
    }
}

impl Operators {
    /// Number of the first record from `from` on by which a person applied manifests; what follows from it comes after.
    async fn applied_by(&self, actor: &Actor, from: u64) -> Option<u64> {
        let records = self.context.decider.records(from, LOOK).await.ok()?;
        records.iter().find(|record| record.kind == APPLIED && record.actor == *actor).map(|record| record.sequence)
    }
}

/// Does something on a thread of its own.
async fn on_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("apply".to_owned())
        .stack_size(STACK_BYTES)
        // Whoever waited may have gone.
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| status::internal(&error))?;
    receiver.await.map_err(|error| status::internal(&error))
}

/// Compares files with the state.
fn compare(state: &State, files: &[ManifestFile], prune: bool) -> Comparison {
    let (placed, errors) = read(files);
    if !errors.is_empty() {
        return Comparison { errors, ..Comparison::default() };
    }
    let mut found = Comparison::default();
    let mut wanted: BTreeMap<Key, &Placed> = BTreeMap::new();
    for one in &placed {
        let key = key(&one.parsed.manifest);
        if wanted.insert(key.clone(), one).is_some() {
            let message = format!("{} {} is there twice: keep one of them", key.0, key.1);
            found.errors.push(error_at(files, one, message));
        }
    }
    for (key, one) in &wanted {
        let change = match state.manifests.get(key) {
            None => "created",
            Some(stored) if stored.canonical == one.parsed.canonical => "unchanged",
            Some(_) => "changed",
        };
        if change != "unchanged" {
            found.put.push(one.parsed.canonical.clone());
        }
        found.changes.push(changed(change, key, &one.parsed.manifest.digest().to_string()));
    }
    if prune {
        // Limits are pruned by limits alone: who applies policies does not lift what others have set over them.
        let sets: BTreeSet<SetName> = wanted.values().map(|one| SetName::of(&one.parsed.manifest)).collect();
        for (key, stored) in &state.manifests {
            if sets.contains(&SetName::of(&stored.manifest)) && !wanted.contains_key(key) {
                found.changes.push(changed("removed", key, &stored.manifest.digest().to_string()));
                found.remove.push(key.clone());
            }
        }
    }
    found.errors.extend(dangling(state, files, &wanted, &found.remove));
    found.errors.extend(passing(state, files, &wanted, &found.remove));
    found.warnings.extend(wanted.values().filter_map(|one| warning(state, &one.parsed.manifest)));
    found.warnings.extend(held_by(state, &wanted));
    found
}

/// Reads each file by itself, so that it is known what stands where.
fn read(files: &[ManifestFile]) -> (Vec<Placed>, Vec<ManifestError>) {
    let (mut placed, mut errors) = (Vec::new(), Vec::new());
    for (file, source) in files.iter().enumerate() {
        match manifest::parse(&[File { name: source.name.clone(), text: source.text.clone() }]) {
            Ok(parsed) => placed.extend(parsed.into_iter().map(|parsed| Placed { parsed, file })),
            Err(faults) => errors.extend(faults.into_iter().map(to_wire)),
        }
    }
    (placed, errors)
}

/// References that lead nowhere in the whole that would be in force.
fn dangling(
    state: &State,
    files: &[ManifestFile],
    wanted: &BTreeMap<Key, &Placed>,
    remove: &[(String, FullName)],
) -> Vec<ManifestError> {
    let stays = |key: &Key| !wanted.contains_key(key) && !remove.contains(key);
    let kept = state.manifests.iter().filter(|(key, _)| stays(key)).map(|(_, stored)| &stored.manifest);
    let whole: Vec<&Manifest> = wanted.values().map(|one| &one.parsed.manifest).chain(kept).collect();
    let errors = manifest::check_references(&whole).into_iter().map(|fault| {
        match wanted.get(&(fault.kind.to_owned(), fault.name.clone())) {
            Some(one) => error_at(files, one, fault.message),
            // It is in force already, and would lose what it refers to.
            None => ManifestError { message: fault.to_string(), ..ManifestError::default() },
        }
    });
    errors.collect()
}

/// Policies of the files that pass a ceiling of the limits that would be in force.
fn passing(
    state: &State,
    files: &[ManifestFile],
    wanted: &BTreeMap<Key, &Placed>,
    remove: &[(String, FullName)],
) -> Vec<ManifestError> {
    let stays = |key: &Key| !wanted.contains_key(key) && !remove.contains(key);
    let kept =
        state.manifests.iter().filter(|(key, stored)| matches!(stored.manifest, Manifest::Limits(_)) && stays(key));
    let kept: Vec<&Manifest> = kept.map(|(_, stored)| &stored.manifest).collect();
    let given: Vec<&Manifest> = wanted.values().map(|one| &one.parsed.manifest).collect();
    let files: Vec<File> = files.iter().map(|file| File { name: file.name.clone(), text: file.text.clone() }).collect();
    manifest::check_limits(&files, &given, &kept).into_iter().map(to_wire).collect()
}

/// Policies in force that limits of the files will hold.
fn held_by(state: &State, wanted: &BTreeMap<Key, &Placed>) -> Vec<String> {
    let limits = || {
        wanted.values().filter_map(|one| match &one.parsed.manifest {
            Manifest::Limits(limits) => Some(&**limits),
            _ => None,
        })
    };
    let policies = state.manifests.iter().filter(|(key, _)| !wanted.contains_key(key));
    let held = policies.filter_map(|(_, stored)| match &stored.manifest {
        Manifest::Policy(policy) => {
            let passed = manifest::passed(policy, limits()).into_iter().next()?;
            Some(format!("Policy {} is in force and will not act there: {passed}", policy.name))
        }
        _ => None,
    });
    held.collect()
}

fn to_wire(fault: manifest::Error) -> ManifestError {
    ManifestError { file: fault.file, line: fault.line, column: fault.column, message: fault.message }
}

/// An error about a manifest as a whole, where its name stands.
fn error_at(files: &[ManifestFile], one: &Placed, message: String) -> ManifestError {
    let name = one.parsed.manifest.name().name.as_str();
    let Some(file) = files.get(one.file) else { return ManifestError { message, ..ManifestError::default() } };
    let (line, column) = place_of_name(&file.text, one.parsed.manifest.kind(), name);
    ManifestError { file: file.name.clone(), line, column, message }
}

/// Where a manifest's name stands in a file, from 1: the first line after its kind that names it.
fn place_of_name(text: &str, kind: &str, name: &str) -> (u32, u32) {
    let mut in_kind = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("---") {
            in_kind = false;
        }
        in_kind |= line.starts_with("kind:") && line.contains(kind);
        let named = line.find(name).filter(|_| in_kind && line.contains("name:"));
        if let Some(offset) = named {
            let column = line[..offset].chars().count() + 1;
            return (u32::try_from(index + 1).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX));
        }
    }
    (1, 1)
}

fn key(manifest: &Manifest) -> Key {
    (manifest.kind().to_owned(), manifest.name().clone())
}

fn changed(change: &str, (kind, name): &Key, digest: &str) -> ManifestChange {
    ManifestChange {
        change: change.to_owned(),
        kind: kind.clone(),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        digest: digest.to_owned(),
    }
}

/// What deserves a look although it is valid.
fn warning(state: &State, manifest: &Manifest) -> Option<String> {
    let Manifest::Policy(policy) = manifest else { return None };
    let matches = |selector: &Selector| state.hosts.values().any(|host| selector.matches(&host.labels));
    if matches(&policy.hosts) {
        return None;
    }
    let Policy { name, hosts, .. } = policy.as_ref();
    Some(match hosts {
        Selector::Nobody => format!("Policy {name}: its hosts are nobody, so it does nothing"),
        _ => format!("Policy {name}: no enrolled host has the labels that it selects; it waits for one"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_its_own_document() {
        let text = "kind: Service\nmetadata: { namespace: plants, name: dns }\n---\nkind: Policy\nmetadata:\n  namespace: plants\n  name: dns\n";
        assert_eq!(place_of_name(text, "Service", "dns"), (2, 38));
        assert_eq!(place_of_name(text, "Policy", "dns"), (7, 9));
        assert_eq!(place_of_name(text, "Contact", "dns"), (1, 1));
    }
}
