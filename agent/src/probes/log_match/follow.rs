//! A log's newest lines, followed through growth, rotation and truncation.
//!
//! The lines that were there at the start count. A log that was renamed away is read to its end before the new file
//! is; lines that were seen stay in the window until newer ones push them out, so that a rotation by itself changes
//! nothing. Memory is bounded by the window's length and a line's; a log that grows faster than it is looked at loses
//! its middle, never its end.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use regex::bytes::Regex;
use rustix::fs::OFlags;

/// Bytes of a line that are kept; the rest of the line is skipped.
pub(super) const LINE_BYTES: usize = 4096;

/// Most bytes that one look reads from one file.
const LOOK_BYTES: u64 = 1024 * 1024;

/// Size of the buffer that files are read through.
const CHUNK_BYTES: usize = 16 * 1024;

/// Follows one log.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    most_lines: usize,
    open: Option<Open>,
    lines: VecDeque<Line>,
    /// The last line, while it has no end yet.
    unfinished: Vec<u8>,
    /// Bytes up to the next line's end are not wanted: reading began in the middle of a line.
    skipping: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    position: u64,
}

#[derive(Debug)]
struct Line {
    bytes: Box<[u8]>,
    matches: bool,
}

impl Follower {
    /// Follows the log at this path, keeping so many lines.
    pub(super) fn new(path: PathBuf, most_lines: usize) -> Self {
        Self { path, most_lines, open: None, lines: VecDeque::new(), unfinished: Vec::new(), skipping: false }
    }

    /// The log's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is new. Each line is matched once, when it is complete.
    ///
    /// # Errors
    /// The log is not there, is no regular file or cannot be read; what was read before stays.
    pub(super) fn look(&mut self, pattern: &Regex) -> io::Result<()> {
        let newest = open(&self.path);
        if let Some(mut known) = self.open.take() {
            // While it is held open its number cannot be given to another file.
            let same = newest.as_ref().is_ok_and(|newest| (newest.device, newest.inode) == (known.device, known.inode));
            if same && known.file.metadata()?.len() < known.position {
                known.position = 0;
                self.finish(pattern);
            }
            let read = self.read(&mut known, pattern);
            if same || newest.is_err() {
                self.open = Some(known);
                return read.and(newest.map(|_| ()));
            }
            self.finish(pattern);
        }
        let mut newest = newest?;
        let read = self.read(&mut newest, pattern);
        self.open = Some(newest);
        read
    }

    /// The window, oldest first: each line and whether it matches. A last line without an end counts as it is now.
    pub(super) fn window<'a>(&'a self, pattern: &'a Regex) -> impl Iterator<Item = (&'a [u8], bool)> {
        let unfinished = (!self.unfinished.is_empty()).then_some(self.unfinished.as_slice());
        let room = self.most_lines - usize::from(unfinished.is_some()).min(self.most_lines);
        let finished = self.lines.iter().skip(self.lines.len().saturating_sub(room));
        finished.map(|line| (&*line.bytes, line.matches)).chain(unfinished.map(|line| (line, pattern.is_match(line))))
    }

    fn read(&mut self, open: &mut Open, pattern: &Regex) -> io::Result<()> {
        let length = open.file.metadata()?.len();
        if length.saturating_sub(open.position) > LOOK_BYTES {
            open.position = length - LOOK_BYTES;
            self.unfinished.clear();
            self.skipping = true;
        }
        open.file.seek(SeekFrom::Start(open.position))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut budget = LOOK_BYTES;
        while budget > 0 {
            let count = open.file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            open.position += count as u64;
            budget = budget.saturating_sub(count as u64);
            self.take(&buffer[..count], pattern);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], pattern: &Regex) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if !self.skipping {
                let room = LINE_BYTES.saturating_sub(self.unfinished.len());
                self.unfinished.extend_from_slice(&text[..text.len().min(room)]);
            }
            if ends {
                if self.skipping {
                    self.skipping = false;
                } else {
                    self.end_line(pattern);
                }
            }
        }
    }

    /// What has no end gets none any more.
    fn finish(&mut self, pattern: &Regex) {
        self.skipping = false;
        if !self.unfinished.is_empty() {
            self.end_line(pattern);
        }
    }

    fn end_line(&mut self, pattern: &Regex) {
        let line = self.unfinished.strip_suffix(b"\r").unwrap_or(&self.unfinished);
        let line = Line { matches: pattern.is_match(line), bytes: line.into() };
        self.unfinished.clear();
        self.lines.push_back(line);
        if self.lines.len() > self.most_lines {
            self.lines.pop_front();
        }
    }
}

/// Opens a log for reading; a pipe or a device that somebody put in its place is refused and never waited for.
fn open(path: &Path) -> io::Result<Open> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(Open { file, device: metadata.dev(), inode: metadata.ino(), position: 0 })
}

/// The last lines of a file, oldest first, from at most so many of its last bytes; each cut at [`LINE_BYTES`].
///
/// # Errors
/// As for [`Follower::look`].
pub(super) fn tail(path: &Path, lines: usize, most_bytes: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut open = open(path)?;
    let length = open.file.metadata()?.len();
    let start = length.saturating_sub(most_bytes as u64);
    open.file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    open.file.take(most_bytes as u64).read_to_end(&mut bytes)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut kept: Vec<Vec<u8>> = text
        .rsplit(|byte| *byte == b'\n')
        .take(lines)
        .map(|line| line[..line.len().min(LINE_BYTES)].to_vec())
        .collect();
    let cut = start > 0 && kept.len() < lines && kept.len() > 1;
    if cut {
        // Reading began in the middle of this one.
        kept.pop();
    }
    kept.reverse();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    struct Log {
        _dir: tempfile::TempDir,
        path: PathBuf,
        follower: Follower,
        pattern: Regex,
    }

    impl Log {
        fn new(lines: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.log");
            let follower = Follower::new(path.clone(), lines);
            Self { _dir: dir, path, follower, pattern: Regex::new("rr").unwrap() }
        }

        fn append(&self, text: &str) {
            let mut file = OpenOptions::new().append(true).create(true).open(&self.path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn look(&mut self) -> Vec<String> {
            self.follower.look(&self.pattern).unwrap();
            self.window()
        }

        fn window(&self) -> Vec<String> {
            self.follower.window(&self.pattern).map(|(line, _)| String::from_utf8(line.to_vec()).unwrap()).collect()
        }
    }

    #[test]
    fn what_is_there_at_the_start_counts_and_growth_is_followed() {
        let mut log = Log::new(3);
        log.append("a\nb\nc\nd\n");
        assert_eq!(log.look(), ["b", "c", "d"]);
        log.append("e");
        assert_eq!(log.look(), ["c", "d", "e"]);
        log.append("rr\r\nf\n");
        assert_eq!(log.look(), ["d", "err", "f"]);
        assert_eq!(
            log.follower.window(&log.pattern).map(|(_, matches)| matches).collect::<Vec<_>>(),
            [false, true, false]
        );
    }

    #[test]
    fn a_renamed_log_is_read_to_its_end_and_the_window_goes_on() {
        let mut log = Log::new(10);
        log.append("a\n");
        log.look();
        let mut writer = OpenOptions::new().append(true).open(&log.path).unwrap();
        fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        assert!(log.follower.look(&log.pattern).is_err());
        writer.write_all(b"late\n").unwrap();
        log.append("new\n");
        assert_eq!(log.look(), ["a", "late", "new"]);
    }

    #[test]
    fn a_truncated_log_is_read_from_its_beginning() {
        let mut log = Log::new(10);
        log.append("one\ntwo\n");
        log.look();
        fs::write(&log.path, "").unwrap();
        log.append("x\n");
        assert_eq!(log.look(), ["one", "two", "x"]);
    }

    #[test]
    fn long_lines_are_cut_and_a_flood_loses_its_middle() {
        let mut log = Log::new(5);
        log.append(&format!("{}\nshort\n", "x".repeat(50_000)));
        assert_eq!(log.look().iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES, 5]);
        log.append(&"y".repeat(3 * 1024 * 1024));
        log.append("\nend\n");
        assert_eq!(log.look().last().unwrap(), "end");
        assert_eq!(log.window().len(), 3);
    }

    #[test]
    fn a_line_of_ten_megabytes_is_one_line_and_takes_no_more_room_than_another() {
        let mut log = Log::new(5);
        let part = "z".repeat(700_000);
        for _ in 0..15 {
            log.append(&part);
            assert_eq!(log.look().iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES]);
            assert!(log.follower.unfinished.capacity() <= 2 * LINE_BYTES);
        }
        log.append("\nrr\n");
        assert_eq!(log.look().iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES, 2]);
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let mut log = Log::new(5);
        nix::unistd::mkfifo(&log.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(log.follower.look(&log.pattern).unwrap_err().to_string().contains("regular file"));
        assert!(tail(&log.path, 5, 100).is_err());
    }

    #[test]
    fn the_tail_is_the_last_whole_lines() {
        let log = Log::new(5);
        log.append("one\ntwo\nthree\n");
        let texts = |lines: usize, bytes: usize| {
            let tail = tail(&log.path, lines, bytes).unwrap();
            tail.into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(texts(2, 100), ["two", "three"]);
        assert_eq!(texts(9, 100), ["one", "two", "three"]);
        assert_eq!(texts(9, 8), ["three"]);
        fs::write(&log.path, "").unwrap();
        assert!(texts(9, 100).is_empty());
    }
}
