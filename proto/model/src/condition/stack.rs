//! A stack for recursion.
//!
//! The parser takes up to 200 KiB of stack for each level of brackets when it is built without optimisation, so what
//! compiles a text runs on a thread of its own, whose stack holds whatever the limits let through, wherever it is called.

use super::Error;

/// Stack of the thread, in bytes; only what is used becomes memory.
const STACK: usize = 16 * 1024 * 1024;

/// Runs a compilation where there is room for it, and waits for it.
pub(super) fn with_room<T: Send>(compile: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("condition".to_owned()).stack_size(STACK);
        let running = thread
            .spawn_scoped(scope, compile)
            .map_err(|error| Error::whole(format!("no thread could be started to compile it: {error}")))?;
        running.join().map_err(|_| Error::whole("not a CEL expression: the parser gave up on it"))?
    })
}
