//! Which processes have files open, by what `/proc` shows of their descriptors.

use std::{
    collections::{HashMap, HashSet},
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
};

use super::Found;

/// Who has which of some files open.
#[derive(Debug, Default)]
pub struct Holders {
    known: HashMap<Found, u32>,
    hidden: Option<u32>,
}

/// It cannot be told whether this process has a file open: its descriptors may not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("whether process {0} has it open cannot be told; the agent has to run as root")]
pub struct Hidden(pub u32);

impl Holders {
    /// A process that has the file open.
    ///
    /// # Errors
    /// None was seen to, and not all could be looked at.
    pub fn of(&self, file: Found) -> Result<Option<u32>, Hidden> {
        match (self.known.get(&file), self.hidden) {
            (Some(pid), _) => Ok(Some(*pid)),
            (None, Some(pid)) => Err(Hidden(pid)),
            (None, None) => Ok(None),
        }
    }

    /// A process that has the file open, as far as this one may see.
    pub fn seen(&self, file: Found) -> Option<u32> {
        self.known.get(&file).copied()
    }

    /// Whether nobody was seen to have any of the files open.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// Looks who has files open, this process among them.
///
/// # Errors
/// When the processes cannot be listed.
pub fn holders(files: impl IntoIterator<Item = Found>) -> io::Result<Holders> {
    find(&files.into_iter().collect(), |_| true, |_| true)
}

/// Looks which other processes have a file open.
///
/// # Errors
/// When the processes cannot be listed.
pub fn other_holders(file: Found) -> io::Result<Holders> {
    let own = std::process::id();
    find(&HashSet::from([file]), |pid| pid != own, |_| true)
}

/// Looks who still has files open that have no name any more: their blocks are not free. A file that has got the number
/// of a deleted one has a name, and is no sign.
///
/// # Errors
/// When the processes cannot be listed.
pub fn holders_of_deleted(files: impl IntoIterator<Item = Found>) -> io::Result<Holders> {
    find(&files.into_iter().collect(), |_| true, |metadata| metadata.nlink() == 0)
}

fn find(
    files: &HashSet<Found>,
    whose: impl Fn(u32) -> bool,
    counts: impl Fn(&Metadata) -> bool,
) -> io::Result<Holders> {
    let mut holders = Holders::default();
    for process in std::fs::read_dir("/proc")? {
        let Some(pid) = process?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !whose(pid) {
            continue;
        }
        let looked = descriptors(pid, |metadata| {
            let found = Found { device: metadata.dev(), inode: metadata.ino() };
            if files.contains(&found) && counts(metadata) {
                holders.known.entry(found).or_insert(pid);
            }
        });
        match looked {
            Ok(()) => {}
            Err(error) if is_over(&error) => {}
            Err(_) => holders.hidden = Some(pid),
        }
        if holders.known.len() == files.len() {
            break;
        }
    }
    Ok(holders)
}

fn descriptors(pid: u32, mut visit: impl FnMut(&Metadata)) -> io::Result<()> {
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that cannot be asked was closed, or lies on a file system that does not answer root.
        if let Ok(metadata) = std::fs::metadata(descriptor?.path()) {
            visit(&metadata);
        }
    }
    Ok(())
}

/// A process that has ended has nothing open.
fn is_over(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_seen_until_it_is_closed_with_and_without_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = std::fs::File::create(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let found = Found { device: metadata.dev(), inode: metadata.ino() };
        let own = Some(std::process::id());
        comes_true(|| holders([found]).unwrap().seen(found) == own);
        comes_true(|| other_holders(found).unwrap().seen(found).is_none());
        assert_eq!(holders_of_deleted([found]).unwrap().seen(found), None, "it has its name");
        std::fs::remove_file(&path).unwrap();
        comes_true(|| holders_of_deleted([found]).unwrap().seen(found) == own);
        drop(file);
        comes_true(|| holders([found]).unwrap().seen(found).is_none());
        comes_true(|| holders_of_deleted([found]).unwrap().is_empty());
    }

    /// Waits, for a program that another test starts has this one's files for a moment: until it has begun.
    fn comes_true(condition: impl Fn() -> bool) {
        let started = std::time::Instant::now();
        while !condition() {
            assert!(started.elapsed() < std::time::Duration::from_secs(10), "it did not come true");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_taken_for_closed() {
        let (seen, other) = (Found { device: 1, inode: 1 }, Found { device: 1, inode: 2 });
        let holders = Holders { known: HashMap::from([(seen, 7)]), hidden: Some(12) };
        assert_eq!(holders.of(seen), Ok(Some(7)));
        assert_eq!(holders.of(other), Err(Hidden(12)));
    }
}
