//! Which of tokio's runtimes both sides run on.

use clap::ValueEnum;
use serde::Serialize;

/// One of tokio's runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// All tasks on one thread
    CurrentThread,
    /// A thread for each processor
    MultiThread,
}

impl Runtime {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::CurrentThread => "current-thread",
            Runtime::MultiThread => "multi-thread",
        }
    }

    /// Runs a task to its end.
    pub fn run<T: Send + 'static>(
        self,
        task: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let mut builder = match self {
            Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
            Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        };
        // As a task: the future that `block_on` itself runs is on none of the threads that run tasks.
        builder.enable_all().build()?.block_on(async { tokio::spawn(task).await? })
    }
}
