//! The store's promises, held over every store, and over every kind of damage to the one on disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod backups;
mod conformance;
mod crash;
mod damage;
mod deciding;
mod disk;
mod support;
mod unwritable;
