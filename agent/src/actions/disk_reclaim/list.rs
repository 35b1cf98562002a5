//! The list: which files go, in an order that stays, and which of those meant do not, with the reason.
//!
//! Choosing is pure. What a person approves are the items that are made of it: path, size and the time of the last
//! change, which stay the same for as long as the files do.

use std::path::Path;

use jiff::Timestamp;
use quell_model::{
    action::DiskReclaim,
    preview::{MOST_BYTES, MOST_ITEMS},
};
use serde::{Deserialize, Serialize};

use crate::{
    actions::{Item, Preview},
    files::{Directory, Entry, Error, Found},
};

/// Files that a note names one by one.
const MOST_NAMED: usize = 10;

/// A file that goes, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Its name in the directory.
    pub(super) name: String,
    /// Which file.
    pub(super) found: Found,
    /// Length in bytes.
    pub(super) size: u64,
    /// Last change of its content, nanoseconds since 1970.
    pub(super) modified_ns: i64,
    /// Bytes that it takes on the disk.
    pub(super) disk: u64,
}

impl Listed {
    /// Whether it still is that file, unchanged.
    pub(super) fn is(&self, entry: &Entry) -> bool {
        (self.found, self.size, self.modified_ns) == (entry.found, entry.size, entry.modified_ns)
    }

    fn item(&self, directory: &Path) -> Item {
        Item {
            verb: "delete",
            object: directory.join(&self.name).display().to_string(),
            size: self.size,
            detail: format!("last changed {}", changed(self.modified_ns)),
            moving: false,
        }
    }
}

/// A file that was meant and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) why: String,
}

/// What goes and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    /// Oldest first; of the same time, by name.
    pub(super) files: Vec<Listed>,
    /// Meant, and left alone.
    pub(super) kept: Vec<Kept>,
    /// Files that may go, and that did not fit into this list.
    pub(super) more: usize,
}

/// Looks at the files that are meant by their names.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn look(directory: &Directory, rule: &DiskReclaim) -> Result<List, Error> {
    let mut list = List::default();
    for name in directory.names()? {
        // A name that is no text cannot be shown to anybody exactly, and no pattern means it.
        let Some(name) = name.to_str().filter(|name| rule.means(name)) else { continue };
        match directory.look(name.as_ref()) {
            Ok(entry) => list.files.push(Listed {
                name: name.to_owned(),
                found: entry.found,
                size: entry.size,
                modified_ns: entry.modified_ns,
                disk: entry.disk,
            }),
            Err(Error::Missing(_)) => {}
            Err(error) => list.kept.push(Kept { name: name.to_owned(), why: error.to_string() }),
        }
    }
    Ok(list)
}

impl List {
    /// Leaves the files that may go by their age and number.
    pub(super) fn due(&mut self, rule: &DiskReclaim, now: Timestamp) {
        self.files.sort_by(|one, other| (one.modified_ns, &one.name).cmp(&(other.modified_ns, &other.name)));
        self.files.truncate(self.files.len().saturating_sub(rule.keep_newest));
        let age = |file: &Listed| u128::try_from(now.as_nanosecond() - i128::from(file.modified_ns)).unwrap_or(0);
        self.files.retain(|file| age(file) > rule.older_than.as_nanos());
        self.kept.sort_by(|one, other| one.name.cmp(&other.name));
    }

    /// Takes out what something speaks against.
    ///
    /// # Errors
    /// The first answer that cannot be given.
    pub(super) fn spare<E>(&mut self, why: impl Fn(&Listed) -> Result<Option<String>, E>) -> Result<(), E> {
        let mut going = Vec::new();
        for file in std::mem::take(&mut self.files) {
            match why(&file)? {
                Some(why) => self.kept.push(Kept { name: file.name, why }),
                None => going.push(file),
            }
        }
        self.files = going;
        Ok(())
    }

    /// Cuts it to what may go at a time: the oldest, as many as people read.
    pub(super) fn bound(&mut self, directory: &Path, max_total: Option<u64>) {
        let (mut total, mut text): (u64, usize) = (0, 0);
        let fits = |file: &&Listed| {
            let item = file.item(directory);
            total = total.saturating_add(file.size);
            text += item.verb.len() + item.object.len() + item.detail.len();
            text <= MOST_BYTES && max_total.is_none_or(|most| total <= most)
        };
        let count = self.files.iter().take(MOST_ITEMS).take_while(fits).count();
        self.more = self.files.len() - count;
        self.files.truncate(count);
    }

    /// What people are shown, and approve.
    pub(super) fn preview(&self, directory: &Path) -> Preview {
        let items = self.files.iter().map(|file| file.item(directory)).collect();
        Preview { items, note: self.note(directory) }
    }

    fn note(&self, directory: &Path) -> String {
        let mut notes = Vec::new();
        if self.files.is_empty() {
            notes.push(format!("nothing in {} may go", directory.display()));
        }
        if self.more > 0 {
            notes.push(format!("{} more may go and are left for the next time: the oldest go first", self.more));
        }
        if !self.kept.is_empty() {
            notes.push(format!("kept: {}", named(&self.kept)));
        }
        notes.join("; ")
    }
}

/// The first of them with their reasons.
pub(super) fn named(kept: &[Kept]) -> String {
    let mut text: Vec<String> =
        kept.iter().take(MOST_NAMED).map(|kept| format!("{} ({})", kept.name, kept.why)).collect();
    if kept.len() > MOST_NAMED {
        text.push(format!("and {} more", kept.len() - MOST_NAMED));
    }
    text.join(", ")
}

fn changed(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rule(keep_newest: usize) -> DiskReclaim {
        DiskReclaim {
            directory: "/d".into(),
            names: vec!["*".parse().unwrap()],
            older_than: Duration::from_secs(100),
            keep_newest,
            max_total: None,
        }
    }

    fn file(name: &str, seconds: i64, size: u64) -> Listed {
        let found = Found { device: 1, inode: u64::try_from(seconds).unwrap() };
        Listed { name: name.to_owned(), found, size, modified_ns: seconds * 1_000_000_000, disk: size }
    }

    fn names(list: &List) -> Vec<&str> {
        list.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn what_is_older_goes_and_the_newest_stay_whatever_their_age() {
        let now = Timestamp::from_second(1_000).unwrap();
        let files = vec![file("d", 950, 1), file("c", 900, 1), file("b", 10, 1), file("a", 10, 1), file("e", 2_000, 1)];
        let due = |keep_newest| {
            let mut list = List { files: files.clone(), ..List::default() };
            list.due(&rule(keep_newest), now);
            list
        };
        // Exactly as old as that is not older; what comes from the future is not old.
        assert_eq!(names(&due(0)), ["a", "b"]);
        assert_eq!(names(&due(4)), ["a"], "the newest are counted over all files of these names");
        assert!(names(&due(5)).is_empty());
        assert!(names(&due(100)).is_empty());
    }

    #[test]
    fn a_list_is_bounded_in_number_and_bytes_and_says_what_is_left() {
        let many: Vec<Listed> = (0..300).map(|at| file(&format!("f{at:03}"), at, 10)).collect();
        let bound = |most| {
            let mut list = List { files: many.clone(), ..List::default() };
            list.bound(Path::new("/d"), most);
            (list.files.len(), list.more, list.preview(Path::new("/d")).note)
        };
        assert_eq!((bound(None).0, bound(None).1), (MOST_ITEMS, 300 - MOST_ITEMS));
        assert_eq!((bound(Some(35)).0, bound(Some(35)).1), (3, 297));
        assert!(bound(Some(35)).2.starts_with("297 more may go"), "{}", bound(Some(35)).2);
        assert_eq!((bound(Some(9)).0, bound(Some(9)).1), (0, 300));
        let mut long = List { files: many.clone(), ..List::default() };
        long.bound(Path::new(&format!("/{}", "d".repeat(1_000))), None);
        assert_eq!(long.files.len(), 15, "what is long is read by nobody either");
        assert_eq!(
            bound(Some(9)).2,
            "nothing in /d may go; 300 more may go and are left for the next time: the oldest go first"
        );
    }
}
