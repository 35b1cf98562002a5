//! The command line of `quell-controller`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use quell_model::digest::Digest;

use crate::logging::Format;

/// Quell's controller: decides, orders and records.
#[derive(Debug, Clone, Parser)]
#[command(name = "quell-controller", version, about, max_term_width = 100)]
pub struct Arguments {
    /// How log lines look on standard error; RUST_LOG says which are written.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a new controller: its certificate authority, configuration and first operator.
    ///
    /// The last line on standard output is the path of the first operator's profile.
    Init {
        /// Directory for everything that the controller keeps; made if it is missing.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Address for agents and operators (mutual TLS).
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443")]
        listen: SocketAddr,
        /// Address for /metrics, /healthz and /readyz (plain HTTP).
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7480")]
        http: SocketAddr,
        /// host:port under which agents and operators reach this controller; may be repeated. Default: --listen.
        #[arg(long = "address", value_name = "HOST:PORT")]
        addresses: Vec<String>,
        /// Name of the first operator.
        #[arg(long, value_name = "NAME", default_value = "admin")]
        operator: String,
        /// Whom hosts believe first, as OpenSSH's allowed_signers has it. Default: a key made for the first operator,
        /// which is in the profile and nowhere else.
        #[arg(long, value_name = "FILE")]
        allowed_signers: Option<PathBuf>,
    },
    /// Make an operator on this machine, when no administrator is left who could.
    ///
    /// The operator is admitted at the next start. The last line on standard output is the path of the profile.
    Operator {
        /// The controller's directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Name of the operator: one that is not in use.
        #[arg(value_name = "NAME")]
        name: String,
        /// Role: admin, operator, viewer, or one that approvals ask for; may be repeated.
        #[arg(long = "role", value_name = "ROLE", default_value = "admin")]
        roles: Vec<String>,
    },
    /// Serve agents and operators until SIGTERM or SIGINT.
    Serve {
        /// The controller's directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Copy everything that the controller keeps, while it serves.
    Backup {
        /// The controller's directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Directory for the copy; must not exist.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Look after the audit log on this machine, without a controller.
    #[command(subcommand)]
    Audit(Audit),
    /// Make a controller's directory from a backup; it begins a new epoch and only observes at first.
    Restore {
        /// The controller's directory; must not hold a controller.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The backup.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
}

/// What is done with the audit log.
#[derive(Debug, Clone, Subcommand)]
pub enum Audit {
    /// Find an edit, a removal, a reordering or a cut end of the log; exit code 0 only when it is whole.
    Verify {
        /// The controller's directory, a copy of it, or a backup.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// A file with a signed head that was kept elsewhere (`quell audit head`): the log must continue it.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// The fingerprint of the certificate authority, as in join strings; without it the directory's own is believed.
        #[arg(long, value_name = "SHA-256")]
        fingerprint: Option<Digest>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_documented_calls_are_understood() {
        let call = "quell-controller init --data-dir D --listen 127.0.0.1:7443 --http 127.0.0.1:7480";
        let Command::Init { listen, http, addresses, operator, .. } =
            Arguments::try_parse_from(call.split(' ')).unwrap().command
        else {
            panic!("not init");
        };
        assert_eq!((listen.port(), http.port()), (7443, 7480));
        assert!(addresses.is_empty());
        assert_eq!(operator, "admin");
        let call = "quell-controller serve --data-dir D --log-format json";
        assert_eq!(Arguments::try_parse_from(call.split(' ')).unwrap().log_format, Format::Json);
        assert!(Arguments::try_parse_from(["quell-controller", "serve"]).is_err());
    }
}
