//! Says how the agent's program is linked: with relocations packed, where the system can load that.
//!
//! A program that may lie anywhere in memory has an entry for every pointer in its data, and the loader reads all of them
//! at the start. Unpacked these are 785 KB, which stay resident with an agent that is otherwise at rest; packed
//! (`DT_RELR`) they are 13 KB.

use std::process::Command;

/// The first version of glibc that loads packed relocations. An older one would refuse to start the program.
const FIRST_TO_LOAD: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let is_for_this_system = of("HOST") == of("TARGET") && of("CARGO_CFG_TARGET_ENV") == "gnu";
    if is_for_this_system && glibc().is_some_and(|version| version >= FIRST_TO_LOAD) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this system's glibc, as `getconf` tells it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let told = String::from_utf8(told).ok()?;
    let (major, rest) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
