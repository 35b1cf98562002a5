//! Directory budgets: a directory with a declared capacity, judged like a disk.
//!
//! What counts is the sum of the sizes of the files beneath it: what a person sees in a listing, and what a rotation
//! reports to have freed. Links are not followed and other file systems not entered; a file with several names counts
//! once. A large tree is not walked for every sample: walking costs at most a hundredth of the time.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use quell_model::value::Fields;

use super::{number, put};

/// Most entries that are walked; a larger tree has no fields, because half a sum would be wrong.
const MOST_ENTRIES: usize = 200_000;

/// How many times what a walk cost passes before the next.
const REST: u32 = 100;

/// One directory budget.
#[derive(Debug)]
pub(super) struct Budget {
    path: PathBuf,
    capacity: u64,
    used: Option<u64>,
    next_walk: Option<Instant>,
}

impl Budget {
    /// The budget of a directory, in bytes.
    pub(super) fn new(path: &Path, capacity: u64) -> Self {
        Self { path: path.to_owned(), capacity, used: None, next_walk: None }
    }

    /// Adds the fields of the budget; none when the directory cannot be walked.
    pub(super) fn look(&mut self, fields: &mut Fields) {
        let start = Instant::now();
        if self.next_walk.is_none_or(|next| start >= next) {
            let walked = walk(&self.path);
            if let Err(error) = &walked {
                tracing::warn!(path = %self.path.display(), %error, "a directory budget cannot be measured");
            }
            self.used = walked.ok();
            self.next_walk = Some(start + (start.elapsed() * REST).min(Duration::from_secs(600)));
        }
        let Some(used) = self.used else { return };
        let name = self.path.display();
        put(fields, &format!("disks[{name}].used_percent"), 100.0 * number(used) / number(self.capacity.max(1)));
        put(fields, &format!("disks[{name}].free_bytes"), number(self.capacity.saturating_sub(used)));
        put(fields, &format!("disks[{name}].inodes_used_percent"), 0.0);
    }
}

fn walk(root: &Path) -> io::Result<u64> {
    let device = fs::symlink_metadata(root)?.dev();
    let mut waiting = vec![root.to_owned()];
    let mut several_names = BTreeSet::new();
    let (mut used, mut entries) = (0_u64, 0_usize);
    while let Some(directory) = waiting.pop() {
        let listed = match fs::read_dir(&directory) {
            Ok(listed) => listed,
            // A directory beneath may vanish while it is walked; the root may not.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != root => continue,
            Err(error) => return Err(error),
        };
        for entry in listed {
            entries += 1;
            if entries > MOST_ENTRIES {
                return Err(io::Error::other(format!("it holds more than {MOST_ENTRIES} entries")));
            }
            let Ok(metadata) = entry.as_ref().map_err(|_| ()).and_then(|entry| entry.metadata().map_err(|_| ())) else {
                continue;
            };
            if metadata.is_dir() && metadata.dev() == device {
                waiting.extend(entry.map(|entry| entry.path()));
            } else if metadata.is_file() && (metadata.nlink() == 1 || several_names.insert(metadata.ino())) {
                used += metadata.len();
            }
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_the_sum_of_what_lies_beneath() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("old")).unwrap();
        fs::write(dir.path().join("app.log"), vec![0; 500]).unwrap();
        fs::write(dir.path().join("old/app.log.1"), vec![0; 310]).unwrap();
        fs::hard_link(dir.path().join("app.log"), dir.path().join("same")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("elsewhere")).unwrap();
        let mut budget = Budget::new(dir.path(), 1000);
        let mut fields = Fields::new();
        budget.look(&mut fields);
        let name = dir.path().display();
        assert_eq!(fields[&format!("disks[{name}].used_percent")], 81.0.into());
        assert_eq!(fields[&format!("disks[{name}].free_bytes")], 190.0.into());
    }

    #[test]
    fn a_directory_that_is_missing_has_no_fields() {
        let mut fields = Fields::new();
        Budget::new(Path::new("/does/not/exist"), 1).look(&mut fields);
        assert!(fields.is_empty());
    }
}
