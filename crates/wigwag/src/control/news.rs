//! What the other side says over the socket once a session lives: that it rings, or that it is over and why.

use std::os::fd::AsFd;

use super::protocol::{FromServer, Reason};
use crate::sys::socket::{self, MESSAGE_MAX};

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Without a word.
    Died,
    /// The other side said why.
    Farewell(Reason, String),
}

impl Ended {
    /// Whether this says more than what was known: a farewell more than the hang-up that follows it, or that was seen first.
    pub fn tops(&self, known: Option<&Ended>) -> bool {
        known.is_none() || matches!((known, self), (Some(Ended::Died), Ended::Farewell(..)))
    }
}

/// Messages that are read at a time: a peer that floods does not hold up a deadline.
const NEWS_AT_A_TIME: usize = 64;

/// Reads what is there to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It rang, for want of a bell of its own.
    pub rang: bool,
    /// The session is over.
    pub ended: Option<Ended>,
}

impl News {
    /// Reads the messages of a socket, without waiting for any.
    pub fn read(socket: impl AsFd) -> News {
        let mut news = News::default();
        let mut buffer = [0u8; MESSAGE_MAX];
        for _ in 0..NEWS_AT_A_TIME {
            let ended = match socket::receive(&socket, &mut buffer) {
                Err(rustix::io::Errno::AGAIN) => break,
                Ok(received) if received.len > 0 => match FromServer::decode(&buffer[..received.len]) {
                    Ok(FromServer::Bell) => {
                        news.rang = true;
                        continue;
                    }
                    // A refusal after READY: the server changed its mind while the session was made.
                    Ok(FromServer::Farewell(reason, why) | FromServer::Refusal(reason, why)) => {
                        Ended::Farewell(reason, why)
                    }
                    _ => Ended::Farewell(Reason::Violation, "it sent a message out of order".into()),
                },
                _ => Ended::Died,
            };
            let is_last = ended == Ended::Died;
            if ended.tops(news.ended.as_ref()) {
                news.ended = Some(ended);
            }
            if is_last {
                break;
            }
        }
        news
    }
}
