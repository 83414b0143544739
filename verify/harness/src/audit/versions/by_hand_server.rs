//! A server by hand, for the library's client: what that says and writes, and what it makes of other versions.
//!
//! It touches the memory by reading and writing the memory object, so it needs no mapping.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with};
use wigwag::{Client, ErrorKind};
use wigwag_testing::{Ground, eventually, wire};

use super::{Findings, HEADER, WELCOME};

/// HELLO of a client that wants two slots of 100 bytes, up to what its clock shows.
const HELLO: [u8; 54] = *b"\x01WWHI\x02\0\x02\0\x02\0\0\0\x02\0\0\0\x64\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\
    \x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The same in the form of version 1.
const HELLO_OF_VERSION_1: [u8; 39] =
    *b"\x01WWHI\x01\0\x01\0\x01\0\0\0\x02\0\0\0\x64\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05bytes";
const TURN: u64 = 4096;
const HEAD: u64 = 4104;
const INLINE: u64 = 4112;
const DEADLINE: u64 = 4224;
const BODY: u64 = 8192;
const DEPTH: u64 = 1024;
const WAITING: u64 = 1152;

/// Returns how many versions were tried, and how many bytes and words were compared.
pub fn run(found: &mut Findings) -> (usize, usize) {
    (servers_of_other_versions(found), golden_bytes_of_the_client(found))
}

/// A session of the library's client with a server by hand.
struct ByHand {
    socket: OwnedFd,
    memory: OwnedFd,
    server_bell: OwnedFd,
    client_bell: OwnedFd,
    hello: Vec<u8>,
}

impl ByHand {
    /// Accepts one client and reads its HELLO.
    fn accept(listener: &OwnedFd) -> ByHand {
        let socket = accept_with(listener, SocketFlags::CLOEXEC).expect("a client");
        let hello = wire::receive(&socket).expect("HELLO").bytes;
        let memory = memfd_create("by-hand", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&memory, 16384).expect("its size");
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).expect("its seals");
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("a bell");
        ByHand { socket, memory, server_bell: bell(), client_bell: bell(), hello }
    }

    fn say(&self, message: &[u8]) {
        let descriptors = [self.memory.as_fd(), self.server_bell.as_fd(), self.client_bell.as_fd()];
        let count = match message {
            [3, has_client_bell, ..] => 2 + usize::from(*has_client_bell),
            _ => 0,
        };
        wire::send(&self.socket, message, &descriptors[..count]).expect("said");
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        assert_eq!(pwrite(&self.memory, bytes, offset), Ok(bytes.len()));
    }

    fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        assert_eq!(pread(&self.memory, &mut bytes, offset), Ok(N));
        bytes
    }

    /// Waits for the request with that sequence; the turn without the flags that the client may set meanwhile.
    fn wait(&self, sequence: u64) -> [u8; 8] {
        let turn = || u64::from_le_bytes(self.read(TURN));
        eventually("a request", || turn() >> 8 == sequence);
        (turn() & !2).to_le_bytes()
    }

    fn answer(&self, sequence: u64, head: u64, payload: &[u8]) {
        self.write(INLINE, payload);
        self.write(HEAD, &head.to_le_bytes());
        self.write(TURN, &(sequence << 8).to_le_bytes());
        let _ = rustix::io::write(&self.client_bell, &1u64.to_ne_bytes());
    }
}

fn listener(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("an address")).expect("bound");
    listen(&socket, 4).expect("listening");
    socket
}

/// Lets the library's client connect to a server by hand, which does `serve` meanwhile; then `use_it` has the client.
fn with_client<T>(serve: impl FnOnce(ByHand) + Send, use_it: impl FnOnce(wigwag::Result<Client>) -> T) -> T {
    with_clients(|listener| serve(ByHand::accept(listener)), use_it)
}

/// As [`with_client`], of a server that accepts as often as it wants.
fn with_clients<T>(serve: impl FnOnce(&OwnedFd) + Send, use_it: impl FnOnce(wigwag::Result<Client>) -> T) -> T {
    let ground = Ground::new();
    let listener = listener(&ground.socket());
    std::thread::scope(|scope| {
        scope.spawn(move || serve(&listener));
        use_it(Client::builder().slots(2).capacity(100).connect(ground.socket()))
    })
}

/// Servers that announce or use other versions. Returns how many.
fn servers_of_other_versions(found: &mut Findings) -> usize {
    let mut count = 0;
    for protocol in [0, 1, 3, 0xff] {
        let welcome = |hand: ByHand| {
            let mut welcome = WELCOME;
            welcome[2] = protocol;
            hand.write(0, &HEADER);
            hand.say(&welcome);
            wire::receive(&hand.socket);
        };
        let error = with_client(welcome, |client| client.err());
        count += found.check(error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Violation), || {
            format!("a server that chose protocol {protocol}, not offered: {error:?}")
        });
    }
    for layout in [0, 1, 3, 0xff] {
        let lies = |hand: ByHand| {
            let mut header = HEADER;
            header[8] = layout;
            hand.write(0, &header);
            hand.say(&WELCOME);
            wire::receive(&hand.socket);
        };
        let error = with_client(lies, |client| client.err());
        let names = [format!("layout_version: {layout},"), "layout_version: 2,".to_owned()];
        let names_both = error.as_ref().is_some_and(|error| {
            error.kind() == ErrorKind::Violation && names.iter().all(|name| error.to_string().contains(name))
        });
        count += found.check(names_both, || format!("a server with a segment of layout {layout}: {error:?}"));
    }
    for (offset, byte) in [(20, 1), (20, 3), (28, 1), (35, 0x80)] {
        let chooses = |hand: ByHand| {
            let mut welcome = WELCOME;
            welcome[offset] = byte;
            hand.write(0, &HEADER);
            hand.say(&welcome);
            wire::receive(&hand.socket);
        };
        let error = with_client(chooses, |client| client.err());
        count += found.check(error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Violation), || {
            format!("a server that chose {byte} at {offset}, not offered: {error:?}")
        });
    }
    count + a_server_of_version_1(found) + a_server_of_no_version(found)
}

/// A server of version 1 refuses a greeting of version 2, and gets one of its own.
fn a_server_of_version_1(found: &mut Findings) -> usize {
    let (mut greetings, mut welcome, mut header) = (Vec::new(), WELCOME[..20].to_vec(), HEADER);
    let mut client_line = [0; 64];
    (welcome[2], header[8]) = (1, 1);
    let is_answered = with_clients(
        |listener| {
            let hand = ByHand::accept(listener);
            hand.say(b"\x04\x03the server speaks protocol 1 with layout 1, the client protocols 2 to 2 with layout 2");
            greetings.push(hand.hello.clone());
            let hand = ByHand::accept(listener);
            greetings.push(hand.hello.clone());
            hand.write(0, &header);
            hand.write(WAITING, &[1, 0, 0, 0]); // so that the client rings, and says what it says with a ring
            hand.say(&welcome);
            wire::receive(&hand.socket);
            hand.wait(1);
            // Kinds of version 2 are violations here.
            hand.answer(1, 0x2_0000_0003, b"xyz");
            hand.wait(2);
            hand.answer(2, 0xb_0000_0009, b"\x01\0\0\0\0\0\0\0?");
            wire::receive(&hand.socket);
            client_line = hand.read(1024);
        },
        |client| {
            let client = client.map_err(|error| format!("{error:?}"))?;
            let first = client.call(b"abc").map(|reply| reply.to_vec());
            Ok::<_, String>((first, client.call(b"?").map(drop)))
        },
    );
    let is_right = is_answered.as_ref().is_ok_and(|(first, second)| {
        first.as_ref().is_ok_and(|reply| reply == b"xyz")
            && second.as_ref().is_err_and(|error| error.kind() == ErrorKind::Violation)
    });
    found.check(is_right, || format!("a session with a server of version 1: {is_answered:?}"))
        + found.golden("the client's line in a session of version 1", &client_line[16..], &[0; 48])
        + found.golden("HELLO", &greetings[0][..54], &HELLO)
        + found.golden("HELLO of version 1", &greetings[1], &HELLO_OF_VERSION_1)
}

/// A server that speaks neither: its second refusal is told.
fn a_server_of_no_version(found: &mut Findings) -> usize {
    let why = b"\x04\x03the server speaks protocols 8 to 9 with layouts 7 to 9";
    let refuse = |listener: &OwnedFd| (0..2).for_each(|_| ByHand::accept(listener).say(why));
    let error = with_clients(refuse, |client| client.err());
    let says_it = error.as_ref().is_some_and(|error| {
        error.kind() == ErrorKind::VersionMismatch && error.to_string().contains("protocols 8 to 9")
    });
    found.check(says_it, || format!("a refusal by a server of later versions: {error:?}"))
}

/// What the library's client says and writes, byte by byte. Returns how many things were compared.
fn golden_bytes_of_the_client(found: &mut Findings) -> usize {
    let mut count = 0;
    let serve = |hand: ByHand| {
        count += found.golden("HELLO", &hand.hello[..54], &HELLO);
        count += found.golden("the contract's name", &hand.hello[70..], b"bytes");
        let shown = u64::from_le_bytes(hand.hello[54..62].try_into().expect("eight bytes"));
        count += found.check(shown > 0, || "the client's clock shows nothing".into());
        hand.write(0, &HEADER);
        hand.write(WAITING, &[1, 0, 0, 0]);
        hand.say(&WELCOME);
        let ready = wire::receive(&hand.socket).map(|message| message.bytes).unwrap_or_default();
        count += found.golden("READY", &ready, &[2]);
        // A short request, in its line. It finds that we sleep, and rings once.
        count += found.golden("the turn of the first request", &hand.wait(1), &[1, 1, 0, 0, 0, 0, 0, 0]);
        count += found.golden("its head", &hand.read::<8>(HEAD), &[3, 0, 0, 0, 1, 0, 0, 0]);
        count += found.golden("its payload", &hand.read::<3>(INLINE), b"abc");
        count += found.golden("the depth", &hand.read::<4>(DEPTH), &[1, 0, 0, 0]);
        let mut rings = [0; 8];
        eventually("a ring", || rustix::io::read(&hand.server_bell, &mut rings).is_ok());
        count += found.golden("the ring", &rings, &1u64.to_ne_bytes());
        count += found.golden("`waiting` after it", &hand.read::<4>(WAITING), &[0; 4]);
        hand.answer(1, 0x2_0000_0003, b"xyz");
        // A long one, in its body, with a deadline.
        count += found.golden("the turn of the second request", &hand.wait(2), &[1, 2, 0, 0, 0, 0, 0, 0]);
        count += found.golden("its head", &hand.read::<8>(HEAD), &[100, 0, 0, 0, 1, 3, 0, 0]);
        count += found.golden("its payload", &hand.read::<100>(BODY), &[7; 100]);
        count += found.check(hand.read::<8>(DEADLINE) != [0; 8], || "there is no deadline".into());
        hand.answer(2, 0x3_0000_0002, b"no");
        // Answers of version 2: an error of the library, and what a later version may say.
        hand.wait(3);
        hand.answer(3, 0xb_0000_000f, b"\x04\0\0\0\0\0\0\0further");
        hand.wait(4);
        hand.answer(4, 0x80_0000_0005, b"later");
        hand.say(b"\xc8nothing to this version");
        // A farewell of a server that moves, while a request is under way that a handler has begun.
        hand.wait(5);
        hand.write(HEAD, &[1, 0, 0, 0, 10, 0, 0, 0]);
        hand.write(WAITING + 12, &[1, 0, 0, 0]);
        hand.say(b"\x05\x08good night");
    };
    let answers = with_client(serve, |client| {
        let client = client.map_err(|error| format!("{error:?}"))?;
        let first = client.call(b"abc").map(|reply| reply.to_vec());
        let second = client.call_timeout(&[7; 100], Duration::from_secs(20)).map(|reply| reply.to_vec());
        let others = [(); 3].map(|()| client.call(b"?").map(|reply| reply.to_vec()));
        Ok::<_, String>((first, second, others))
    });
    let is_right = answers.as_ref().is_ok_and(|(first, second, [far, later, third])| {
        first.as_ref().is_ok_and(|reply| reply == b"xyz")
            && second.as_ref().is_err_and(|error| error.kind() == ErrorKind::HandlerFailed && error.to_string() == "no")
            && far.as_ref().is_err_and(|error| {
                error.kind() == ErrorKind::ServerClosed { maybe_executed: false } && error.to_string() == "further"
            })
            && later
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::Unanswered && error.to_string().contains("later"))
            && third.as_ref().is_err_and(|error| {
                error.kind() == ErrorKind::ServerClosed { maybe_executed: true }
                    && error.to_string().contains("good night")
            })
    });
    count + found.check(is_right, || format!("what the client made of a server by hand: {answers:?}")) + bell(found)
}

/// Clients of other users have no bell: they are sent a BELL message.
fn bell(found: &mut Findings) -> usize {
    let serve = |hand: ByHand| {
        let mut welcome = WELCOME;
        welcome[1] = 0;
        hand.write(0, &HEADER);
        hand.say(&welcome);
        wire::receive(&hand.socket);
        hand.wait(1);
        eventually("the client sleeps", || hand.read::<1>(TURN)[0] & 2 != 0);
        hand.answer(1, 0x2_0000_0001, b"!");
        hand.say(&[6]);
        wire::receive(&hand.socket);
    };
    let reply = with_client(serve, |client| client.and_then(|client| client.call(b"?").map(|reply| reply.to_vec())));
    found.check(reply.as_ref().is_ok_and(|reply| reply == b"!"), || format!("a client woken by BELL: {reply:?}"))
}
