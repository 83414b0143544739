//! Counts the system calls of an exchange, of both processes and all their threads, by tracing them with ptrace.
//!
//! A traced process is much slower, so nothing is timed here. The client marks, by a signal that does nothing, where
//! N exchanges start, where 2N start and where they end; what the marks and the loop around them cost is the same
//! both times and cancels out in the difference. The tracer is a process of its own: it waits for any child, ends
//! whatever it traces when it ends, and does not outlive its time.

use std::time::Duration;

use anyhow::{bail, ensure};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::client::Task;
use super::job::Job;
use crate::peer::{self, PeerProcess};
use crate::tracer;

/// The tracer gives up after this time.
const LIMIT: Duration = Duration::from_secs(3);

/// What the tracer counted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// System calls of both processes per exchange.
    pub per_exchange: f64,
}

/// The tracer's process: prints what it counted, as one line of JSON, and ends at once.
pub fn run(task: &Task) -> anyhow::Result<()> {
    peer::never_outlive_parent()?;
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        let late = anyhow::anyhow!("counting took longer than {} seconds", LIMIT.as_secs());
        // This fails only if the asking process is gone.
        let _ = peer::say_failed(&late);
        std::process::exit(0);
    });
    match count(task) {
        Ok(counted) => peer::say(&serde_json::to_string(&counted)?)?,
        Err(error) => peer::say_failed(&error)?,
    }
    // The server is still stopped under our hands and ends with us: there is nobody to say goodbye to.
    std::process::exit(0);
}

fn count(task: &Task) -> anyhow::Result<Counted> {
    ensure!(task.frames > 0, "no frames to count");
    let server = PeerProcess::start_ready(task.job.arguments("demo-server"))?;
    let mut client = PeerProcess::start(client_arguments(&task.job, task.frames))?;
    let (server_id, client_id) = (process_id(&server)?, process_id(&client)?);
    tracer::seize(server_id)?;
    tracer::seize(client_id)?;
    client.tell("go")?;
    let marks = tracer::follow(client_id);
    // Neither process may be waited for in the usual way: the tracer has taken their ends.
    std::mem::forget(server);
    std::mem::forget(client);
    let marks = marks?;
    let [start, middle, end] = marks[..] else { bail!("the client set {} marks instead of three", marks.len()) };
    let difference = (end - middle) as f64 - (middle - start) as f64;
    Ok(Counted { per_exchange: (difference / task.frames as f64).max(0.0) })
}

fn client_arguments(job: &Job, frames: u64) -> Vec<std::ffi::OsString> {
    let mut arguments = job.arguments("demo-client");
    arguments.extend(["--counted".into(), "--frames".into(), frames.to_string().into()]);
    arguments
}

fn process_id(peer: &PeerProcess) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(peer.pid())?))
}
