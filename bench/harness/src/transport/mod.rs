//! The ways to carry a request to another process and its reply back.
//!
//! Wigwag and the five ordinary services of the kernel do the same job behind two small traits, so that a
//! comparison runs the same code over each of them: the client writes the request in place, the server changes
//! it in place, the client sees the whole reply. One request is under way at a time. The server is a separate
//! process (see `peer`); it binds first, says that it is ready, and then the client connects.
//!
//! Every service gets its best form, not its textbook form: the header travels with the payload, so a small
//! request is one write and one read, and nothing is copied inside a process.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

mod file;
pub mod frame;
mod framed;
mod mqueue;
mod pipe;
mod stream;
mod tcp;
mod unix;
mod wigwag_exchange;

pub use file::{FileCaller, FileResponder};
pub use framed::{Door, FramedCaller, FramedResponder};
pub use mqueue::{MqueueCaller, MqueueResponder, system_limit as mqueue_limit};
pub use pipe::{PipeCaller, PipeEnd, PipeResponder};
pub use stream::{StreamCaller, StreamResponder, stream_bind, stream_connect};
pub use tcp::{TcpCaller, TcpResponder};
pub use unix::{UnixCaller, UnixResponder, unix_bind, unix_connect};
pub use wigwag_exchange::{WigwagCaller, WigwagResponder};

/// The client's end: one request out, the reply back. `fill` writes the request in place, `read` sees the whole reply.
pub trait Caller {
    /// Sends a request of `len` bytes and waits for its reply.
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]);
}

/// A client that may have several requests under way and takes the replies in the order of its requests.
pub trait Window {
    /// Sends one more request. The caller has made sure that there is room.
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]);

    /// Waits for the reply to the oldest request.
    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]);

    /// One request and its reply, with none under way: for those who have a quicker way than one after the other.
    #[inline(always)]
    fn exchange_alone<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        self.submit(len, fill)?;
        self.complete(read)
    }
}

impl<W: Window> Caller for W {
    #[inline(always)]
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        self.exchange_alone(len, fill, read)
    }
}

/// The server's end: changes each request in place until the caller hangs up.
pub trait Responder {
    /// Answers requests until the caller is gone.
    fn serve<H>(self, handler: H) -> anyhow::Result<()>
    where
        H: FnMut(&mut [u8]);
}

/// Gives each connection that `accept` brings a thread of its own. One that fails ends alone: its client is gone.
pub fn thread_for_each<S: Send + 'static>(
    mut accept: impl FnMut() -> anyhow::Result<S>,
    answer: impl Fn(S) -> anyhow::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    loop {
        let (connection, answer) = (accept()?, answer.clone());
        let work = move || drop(answer(connection));
        std::thread::Builder::new().spawn(work).context("no thread can be started for a client")?;
    }
}

/// Where the two ends meet, and what they agree on beforehand.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// A private directory (mode 0700) that both processes know. Sockets, pipes and files are made in it.
    pub directory: PathBuf,
    /// The longest request or reply in bytes.
    pub capacity: usize,
    /// How to wait: `Spin` polls without blocking, the others block in the kernel (Wigwag tells all three apart).
    pub wait: wigwag::Wait,
}

impl Rendezvous {
    /// A meeting place for messages of up to `capacity` bytes, with Wigwag's default way of waiting.
    pub fn new(directory: impl AsRef<Path>, capacity: usize) -> Rendezvous {
        Rendezvous { directory: directory.as_ref().to_owned(), capacity, wait: wigwag::Wait::Adaptive }
    }

    /// The same place with another way of waiting.
    pub fn with_wait(self, wait: wigwag::Wait) -> Rendezvous {
        Rendezvous { wait, ..self }
    }

    /// The path of a thing that one of the transports makes here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether the caller asked to poll instead of blocking.
    pub fn polls(&self) -> bool {
        self.wait == wigwag::Wait::Spin
    }
}

/// A fresh private directory for a rendezvous, removed when dropped.
///
/// It lies in memory where the machine has such a place, so that the file transport is not charged for a disk.
pub fn private_directory() -> anyhow::Result<tempfile::TempDir> {
    private_directory_in(Path::new("/dev/shm")).or_else(|_| private_directory_in(&std::env::temp_dir()))
}

/// The same in a place of the caller's choice.
pub fn private_directory_in(parent: &Path) -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("wigwag-").permissions(std::fs::Permissions::from_mode(0o700));
    builder.tempdir_in(parent).context("no private temporary directory could be made")
}

/// The services that this program can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Wigwag's exchange: shared memory and a turn word.
    Wigwag,
    /// Two files, polled.
    File,
    /// Two pipes.
    Pipe,
    /// Two POSIX message queues.
    Mqueue,
    /// A Unix stream socket.
    Unix,
    /// A TCP connection over loopback.
    Tcp,
}

impl Kind {
    /// All of them, Wigwag first.
    pub const ALL: [Kind; 6] = [Kind::Wigwag, Kind::File, Kind::Pipe, Kind::Mqueue, Kind::Unix, Kind::Tcp];

    /// The word that names it on a command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Wigwag => "wigwag",
            Kind::File => "file",
            Kind::Pipe => "pipe",
            Kind::Mqueue => "mqueue",
            Kind::Unix => "unix",
            Kind::Tcp => "tcp",
        }
    }

    /// What a person calls it.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Wigwag => "Wigwag",
            Kind::File => "file, polled",
            Kind::Pipe => "pipe",
            Kind::Mqueue => "POSIX message queue",
            Kind::Unix => "Unix socket",
            Kind::Tcp => "TCP loopback",
        }
    }
}

macro_rules! each_transport {
    ($($kind:ident => $caller:ident, $responder:ident;)*) => {
        /// The client's end of any of the services, chosen at run time.
        #[allow(clippy::large_enum_variant, reason = "a process has one of them")]
        pub enum AnyCaller {
            $(#[doc = stringify!($kind)] $kind($caller),)*
        }

        /// The server's end of any of the services, chosen at run time.
        #[allow(clippy::large_enum_variant, reason = "a process has one of them")]
        pub enum AnyResponder {
            $(#[doc = stringify!($kind)] $kind($responder),)*
        }

        impl AnyCaller {
            /// Connects to a server that has said that it is ready.
            pub fn connect(kind: Kind, place: &Rendezvous) -> anyhow::Result<AnyCaller> {
                match kind {
                    $(Kind::$kind => $caller::connect(place).map(AnyCaller::$kind),)*
                }
                .with_context(|| format!("cannot connect over {}", kind.label()))
            }
        }

        impl AnyResponder {
            /// Makes what a client connects to; once this returns, a client may.
            pub fn bind(kind: Kind, place: &Rendezvous) -> anyhow::Result<AnyResponder> {
                match kind {
                    $(Kind::$kind => $responder::bind(place).map(AnyResponder::$kind),)*
                }
                .with_context(|| format!("cannot listen over {}", kind.label()))
            }
        }

        impl Caller for AnyCaller {
            fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
            where
                F: FnOnce(&mut [u8]),
                R: FnOnce(&[u8]),
            {
                match self {
                    $(AnyCaller::$kind(caller) => caller.exchange(len, fill, read),)*
                }
            }
        }

        impl Responder for AnyResponder {
            fn serve<H>(self, handler: H) -> anyhow::Result<()>
            where
                H: FnMut(&mut [u8]),
            {
                match self {
                    $(AnyResponder::$kind(responder) => responder.serve(handler),)*
                }
            }
        }
    };
}

each_transport! {
    Wigwag => WigwagCaller, WigwagResponder;
    File => FileCaller, FileResponder;
    Pipe => PipeCaller, PipeResponder;
    Mqueue => MqueueCaller, MqueueResponder;
    Unix => UnixCaller, UnixResponder;
    Tcp => TcpCaller, TcpResponder;
}

#[cfg(test)]
mod tests {
    //! The services of the kernel, both ends in one process. Wigwag itself is tested with two processes (`tests/`).

    use super::*;

    fn round_trips(kind: Kind, wait: wigwag::Wait) {
        let directory = private_directory().unwrap();
        let place = Rendezvous::new(directory.path(), 100_000).with_wait(wait);
        let responder = AnyResponder::bind(kind, &place).unwrap();
        std::thread::scope(|scope| {
            let server = scope.spawn(|| responder.serve(|bytes| bytes.iter_mut().for_each(|byte| *byte = !*byte)));
            let mut caller = AnyCaller::connect(kind, &place).unwrap();
            for len in [0, 1, 48, 8_183, 8_184, 8_185, 65_536, 100_000, 3] {
                let value = |index: usize| (index * 7 + len) as u8;
                let fill = |bytes: &mut [u8]| bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = value(i));
                let mut seen = None;
                let read = |reply: &[u8]| {
                    seen = Some(reply.len());
                    assert!(reply.iter().enumerate().all(|(i, byte)| *byte == !value(i)), "{kind:?} {len}");
                };
                caller.exchange(len, fill, read).unwrap();
                assert_eq!(seen, Some(len));
            }
            let too_long = caller.exchange(100_001, |_| unreachable!(), |_| unreachable!()).unwrap_err();
            assert!(too_long.to_string().contains("100001"), "{too_long}");
            drop(caller);
            server.join().unwrap().unwrap();
        });
    }

    #[test]
    fn every_service_carries_every_length_and_ends_when_the_caller_hangs_up() {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Wigwag) {
            round_trips(kind, wigwag::Wait::Park);
            round_trips(kind, wigwag::Wait::Spin);
        }
    }

    #[test]
    fn the_rendezvous_is_private() {
        let directory = private_directory().unwrap();
        assert_eq!(directory.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
