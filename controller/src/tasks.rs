//! Every task that lives as long as the controller, by name, and what its death means.

use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

/// The tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// The decider's thread, watched.
    Decider,
    /// Effects are carried out.
    Effects,
    /// Contacts are told.
    Notifier,
    /// What was refused, and what others did to the data directory, is recorded.
    Recorder,
    /// Agents and operators are served.
    Server,
    /// Metrics and health are served.
    Web,
}

/// What the death of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The controller cannot do its work: it stops, and the service manager starts it again.
    Fatal,
    /// The controller goes on without: people are told in the log.
    Degrading,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 6] = [Self::Decider, Self::Effects, Self::Notifier, Self::Recorder, Self::Server, Self::Web];

    /// What its death means.
    pub fn death(self) -> Death {
        match self {
            // Without one of these nothing is decided, recorded or told, or nothing reaches agents: a restart is better
            // than a controller that looks alive.
            Self::Decider | Self::Effects | Self::Notifier | Self::Recorder | Self::Server => Death::Fatal,
            // Hosts are healed without metrics.
            Self::Web => Death::Degrading,
        }
    }
}

/// Runs tasks and tells of their ends.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<Result<(), String>>,
    names: Vec<(Id, Task)>,
}

/// A task ended.
#[derive(Debug)]
pub struct End {
    /// Which.
    pub task: Task,
    /// How.
    pub result: Result<(), String>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, task: Task, work: impl Future<Output = Result<(), String>> + Send + 'static) {
        let handle = self.running.spawn(work);
        self.names.push((handle.id(), task));
    }

    /// The next end; nothing when all have ended.
    pub async fn next(&mut self) -> Option<End> {
        let (id, result) = match self.running.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(died(&error))),
        };
        let index = self.names.iter().position(|(known, _)| *known == id)?;
        let (_, task) = self.names.swap_remove(index);
        Some(End { task, result })
    }
}

fn died(error: &JoinError) -> String {
    if error.is_panic() { format!("it panicked: {error}") } else { "it was cancelled".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_bear_the_name_of_their_task() {
        let mut tasks = Tasks::default();
        tasks.spawn(Task::Effects, async { Ok(()) });
        let end = tasks.next().await.unwrap();
        assert_eq!((end.task, end.result), (Task::Effects, Ok(())));
        tasks.spawn(Task::Web, async { Err("address lost".to_owned()) });
        assert_eq!(tasks.next().await.unwrap().result, Err("address lost".to_owned()));
        assert!(tasks.next().await.is_none());
    }

    #[tokio::test]
    async fn a_panic_is_an_end_like_any_other() {
        let mut tasks = Tasks::default();
        tasks.spawn(Task::Notifier, async { panic!("boom") });
        let end = tasks.next().await.unwrap();
        assert_eq!(end.task, Task::Notifier);
        assert!(end.result.unwrap_err().contains("panicked"));
    }

    #[test]
    fn what_decides_and_acts_is_not_done_without() {
        let fatal: Vec<Task> = Task::ALL.into_iter().filter(|task| task.death() == Death::Fatal).collect();
        assert_eq!(fatal, [Task::Decider, Task::Effects, Task::Notifier, Task::Recorder, Task::Server]);
    }
}
