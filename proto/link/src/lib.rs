//! The link between the two ends of Quell: gRPC over mutual TLS 1.3, and the identities behind it.
//!
//! What this crate promises:
//!
//! - who calls is known by key and certificate, never by name alone, and is asked again on every call: [`identity`];
//! - who may call what stands in one table, and what is not in it is refused: [`access`];
//! - names, serial numbers, lifetimes and usages in certificates are the controller's, never the asker's: [`authority`];
//! - the audit log's heads are signed by the same authority, and by nobody else: [`audit`];
//! - a host's key is made on the host and never leaves it, and a join secret is shown only to the controller that the
//!   join string names: [`join`] and [`client`];
//! - what people sign is signed with their own SSH keys: [`signing`];
//! - certificates are renewed and replaced without dropping a stream, a revoked peer is cut within a second, and every
//!   limit of the listening side is written down: [`server`].

pub mod access;
pub mod audit;
pub mod authority;
pub mod backoff;
pub mod client;
pub mod files;
pub mod free_port;
pub mod identity;
pub mod join;
mod pem;
pub mod profile;
pub mod server;
pub mod signing;

/// The generated clients and servers of the contract; the messages are those of [`quell_wire::v1`].
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the documentation is that of the .proto files"
)]
pub mod rpc {
    include!("gen/quell.v1.rs");
}

/// The largest message that either side takes, in bytes: what services and clients set as their decoding limit.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// How long an agent's certificate lives; it is renewed at two thirds.
pub const AGENT_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// How long after its end an agent's certificate may still be traded for a new one.
pub const RENEWAL_GRACE: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// How long the controller's own certificate lives; it is replaced at two thirds, while it runs.
pub const SERVER_TTL: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// How long an operator's certificate lives unless somebody says otherwise.
pub const OPERATOR_TTL: std::time::Duration = std::time::Duration::from_secs(90 * 24 * 3600);

/// The protocol versions and the provider that every connection of Quell uses.
pub(crate) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<std::sync::Arc<rustls::crypto::CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// What is negotiated inside TLS.
pub(crate) const ALPN: &[u8] = b"h2";
