//! Everything that can stop a command, and which exit code that is.

use std::process::ExitCode;

use quell_model::manifest;
use tonic::{Code, Status};

use crate::{exit::Exit, render::escape};

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Manifests are wrong: every error, with its place.
    #[error("{}", lines(.0))]
    Manifests(Vec<manifest::Error>),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The controller cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The connection broke before there was an answer: what was asked may have been done.
    #[error("the connection to the controller broke: {0}; look whether it was done before you try again")]
    Broken(String),
    /// The controller answered with a no.
    #[error("{}", .0.message())]
    Answer(Box<Status>),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// "read", "write".
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Whoever read the output has gone.
    #[error("the output was closed")]
    OutputClosed,
}

fn lines(errors: &[manifest::Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match quell_link::client::explain(&status) {
            Some(reason) => Self::Unreachable(reason),
            None if status.code() == Code::Unavailable => {
                Self::Unreachable(format!("the controller does not answer: {}", status.message()))
            }
            // What the controller says has no cause on this side. Cancelled here is what was never sent.
            None if std::error::Error::source(&status).is_some() && status.code() == Code::Cancelled => {
                Self::Unreachable(
                    "the controller closed the connection at once: it stops, or this profile is of another installation"
                        .to_owned(),
                )
            }
            None if std::error::Error::source(&status).is_some() => Self::Broken(status.message().to_owned()),
            None => Self::Answer(Box::new(status)),
        }
    }
}

impl From<quell_link::client::Error> for Error {
    fn from(error: quell_link::client::Error) -> Self {
        use quell_link::client::Error as Link;
        match error {
            Link::Refused(status) => Self::Answer(status),
            Link::Profile(_) | Link::Files(_) => Self::Usage(error.to_string()),
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// Which exit code an error is.
pub fn exit(error: &Error) -> Exit {
    match error {
        Error::Usage(_) | Error::Manifests(_) => Exit::Invalid,
        Error::NotFound(_) => Exit::NotFound,
        Error::Unreachable(_) => Exit::Unreachable,
        Error::Broken(_) => Exit::Unknown,
        Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::NotFound,
        Error::File { .. } | Error::Failed(_) => Exit::Failed,
        Error::OutputClosed => Exit::Done,
        Error::Answer(status) => match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
            Code::NotFound => Exit::NotFound,
            Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition | Code::AlreadyExists => {
                Exit::Refused
            }
            Code::Unavailable => Exit::Unreachable,
            // The request was sent and no answer came: it may have been carried out.
            Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => Exit::Unknown,
            _ => Exit::Failed,
        },
    }
}

/// Says what went wrong on standard error and gives the process its exit code.
pub fn finish(ended: Result<Exit, Error>) -> ExitCode {
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !matches!(error, Error::OutputClosed) {
                use std::io::Write as _;
                let text = message(&error);
                // Standard error may be closed; there is nobody left to tell.
                let _ = writeln!(anstream::stderr(), "{}", escape::block(&text));
            }
            exit(&error).into()
        }
    }
}

/// Errors of manifests begin with their place, as editors expect; all others with the program's name.
fn message(error: &Error) -> String {
    match error {
        Error::Manifests(_) => error.to_string(),
        _ => format!("quell: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_exit_code() {
        for (code, expected) in [
            (Code::InvalidArgument, Exit::Invalid),
            (Code::NotFound, Exit::NotFound),
            (Code::PermissionDenied, Exit::Refused),
            (Code::Unauthenticated, Exit::Refused),
            (Code::FailedPrecondition, Exit::Refused),
            (Code::Unavailable, Exit::Unreachable),
            (Code::DeadlineExceeded, Exit::Unknown),
            (Code::Internal, Exit::Failed),
            (Code::DataLoss, Exit::Failed),
        ] {
            assert_eq!(exit(&Error::from(Status::new(code, "because"))), expected, "{code:?}");
        }
    }

    #[test]
    fn every_error_has_its_exit_code() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for (error, expected) in [
            (Error::Usage(String::new()), Exit::Invalid),
            (Error::Manifests(Vec::new()), Exit::Invalid),
            (Error::NotFound(String::new()), Exit::NotFound),
            (Error::Unreachable(String::new()), Exit::Unreachable),
            (Error::File { action: "read", path: String::new(), source: missing }, Exit::NotFound),
            (Error::File { action: "read", path: String::new(), source: denied }, Exit::Failed),
            (Error::Failed(String::new()), Exit::Failed),
            (Error::OutputClosed, Exit::Done),
            (quell_link::client::Error::NoAddress.into(), Exit::Unreachable),
            (quell_link::client::Error::Profile(String::new()).into(), Exit::Invalid),
        ] {
            assert_eq!(exit(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn manifests_errors_begin_with_their_place() {
        let error = |line, message: &str| manifest::Error {
            file: "a.yaml".to_owned(),
            line,
            column: 3,
            message: message.to_owned(),
        };
        let errors = Error::Manifests(vec![error(1, "no such field"), error(7, "nor this")]);
        assert_eq!(message(&errors), "a.yaml:1:3: no such field\na.yaml:7:3: nor this");
        assert_eq!(message(&Error::Failed("it broke".to_owned())), "quell: it broke");
    }
}
