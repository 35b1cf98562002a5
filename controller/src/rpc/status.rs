//! The one place where the controller's errors become gRPC statuses.
//!
//! The CLI's exit codes follow from these codes, so a code is chosen by what the caller can do: correct the call
//! (`invalid argument`), look for another name (`not found`), look again (`failed precondition`), ask somebody else
//! (`permission denied`), come back later (`unavailable`).

use quell_engine::input::Refusal;
use tonic::{Code, Status};

use crate::{
    decider::{Failed, Unavailable},
    store,
    wire::Invalid,
};

/// The engine's refusal.
pub fn of_refusal(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Invalid(_) => Code::InvalidArgument,
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::Conflict(_) => Code::FailedPrecondition,
        Refusal::Forbidden(_) => Code::PermissionDenied,
    };
    Status::new(code, refusal.to_string())
}

/// Nothing could be decided.
pub fn of_decider(error: &Unavailable) -> Status {
    Status::unavailable(error.to_string())
}

/// A request that had no success.
pub fn of_failure(failed: &Failed) -> Status {
    match failed {
        Failed::Refused(refusal) => of_refusal(refusal),
        Failed::Unavailable(error) => of_decider(error),
    }
}

/// Records that cannot be read.
pub fn of_store(error: &store::Error) -> Status {
    tracing::error!(%error, "records cannot be read");
    Status::data_loss(error.to_string())
}

impl From<Invalid> for Status {
    /// An agent's message that cannot be taken in.
    fn from(invalid: Invalid) -> Self {
        Self::invalid_argument(invalid.to_string())
    }
}

/// What the caller sent makes no sense.
pub fn invalid(error: &impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Something inside that cannot be, and was.
pub fn internal(error: &impl std::fmt::Display) -> Status {
    tracing::error!(%error, "a call failed inside");
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_words_and_say_what_the_caller_can_do() {
        let cases = [
            (Refusal::Invalid("a".into()), Code::InvalidArgument),
            (Refusal::NotFound("b".into()), Code::NotFound),
            (Refusal::Conflict("c".into()), Code::FailedPrecondition),
            (Refusal::Forbidden("d".into()), Code::PermissionDenied),
        ];
        for (refusal, code) in cases {
            let status = of_failure(&Failed::Refused(refusal.clone()));
            assert_eq!((status.code(), status.message()), (code, refusal.to_string().as_str()));
        }
        let status = of_failure(&Failed::Unavailable(Unavailable("the disk is gone".into())));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("the disk is gone"));
    }
}
