//! A keeper: a process that has the messages of the dead.
//!
//! A message lives in memory that its sender and its receiver share. A sender that is gone leaves it to the receiver, a
//! receiver that is gone to the sender; when both are gone it is lost, unless a third process has that memory, too. The
//! keeper is that process. It is on no path of a message: it is asked once for each session, before the sender is
//! welcomed, and sleeps until a process ends.
//!
//! | part | where |
//! |---|---|
//! | what it and a receiver say to each other | [`crate::session::keeping`] |
//! | the receiver's side | [`crate::service::keeping`] |
//! | who is connected, who has ended, and what follows | [`registry`] |
//! | what lies in a session's memory | [`kept`] |
//! | handing it on | [`courier`] |
//! | counts, events, limits | [`ledger`] |

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::escape::escaped;
use crate::options::Access;
use crate::queue::keeper::ledger::{Ledger, Listener};
use crate::queue::keeper::registry::Registry;
use crate::session::keeping::{FromKeeper, KeeperCounts, ToKeeper};
use crate::session::name::ServiceName;
use crate::sys::epoll::{Events, Interest, Poller};
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::process;
use crate::sys::socket::{self, MESSAGE_MAX};

mod courier;
mod kept;
mod ledger;
mod registry;

pub use ledger::KeeperEvent;

/// Keeps the messages of queues whose receivers name it
/// ([`ReceiverBuilder::kept_by`](crate::ReceiverBuilder::kept_by)), until both sides of a session are dead, and hands
/// on what was not acknowledged to whoever has the queue's name next.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("jobs").path;
/// let keeper = wigwag::Keeper::start(name)?;              // in a process of its own: `wigwag queue keep jobs`
/// let receiver = wigwag::Receiver::builder().kept_by(name).bind(name)?;
/// let mut sender = wigwag::Sender::connect(name)?;
/// sender.send(b"job")?;
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// It keeps as long as its process lives, and dropping it ends that: a keeper within the process of a sender or a
/// receiver ends with it, and has no use; senders of its own process are let in, and not kept. One keeper does for any
/// number of queues. While it is stopped or gone, everything else is as
/// it is without one.
///
/// A message that no receiver has been handed comes as new, any other one marked as
/// [redelivered](crate::Delivery::is_redelivered), and messages of one sender come in their order. A sender that lives
/// hands its messages on itself, and the keeper does nothing. To the receiver the keeper is the sender, so
/// [`peer`](crate::Delivery::peer) names it.
///
/// What is not kept: sessions of senders of other users, sessions in which descriptors may travel, and those beyond the
/// limits.
pub struct Keeper {
    ledger: Arc<Ledger>,
    path: PathBuf,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
    fork: ForkGuard,
}

/// Builds a [`Keeper`] with limits of its own, or with somebody who is told what it does. What it does not set has the
/// default shown.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("jobs").path;
/// let keeper = wigwag::Keeper::builder()
///     .max_sessions(100)        // 4096
///     .max_bytes(1 << 30)       // 64 GiB
///     .start(name)?;
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it starts"]
pub struct KeeperBuilder {
    max_sessions: usize,
    max_bytes: u64,
    listener: Option<Listener>,
}

/// What a [`Keeper`] has, and has done.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("jobs").path;
/// let keeper = wigwag::Keeper::start(name)?;
/// assert_eq!(keeper.stats().sessions, 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeeperStats {
    /// Receivers that are connected.
    pub receivers: u64,
    /// Sessions whose memory it has.
    pub sessions: u64,
    /// Bytes of these: address space; memory is used as senders write.
    pub bytes: u64,
    /// Messages of dead senders and receivers that are not acknowledged yet.
    pub left: u64,
    /// Sessions ever kept.
    pub kept: u64,
    /// Sessions that were not, and their receivers were told so.
    pub refused: u64,
    /// Messages handed on and acknowledged.
    pub handed_on: u64,
    /// Of these, those that were marked as redelivered.
    pub redelivered: u64,
    /// Places of messages in which nothing was that could be read: their senders broke the protocol.
    pub unreadable: u64,
    /// The most sessions at a time.
    pub max_sessions: u64,
    /// The most bytes at a time.
    pub max_bytes: u64,
}

impl KeeperStats {
    fn of(counts: &KeeperCounts) -> KeeperStats {
        let KeeperCounts {
            receivers,
            sessions,
            bytes,
            left,
            kept,
            refused,
            carried: handed_on,
            redelivered,
            unreadable,
            sessions_max: max_sessions,
            bytes_max: max_bytes,
        } = *counts;
        KeeperStats {
            receivers,
            sessions,
            bytes,
            left,
            kept,
            refused,
            handed_on,
            redelivered,
            unreadable,
            max_sessions,
            max_bytes,
        }
    }
}

/// Descriptors that are left for connections, and for the couriers' own sessions.
const DESCRIPTORS_SPARED: u64 = 64;

impl Keeper {
    /// Starts one with the default limits.
    ///
    /// # Errors
    /// [`NameTaken`](ErrorKind::NameTaken): another keeper has the name; the errors of names and directories as
    /// [`Server::bind`](crate::Server::bind).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// let keeper = wigwag::Keeper::start(name)?;
    /// assert_eq!(wigwag::Keeper::start(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn start(name: impl AsRef<OsStr>) -> Result<Keeper> {
        Keeper::builder().start(name)
    }

    /// A keeper with limits of its own.
    ///
    /// ```
    /// let builder = wigwag::Keeper::builder().max_sessions(16);
    /// ```
    pub fn builder() -> KeeperBuilder {
        KeeperBuilder { max_sessions: 4096, max_bytes: 64 << 30, listener: None }
    }

    /// What it has and has done; nothing, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// println!("{} bytes", wigwag::Keeper::start(name)?.stats().bytes);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> KeeperStats {
        match self.fork.is_forked() {
            true => KeeperStats::default(),
            false => KeeperStats::of(&self.ledger.counts()),
        }
    }

    /// Where its socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// assert!(wigwag::Keeper::start(name)?.path().ends_with("jobs.keeper"));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the keeper of a name, in whatever process, what it has and has done. It answers at once, unless it is
    /// stopped.
    ///
    /// # Errors
    /// [`NotRunning`](ErrorKind::NotRunning): there is none; [`TimedOut`](ErrorKind::TimedOut): it has not answered
    /// within `timeout`.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// let keeper = wigwag::Keeper::builder().max_sessions(7).start(name)?;
    /// let stats = wigwag::Keeper::stats_of(name, std::time::Duration::from_secs(1))?;
    /// assert_eq!(stats.max_sessions, 7);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats_of(name: impl AsRef<OsStr>, timeout: Duration) -> Result<KeeperStats> {
        let until = Instant::now() + timeout.min(Duration::from_secs(1 << 30));
        let place = ServiceName::keeper_of(name.as_ref())?;
        let nobody = |why: &dyn fmt::Display| {
            let sentence = format!(
                "no keeper of the name `{}` is there ({}: {why})",
                escaped(name.as_ref()),
                shown(&place.path())
            );
            Error::new(ErrorKind::NotRunning, sentence)
        };
        let (_directory, address) = place
            .address(rustix::process::geteuid().as_raw())
            .map_err(|error| if error.kind() == ErrorKind::NotRunning { nobody(&"nothing is there") } else { error })?;
        let socket = socket::new_socket()?;
        socket::connect_to(&socket, &address).map_err(|error| nobody(&error))?;
        socket::send(&socket, &ToKeeper::Status.encode(), &[]).map_err(|error| nobody(&error))?;
        let poller = Poller::new()?;
        poller.add(&socket, 0, Interest::Readable)?;
        let mut events = Events::with_capacity(1);
        let mut buffer = [0; MESSAGE_MAX];
        loop {
            match socket::receive_bare(&socket, &mut buffer) {
                Ok(received) => {
                    return match FromKeeper::decode(&buffer[..received.len]) {
                        Ok(FromKeeper::Counts(counts)) => Ok(KeeperStats::of(&counts)),
                        Ok(FromKeeper::Unkept(_, why)) => Err(Error::new(ErrorKind::Refused, why)),
                        Ok(FromKeeper::Kept(_)) => Err(nobody(&"it answers what was not asked")),
                        Err(why) => Err(nobody(&why)),
                    };
                }
                Err(rustix::io::Errno::AGAIN) if Instant::now() < until => poller.wait(&mut events, Some(until))?,
                Err(rustix::io::Errno::AGAIN) => {
                    let sentence = format!("the keeper has not answered within {timeout:?}: it may be stopped");
                    return Err(Error::new(ErrorKind::TimedOut { maybe_executed: false }, sentence));
                }
                Err(error) => return Err(nobody(&error)),
            }
        }
    }
}

impl KeeperBuilder {
    /// The most sessions at a time, those included that wait for a receiver; default 4096. Each takes two descriptors,
    /// so `ulimit -n` may make it fewer. What is more is not kept, and its receiver is told.
    ///
    /// ```
    /// let builder = wigwag::Keeper::builder().max_sessions(16);
    /// ```
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// The most bytes of all sessions' memory; default 64 GiB. That is address space, as for a receiver: a session of
    /// 256 slots of 64 KiB counts as 16 MiB, and uses what its sender writes. What is more is not kept.
    ///
    /// ```
    /// let builder = wigwag::Keeper::builder().max_bytes(1 << 30);
    /// ```
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Is called with what the keeper does, as it does it, by its own threads: one that takes long holds them up.
    ///
    /// ```
    /// let builder = wigwag::Keeper::builder().on_event(|event| eprintln!("{event}"));
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&KeeperEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Takes the name of the keeper, which is beside that of a queue of the same name, and starts to keep.
    ///
    /// # Errors
    /// As [`Keeper::start`].
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("jobs").path;
    /// let keeper = wigwag::Keeper::builder().start(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn start(self, name: impl AsRef<OsStr>) -> Result<Keeper> {
        let name = name.as_ref();
        let place = ServiceName::keeper_of(name)?;
        let claim = place.claim(&Access::default()).map_err(|error| match error.kind() {
            ErrorKind::NameTaken => {
                let sentence = format!(
                    "another keeper has the name `{}` ({}): one keeps for all receivers that name it",
                    escaped(name),
                    shown(&place.path())
                );
                Error::new(ErrorKind::NameTaken, sentence)
            }
            _ => error,
        })?;
        let path = claim.path();
        let by_descriptors =
            process::descriptor_limit().map_or(u64::MAX, |most| most.saturating_sub(DESCRIPTORS_SPARED) / 2);
        let ledger = Ledger::new((self.max_sessions as u64).min(by_descriptors), self.max_bytes, self.listener);
        let bell = Arc::new(Bell::new()?);
        let thread = Registry::start(claim, Arc::clone(&ledger), Arc::clone(&bell))?;
        Ok(Keeper { ledger, path, bell, thread: Some(thread), fork: ForkGuard::new() })
    }
}

impl Drop for Keeper {
    /// Ends it: what it has kept of the dead is lost, and all else is as it is without a keeper.
    fn drop(&mut self) {
        if self.fork.is_forked() {
            return; // the name and the thread are the parent's
        }
        self.ledger.end();
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Keeper").field("path", &self.path).field("stats", &self.stats()).finish()
    }
}

impl fmt::Debug for KeeperBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeeperBuilder { max_sessions, max_bytes, .. } = self;
        out.debug_struct("KeeperBuilder").field("max_sessions", max_sessions).field("max_bytes", max_bytes).finish()
    }
}
