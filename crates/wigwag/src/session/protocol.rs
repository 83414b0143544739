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
//!   DESCRIPTORS                         ---> with descriptors for a request, where that was agreed on
//!           <--- DESCRIPTORS                 with descriptors for a reply, likewise
//!
//!   heir
//!   REPLACE                             ---> lets the name go and accepts nobody
//!           <--- BELL                        then                                              or   REFUSAL reason
//! ```
//!
//! Integers are little-endian. The first byte is the kind. Every length is checked before it is used; what does not
//! parse ends the handshake with a reason.

use crate::contract::{CONTRACT_NAME_MAX, Contract, Encoding};
use crate::error::beginning_of;
use crate::form::Form;
use crate::session::agreement::{Agreement, ClockReading, Features, PROTOCOL_VERSION, Protocol};

/// Four bytes in a HELLO and a REPLACE: a program that connects by mistake is told apart at once.
const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"WWHI");
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
    /// Highest layout version the client speaks; in the form of version 1 the only one.
    pub layout_version: u32,
    /// Slots wanted, or [`SERVERS_CHOICE`].
    pub slots: u32,
    /// Capacity wanted in bytes, or [`SERVERS_CHOICE`].
    pub capacity: u32,
    /// What the client speaks.
    pub contract: Contract,
    /// What version 2 adds; `None` in the form of version 1.
    pub extension: Option<HelloExtension>,
}

/// What a HELLO of version 2 says besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloExtension {
    /// Lowest layout version the client speaks.
    pub layout_min: u32,
    /// What the client can.
    pub features: Features,
    /// What the session must have.
    pub required: Features,
    /// The client's clock.
    pub clock: ClockReading,
}

impl Hello {
    /// A greeting in the form of that version, of a client that offers these features and requires none.
    pub fn new(
        protocol: Protocol,
        slots: Option<usize>,
        capacity: Option<usize>,
        contract: Contract,
        features: Features,
    ) -> Hello {
        let wish = |wish: Option<usize>| wish.map_or(SERVERS_CHOICE, |number| number as u32); // builders keep it small
        Hello {
            protocol_min: protocol as u16,
            protocol_max: match protocol {
                Protocol::V1 => protocol as u16,
                Protocol::V2 => PROTOCOL_VERSION,
            },
            layout_version: protocol.layout_version(),
            slots: wish(slots),
            capacity: wish(capacity),
            contract,
            extension: match protocol {
                Protocol::V1 => None,
                Protocol::V2 => Some(HelloExtension {
                    layout_min: protocol.layout_version(),
                    features,
                    required: Features::NONE,
                    clock: ClockReading::now(),
                }),
            },
        }
    }

    /// The version that a session with this client has; `None`: the two do not understand each other.
    pub fn protocol(&self) -> Option<Protocol> {
        let protocol = Protocol::of_hello(self.protocol_min, self.protocol_max)?;
        let layout_min = self.extension.map_or(self.layout_version, |extension| extension.layout_min);
        (layout_min..=self.layout_version).contains(&protocol.layout_version()).then_some(protocol)
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
    /// What version 2 adds; `None` in a session of version 1.
    pub extension: Option<WelcomeExtension>,
}

/// What a WELCOME of version 2 says besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WelcomeExtension {
    /// Layout version of the session.
    pub layout_version: u32,
    /// Whether both sides' clocks show the same.
    pub has_same_clock: bool,
    /// What both sides can.
    pub features: Features,
    /// Of a broadcast: the memory that all subscribers read, which comes with it.
    pub board: Option<BoardWelcome>,
}

/// What a subscriber is told of that memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardWelcome {
    /// How many entries the ring has.
    pub entries: u32,
    /// How many bodies the pool has.
    pub bodies: u32,
    /// How many messages this subscriber may hold at a time; 0: it copies.
    pub holds: u32,
    /// Which bit of the hint line is its own.
    pub group: u32,
    /// Which publisher of the name it is.
    pub epoch: u64,
}

/// The bit of WELCOME's flags that says so.
const SAME_CLOCK: u32 = 1;

impl Welcome {
    /// What is agreed on, by a client that greeted in the form of that version and offered these features; the error
    /// says what a server must not have chosen.
    pub fn agreement(&self, greeted: Protocol, offered: Features) -> Result<Agreement, &'static str> {
        if self.protocol != greeted as u16 {
            return Err("it chose a protocol version that was not offered");
        }
        let Some(extension) = self.extension else { return Ok(Agreement::V1) };
        if extension.layout_version != greeted.layout_version() {
            return Err("it chose a layout version that was not offered");
        }
        if !extension.features.missing_in(offered).is_empty() {
            return Err("it chose a feature that was not offered");
        }
        Ok(Agreement { protocol: greeted, has_same_clock: extension.has_same_clock, features: extension.features })
    }
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
    /// The server has given its name to a successor.
    Moved = 8,
}

impl Reason {
    /// The reason with that number, in a session of that version. `unknown` is what one that is not known reads as;
    /// `None`: it is a violation.
    fn from_number(number: u8, protocol: Protocol, unknown: Reason) -> Option<Reason> {
        match number {
            1 => Some(Reason::Refused),
            2 => Some(Reason::Contract),
            3 => Some(Reason::Version),
            4 => Some(Reason::Violation),
            5 => Some(Reason::Shutdown),
            6 => Some(Reason::Aborted),
            7 => Some(Reason::Later),
            _ if !protocol.is_lenient() => None,
            8 => Some(Reason::Moved),
            _ => Some(unknown),
        }
    }
}

/// Descriptors that travel with a request or a reply: the message that they come with, from either side, before the
/// turn is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorMessage {
    /// How many they are.
    pub count: u8,
    /// The slot of the request or the reply.
    pub slot: u16,
    /// Its sequence.
    pub sequence: u64,
}

impl DescriptorMessage {
    /// The bytes of the message.
    pub fn encode(self) -> Vec<u8> {
        let mut out = vec![KIND_DESCRIPTORS, self.count];
        out.extend(self.slot.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out
    }

    /// How many bytes it has.
    pub const LEN: usize = 12;

    /// Whether a message means to be one of these, well formed or not.
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.first() == Some(&KIND_DESCRIPTORS)
    }

    /// Parses the message; `None`: it is another one, or none at all.
    pub fn decode(bytes: &[u8]) -> Option<DescriptorMessage> {
        let mut reader = Reader(bytes);
        if reader.u8() != Ok(KIND_DESCRIPTORS) {
            return None;
        }
        let message =
            DescriptorMessage { count: reader.u8().ok()?, slot: reader.u16().ok()?, sequence: reader.u64().ok()? };
        reader.end(message).ok()
    }
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
    /// Something of a later version, which is nothing to this one.
    Unknown,
}

/// A message from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Asks for a session.
    Hello(Hello),
    /// Has mapped the memory.
    Ready,
    /// Is a server that is about to take the name over.
    Replace,
}

const KIND_HELLO: u8 = 1;
const KIND_READY: u8 = 2;
const KIND_WELCOME: u8 = 3;
const KIND_REFUSAL: u8 = 4;
const KIND_FAREWELL: u8 = 5;
const KIND_BELL: u8 = 6;
const KIND_DESCRIPTORS: u8 = 7;
const KIND_REPLACE: u8 = 8;

impl FromClient {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            FromClient::Ready => vec![KIND_READY],
            FromClient::Replace => [&[KIND_REPLACE], &HELLO_MAGIC.to_le_bytes()[..]].concat(),
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
                if let Some(extension) = &hello.extension {
                    out.extend(extension.layout_min.to_le_bytes());
                    for word in [extension.features.0, extension.required.0] {
                        out.extend(word.to_le_bytes());
                    }
                    for word in [extension.clock.now_ns, extension.clock.time_namespace] {
                        out.extend(word.to_le_bytes());
                    }
                }
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
            KIND_REPLACE if reader.u32()? == HELLO_MAGIC => FromClient::Replace,
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
                    extension: None,
                };
                let Some(protocol) = Protocol::of_hello(hello.protocol_min, hello.protocol_max) else {
                    // What follows is of another version. It is refused by its versions, so that its client learns why.
                    return Ok(FromClient::Hello(hello));
                };
                hello.slots = reader.u32()?;
                hello.capacity = reader.u32()?;
                let (unnamed, name_len) = reader.contract()?;
                if protocol == Protocol::V2 {
                    hello.extension = Some(HelloExtension {
                        layout_min: reader.u32()?,
                        features: Features(reader.u64()?),
                        required: Features(reader.u64()?),
                        clock: ClockReading { now_ns: reader.u64()?, time_namespace: reader.u64()? },
                    });
                }
                hello.contract = Contract { name: reader.name(name_len)?, ..unnamed };
                if protocol.is_lenient() {
                    return Ok(FromClient::Hello(hello));
                }
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
            FromServer::Unknown => Vec::new(), // nobody sends it
            FromServer::Refusal(reason, why) => text(KIND_REFUSAL, reason, why),
            FromServer::Farewell(reason, why) => text(KIND_FAREWELL, reason, why),
            FromServer::Welcome(welcome) => {
                let mut out = vec![KIND_WELCOME, u8::from(welcome.has_client_bell)];
                out.extend(welcome.protocol.to_le_bytes());
                out.extend(welcome.slots.to_le_bytes());
                out.extend(welcome.capacity.to_le_bytes());
                out.extend(welcome.segment_size.to_le_bytes());
                if let Some(extension) = &welcome.extension {
                    out.extend(extension.layout_version.to_le_bytes());
                    out.extend(if extension.has_same_clock { SAME_CLOCK } else { 0 }.to_le_bytes());
                    out.extend(extension.features.0.to_le_bytes());
                    if let Some(board) = &extension.board {
                        for word in [board.entries, board.bodies, board.holds, board.group] {
                            out.extend(word.to_le_bytes());
                        }
                        out.extend(board.epoch.to_le_bytes());
                    }
                }
                out
            }
        }
    }

    /// Parses a message of a session of that version, or of a server that was greeted in its form; the error says what
    /// is wrong with it.
    pub fn decode(bytes: &[u8], protocol: Protocol) -> Result<FromServer, &'static str> {
        let mut reader = Reader(bytes);
        let message = match reader.u8()? {
            KIND_BELL => FromServer::Bell,
            KIND_REFUSAL => return Ok(FromServer::Refusal(reader.reason(protocol, Reason::Refused)?, reader.text())),
            KIND_FAREWELL => {
                return Ok(FromServer::Farewell(reader.reason(protocol, Reason::Shutdown)?, reader.text()));
            }
            KIND_WELCOME => {
                let has_client_bell = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err("a flag is neither yes nor no"),
                };
                let mut welcome = Welcome {
                    has_client_bell,
                    protocol: reader.u16()?,
                    slots: reader.u32()?,
                    capacity: reader.u32()?,
                    segment_size: reader.u64()?,
                    extension: None,
                };
                if welcome.protocol != protocol as u16 {
                    return Ok(FromServer::Welcome(welcome)); // it was not offered, and what follows has no meaning
                }
                if protocol == Protocol::V2 {
                    welcome.extension = Some(WelcomeExtension {
                        layout_version: reader.u32()?,
                        has_same_clock: reader.u32()? & SAME_CLOCK != 0,
                        features: Features(reader.u64()?),
                        board: reader.board(), // only a subscriber looks at it: what stands there may be something else
                    });
                    return Ok(FromServer::Welcome(welcome));
                }
                FromServer::Welcome(welcome)
            }
            _ if protocol.is_lenient() => return Ok(FromServer::Unknown),
            _ => return Err("the message is of an unknown kind"),
        };
        reader.end(message)
    }
}

/// What is left of a message that is being parsed.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or("the message is too short")?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, &'static str> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, &'static str> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, &'static str> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, &'static str> {
        self.take().map(u64::from_le_bytes)
    }

    fn reason(&mut self, protocol: Protocol, unknown: Reason) -> Result<Reason, &'static str> {
        Reason::from_number(self.u8()?, protocol, unknown).ok_or("the reason is of an unknown kind")
    }

    /// The rest as text that is safe to print: no control characters reach a terminal.
    pub(super) fn text(&mut self) -> String {
        let rest = &self.0[..self.0.len().min(TEXT_MAX)];
        String::from_utf8_lossy(rest).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// A contract but for its name, and how long that is.
    pub(super) fn contract(&mut self) -> Result<(Contract, usize), &'static str> {
        let (version, size, align) = (self.u32()?, self.u32()?, self.u16()?);
        let form = Form::from_number(self.u8()?).ok_or("the form is of an unknown kind")?;
        let encoding = Encoding::from_number(self.u8()?).ok_or("the encoding is of an unknown kind")?;
        let len = usize::from(self.u8()?);
        if len == 0 || len > CONTRACT_NAME_MAX {
            return Err("the contract's name is empty or too long");
        }
        Ok((Contract { name: String::new(), version, size, align, form, encoding }, len))
    }

    fn board(&mut self) -> Option<BoardWelcome> {
        Some(BoardWelcome {
            entries: self.u32().ok()?,
            bodies: self.u32().ok()?,
            holds: self.u32().ok()?,
            group: self.u32().ok()?,
            epoch: self.u64().ok()?,
        })
    }

    pub(super) fn name(&mut self, len: usize) -> Result<String, &'static str> {
        let (name, rest) = self.0.split_at_checked(len).ok_or("the contract's name is cut off")?;
        self.0 = rest;
        let name = std::str::from_utf8(name).map_err(|_| "the contract's name is not UTF-8")?;
        Ok(name.to_owned())
    }

    pub(super) fn end<T>(self, message: T) -> Result<T, &'static str> {
        if self.0.is_empty() { Ok(message) } else { Err("the message is too long") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];

    fn hello(protocol: Protocol) -> Hello {
        Hello::new(protocol, Some(7), None, Contract::named("pictures", 4), Features::DESCRIPTORS)
    }

    fn welcome(protocol: Protocol) -> Welcome {
        Welcome {
            protocol: protocol as u16,
            slots: 2,
            capacity: 3,
            segment_size: 1 << 40,
            has_client_bell: true,
            extension: match protocol {
                Protocol::V1 => None,
                Protocol::V2 => Some(WelcomeExtension {
                    layout_version: 2,
                    has_same_clock: true,
                    features: Features::default(),
                    board: None,
                }),
            },
        }
    }

    fn from_server(protocol: Protocol) -> [FromServer; 4] {
        [
            FromServer::Welcome(welcome(protocol)),
            FromServer::Refusal(Reason::Refused, "too many".into()),
            FromServer::Farewell(Reason::Shutdown, "good night".into()),
            FromServer::Bell,
        ]
    }

    #[test]
    fn messages_survive_the_journey() {
        for protocol in BOTH {
            for message in [FromClient::Hello(hello(protocol)), FromClient::Ready, FromClient::Replace] {
                assert_eq!(FromClient::decode(&message.encode()), Ok(message));
            }
            for message in from_server(protocol) {
                assert_eq!(FromServer::decode(&message.encode(), protocol), Ok(message));
            }
        }
    }

    #[test]
    fn every_reason_survives_the_journey_and_what_is_not_known_reads_as_the_text_says() {
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
            for protocol in BOTH {
                let farewell = FromServer::Farewell(reason, "because".into());
                assert_eq!(FromServer::decode(&farewell.encode(), protocol), Ok(farewell));
            }
        }
        let moved = FromServer::Farewell(Reason::Moved, "next door".into());
        assert_eq!(FromServer::decode(&moved.encode(), Protocol::V2), Ok(moved));
        for unknown in [0, 8, 9, 255] {
            assert!(FromServer::decode(&[KIND_FAREWELL, unknown], Protocol::V1).is_err(), "{unknown}");
        }
        for unknown in [0, 9, 255] {
            let decode = |kind| FromServer::decode(&[kind, unknown, b'?'], Protocol::V2);
            assert_eq!(decode(KIND_FAREWELL), Ok(FromServer::Farewell(Reason::Shutdown, "?".into())), "{unknown}");
            assert_eq!(decode(KIND_REFUSAL), Ok(FromServer::Refusal(Reason::Refused, "?".into())), "{unknown}");
        }
    }

    #[test]
    fn a_message_of_an_unknown_kind_is_a_violation_or_nothing() {
        for kind in [0, 7, 128, 255] {
            for rest in [&b""[..], b"rest"] {
                let bytes = [&[kind], rest].concat();
                assert!(FromServer::decode(&bytes, Protocol::V1).is_err(), "{kind}");
                assert_eq!(FromServer::decode(&bytes, Protocol::V2), Ok(FromServer::Unknown), "{kind}");
                assert!(FromClient::decode(&bytes).is_err(), "{kind}: a client knows what its server understands");
            }
        }
        assert!(FromServer::decode(b"", Protocol::V2).is_err());
    }

    #[test]
    fn descriptors_are_announced_by_a_message_of_one_length() {
        let message = DescriptorMessage { count: 16, slot: 4095, sequence: u64::MAX >> 8 };
        let bytes = message.encode();
        assert_eq!(DescriptorMessage::decode(&bytes), Some(message));
        for len in 0..bytes.len() {
            assert_eq!(DescriptorMessage::decode(&bytes[..len]), None, "{len}");
            assert_eq!(DescriptorMessage::is_meant(&bytes[..len]), len > 0, "its first byte says so: {len}");
        }
        assert_eq!(DescriptorMessage::decode(&[&bytes[..], b"x"].concat()), None);
        for kind in (0..=255).filter(|kind| *kind != KIND_DESCRIPTORS) {
            assert_eq!(DescriptorMessage::decode(&[&[kind], &bytes[1..]].concat()), None, "{kind}");
            assert!(!DescriptorMessage::is_meant(&[&[kind], &bytes[1..]].concat()), "{kind}");
        }
    }

    #[test]
    fn a_flag_is_yes_or_no() {
        for protocol in BOTH {
            let message = FromServer::Welcome(Welcome { has_client_bell: false, ..welcome(protocol) });
            let mut bytes = message.encode();
            assert_eq!(FromServer::decode(&bytes, protocol), Ok(message));
            bytes[1] = 2;
            assert!(FromServer::decode(&bytes, protocol).is_err());
        }
    }

    #[test]
    fn clocks_are_the_same_where_the_flag_says_so_and_other_flags_are_a_later_version_s() {
        let with = |has_same_clock| {
            let mut welcome = welcome(Protocol::V2);
            welcome.extension.as_mut().expect("of version 2").has_same_clock = has_same_clock;
            FromServer::Welcome(welcome)
        };
        for (flags, has_same_clock) in [(0, false), (1, true), (2, false), (3, true)] {
            let mut bytes = with(has_same_clock).encode();
            assert_eq!(bytes[24], flags & 1);
            bytes[24] = flags;
            assert_eq!(FromServer::decode(&bytes, Protocol::V2), Ok(with(has_same_clock)), "{flags}");
        }
    }

    #[test]
    fn a_server_chooses_what_was_offered() {
        let offered = Features(1 << 1);
        let agreement = |change: &dyn Fn(&mut Welcome), greeted| {
            let mut welcome = welcome(greeted);
            change(&mut welcome);
            welcome.agreement(greeted, offered)
        };
        let extended = |change: &dyn Fn(&mut WelcomeExtension)| {
            agreement(&|welcome| change(welcome.extension.as_mut().expect("of version 2")), Protocol::V2)
        };
        assert_eq!(agreement(&|_| {}, Protocol::V1), Ok(Agreement::V1));
        let agreed = Agreement { protocol: Protocol::V2, has_same_clock: true, features: Features::NONE };
        assert_eq!(agreement(&|_| {}, Protocol::V2), Ok(agreed));
        let differing = Agreement { has_same_clock: false, ..agreed };
        assert_eq!(extended(&|extension| extension.has_same_clock = false), Ok(differing));
        for protocol in [0, 3, u16::MAX] {
            for greeted in BOTH {
                assert!(agreement(&|welcome| welcome.protocol = protocol, greeted).is_err(), "{protocol}");
            }
        }
        assert!(agreement(&|welcome| welcome.protocol = 1, Protocol::V2).is_err(), "it was not greeted so");
        assert!(agreement(&|welcome| welcome.protocol = 2, Protocol::V1).is_err());
        for layout in [0, 1, 3] {
            assert!(extended(&|extension| extension.layout_version = layout).is_err(), "{layout}");
        }
        let featured = Agreement { features: offered, ..agreed };
        assert_eq!(extended(&|extension| extension.features = offered), Ok(featured));
        for bit in [0, 2, 63] {
            assert!(extended(&|extension| extension.features = Features(1 << bit)).is_err(), "{bit}");
        }
    }

    #[test]
    fn the_version_of_a_session_is_the_highest_of_both_in_the_form_that_was_greeted_in() {
        let protocol = |min, max, layout_min, layout_version| {
            let extension = hello(Protocol::V2).extension.filter(|_| min >= 2);
            let extension = extension.map(|extension| HelloExtension { layout_min, ..extension });
            let versions = (min, max, layout_version);
            let (protocol_min, protocol_max, layout_version) = versions;
            Hello { protocol_min, protocol_max, layout_version, extension, ..hello(Protocol::V1) }.protocol()
        };
        for (min, max, layout_min, layout_max, expected) in [
            (1, 1, 1, 1, Some(Protocol::V1)),
            (1, 9, 1, 1, Some(Protocol::V1)),
            (0, 1, 1, 1, Some(Protocol::V1)),
            (1, 1, 2, 2, None),
            (2, 2, 2, 2, Some(Protocol::V2)),
            (2, 9, 1, 7, Some(Protocol::V2)),
            (2, 2, 1, 1, None),
            (2, 2, 3, 7, None),
            (2, 2, 3, 1, None),
            (3, 9, 1, 7, None),
            (0, 0, 1, 1, None),
            (2, 1, 1, 2, None),
        ] {
            let spoken = format!("{min} to {max}, layouts {layout_min} to {layout_max}");
            assert_eq!(protocol(min, max, layout_min, layout_max), expected, "{spoken}");
        }
    }

    #[test]
    fn the_name_of_a_contract_has_one_to_128_bytes() {
        for protocol in BOTH {
            let greet = |len: usize| {
                let contract = Contract::named("n".repeat(len), 4);
                FromClient::decode(&FromClient::Hello(Hello { contract, ..hello(protocol) }).encode())
            };
            for len in [1, CONTRACT_NAME_MAX] {
                assert!(greet(len).is_ok(), "{len}");
            }
            for len in [0, CONTRACT_NAME_MAX + 1] {
                assert_eq!(greet(len), Err("the contract's name is empty or too long"), "{len}");
            }
        }
    }

    #[test]
    fn every_form_survives_the_journey_and_no_other_does() {
        for protocol in BOTH {
            for form in [Form::Exchange, Form::Queue, Form::Stream, Form::Broadcast] {
                for encoding in [Encoding::MessagePack, Encoding::Postcard] {
                    let hello = hello(protocol);
                    let contract = Contract { encoding, ..hello.contract.clone().in_form(form) };
                    let hello = FromClient::Hello(Hello { contract, ..hello });
                    assert_eq!(FromClient::decode(&hello.encode()), Ok(hello));
                }
            }
            for (offset, value) in [(31, 4), (31, 255), (32, 2), (32, 255)] {
                let mut bytes = FromClient::Hello(hello(protocol)).encode();
                bytes[offset] = value;
                assert!(FromClient::decode(&bytes).is_err(), "{value} at {offset}");
            }
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_refused_and_one_that_is_too_long_where_nothing_may_follow() {
        for protocol in BOTH {
            let hello = FromClient::Hello(hello(protocol));
            let whole = hello.encode();
            for len in 0..whole.len() {
                assert!(FromClient::decode(&whole[..len]).is_err(), "{len}");
            }
            let longer = FromClient::decode(&[whole, vec![0; 9]].concat());
            assert_eq!(longer, if protocol.is_lenient() { Ok(hello) } else { Err("the message is too long") });
            let message = FromServer::Welcome(welcome(protocol));
            let whole = message.encode();
            for len in 0..whole.len() {
                assert!(FromServer::decode(&whole[..len], protocol).is_err(), "{len}");
            }
            let longer = FromServer::decode(&[whole, vec![0; 9]].concat(), protocol);
            assert_eq!(longer, if protocol.is_lenient() { Ok(message) } else { Err("the message is too long") });
        }
        assert!(FromClient::decode(&[KIND_READY, 0]).is_err());
        let replace = FromClient::Replace.encode();
        for wrong in [&replace[..4], &[&replace[..], b"?"].concat(), b"\x08WWHJ"] {
            assert!(FromClient::decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_greeting_of_another_version_is_understood_as_far_as_its_versions() {
        let ours = FromClient::Hello(hello(Protocol::V2)).encode();
        for (min, max) in [(0, 0), (3, 3), (3, u16::MAX), (3, 1)] {
            let mut foreign = ours[..13].to_vec();
            foreign[5..7].copy_from_slice(&u16::to_le_bytes(min));
            foreign[7..9].copy_from_slice(&u16::to_le_bytes(max));
            for tail in [&b""[..], b"?", &[0xff; 200]] {
                let Ok(FromClient::Hello(hello)) = FromClient::decode(&[&foreign, tail].concat()) else {
                    panic!("versions {min} to {max} with {} bytes more", tail.len());
                };
                assert_eq!((hello.protocol_min, hello.protocol_max, hello.layout_version), (min, max, 2));
            }
        }
    }

    #[test]
    fn no_byte_makes_it_panic() {
        for protocol in BOTH {
            let [welcome, refusal, ..] = from_server(protocol);
            for message in [FromClient::Hello(hello(protocol)).encode(), welcome.encode(), refusal.encode()] {
                for index in 0..message.len() {
                    for value in 0..=255 {
                        let mut bytes = message.clone();
                        bytes[index] = value;
                        let _ = FromClient::decode(&bytes);
                        let _ = BOTH.map(|protocol| FromServer::decode(&bytes, protocol));
                    }
                }
            }
        }
    }

    #[test]
    fn text_cannot_move_the_cursor_of_a_terminal_and_is_cut_on_a_character() {
        let nasty = FromServer::Refusal(Reason::Refused, "\x1b[2Jx\n".into());
        let read = FromServer::decode(&nasty.encode(), Protocol::V2);
        assert_eq!(read, Ok(FromServer::Refusal(Reason::Refused, " [2Jx ".into())));
        let long = FromServer::Refusal(Reason::Refused, "ä".repeat(2000)).encode();
        assert!(std::str::from_utf8(&long[2..]).is_ok() && long.len() <= TEXT_MAX + 2);
    }
}
