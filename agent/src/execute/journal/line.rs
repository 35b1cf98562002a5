//! One line of the journal: the beginning of its SHA-256 in hexadecimal, a space, JSON, a line feed.

use quell_model::digest::Digest;

use super::Line;

/// Hexadecimal digits of the checksum.
const CHECKSUM: usize = 16;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The lines that are whole.
    pub(super) lines: Vec<Line>,
    /// How many were not, the torn last one left out.
    pub(super) damaged: usize,
}

fn checksum(json: &[u8]) -> String {
    let mut text = Digest::of(json).to_string();
    text.truncate(CHECKSUM);
    text
}

/// Adds a line to some bytes.
pub(super) fn write(line: &Line, bytes: &mut Vec<u8>) {
    // Maps with text keys, numbers and text: nothing in a line can fail to become JSON.
    let json = serde_json::to_vec(line).unwrap_or_default();
    bytes.extend_from_slice(checksum(&json).as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(&json);
    bytes.push(b'\n');
}

fn parse(line: &[u8]) -> Option<Line> {
    let (sum, json) = line.split_at_checked(CHECKSUM)?;
    let json = json.strip_prefix(b" ")?;
    (checksum(json).as_bytes() == sum).then(|| serde_json::from_slice(json).ok()).flatten()
}

/// Reads what a crash may have left: zeros end it, and the last line before them may be torn.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut lines = bytes[..end].split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        match parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            Some(line) => read.lines.push(line),
            // A last line that is torn was never promised to anybody.
            None if lines.peek().is_none() => {}
            None => read.damaged += 1,
        }
    }
    read
}
