//! What a link sends, and in which of zenoh's priorities: a large payload holds up no small one, and neither holds up
//! the signs of life.

use anyhow::anyhow;
use zenoh::Wait as _;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Locality;

use crate::wire::{Message, PIECE_MAX};

/// The way to one key of a far bridge.
#[derive(Debug)]
pub struct Outlet {
    control: Publisher<'static>,
    data: Publisher<'static>,
    /// As `data`, but each message closes its batch.
    alone: Publisher<'static>,
    bulk: Publisher<'static>,
}

impl Outlet {
    /// To a key.
    ///
    /// # Errors
    /// zenoh's, when the session is closed or the key is none.
    pub fn new(session: &zenoh::Session, key: &str) -> anyhow::Result<Outlet> {
        let publisher = |priority, is_express| {
            session
                .declare_publisher(key.to_owned())
                .priority(priority)
                // What zenoh drops by itself would be a call that is lost while its link lives.
                .congestion_control(CongestionControl::Block)
                // Without it small messages share a batch of zenoh's queue. An idle link sends each at once all the
                // same, but one that is put just when zenoh looks may lie there for a millisecond.
                .express(is_express)
                .allowed_destination(Locality::Remote)
                .wait()
                .map_err(|error| anyhow!("zenoh does not let this bridge send to {key}: {error}"))
        };
        Ok(Outlet {
            control: publisher(Priority::InteractiveHigh, false)?,
            data: publisher(Priority::Data, false)?,
            alone: publisher(Priority::Data, true)?,
            bulk: publisher(Priority::DataLow, false)?,
        })
    }

    /// Signs of life, grants, the beginning and the end of links.
    pub fn control(&self, message: &Message<'_>) {
        put(&self.control, message);
    }

    /// Acknowledgements, and what else is small.
    pub fn data(&self, message: &Message<'_>) {
        put(&self.data, message);
    }

    /// As [`data`](Outlet::data), of a small request or its answer, as bytes. `is_alone`: in a batch of its own.
    pub fn call_bytes(&self, message: Vec<u8>, is_alone: bool) {
        let publisher = if is_alone { &self.alone } else { &self.data };
        let _ = publisher.put(message).wait();
    }

    /// As [`bulk`](Outlet::bulk), of a message that is bytes already.
    pub fn bulk_bytes(&self, message: Vec<u8>) {
        let _ = self.bulk.put(message).wait();
    }

    /// Pieces of large payloads, and what must not overtake them.
    pub fn bulk(&self, message: &Message<'_>) {
        put(&self.bulk, message);
    }
}

/// A put that fails says that the session is closed: the link ends by its missing signs of life, and what was to be
/// sent counts as sent.
fn put(publisher: &Publisher<'static>, message: &Message<'_>) {
    let _ = publisher.put(message.encode()).wait();
}

/// Where the pieces of a payload begin and end.
pub fn pieces(len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..len).step_by(PIECE_MAX).map(move |begin| begin..(begin + PIECE_MAX).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_payload_once() {
        for len in [1, PIECE_MAX - 1, PIECE_MAX, PIECE_MAX + 1, 1 << 20] {
            let mut end = 0;
            for piece in pieces(len) {
                assert!(piece.start == end && !piece.is_empty() && piece.len() <= PIECE_MAX);
                end = piece.end;
            }
            assert_eq!(end, len);
        }
    }
}
