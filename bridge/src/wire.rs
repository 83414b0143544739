//! Messages between bridges, as bytes. All numbers are little-endian.
//!
//! Each message begins with its kind and the number of the link that it belongs to, so that one which cannot be read
//! ends that link and nothing else. Whoever reads believes no length before it has looked at how much is there.

use std::fmt;

use crate::fault::{Fault, TEXT_MAX};
use crate::keys::NAME_MAX;

/// Largest payload that travels as a whole; larger ones go in pieces.
pub const WHOLE_MAX: usize = 4096;

/// Largest piece of a payload: with its head it fits into one batch of zenoh's.
pub const PIECE_MAX: usize = 48 << 10;

/// Of a queue's message: it was put before, on a link that was lost.
pub const AGAIN: u64 = 1;

/// Of a queue's message: it came to the importer marked as redelivered.
pub const REDELIVERED: u64 = 2;

/// Longest key of an inbox, in bytes.
const KEY_MAX: usize = 8 * NAME_MAX;

/// Longest name of a contract, in bytes, as the library has it.
const CONTRACT_NAME_MAX: usize = 128;

/// What an exporter serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The form's number: 0 exchange, 1 queue, 3 broadcast.
    pub form: u8,
    /// The name of the contract.
    pub contract: String,
    /// Its version.
    pub version: u32,
    /// The size of its typed payload.
    pub size: u32,
    /// The alignment of its typed payload.
    pub align: u16,
    /// How its values become bytes: 0 MessagePack, 1 postcard.
    pub encoding: u8,
    /// Largest payload, request or reply.
    pub capacity: u32,
    /// Calls that may be under way at a time on this link.
    pub calls: u32,
    /// Of a broadcast which publisher it is: after a restart another one. Else 0.
    pub epoch: u64,
    /// Of a broadcast the number of the first message that may come. Else 0.
    pub first: u64,
    /// Of a broadcast how many messages its publisher keeps. Else 0.
    pub history: u32,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An importer asks for a link. `epoch` is its number of this attempt.
    Hello {
        /// Drawn anew for each attempt; the answer has it.
        epoch: u128,
        /// Its process.
        bridge: u128,
        /// Its import, which is the same in all attempts: the numbers of a queue's messages belong to it.
        stream: u128,
        /// Where answers go.
        inbox: &'a str,
        /// Its machine, as it calls itself.
        host: &'a str,
    },
    /// The exporter gives it.
    Welcome {
        /// Of the importer's attempt.
        epoch: u128,
        /// The link's number, which the exporter drew.
        link: u128,
        /// What it serves.
        offer: Offer,
    },
    /// The exporter does not give it.
    Denied {
        /// Of the importer's attempt.
        epoch: u128,
        /// Why not.
        fault: Fault,
    },
    /// A request or a reply as a whole.
    Whole {
        /// The link.
        link: u128,
        /// The call.
        number: u64,
        /// Microseconds that the caller still waits, 0 for ever; of a queue's message its [flags](AGAIN).
        left_us: u64,
        /// The bytes.
        payload: &'a [u8],
    },
    /// The beginning of one that comes in pieces.
    Start {
        /// The link.
        link: u128,
        /// The call.
        number: u64,
        /// As of [`Message::Whole`].
        left_us: u64,
        /// Bytes of all pieces.
        len: u32,
        /// The first piece.
        piece: &'a [u8],
    },
    /// The next piece.
    Part {
        /// The link.
        link: u128,
        /// The call.
        number: u64,
        /// Where it belongs.
        offset: u32,
        /// The bytes.
        piece: &'a [u8],
    },
    /// The exporter's answer when there is no reply.
    Failed {
        /// The link.
        link: u128,
        /// The call.
        number: u64,
        /// Why.
        fault: Fault,
    },
    /// A queue's message was acknowledged by the receiver.
    Ack {
        /// The link.
        link: u128,
        /// The message.
        number: u64,
    },
    /// Small messages of a broadcast, each with its number: [`bundle`](crate::bundle).
    Several {
        /// The link.
        link: u128,
        /// The messages.
        messages: &'a [u8],
    },
    /// The publisher of a broadcast is over, and this came behind its last message.
    Ended {
        /// The link.
        link: u128,
        /// The number of its last message.
        number: u64,
        /// It has ended the broadcast; else it is gone without a farewell.
        is_in_order: bool,
    },
    /// Nobody waits for this call any more.
    Cancel {
        /// The link.
        link: u128,
        /// The call.
        number: u64,
    },
    /// The importer has waited long: is the call with the exporter?
    Ask {
        /// The link.
        link: u128,
        /// The call.
        number: u64,
    },
    /// So many bytes of pieces were taken.
    Grant {
        /// The link.
        link: u128,
        /// How many.
        bytes: u32,
    },
    /// Is anybody there?
    Ping {
        /// The link.
        link: u128,
        /// Comes back.
        nonce: u64,
    },
    /// Somebody is.
    Pong {
        /// The link.
        link: u128,
        /// Of the ping.
        nonce: u64,
    },
    /// The sender has ended the link, or takes no new call on it.
    Bye {
        /// The link.
        link: u128,
        /// Calls under way are still answered.
        is_draining: bool,
        /// Why.
        text: &'a str,
    },
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The link that they belong to, if they name one.
    pub link: Option<u128>,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a message that cannot be read: {}", self.why)
    }
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const DENIED: u8 = 3;
const WHOLE: u8 = 4;
const START: u8 = 5;
const PART: u8 = 6;
const FAILED: u8 = 7;
const CANCEL: u8 = 8;
const ASK: u8 = 9;
const GRANT: u8 = 10;
const PING: u8 = 11;
const PONG: u8 = 12;
const BYE: u8 = 13;
const ACK: u8 = 14;
const SEVERAL: u8 = 15;
const ENDED: u8 = 16;

impl<'a> Message<'a> {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload_len() + 48);
        let head = |out: &mut Vec<u8>, kind: u8, link: u128| {
            out.push(kind);
            out.extend_from_slice(&link.to_le_bytes());
        };
        if let Some((kind, link, number)) = self.numbered() {
            head(&mut out, kind, link);
            out.extend_from_slice(&number.to_le_bytes());
            return out;
        }
        match *self {
            Message::Ack { .. }
            | Message::Cancel { .. }
            | Message::Ask { .. }
            | Message::Ping { .. }
            | Message::Pong { .. } => {}
            Message::Hello { epoch, bridge, stream, inbox, host } => {
                head(&mut out, HELLO, epoch);
                out.extend_from_slice(&bridge.to_le_bytes());
                out.extend_from_slice(&stream.to_le_bytes());
                put_text(&mut out, inbox, KEY_MAX);
                put_text(&mut out, host, NAME_MAX);
            }
            Message::Welcome { epoch, link, ref offer } => {
                head(&mut out, WELCOME, epoch);
                out.extend_from_slice(&link.to_le_bytes());
                put_offer(&mut out, offer);
            }
            Message::Denied { epoch, ref fault } => {
                head(&mut out, DENIED, epoch);
                put_fault(&mut out, fault);
            }
            Message::Whole { link, number, left_us, payload } => {
                head(&mut out, WHOLE, link);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&left_us.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Message::Start { link, number, left_us, len, piece } => {
                head(&mut out, START, link);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&left_us.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(piece);
            }
            Message::Part { link, number, offset, piece } => {
                head(&mut out, PART, link);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(piece);
            }
            Message::Failed { link, number, ref fault } => {
                head(&mut out, FAILED, link);
                out.extend_from_slice(&number.to_le_bytes());
                put_fault(&mut out, fault);
            }
            Message::Several { link, messages } => {
                head(&mut out, SEVERAL, link);
                out.extend_from_slice(messages);
            }
            Message::Ended { link, number, is_in_order } => {
                head(&mut out, ENDED, link);
                out.extend_from_slice(&number.to_le_bytes());
                out.push(is_in_order.into());
            }
            Message::Grant { link, bytes } => {
                head(&mut out, GRANT, link);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Message::Bye { link, is_draining, text } => {
                head(&mut out, BYE, link);
                out.push(is_draining.into());
                put_text(&mut out, text, TEXT_MAX);
            }
        }
        out
    }

    /// How many bytes it carries for others, or about as many as its texts.
    fn payload_len(&self) -> usize {
        match self {
            Message::Whole { payload, .. } => payload.len(),
            Message::Start { piece, .. } | Message::Part { piece, .. } => piece.len(),
            Message::Several { messages, .. } => messages.len(),
            _ => 64,
        }
    }

    /// Of one that is a kind, a link and a number.
    fn numbered(&self) -> Option<(u8, u128, u64)> {
        match *self {
            Message::Ack { link, number } => Some((ACK, link, number)),
            Message::Cancel { link, number } => Some((CANCEL, link, number)),
            Message::Ask { link, number } => Some((ASK, link, number)),
            Message::Ping { link, nonce } => Some((PING, link, nonce)),
            Message::Pong { link, nonce } => Some((PONG, link, nonce)),
            _ => None,
        }
    }

    /// The link that it belongs to; `None` before there is one.
    pub fn link(&self) -> Option<u128> {
        match *self {
            Message::Hello { .. } | Message::Welcome { .. } | Message::Denied { .. } => None,
            Message::Whole { link, .. }
            | Message::Start { link, .. }
            | Message::Part { link, .. }
            | Message::Failed { link, .. }
            | Message::Ack { link, .. }
            | Message::Several { link, .. }
            | Message::Ended { link, .. }
            | Message::Cancel { link, .. }
            | Message::Ask { link, .. }
            | Message::Grant { link, .. }
            | Message::Ping { link, .. }
            | Message::Pong { link, .. }
            | Message::Bye { link, .. } => Some(link),
        }
    }

    /// The message that bytes are.
    ///
    /// # Errors
    /// [`Malformed`], with the link if that could be read. No bytes make it panic or take memory beyond their length.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let mut rest = Reader(bytes);
        let (kind, link) = match (rest.byte(), rest.u128()) {
            (Some(kind), Some(link)) => (kind, link),
            _ => return Err(Malformed { link: None, why: "it is too short" }),
        };
        let link_named = (!matches!(kind, HELLO | WELCOME | DENIED)).then_some(link);
        let malformed = |why| Malformed { link: link_named, why };
        let message = body(kind, link, &mut rest).ok_or_else(|| malformed("it is cut off, or its text is too long"))?;
        let message = message.ok_or_else(|| malformed("its kind is not known"))?;
        if rest.0.is_empty() { Ok(message) } else { Err(malformed("it has more bytes than its kind")) }
    }
}

/// Outer `None`: too short; inner: not known.
fn body<'a>(kind: u8, link: u128, rest: &mut Reader<'a>) -> Option<Option<Message<'a>>> {
    Some(Some(match kind {
        HELLO => Message::Hello {
            epoch: link,
            bridge: rest.u128()?,
            stream: rest.u128()?,
            inbox: rest.text(KEY_MAX)?,
            host: rest.text(NAME_MAX)?,
        },
        WELCOME => {
            let (link, epoch) = (rest.u128()?, link);
            let (form, encoding, align) = (rest.byte()?, rest.byte()?, u16::from_le_bytes(rest.array()?));
            let (version, size, capacity, calls) = (rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?);
            let (history, publisher, first) = (rest.u32()?, rest.u64()?, rest.u64()?);
            let contract = rest.text(CONTRACT_NAME_MAX)?.to_owned();
            let offer = Offer {
                form,
                contract,
                version,
                size,
                align,
                encoding,
                capacity,
                calls,
                epoch: publisher,
                first,
                history,
            };
            Message::Welcome { epoch, link, offer }
        }
        DENIED => Message::Denied { epoch: link, fault: rest.fault()? },
        WHOLE => {
            let (number, left_us) = (rest.u64()?, rest.u64()?);
            Message::Whole { link, number, left_us, payload: rest.all(WHOLE_MAX)? }
        }
        START => {
            let (number, left_us, len) = (rest.u64()?, rest.u64()?, rest.u32()?);
            Message::Start { link, number, left_us, len, piece: rest.all(PIECE_MAX)? }
        }
        PART => {
            let (number, offset) = (rest.u64()?, rest.u32()?);
            Message::Part { link, number, offset, piece: rest.all(PIECE_MAX)? }
        }
        FAILED => Message::Failed { link, number: rest.u64()?, fault: rest.fault()? },
        ACK => Message::Ack { link, number: rest.u64()? },
        SEVERAL => Message::Several { link, messages: rest.all(PIECE_MAX)? },
        ENDED => Message::Ended { link, number: rest.u64()?, is_in_order: rest.byte()? != 0 },
        CANCEL => Message::Cancel { link, number: rest.u64()? },
        ASK => Message::Ask { link, number: rest.u64()? },
        GRANT => Message::Grant { link, bytes: rest.u32()? },
        PING => Message::Ping { link, nonce: rest.u64()? },
        PONG => Message::Pong { link, nonce: rest.u64()? },
        BYE => Message::Bye { link, is_draining: rest.byte()? != 0, text: rest.text(TEXT_MAX)? },
        _ => return Some(None),
    }))
}

/// The beginning of a text, up to a limit, and whole characters of it.
fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn put_offer(out: &mut Vec<u8>, offer: &Offer) {
    out.push(offer.form);
    out.push(offer.encoding);
    out.extend_from_slice(&offer.align.to_le_bytes());
    for number in [offer.version, offer.size, offer.capacity, offer.calls, offer.history] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [offer.epoch, offer.first] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_text(out, &offer.contract, CONTRACT_NAME_MAX);
}

fn put_text(out: &mut Vec<u8>, text: &str, most: usize) {
    let text = beginning(text, most);
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_fault(out: &mut Vec<u8>, fault: &Fault) {
    let (number, maybe_executed) = fault.to_numbers();
    out.extend_from_slice(&[number, maybe_executed]);
    put_text(out, &fault.text, TEXT_MAX);
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn text(&mut self, most: usize) -> Option<&'a str> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self.0.split_at_checked(len).filter(|_| len <= most)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn fault(&mut self) -> Option<Fault> {
        let [number, maybe_executed] = self.array()?;
        Some(Fault::from_numbers(number, maybe_executed, self.text(TEXT_MAX)?.to_owned()))
    }

    /// All that is left, if it is not too much.
    fn all(&mut self, most: usize) -> Option<&'a [u8]> {
        let all = self.0;
        self.0 = &[];
        (all.len() <= most).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use wigwag::ErrorKind;

    use super::*;
    use crate::dice::dice;

    fn one_of_each() -> Vec<Message<'static>> {
        let fault = Fault::new(ErrorKind::TimedOut { maybe_executed: false }, "too late");
        let offer = Offer {
            form: 0,
            contract: "Order".into(),
            version: 2,
            size: 24,
            align: 8,
            encoding: 1,
            capacity: 1 << 26,
            calls: 64,
            epoch: 5,
            first: 6,
            history: 7,
        };
        vec![
            Message::Hello { epoch: 1, bridge: 2, stream: 3, inbox: "wigwag/1/back/a/0", host: "a" },
            Message::Welcome { epoch: 1, link: 2, offer },
            Message::Denied { epoch: 1, fault: fault.clone() },
            Message::Whole { link: 1, number: 2, left_us: 3, payload: b"payload" },
            Message::Start { link: 1, number: 2, left_us: 3, len: 9, piece: b"piece" },
            Message::Part { link: 1, number: 2, offset: 5, piece: b"more" },
            Message::Failed { link: 1, number: 2, fault },
            Message::Ack { link: 1, number: 2 },
            Message::Several { link: 1, messages: b"any" },
            Message::Ended { link: 1, number: 2, is_in_order: true },
            Message::Cancel { link: 1, number: 2 },
            Message::Ask { link: 1, number: 2 },
            Message::Grant { link: 1, bytes: 2 },
            Message::Ping { link: 1, nonce: 2 },
            Message::Pong { link: 1, nonce: 2 },
            Message::Bye { link: 1, is_draining: true, text: "over" },
        ]
    }

    #[test]
    fn each_message_survives_the_journey() {
        for message in one_of_each() {
            assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
        }
    }

    #[test]
    fn each_that_is_cut_off_or_too_long_is_refused_and_names_its_link() {
        for message in one_of_each() {
            let has_payload = matches!(
                message,
                Message::Whole { .. } | Message::Start { .. } | Message::Part { .. } | Message::Several { .. }
            );
            let bytes = message.encode();
            for len in 0..bytes.len() {
                match Message::decode(&bytes[..len]) {
                    Ok(_) => assert!(has_payload, "{message:?} of {len} bytes"),
                    Err(error) => assert!(error.link.is_none_or(|link| link == 1)),
                }
            }
            if !has_payload {
                assert!(Message::decode(&[bytes, vec![0]].concat()).is_err(), "{message:?} and a byte");
            }
        }
        let large = vec![0; PIECE_MAX + 1];
        for message in [
            Message::Whole { link: 1, number: 2, left_us: 0, payload: &large[..WHOLE_MAX + 1] },
            Message::Part { link: 1, number: 2, offset: 0, piece: &large },
            Message::Several { link: 1, messages: &large },
        ] {
            assert_eq!(Message::decode(&message.encode()).unwrap_err().link, Some(1));
        }
    }

    /// Random bytes, and messages with random bytes in them: none makes the decoder panic, and what it accepts it
    /// writes as it was.
    #[test]
    fn no_bytes_are_misread() {
        let mut random = dice();
        let seeds: Vec<_> = one_of_each().iter().map(Message::encode).collect();
        let mut accepted = 0;
        for round in 0..300_000 {
            let mut bytes = match round % 4 {
                0 => (0..random() % 80).map(|_| random() as u8).collect(),
                _ => seeds[random() as usize % seeds.len()].clone(),
            };
            for _ in 0..random() % 4 {
                if !bytes.is_empty() {
                    let at = random() as usize % bytes.len();
                    bytes[at] = random() as u8;
                }
            }
            bytes.truncate((random() as usize % (2 * bytes.len() + 1)).max(1));
            if let Ok(message) = Message::decode(&bytes) {
                accepted += 1;
                assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }
        assert!(accepted > 10_000, "{accepted} of them were messages");
    }
}
