//! Space and inodes of the mounted file systems.
//!
//! Which mounts count is said by `/proc/self/mountinfo`: file systems that hold data of this host, each once, by its
//! shortest path. Pseudo file systems, those in memory, images that are full by nature, and everything over a network
//! or in user space (asking may hang) are left out.

use std::{collections::BTreeMap, fs, path::Path};

use quell_model::value::Fields;
use rustix::fs::statvfs;

use super::{number, put};

/// File systems that are judged. Anything else is a pseudo, memory, image, network or user-space file system.
const JUDGED: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2", "bcachefs", "vfat", "exfat",
    "ntfs3", "overlay", "ubifs", "ocfs2", "gfs2",
];

/// Most file systems that are reported.
const MOST: usize = 64;

/// Adds the fields of every file system.
pub(super) fn look(fields: &mut Fields) {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return };
    for path in mounts(&text).iter().take(MOST) {
        let path = Path::new(path);
        let Ok(status) = statvfs(path) else { continue };
        let name = path.display();
        let block = number(status.f_frsize.max(1));
        let used = number(status.f_blocks.saturating_sub(status.f_bfree)) * block;
        let free = number(status.f_bavail) * block;
        // What only root may still use counts as neither, as in df(1).
        if used + free > 0.0 {
            put(fields, &format!("disks[{name}].used_percent"), 100.0 * used / (used + free));
            put(fields, &format!("disks[{name}].free_bytes"), free);
            let inodes = number(status.f_files);
            let taken = number(status.f_files.saturating_sub(status.f_ffree));
            let percent = if inodes > 0.0 { 100.0 * taken / inodes } else { 0.0 };
            put(fields, &format!("disks[{name}].inodes_used_percent"), percent);
        }
    }
}

/// Mount points to ask, one for each device, from `proc_pid_mountinfo(5)`:
/// `36 35 98:0 /root /mount options optional… - type source super-options`.
fn mounts(text: &str) -> Vec<String> {
    let mut by_device: BTreeMap<&str, String> = BTreeMap::new();
    for line in text.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let mut front = front.split(' ').skip(2);
        let (Some(device), Some(_root), Some(path)) = (front.next(), front.next(), front.next()) else { continue };
        if !back.split(' ').next().is_some_and(|kind| JUDGED.contains(&kind)) {
            continue;
        }
        let path = unescape(path);
        // A file that is mounted over a file (containers do so) is no place that fills.
        let shorter = by_device.get(device).is_none_or(|known| path.len() < known.len());
        if shorter && Path::new(&path).is_dir() {
            by_device.insert(device, path);
        }
    }
    let mut paths: Vec<String> = by_device.into_values().collect();
    paths.sort();
    paths
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escaped, plain)| path.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_judged_once_by_its_shortest_path() {
        let text = "\
21 1 254:1 / / rw - ext4 /dev/vda1 rw
22 21 0:5 / /proc rw - proc proc rw
23 21 254:1 /srv /usr rw - ext4 /dev/vda1 rw
24 21 0:40 / /tmp rw - tmpfs tmpfs rw
25 21 0:41 / /dev rw shared:1 - nfs4 server:/ rw
26 21 254:2 / /etc/hostname rw - ext4 /dev/vdb rw
27 21 254:3 / /etc rw master:3 - xfs /dev/vdc rw
nonsense
";
        assert_eq!(mounts(text), ["/", "/etc"]);
    }

    #[test]
    fn the_root_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        assert!(statvfs(dir.path()).is_ok());
        assert_eq!(unescape("/mnt/a\\040b\\134"), "/mnt/a b\\");
    }
}
