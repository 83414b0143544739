//! What is tried with each pair of versions. A job is right if its bytes and exit codes are; what else is said,
//! it notes, and whoever runs it compares that.

mod call;
mod lock;
mod observe;
mod queue;
mod stream;
mod users;

use super::scene::Scene;

/// One thing that two programs do with each other.
pub struct Job {
    pub name: &'static str,
    pub about: &'static str,
    /// It has processes of other users, which only root can start.
    pub needs_root: bool,
    pub run: fn(&Scene) -> anyhow::Result<()>,
}

impl Job {
    /// Why it cannot be tried here.
    pub fn is_impossible(&self) -> Option<&'static str> {
        let is_root = rustix::process::geteuid().is_root();
        (self.needs_root && !is_root).then_some("only root can start programs of other users")
    }
}

const fn job(name: &'static str, about: &'static str, run: fn(&Scene) -> anyhow::Result<()>) -> Job {
    Job { name, about, needs_root: false, run }
}

/// All jobs.
pub const ALL: [Job; 21] = [
    job("call", "replies of 0 bytes to 1 MiB, thousands of calls, each way of waiting", call::replies),
    job("call-commands", "clients side by side at several threads; a handler's error", call::commands),
    job("call-timeout", "a call that is given up, and the next one", call::timeout),
    job(
        "call-server-killed",
        "a waiting client is told; a server of the other version takes the name over",
        call::server_killed,
    ),
    job("call-client-killed", "the server goes on", call::client_killed),
    job("call-shutdown", "SIGTERM with a call in a handler and one behind it", call::shutdown),
    job("call-shutdown-busy", "SIGTERM while a client calls again and again", call::shutdown_busy),
    job("names", "a name that is taken, one that is another form's, one that nobody has", call::names),
    job("queue", "lines of two senders, one of each version, and a message of 1 MB", queue::lines_and_a_message),
    job("queue-receiver-killed", "the other version's receiver prints the rest", queue::receiver_killed),
    job("queue-redelivered", "it is told which message its killed predecessor had", queue::redelivered),
    job("queue-receiver-replaced", "a sender goes on with the other version's receiver", queue::receiver_replaced),
    job("queue-lost", "a sender whose receiver is killed and has no successor", queue::lost),
    job("stream", "8 MiB each way at once, rings of each size", stream::both_ways),
    job("stream-killed", "either end is killed: the other one has all bytes and is told", stream::killed),
    job("stream-aborted", "either end gives up: the other one is told why", stream::aborted),
    job("lock", "holders and waiters of both versions, one at a time and two", lock::held),
    job("lock-killed", "a killed holder of the other version is told of", lock::killed),
    job("observe", "ls, inspect and metrics of a server: called, hanging, stopped, dead", observe::server),
    job("observe-others", "ls, inspect and metrics of a queue, a stream and a semaphore", observe::others),
    Job {
        name: "users",
        about: "a client of another user, let in and not, in each form",
        needs_root: true,
        run: users::other,
    },
];

/// Bytes that look random, and are the same each time.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 47) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_a_name_of_its_own() {
        for (at, job) in ALL.iter().enumerate() {
            assert!(!job.about.is_empty() && !job.about.contains('|'), "{}", job.name);
            assert!(ALL[..at].iter().all(|other| other.name != job.name), "{}", job.name);
        }
    }
}
