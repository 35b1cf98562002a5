//! A stack for recursion.
//!
//! The parser takes up to 200 KiB of stack for each level of brackets when it is built without optimisation, so what
//! compiles a text runs on a thread of its own, whose stack holds whatever the limits let through, wherever it is called.
//! A manifest has many texts, and starting a thread costs as much as compiling one: all of a manifest share one thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

/// Stack of the thread, in bytes; only what is used becomes memory.
const STACK: usize = 16 * 1024 * 1024;

/// The name of a thread that has room.
const NAME: &str = "condition";

/// Does something where there is room for compilations, and waits for it.
///
/// # Errors
/// Why it could not be done: there is no thread, or the parser gave up.
pub(crate) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    if thread::current().name() == Some(NAME) {
        return catch_unwind(AssertUnwindSafe(work)).map_err(gave_up);
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(NAME.to_owned()).stack_size(STACK);
        let running = thread.spawn_scoped(scope, work);
        let running = running.map_err(|error| format!("no thread could be started to compile it: {error}"))?;
        running.join().map_err(gave_up)
    })
}

fn gave_up(_panic: Box<dyn std::any::Any + Send>) -> String {
    "not a CEL expression: the parser gave up on it".to_owned()
}
