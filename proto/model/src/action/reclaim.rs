//! The parameters of `disk.reclaim`: which files of one directory may go. What goes is the list that a host makes of
//! them, and people approve that list.

use std::{path::PathBuf, time::Duration};

use super::{file, whole};
use crate::{
    glob::Glob,
    manifest::{
        object::Object,
        schema::{
            Field, Shape,
            shared::{default, optional, required},
        },
    },
    unit,
};

/// Most patterns for names.
const MOST_NAMES: usize = 32;

/// The youngest file that may go: a program that has just made one may not have opened it again yet.
const YOUNGEST: Duration = Duration::from_secs(60);

pub(super) const FIELDS: &[Field] = &[
    required("directory", Shape::Path, "The directory; what lies in directories beneath it is left alone."),
    required(
        "names",
        Shape::List(&Shape::Text),
        "Which files: patterns for their names, `*` any text and `?` one character; from 1 to 32.",
    ),
    required("olderThan", Shape::Duration, "Only files that were not changed for longer than this; at least 1m."),
    default("keepNewest", Shape::Integer, "0", "How many of the newest files of these names stay, from 0 to 100000."),
    optional("maxTotal", Shape::Size, "No more than this goes at a time, the oldest first; all when left out."),
];

/// Parameters of `disk.reclaim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskReclaim {
    /// The directory: absolute, without `..`, not `/`.
    pub directory: PathBuf,
    /// Which files, by name; never empty.
    pub names: Vec<Glob>,
    /// Only files that were not changed for longer than this.
    pub older_than: Duration,
    /// How many of the newest files of these names stay.
    pub keep_newest: usize,
    /// No more than this goes at a time, bytes; absent: no bound.
    pub max_total: Option<u64>,
}

impl DiskReclaim {
    /// Whether a file of this name may go.
    pub fn means(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }
}

pub(super) fn read(object: &Object<'_>) -> Option<DiskReclaim> {
    let names = object.list("names", str::parse::<Glob>);
    if object.has("names") && names.is_empty() && object.report.is_clean() {
        object.report.fault(object.place_of("names"), "`names` is empty: that means no file; write [\"*\"] for all");
    }
    if names.len() > MOST_NAMES {
        let message = format!("`names` has {} patterns, and at most {MOST_NAMES} are taken", names.len());
        object.report.fault(object.place_of("names"), message);
    }
    let older_than = object.parsed("olderThan", |text| match unit::duration(text) {
        Ok(age) if age < YOUNGEST => Err(format!("`olderThan` is at least {}s", YOUNGEST.as_secs())),
        Ok(age) => Ok(age),
        Err(error) => Err(error.to_string()),
    });
    let keep_newest = object.parsed("keepNewest", |text| whole(text, 0, 100_000));
    let max_total = object.parsed("maxTotal", |text| match unit::size(text) {
        Ok(0) => Err("`maxTotal` is 0: nothing could go".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    });
    let directory = object.parsed("directory", file)?;
    let names = (!names.is_empty()).then_some(names)?;
    Some(DiskReclaim { directory, names, older_than: older_than?, keep_newest: keep_newest? as usize, max_total })
}
