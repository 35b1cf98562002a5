//! Work that may block (files, `/proc`, `statvfs`), away from the runtime's thread and with its CPU time counted.
//!
//! A probe has one lane. While work of it hangs (a dead network file system), further attempts of that probe are not
//! made: a stuck probe costs one thread, never one for each attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quell_model::value::Fields;
use rustix::time::{ClockId, clock_gettime};

use super::Attempt;

/// One probe's blocking work.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    busy: Arc<AtomicBool>,
    cpu_nanoseconds: Arc<AtomicU64>,
}

/// Marks the lane free when the work ends, however it ends.
struct Occupied(Arc<AtomicBool>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Lane {
    /// Runs the work on a thread for blocking work, for at most `timeout`.
    ///
    /// # Errors
    /// An attempt that was not made, because earlier work still hangs; or one that failed, because this work took too
    /// long: it goes on, but its result is lost.
    pub async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Attempt> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(Attempt::not_made("the last attempt still waits for the file system"));
        }
        let occupied = Occupied(Arc::clone(&self.busy));
        let cpu = Arc::clone(&self.cpu_nanoseconds);
        let task = tokio::task::spawn_blocking(move || {
            let _occupied = occupied;
            let before = thread_time();
            let result = work();
            let spent = thread_time().saturating_sub(before);
            cpu.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            result
        });
        match tokio::time::timeout(timeout, task).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(Attempt::not_made(format!("the attempt could not be made: {error}"))),
            Err(_) => Err(Attempt::bad(format!("no answer from the file system within {timeout:?}"), Fields::new())),
        }
    }

    /// CPU time of the work since the last call.
    pub fn cost(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanoseconds.swap(0, Ordering::Relaxed))
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_stuck_lane_makes_no_further_attempts_until_it_is_free() {
        let lane = Lane::default();
        let (release, stuck) = mpsc::channel::<()>();
        let (tell, done) = tokio::sync::oneshot::channel();
        let work = move || {
            let _ = stuck.recv();
            let _ = tell.send(());
        };
        let late = lane.run(Duration::from_millis(10), work).await.unwrap_err();
        assert!(matches!(late, Attempt::Judged { result: Err(_), .. }));
        assert!(matches!(lane.run(Duration::from_secs(5), || ()).await, Err(Attempt::Unjudged { .. })));
        release.send(()).unwrap();
        done.await.unwrap();
        // The work has told that it ends; the lane is free as soon as its thread has left it.
        while lane.busy.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
        assert_eq!(lane.run(Duration::from_secs(5), || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_is_charged() {
        let lane = Lane::default();
        let spin = || {
            let before = thread_time();
            while thread_time() - before < Duration::from_millis(3) {}
        };
        lane.run(Duration::from_secs(5), spin).await.unwrap();
        assert!(lane.cost() >= Duration::from_millis(3));
        assert_eq!(lane.cost(), Duration::ZERO);
    }
}
