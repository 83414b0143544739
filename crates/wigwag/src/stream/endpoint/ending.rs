//! How an end of a stream is over: from here, by the other end's death, and as what reading and writing report it.

use std::io;

use crate::error::{Error, ErrorKind};
use crate::faults::{self, Fault};
use crate::memory::ring::ImpossibleCount;
use crate::session::close_reason::CloseReason;
use crate::session::protocol::{FromServer, Reason};
use crate::stream::endpoint::Endpoint;
use crate::stream::half::Direction;
use crate::sys::{clock, socket};

impl Endpoint {
    /// The other end's counter is impossible: the stream is over, and it is told why.
    #[cold]
    pub fn condemn(&self, lie: ImpossibleCount) -> io::Error {
        let ImpossibleCount { count, least, most_more } = lie;
        let why = format!("a ring's counter is {count} where {least} and at most {most_more} more were possible");
        self.hang_up(CloseReason::Farewell(Reason::Violation, why.clone()), Reason::Violation, &why);
        self.fate(Direction::Reading)
    }

    /// Ends the stream from here. This end knows why before it hangs up: its other half may wait at the same socket,
    /// and would take the hang-up for the other end's death.
    pub(super) fn hang_up(&self, ours: CloseReason, reason: Reason, why: &str) {
        self.end(ours);
        let _ = socket::send(&self.socket, &FromServer::Farewell(reason, why.to_owned()).encode(), &[]);
        socket::hang_up(&self.socket);
    }

    /// Looks whether the other end lives, without a poller: for writers that never sleep.
    #[cold]
    pub fn look_for_end(&self) {
        if socket::has_ended(&self.socket, self.pidfd.as_ref()) {
            self.end(CloseReason::Died);
        }
    }

    /// Whether the stream is over, for who asks again and again and never waits: the memory does not tell of a killed
    /// process. The kernel is asked once in each tick of its clock, so that who asks in a loop does not pay for it each
    /// time.
    #[cold]
    pub fn is_over_by_now(&self, looked_at: &mut i64) -> bool {
        let now = clock::tick();
        if !self.is_over() && *looked_at != now && !faults::is(Fault::UnseenDeath) {
            *looked_at = now;
            self.look_for_end();
        }
        self.is_over()
    }

    /// Why the stream is over, as reading or writing reports it.
    #[cold]
    pub fn fate(&self, direction: Direction) -> io::Error {
        // The pidfd may speak before the socket is read: what was said last is there all the same.
        if *self.ended() == Some(CloseReason::Died) {
            self.read_socket_events();
        }
        let gone = match direction {
            Direction::Reading => io::ErrorKind::ConnectionReset,
            Direction::Writing => io::ErrorKind::BrokenPipe,
        };
        let (kind, error) = match &*self.ended() {
            Some(CloseReason::Farewell(Reason::Violation, why)) => (
                io::ErrorKind::InvalidData,
                Error::new(ErrorKind::Violation, format!("the stream is over because the protocol was broken: {why}")),
            ),
            Some(CloseReason::Farewell(Reason::Aborted, why)) if self.is_aborted() => {
                (io::ErrorKind::ConnectionAborted, Error::new(ErrorKind::Aborted, why.clone()))
            }
            Some(CloseReason::Farewell(Reason::Aborted, why)) => (
                gone,
                Error::new(
                    ErrorKind::Aborted,
                    format!(
                        "the other end aborted the stream, which is incomplete: {why}; what it was sent may not have \
                         been read"
                    ),
                ),
            ),
            Some(CloseReason::Farewell(_, why)) => {
                (gone, Error::new(ErrorKind::ServerClosed { maybe_executed: true }, why.clone()))
            }
            _ => (
                gone,
                Error::new(
                    ErrorKind::PeerDied { maybe_executed: true },
                    "the other end's process is gone and had not closed the stream; what it wrote before has been \
                     read, what it \
                     was sent may not have been",
                ),
            ),
        };
        io::Error::new(kind, error)
    }
}
