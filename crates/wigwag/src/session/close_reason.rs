//! What the other side says over the socket once a session lives: that it rings, or that it is over and why.

use crate::session::agreement::Protocol;
use crate::session::background::PeerSocket;
use crate::session::descriptors::Inbox;
use crate::session::protocol::{DescriptorMessage, FromServer, Reason};
use crate::sys::epoll::Poller;
use crate::sys::socket::{self, MESSAGE_MAX};

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Without a word.
    Died,
    /// The other side said why.
    Farewell(Reason, String),
}

impl CloseReason {
    /// Whether this says more than what was known: a farewell more than the hang-up that follows it, or that was seen
    /// first.
    pub fn tops(&self, known: Option<&CloseReason>) -> bool {
        known.is_none() || matches!((known, self), (Some(CloseReason::Died), CloseReason::Farewell(..)))
    }
}

/// The epoll key of a session's socket at both of its ends: a bell for clients of other users, a farewell, or the end.
pub const KEY_SOCKET: u64 = 1;
/// Messages that are read at a time: a peer that floods does not hold up a deadline.
const MESSAGES_AT_A_TIME: usize = 64;

/// Who says what is read.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The version of the session.
    pub protocol: Protocol,
    /// A server may say what a client does not know; a client knows from the WELCOME what its server understands.
    pub is_server: bool,
}

/// Reads what is there to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SocketEvents {
    /// The client rang: it has no bell of its own.
    pub rang: bool,
    /// The session is over.
    pub ended: Option<CloseReason>,
    /// More is there to be read.
    pub has_more: bool,
}

impl SocketEvents {
    /// Reads the messages of a socket, without waiting for any. What may be left is told once more by the poller that
    /// the socket is in: a reactor, which that one is in, has been told of it already. `inbox`: where descriptors go,
    /// if they may travel.
    pub fn read(socket: &PeerSocket, poller: &Poller, sender: Sender, inbox: Option<&Inbox>) -> SocketEvents {
        let mut events = SocketEvents::default();
        events.has_more = !events.read_some(socket, sender, inbox);
        if events.has_more
            && let Err(error) = poller.tell_again(socket, KEY_SOCKET)
        {
            events.ended = Some(CloseReason::Farewell(Reason::Shutdown, error.to_string()));
        }
        events
    }

    /// Whether nothing is left, or nothing that counts.
    fn read_some(&mut self, socket: &PeerSocket, sender: Sender, inbox: Option<&Inbox>) -> bool {
        let mut buffer = [0u8; MESSAGE_MAX];
        for _ in 0..MESSAGES_AT_A_TIME {
            let received = match inbox {
                Some(_) => socket.receive_with_descriptors(&mut buffer),
                None => socket.receive(&mut buffer),
            };
            let ended = match received {
                Err(rustix::io::Errno::AGAIN) => return true,
                Ok(received)
                    if inbox.is_some()
                        && (DescriptorMessage::is_meant(&buffer[..received.len]) || !received.fds.is_empty()) =>
                {
                    let len = received.len;
                    match inbox.map_or(Ok(()), |inbox| inbox.deliver(&buffer[..len], received)) {
                        Ok(()) => continue,
                        Err(why) => CloseReason::Farewell(Reason::Violation, why),
                    }
                }
                Ok(received) if received.len > 0 => {
                    match FromServer::decode(&buffer[..received.len], sender.protocol) {
                        Ok(FromServer::Bell) => {
                            self.rang = true;
                            continue;
                        }
                        Ok(FromServer::Unknown) if sender.is_server => continue,
                        // A refusal after READY: the server changed its mind while the session was made.
                        Ok(FromServer::Farewell(reason, why) | FromServer::Refusal(reason, why)) => {
                            CloseReason::Farewell(reason, why)
                        }
                        _ => CloseReason::Farewell(Reason::Violation, "it sent a message out of order".into()),
                    }
                }
                Err(rustix::io::Errno::BADMSG) => {
                    self.ended = Some(CloseReason::Farewell(Reason::Violation, "it sent descriptors".into()));
                    return true;
                }
                Err(error) if !socket::is_end(error) => {
                    let why = format!("what the other side sent cannot be read: {error}");
                    self.ended = self.ended.take().or(Some(CloseReason::Farewell(Reason::Refused, why)));
                    return true;
                }
                _ => CloseReason::Died,
            };
            let is_last = ended == CloseReason::Died;
            if ended.tops(self.ended.as_ref()) {
                self.ended = Some(ended);
            }
            if is_last {
                return true;
            }
        }
        false
    }
}
