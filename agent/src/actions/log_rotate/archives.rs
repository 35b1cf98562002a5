//! Names of archives: `app.log.20261122T194203Z`, `app.log.20261122T194203Z.gz`, `…Z-2.zst` for a second one.
//!
//! The time of the rotation is in the name, so that nothing is renamed again and again and no clock of the file system
//! decides what is old. Only names of exactly this form are ever compressed or removed.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use quell_model::action::Compression;

/// What a compression adds to a name.
pub(super) fn suffix(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
        Compression::None => "",
    }
}

const FORM: &str = "%Y%m%dT%H%M%SZ";

/// The name, without the suffix of a compression, that an archive made now gets; the n-th attempt.
pub(super) fn name(log: &OsStr, now: Timestamp, attempt: u32) -> OsString {
    let mut name = log.to_owned();
    name.push(format!(".{}", now.to_zoned(TimeZone::UTC).strftime(FORM)));
    if attempt > 1 {
        name.push(format!("-{attempt}"));
    }
    name
}

/// An archive of a log, read from its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Archive {
    /// When it was made; the first field, so that the order is that of time.
    pub(super) made: Timestamp,
    /// The n-th of that second.
    pub(super) attempt: u32,
    /// Its name.
    pub(super) name: OsString,
    /// Whether it is compressed.
    pub(super) compressed: bool,
}

/// Reads a name as that of an archive of this log.
pub(super) fn parse(log: &OsStr, name: &OsStr) -> Option<Archive> {
    let rest = name.as_bytes().strip_prefix(log.as_bytes())?.strip_prefix(b".")?;
    let rest = std::str::from_utf8(rest).ok()?;
    let stem = [".gz", ".zst"].iter().find_map(|suffix| rest.strip_suffix(suffix));
    let (time, attempt) = match stem.unwrap_or(rest).split_once('-') {
        Some((time, attempt)) => (time, attempt.parse().ok().filter(|attempt| *attempt > 1)?),
        None => (stem.unwrap_or(rest), 1),
    };
    let made = DateTime::strptime(FORM, time).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    // Only what is written back the same is of our making.
    let mut expected = self::name(log, made, attempt);
    if stem.is_some() {
        expected.push(&rest[stem.map_or(0, str::len)..]);
    }
    (expected == name).then(|| Archive { made, attempt, name: name.to_owned(), compressed: stem.is_some() })
}

/// The name under which a copy is made before it is complete.
pub(super) fn partial(archive: &OsStr) -> OsString {
    let mut name = OsString::from(".");
    name.push(archive);
    name.push(".quell-part");
    name
}

#[cfg(test)]
mod tests {
    use super::{name, parse};
    use std::ffi::OsStr;

    #[test]
    fn only_our_own_names_are_archives() {
        let log = OsStr::new("app.log");
        let now = "2026-11-22T19:42:03Z".parse().unwrap();
        for attempt in [1, 2, 17] {
            for suffix in ["", ".gz", ".zst"] {
                let mut text = name(log, now, attempt);
                text.push(suffix);
                let archive = parse(log, &text).unwrap();
                assert_eq!((archive.made, archive.attempt, archive.compressed), (now, attempt, !suffix.is_empty()));
            }
        }
        let strangers = [
            "app.log",
            "app.log.1",
            "app.log.gz",
            "app.log.20261122",
            "app.log.20261122T194203Z.bz2",
            "app.log.20261322T194203Z",
            "app.log.20261122T194203Z-1",
            "app.log.20261122T194203Z-x.gz",
            "app.log.20261122T194203Z.gz.gz",
            "xapp.log.20261122T194203Z",
            "app.log.20261122T194203Z-02",
            ".app.log.20261122T194203Z.quell-part",
            "app.log.20261122T194203Z/../../etc",
            "app.log.20261122T194203Z.gz\n",
            "app.log\n.20261122T194203Z.gz",
            "app.log.20261122T194203Z\u{1b}[2J.gz",
            "app.log.２０２６1122T194203Z.gz",
            "app.log.+20261122T194203Z",
            "app.log.20261122T194203Z-+2",
            "app.log. 20261122T194203Z",
        ];
        for text in strangers {
            assert_eq!(parse(log, OsStr::new(text)), None, "{text}");
        }
        use std::os::unix::ffi::OsStrExt as _;
        assert_eq!(parse(log, OsStr::from_bytes(b"app.log.20261122T194203Z.\xff")), None);
    }
}
