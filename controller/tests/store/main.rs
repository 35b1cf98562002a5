//! The store's promises, held over every store, and over every kind of damage to the one on disk.

mod conformance;
mod disk;
mod support;
