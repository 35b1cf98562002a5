//! The messages of the wire, generated from `proto/quell/v1/*.proto` and checked in.
//!
//! This crate is pure: it holds messages and nothing that sends them. The services stand in `quell-link`. Nobody
//! edits `gen/`: change the `.proto` files and run `QUELL_REGENERATE=1 cargo test -p quell-wire`, which writes what
//! the test otherwise compares.

/// Version 1 of the contract.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the documentation is that of the .proto files"
)]
pub mod v1 {
    include!("gen/quell.v1.rs");
}

/// The protocol version that this build speaks, and the oldest that it still serves.
pub const PROTOCOL: u32 = 1;

/// The compiled descriptors of the contract, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
