//! What is told through the crate `tracing`, with the feature of that name; without it, nothing, at no cost.
//!
//! All of it happens beside the path of a call: when a session begins and ends, when somebody is refused, and when a
//! call was slow enough to sleep anyway. The target of each event is `wigwag`.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "only `tracing` wants them"))]

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
#[cfg(feature = "tracing")]
use std::time::Instant;

use rustix::io::Errno;

use crate::error::Error;

/// A call is slow from here on.
#[cfg(feature = "tracing")]
const SLOW: Duration = Duration::from_secs(1);

/// Client: a session was made.
#[cold]
pub fn connected(path: &Path, server: i32, slots: usize) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "wigwag", path = %path.display(), server, slots, "connected");
}

/// Client or server: the two sides' clocks differ.
#[cold]
pub fn clocks_differ(peer: i32) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "wigwag", peer,
        "the peer is in another time namespace: no deadline is passed, and no time in the shared memory is used"
    );
}

/// Client: the server's process is gone without a farewell.
#[cold]
pub fn server_died(server: i32, in_flight: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", server, in_flight, "the server died");
}

/// Sender: nobody acts for it between its calls.
#[cold]
pub fn not_stood_in_for(name: &OsStr, error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "wigwag", name = %name.display(), %error,
        "if its receiver dies, what is not acknowledged moves with the sender's next call, and not before"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (name, error);
}

/// Server: a session was granted.
#[cold]
pub fn session_begins(session: u64, uid: u32, client: i32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "wigwag", session, uid, client, "a session begins");
}

/// Server: a session is over; `why` if the server ended it. A client that leaves and one that dies look the same.
#[cold]
pub fn session_ends(session: u64, client: i32, why: Option<&str>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "wigwag", session, client, why = why.unwrap_or("the client has gone"), "a session ends");
}

/// Server: somebody was refused.
#[cold]
pub fn refusal(why: &str) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "wigwag", why, "refused");
}

/// Server: a client broke the protocol.
#[cold]
pub fn violation(session: u64, client: i32, why: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", session, client, why, "a client broke the protocol");
}

/// Server: the files of its name were removed or replaced, and it has taken the name again.
#[cold]
pub fn name_taken_again(path: &Path) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", path = %path.display(), "the name was taken away, and is taken again");
}

/// Server: another server has taken its name over, as was agreed.
#[cold]
pub fn handed_over(path: &Path) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "wigwag", path = %path.display(), "the name is a successor's: this server ends");
}

/// Server: its name was taken away, and it cannot have it: no client can reach it any more.
#[cold]
pub fn name_lost(path: &Path, why: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "wigwag", path = %path.display(), %why, "the name is lost: clients cannot reach this \
        server");
}

/// Sender: it was dropped, and what it had sent was not acknowledged in the time for that. It is received if there is a
/// receiver, and lost if that one dies, too.
#[cold]
pub fn messages_left(name: &OsStr, count: usize, why: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", name = %name.display(), count, %why, "a sender ends before its messages were \
        acknowledged");
}

/// Receiver: the messages of a sender are not kept: they are lost when both it and the receiver die.
#[cold]
pub fn unkept(session: u64, sender: i32, why: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", session, sender, why, "what this sender sends is not kept");
}

/// Receiver: there is no keeper.
#[cold]
pub fn keeper_missing(path: &Path, why: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", path = %path.display(), %why, "no keeper is there: nothing is \
        kept until one comes");
}

/// Receiver: its keeper is gone, or does not answer.
#[cold]
pub fn keeper_lost(path: &Path, why: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", path = %path.display(), why, "the keeper is lost: nothing is kept \
        until one comes");
}

/// Server: it has ended, and could not remove its name.
#[cold]
pub fn name_stays(path: &Path, former_user: Option<u32>, why: &Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "wigwag", path = %path.display(), former_user, %why,
        "the name could not be removed: remove the socket and the lock file as the user who took the name"
    );
}

/// Server: it has given up the user as whom it took its name.
#[cold]
pub fn privileges_given_up(path: &Path, former_user: u32) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "wigwag", path = %path.display(), former_user,
        "the name was taken as another user: it will stay when this server ends, and its next start as this user will \
         fail; \
         give up privileges before the name is taken"
    );
}

/// Server: what tells observers where to look could not be written.
#[cold]
pub fn unobservable(path: &Path, why: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "wigwag", path = %path.display(), %why, "the lock file does not say where the statistics \
        are");
}

/// Server: it will not be told when its name is removed.
#[cold]
pub fn unwatched(path: &Path, why: Errno) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "wigwag", path = %path.display(), %why, "the name is not watched \
        (fs.inotify.max_user_instances)");
}

/// Client: it waits for a server, and cannot be told of it.
#[cold]
pub fn unwatched_arrival(path: &Path, why: Errno) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "wigwag", path = %path.display(), %why, "the directory cannot be watched: a missing server \
        is looked for every 50 ms (fs.inotify.max_user_instances)");
}

/// Server: a call that was timed took so long in the handler.
#[cold]
pub fn handler_took(duration: Duration, session: u64, client: i32) {
    #[cfg(feature = "tracing")]
    if duration >= SLOW {
        tracing::warn!(target: "wigwag", ?duration, session, client, "a slow handler");
    }
}

/// A semaphore's file was removed or replaced under somebody who has it open.
#[cold]
pub fn semaphore_lost(path: &Path, why: &crate::error::Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "wigwag", path = %path.display(), %why, "a semaphore lost its name");
}

/// Nobody has a semaphore's file open, and whether somebody has one that was removed cannot be seen here.
#[cold]
pub fn semaphore_unchecked(path: &Path) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "wigwag",
        path = %path.display(),
        "/proc/locks cannot be read: permits that are held in a removed file of this name would not be seen"
    );
}

/// Client: a call that did not come back at once, so that its caller is about to sleep.
pub struct Call {
    #[cfg(feature = "tracing")]
    began: Instant,
}

impl Call {
    /// It begins to be waited for.
    #[inline(always)]
    pub fn begins() -> Call {
        Call {
            #[cfg(feature = "tracing")]
            began: Instant::now(),
        }
    }

    /// Its reply is there.
    #[inline(always)]
    pub fn ends(self, server: i32) {
        #[cfg(feature = "tracing")]
        if self.began.elapsed() >= SLOW {
            tracing::warn!(target: "wigwag", duration = ?self.began.elapsed(), server, "a slow call");
        }
    }
}
