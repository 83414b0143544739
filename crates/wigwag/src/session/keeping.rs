//! What a queue's receiver and the keeper of its messages say to each other, without any input or output.
//!
//! ```text
//!   receiver                                   keeper
//!   KEEP     number, session, contract, path  ---> with [the session's memory, the sender's pidfd]
//!            <--- KEPT number                      or   UNKEPT number, why
//!   RELEASE  number                           ---> nobody takes messages from that memory here any more
//!   FORGET   number                           ---> and nobody shall have what is left
//!   STATUS                                    ---> from anybody
//!            <--- STATUS counts
//! ```
//!
//! Integers are little-endian. The first byte is the kind, and two bytes of version follow. A receiver sends KEEP
//! before it welcomes the sender, so what the sender passes is kept from its first message on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::contract::Contract;
use crate::error::beginning_of;
use crate::session::protocol::Reader;

/// The version of these messages.
const VERSION: u16 = 1;
/// Longest text of a refusal.
const TEXT_MAX: usize = 1024;

const KIND_KEEP: u8 = 0x41;
const KIND_RELEASE: u8 = 0x42;
const KIND_FORGET: u8 = 0x43;
const KIND_STATUS: u8 = 0x44;
const KIND_KEPT: u8 = 0x45;
const KIND_UNKEPT: u8 = 0x46;
const KIND_COUNTS: u8 = 0x47;

/// How many descriptors come with a KEEP: the memory, the sender's pidfd.
pub const KEEP_DESCRIPTORS: usize = 2;
/// In an UNKEPT: nothing of this receiver is kept.
pub const EVERYTHING: u64 = u64::MAX;

/// A session that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The receiver's own number of it.
    pub number: u64,
    /// The sender's process, for people, and to tell a keeper's own sessions.
    pub sender: i32,
    /// The version of the layout.
    pub layout_version: u32,
    /// The geometry's two free numbers.
    pub slots: u32,
    /// The other.
    pub capacity: u32,
    /// What the queue's messages are.
    pub contract: Contract,
    /// The queue's socket.
    pub queue: PathBuf,
}

/// What a keeper has and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperCounts {
    /// Receivers that are connected.
    pub receivers: u64,
    /// Sessions that are kept now.
    pub sessions: u64,
    /// Bytes of their segments.
    pub bytes: u64,
    /// Messages of dead senders that wait for a receiver, or that one has and has not acknowledged.
    pub left: u64,
    /// Sessions ever kept.
    pub kept: u64,
    /// Sessions that were not kept, for want of room or because they could not be.
    pub refused: u64,
    /// Messages handed on.
    pub carried: u64,
    /// Of these, those that were marked as redelivered.
    pub redelivered: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// The most sessions.
    pub sessions_max: u64,
    /// The most bytes.
    pub bytes_max: u64,
}

impl KeeperCounts {
    fn words(&self) -> [u64; 11] {
        let KeeperCounts {
            receivers,
            sessions,
            bytes,
            left,
            kept,
            refused,
            carried,
            redelivered,
            unreadable,
            sessions_max,
            bytes_max,
        } = *self;
        [receivers, sessions, bytes, left, kept, refused, carried, redelivered, unreadable, sessions_max, bytes_max]
    }
}

/// A message to a keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToKeeper {
    /// Keep this session.
    Keep(Keep),
    /// Nobody takes messages from it here any more; its sender may.
    Release(u64),
    /// The same, and what is left is nobody's.
    Forget(u64),
    /// What is kept?
    Status,
}

/// A message from a keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromKeeper {
    /// The session is kept.
    Kept(u64),
    /// It is not, or with [`EVERYTHING`] none of this receiver's is.
    Unkept(u64, String),
    /// What is kept.
    Counts(KeeperCounts),
}

fn begin(kind: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(VERSION.to_le_bytes());
    out
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    let mut out = begin(kind);
    out.extend(number.to_le_bytes());
    out
}

/// The kind of a message of this version.
fn kind_of(reader: &mut Reader<'_>) -> Result<u8, &'static str> {
    let kind = reader.u8()?;
    match reader.u16()? {
        VERSION => Ok(kind),
        _ => Err("the message is of another version: use the same version of wigwag for both"),
    }
}

impl ToKeeper {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            ToKeeper::Release(number) => numbered(KIND_RELEASE, *number),
            ToKeeper::Forget(number) => numbered(KIND_FORGET, *number),
            ToKeeper::Status => begin(KIND_STATUS),
            ToKeeper::Keep(keep) => {
                let mut out = numbered(KIND_KEEP, keep.number);
                out.extend(keep.sender.to_le_bytes());
                for word in [keep.layout_version, keep.slots, keep.capacity] {
                    out.extend(word.to_le_bytes());
                }
                let contract = &keep.contract;
                for word in [contract.version, contract.size, contract.align_and_form()] {
                    out.extend(word.to_le_bytes());
                }
                out.push(contract.name.len() as u8); // at most CONTRACT_NAME_MAX, checked by the builder
                out.extend(contract.name.as_bytes());
                out.extend(keep.queue.as_os_str().as_bytes());
                out
            }
        }
    }

    /// Parses a message; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<ToKeeper, &'static str> {
        let mut reader = Reader(bytes);
        let message = match kind_of(&mut reader)? {
            KIND_RELEASE => ToKeeper::Release(reader.u64()?),
            KIND_FORGET => ToKeeper::Forget(reader.u64()?),
            KIND_STATUS => ToKeeper::Status,
            KIND_KEEP => {
                let number = reader.u64()?;
                let sender = reader.u32()?.cast_signed();
                let (layout_version, slots, capacity) = (reader.u32()?, reader.u32()?, reader.u32()?);
                let (unnamed, name_len) = reader.contract()?;
                let contract = Contract { name: reader.name(name_len)?, ..unnamed };
                let queue = PathBuf::from(OsStr::from_bytes(std::mem::take(&mut reader.0)));
                if !queue.is_absolute() {
                    return Err("the queue's path is not absolute");
                }
                ToKeeper::Keep(Keep { number, sender, layout_version, slots, capacity, contract, queue })
            }
            _ => return Err("the message is of an unknown kind"),
        };
        reader.end(message)
    }
}

impl FromKeeper {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            FromKeeper::Kept(number) => numbered(KIND_KEPT, *number),
            FromKeeper::Unkept(number, why) => {
                let mut out = numbered(KIND_UNKEPT, *number);
                out.extend(beginning_of(why, TEXT_MAX).as_bytes());
                out
            }
            FromKeeper::Counts(counts) => {
                let mut out = begin(KIND_COUNTS);
                counts.words().iter().for_each(|word| out.extend(word.to_le_bytes()));
                out
            }
        }
    }

    /// Parses a message; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<FromKeeper, &'static str> {
        let mut reader = Reader(bytes);
        let message = match kind_of(&mut reader)? {
            KIND_KEPT => FromKeeper::Kept(reader.u64()?),
            KIND_UNKEPT => return Ok(FromKeeper::Unkept(reader.u64()?, reader.text())),
            KIND_COUNTS => {
                let mut words = [0; 11];
                for word in &mut words {
                    *word = reader.u64()?;
                }
                let [
                    receivers,
                    sessions,
                    bytes,
                    left,
                    kept,
                    refused,
                    carried,
                    redelivered,
                    unreadable,
                    sessions_max,
                    bytes_max,
                ] = words;
                FromKeeper::Counts(KeeperCounts {
                    receivers,
                    sessions,
                    bytes,
                    left,
                    kept,
                    refused,
                    carried,
                    redelivered,
                    unreadable,
                    sessions_max,
                    bytes_max,
                })
            }
            _ => return Err("the message is of an unknown kind"),
        };
        reader.end(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;

    fn keep() -> ToKeeper {
        ToKeeper::Keep(Keep {
            number: u64::MAX - 1,
            sender: -1,
            layout_version: 2,
            slots: 7,
            capacity: 1 << 30,
            contract: Contract::named("pictures", 4).in_form(Form::Queue),
            queue: PathBuf::from(OsStr::from_bytes(b"/run/odd \xff name.sock")),
        })
    }

    #[test]
    fn messages_survive_the_journey() {
        for message in [keep(), ToKeeper::Release(1), ToKeeper::Forget(2), ToKeeper::Status] {
            assert_eq!(ToKeeper::decode(&message.encode()), Ok(message));
        }
        let counts = KeeperCounts { receivers: 1, bytes_max: 11, left: 4, unreadable: 9, ..KeeperCounts::default() };
        for message in [FromKeeper::Kept(3), FromKeeper::Unkept(4, "full".into()), FromKeeper::Counts(counts)] {
            assert_eq!(FromKeeper::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_or_of_another_version_is_none() {
        let whole = keep().encode();
        (0..whole.len() - 20).for_each(|len| assert!(ToKeeper::decode(&whole[..len]).is_err(), "{len}"));
        for message in [ToKeeper::Release(1).encode(), FromKeeper::Kept(1).encode()] {
            let longer = [&message[..], b"."].concat();
            assert!(ToKeeper::decode(&longer).is_err() && FromKeeper::decode(&longer).is_err());
        }
        let mut newer = whole;
        newer[1] = 2;
        assert!(ToKeeper::decode(&newer).unwrap_err().contains("another version"));
        assert!(ToKeeper::decode(&[]).is_err() && FromKeeper::decode(&[KIND_KEEP, 1, 0]).is_err());
    }

    #[test]
    fn a_path_that_is_not_absolute_is_refused() {
        let ToKeeper::Keep(keep) = keep() else { unreachable!() };
        let relative = ToKeeper::Keep(Keep { queue: "jobs.sock".into(), ..keep });
        assert!(ToKeeper::decode(&relative.encode()).is_err());
    }
}
