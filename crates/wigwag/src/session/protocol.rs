//! The messages of the handshake, without any input or output: bytes in, values out, and back.
//!
//! ```text
//!   client                                   server
//!   HELLO   versions, wishes, contract  ---> checks user, versions, contract, limits
//!           <--- WELCOME geometry + descriptors [memory, server's bell, client's bell]    or   REFUSAL reason
//!   maps, checks, touches
//!   READY                               ---> seals the memory for good; the session lives
//!           <--- FAREWELL reason             when the server ends the session
//!           <--- BELL                        to clients of other users, instead of an eventfd
//! ```
//!
//! Integers are little-endian. The first byte is the kind. Every length is checked before it is used; what does not
//! parse ends the handshake with a reason.

use crate::contract::{CONTRACT_NAME_MAX, Contract, Encoding};
use crate::error::beginning_of;
use crate::form::Form;

/// The first four bytes of a HELLO: a program that connects by mistake is told apart at once.
const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"WWHI");
/// The one version of these messages so far.
pub const PROTOCOL_VERSION: u16 = 1;
/// In a HELLO: whatever the server states.
pub const SERVERS_CHOICE: u32 = u32::MAX;
/// Longest text in a REFUSAL or a FAREWELL.
const TEXT_MAX: usize = 2048;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version the client speaks.
    pub protocol_min: u16,
    /// Highest protocol version the client speaks.
    pub protocol_max: u16,
    /// Layout version of the segment.
    pub layout_version: u32,
    /// Slots wanted, or [`SERVERS_CHOICE`].
    pub slots: u32,
    /// Capacity wanted in bytes, or [`SERVERS_CHOICE`].
    pub capacity: u32,
    /// What the client speaks.
    pub contract: Contract,
}

impl Hello {
    /// Whether the client speaks that version of the protocol.
    pub fn speaks(&self, protocol: u16) -> bool {
        (self.protocol_min..=self.protocol_max).contains(&protocol)
    }
}

/// What the server grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Protocol version of the session.
    pub protocol: u16,
    /// Slots granted.
    pub slots: u32,
    /// Capacity granted in bytes.
    pub capacity: u32,
    /// Size of the segment in bytes.
    pub segment_size: u64,
    /// Whether the client's doorbell is a descriptor of its own; otherwise rings are BELL messages.
    pub has_client_bell: bool,
}

/// Why a session was refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A policy or a limit.
    Refused = 1,
    /// The contracts differ.
    Contract = 2,
    /// The versions do not understand each other.
    Version = 3,
    /// The peer broke the protocol.
    Violation = 4,
    /// The server shuts down.
    Shutdown = 5,
    /// One end of a stream gave it up before it was complete.
    Aborted = 6,
    /// There is no place just now; there may be one later.
    Later = 7,
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer {
    /// The session is granted.
    Welcome(Welcome),
    /// The session is refused.
    Refusal(Reason, String),
    /// The session is over.
    Farewell(Reason, String),
    /// Wake up.
    Bell,
}

/// A message from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Asks for a session.
    Hello(Hello),
    /// Has mapped the memory.
    Ready,
}

const KIND_HELLO: u8 = 1;
const KIND_READY: u8 = 2;
const KIND_WELCOME: u8 = 3;
const KIND_REFUSAL: u8 = 4;
const KIND_FAREWELL: u8 = 5;
const KIND_BELL: u8 = 6;

impl FromClient {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            FromClient::Ready => vec![KIND_READY],
            FromClient::Hello(hello) => {
                let mut out = vec![KIND_HELLO];
                out.extend(HELLO_MAGIC.to_le_bytes());
                out.extend(hello.protocol_min.to_le_bytes());
                out.extend(hello.protocol_max.to_le_bytes());
                for word in [hello.layout_version, hello.slots, hello.capacity] {
                    out.extend(word.to_le_bytes());
                }
                let contract = &hello.contract;
                for word in [contract.version, contract.size, contract.align_and_form()] {
                    out.extend(word.to_le_bytes());
                }
                out.push(contract.name.len() as u8); // at most CONTRACT_NAME_MAX, checked by the builder
                out.extend(contract.name.as_bytes());
                out
            }
        }
    }

    /// Parses a message; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<FromClient, &'static str> {
        let mut reader = Reader(bytes);
        let message = match reader.u8()? {
            KIND_READY => FromClient::Ready,
            KIND_HELLO => {
                if reader.u32()? != HELLO_MAGIC {
                    return Err("the greeting is not Wigwag's");
                }
                let mut hello = Hello {
                    protocol_min: reader.u16()?,
                    protocol_max: reader.u16()?,
                    layout_version: reader.u32()?,
                    slots: SERVERS_CHOICE,
                    capacity: SERVERS_CHOICE,
                    contract: Contract::bytes(),
                };
                if !hello.speaks(PROTOCOL_VERSION) {
                    // What follows is of another version. It is refused by its versions, so that its client learns why.
                    return Ok(FromClient::Hello(hello));
                }
                hello.slots = reader.u32()?;
                hello.capacity = reader.u32()?;
                hello.contract = reader.contract()?;
                FromClient::Hello(hello)
            }
            _ => return Err("the message is of an unknown kind"),
        };
        reader.end(message)
    }
}

impl FromServer {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let text = |kind: u8, reason: &Reason, text: &str| {
            let mut out = vec![kind, *reason as u8];
            out.extend(beginning_of(text, TEXT_MAX).as_bytes());
            out
        };
        match self {
            FromServer::Bell => vec![KIND_BELL],
            FromServer::Refusal(reason, why) => text(KIND_REFUSAL, reason, why),
            FromServer::Farewell(reason, why) => text(KIND_FAREWELL, reason, why),
            FromServer::Welcome(welcome) => {
                let mut out = vec![KIND_WELCOME, u8::from(welcome.has_client_bell)];
                out.extend(welcome.protocol.to_le_bytes());
                out.extend(welcome.slots.to_le_bytes());
                out.extend(welcome.capacity.to_le_bytes());
                out.extend(welcome.segment_size.to_le_bytes());
                out
            }
        }
    }

    /// Parses a message; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<FromServer, &'static str> {
        let mut reader = Reader(bytes);
        let message = match reader.u8()? {
            KIND_BELL => FromServer::Bell,
            KIND_REFUSAL => return Ok(FromServer::Refusal(reader.reason()?, reader.text())),
            KIND_FAREWELL => return Ok(FromServer::Farewell(reader.reason()?, reader.text())),
            KIND_WELCOME => {
                let has_client_bell = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err("a flag is neither yes nor no"),
                };
                FromServer::Welcome(Welcome {
                    has_client_bell,
                    protocol: reader.u16()?,
                    slots: reader.u32()?,
                    capacity: reader.u32()?,
                    segment_size: reader.u64()?,
                })
            }
            _ => return Err("the message is of an unknown kind"),
        };
        reader.end(message)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or("the message is too short")?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.take().map(u64::from_le_bytes)
    }

    fn reason(&mut self) -> Result<Reason, &'static str> {
        Ok(match self.u8()? {
            1 => Reason::Refused,
            2 => Reason::Contract,
            3 => Reason::Version,
            4 => Reason::Violation,
            5 => Reason::Shutdown,
            6 => Reason::Aborted,
            7 => Reason::Later,
            _ => return Err("the reason is of an unknown kind"),
        })
    }

    /// The rest as text that is safe to print: no control characters reach a terminal.
    fn text(&mut self) -> String {
        let rest = &self.0[..self.0.len().min(TEXT_MAX)];
        String::from_utf8_lossy(rest).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn contract(&mut self) -> Result<Contract, &'static str> {
        let (version, size, align) = (self.u32()?, self.u32()?, self.u16()?);
        let form = Form::from_number(self.u8()?).ok_or("the form is of an unknown kind")?;
        let encoding = Encoding::from_number(self.u8()?).ok_or("the encoding is of an unknown kind")?;
        let len = usize::from(self.u8()?);
        if len == 0 || len > CONTRACT_NAME_MAX {
            return Err("the contract's name is empty or too long");
        }
        let (name, rest) = self.0.split_at_checked(len).ok_or("the contract's name is cut off")?;
        self.0 = rest;
        let name = std::str::from_utf8(name).map_err(|_| "the contract's name is not UTF-8")?;
        Ok(Contract { name: name.to_owned(), version, size, align, form, encoding })
    }

    fn end<T>(self, message: T) -> Result<T, &'static str> {
        if self.0.is_empty() { Ok(message) } else { Err("the message is too long") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> FromClient {
        FromClient::Hello(Hello {
            protocol_min: 1,
            protocol_max: 3,
            layout_version: 9,
            slots: 7,
            capacity: SERVERS_CHOICE,
            contract: Contract::named("pictures", 4),
        })
    }

    fn from_server() -> [FromServer; 4] {
        [
            FromServer::Welcome(Welcome {
                protocol: 1,
                slots: 2,
                capacity: 3,
                segment_size: 1 << 40,
                has_client_bell: true,
            }),
            FromServer::Refusal(Reason::Refused, "too many".into()),
            FromServer::Farewell(Reason::Shutdown, "good night".into()),
            FromServer::Bell,
        ]
    }

    #[test]
    fn messages_survive_the_journey() {
        for message in [hello(), FromClient::Ready] {
            assert_eq!(FromClient::decode(&message.encode()), Ok(message));
        }
        for message in from_server() {
            assert_eq!(FromServer::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn every_reason_survives_the_journey_and_no_other_does() {
        let all = [
            Reason::Refused,
            Reason::Contract,
            Reason::Version,
            Reason::Violation,
            Reason::Shutdown,
            Reason::Aborted,
            Reason::Later,
        ];
        for reason in all {
            let farewell = FromServer::Farewell(reason, "because".into());
            assert_eq!(FromServer::decode(&farewell.encode()), Ok(farewell));
        }
        for unknown in [0, 8, 255] {
            assert!(FromServer::decode(&[KIND_FAREWELL, unknown]).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_flag_is_yes_or_no() {
        let Ok(FromServer::Welcome(granted)) = FromServer::decode(&from_server()[0].encode()) else { panic!() };
        let welcome = FromServer::Welcome(Welcome { has_client_bell: false, ..granted });
        let mut bytes = welcome.encode();
        assert_eq!(FromServer::decode(&bytes), Ok(welcome));
        bytes[1] = 2;
        assert!(FromServer::decode(&bytes).is_err());
    }

    #[test]
    fn the_name_of_a_contract_has_one_to_128_bytes() {
        let greet = |len: usize| {
            let FromClient::Hello(hello) = hello() else { panic!() };
            let contract = Contract::named("n".repeat(len), 4);
            FromClient::decode(&FromClient::Hello(Hello { contract, ..hello }).encode())
        };
        for len in [1, CONTRACT_NAME_MAX] {
            assert!(greet(len).is_ok(), "{len}");
        }
        for len in [0, CONTRACT_NAME_MAX + 1] {
            assert_eq!(greet(len), Err("the contract's name is empty or too long"), "{len}");
        }
    }

    #[test]
    fn every_form_survives_the_journey_and_no_other_does() {
        for form in [Form::Exchange, Form::Queue, Form::Stream] {
            let FromClient::Hello(hello) = hello() else { panic!() };
            for encoding in [Encoding::MessagePack, Encoding::Postcard] {
                let contract = Contract { encoding, ..hello.contract.clone().in_form(form) };
                let hello = FromClient::Hello(Hello { contract, ..hello.clone() });
                assert_eq!(FromClient::decode(&hello.encode()), Ok(hello));
            }
        }
        for (offset, value) in [(31, 3), (31, 255), (32, 2), (32, 255)] {
            let mut bytes = hello().encode();
            bytes[offset] = value;
            assert!(FromClient::decode(&bytes).is_err(), "{value} at {offset}");
        }
    }

    #[test]
    fn a_message_that_is_cut_off_or_too_long_is_refused() {
        let whole = hello().encode();
        for len in 0..whole.len() {
            assert!(FromClient::decode(&whole[..len]).is_err(), "{len}");
        }
        assert!(FromClient::decode(&[whole, vec![0]].concat()).is_err());
        let welcome = from_server()[0].encode();
        for len in 0..welcome.len() {
            assert!(FromServer::decode(&welcome[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_greeting_of_another_version_is_understood_as_far_as_its_versions() {
        let ours = hello().encode();
        for (min, max) in [(0, 0), (2, 2), (2, u16::MAX), (3, 1)] {
            let mut foreign = ours[..13].to_vec();
            foreign[5..7].copy_from_slice(&u16::to_le_bytes(min));
            foreign[7..9].copy_from_slice(&u16::to_le_bytes(max));
            for tail in [&b""[..], b"?", &[0xff; 200]] {
                let Ok(FromClient::Hello(hello)) = FromClient::decode(&[&foreign, tail].concat()) else {
                    panic!("versions {min} to {max} with {} bytes more", tail.len());
                };
                assert_eq!((hello.protocol_min, hello.protocol_max, hello.layout_version), (min, max, 9));
            }
        }
    }

    #[test]
    fn no_byte_makes_it_panic() {
        for message in [hello().encode(), from_server()[0].encode(), from_server()[1].encode()] {
            for index in 0..message.len() {
                for value in 0..=255 {
                    let mut bytes = message.clone();
                    bytes[index] = value;
                    let _ = FromClient::decode(&bytes);
                    let _ = FromServer::decode(&bytes);
                }
            }
        }
    }

    #[test]
    fn text_cannot_move_the_cursor_of_a_terminal_and_is_cut_on_a_character() {
        let nasty = FromServer::Refusal(Reason::Refused, "\x1b[2Jx\n".into());
        assert_eq!(FromServer::decode(&nasty.encode()), Ok(FromServer::Refusal(Reason::Refused, " [2Jx ".into())));
        let long = FromServer::Refusal(Reason::Refused, "ä".repeat(2000)).encode();
        assert!(std::str::from_utf8(&long[2..]).is_ok() && long.len() <= TEXT_MAX + 2);
    }
}
