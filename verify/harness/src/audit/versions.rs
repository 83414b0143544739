//! G23: foreign peers. What another version, another implementation and another word size meet: they interoperate, or
//! are refused with a reason that names both sides. And every byte that goes over the wire or lies in the memory is the
//! one that docs/layout.md says, written out here by hand.

use std::path::Path;

use wigwag::{Request, Server, ShutdownHandle};
use wigwag_testing::wire::{self, READY};
use wigwag_testing::{Ground, Raw};

use crate::outcome::Outcome;
use crate::scale::Trial;

mod by_hand_server;
mod c_peer;

/// Tries G23.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut found = Findings::default();
    let versions = clients_of_other_versions(&mut found);
    let golden = golden_bytes_of_the_server(&mut found);
    let (versions_at_client, golden_at_client) = by_hand_server::run(&mut found);
    let c = c_peer::run(trial.pick(60, 2000, 200_000), &mut found)?;
    let figure = format!(
        "{} versions of clients and {versions_at_client} of servers served or refused by name; {} messages and words \
         as \
         docs/layout.md has them; {c}",
        versions,
        golden + golden_at_client,
    );
    Ok(Outcome::of(figure, found.0))
}

/// What was found wrong.
#[derive(Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Notes what is not as it must be; returns 1, to be counted.
    pub fn check(&mut self, is_right: bool, why: impl FnOnce() -> String) -> usize {
        if !is_right {
            self.0.push(why());
        }
        1
    }

    /// Compares bytes with those written by hand.
    pub fn golden(&mut self, what: &str, actual: &[u8], golden: &[u8]) -> usize {
        self.check(actual == golden, || format!("{what} is\n{actual:02x?}\nand must be\n{golden:02x?}"))
    }
}

/// A server in this process that inverts; it ends when this is dropped.
pub struct Inverting(ShutdownHandle, Option<std::thread::JoinHandle<()>>);

impl Inverting {
    /// Starts it.
    pub fn start(path: &Path, slots: usize, capacity: usize) -> Inverting {
        let mut server = Server::builder().slots(slots).capacity(capacity).bind(path).expect("a server");
        let stop = server.shutdown_handle();
        let invert = |request: &mut Request| request.iter_mut().for_each(|byte| *byte = !*byte);
        let thread = std::thread::spawn(move || server.serve(invert).expect("served to the end"));
        Inverting(stop, Some(thread))
    }
}

impl Drop for Inverting {
    fn drop(&mut self) {
        self.0.shutdown();
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

/// HELLO up to the versions, which never changes.
fn hello_of(protocol_min: u16, protocol_max: u16, layout: u32) -> Vec<u8> {
    let mut hello = b"\x01WWHI".to_vec();
    hello.extend(protocol_min.to_le_bytes());
    hello.extend(protocol_max.to_le_bytes());
    hello.extend(layout.to_le_bytes());
    hello
}

/// The rest of HELLO in protocol 1: slots and capacity, the contract, its name.
const REST: &[u8] = b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\x05bytes";

/// The rest in protocol 2, of a client that speaks layouts from `layout_min` on and requires those features.
fn rest_of_version_2(layout_min: u32, required: u64) -> Vec<u8> {
    let (fixed, name) = REST.split_at(REST.len() - 5);
    let mut rest = fixed.to_vec();
    rest.extend(layout_min.to_le_bytes());
    rest.extend([0xff; 8]); // whatever a later version offers
    rest.extend(required.to_le_bytes());
    rest.extend([0; 16]); // a clock that shows nothing, of nowhere
    rest.extend(name);
    rest
}

/// The features that a server of bytes without descriptors has: `BEGUN` and `MOVED`.
const SERVED: u64 = 1 << 1 | 1 << 2;

/// Clients that announce other versions, with HELLOs as those may look. Returns how many.
fn clients_of_other_versions(found: &mut Findings) -> usize {
    let ground = Ground::new();
    let _server = Inverting::start(&ground.socket(), 2, 100);
    let max = u16::MAX;
    let mut count = 0;
    let ask = |hello: Vec<u8>| {
        let socket = wire::connect_to(&ground.socket());
        wire::send(&socket, &hello, &[]).expect("said");
        wire::receive(&socket).expect("an answer")
    };
    // Ranges with 1 in them: all is as in version 1.
    let of_version_1 = [(1, 1), (0, 1), (1, 2), (0, max), (1, max)].map(|(low, high)| (low, high, REST.to_vec(), 1));
    // Ranges that begin with 2, with nothing or something that a later version has behind it.
    let later = [rest_of_version_2(2, 0), b"and more".to_vec()].concat();
    let of_version_2 =
        [(2, 2, rest_of_version_2(2, 0), 2), (2, max, rest_of_version_2(1, 0), 7), (2, 3, later, u32::MAX)];
    for (low, high, rest, layout) in of_version_1.into_iter().chain(of_version_2) {
        let answer = ask([hello_of(low, high, layout), rest].concat());
        let (version, len) = if low < 2 { (1, 20) } else { (2, 36) };
        let is_welcomed =
            answer.bytes.starts_with(&[3, 1, version, 0]) && answer.bytes.len() == len && answer.descriptors.len() == 3;
        count += found.check(is_welcomed, || {
            let end = answer.end();
            format!("protocols {low} to {high}: not welcomed in version {version}, but {:02x?} {end:?}", answer.bytes)
        });
        if low == 2 {
            // Layout 2, another clock, and of all features those that this server has.
            let golden = [[2, 0, 0, 0, 0, 0, 0, 0], SERVED.to_le_bytes()].concat();
            count += found.golden("WELCOME to a client of another clock", &answer.bytes[20..], &golden);
        }
    }
    let lower = [(0, 0, 1), (3, 3, 2), (3, max, 2), (max, max, 2), (2, 1, 2), (max, 0, 1)];
    let other_layout = [(1, 1, 0), (1, 1, 2), (0, max, u32::MAX), (1, 2, 7), (2, 2, 1), (2, max, 0)];
    for (low, high, layout) in lower.into_iter().chain(other_layout) {
        // In the shape of ours; cut off behind the versions; longer than anything of ours.
        let (first, second) = (REST.to_vec(), rest_of_version_2(2, 0));
        let tails: Vec<Vec<u8>> = match (low, high) {
            (0 | 1, 1..) => vec![first],
            (2, 2..) => vec![second],
            _ => vec![first, second, vec![], b"?".to_vec(), vec![0xff; 900]],
        };
        for tail in tails {
            let len = tail.len();
            let answer = ask([hello_of(low, high, layout), tail].concat());
            let why = answer.end();
            let theirs = [format!("{low} to {high}"), format!("{layout}: build")];
            let names_both = why.as_ref().is_some_and(|(reason, why)| {
                *reason == wire::VERSION
                    && answer.bytes[0] == 4
                    && why.contains("protocols 1 to 2 with layouts 1 to 2")
                    && theirs.iter().all(|theirs| why.contains(theirs))
            });
            count += found.check(names_both && answer.descriptors.is_empty(), || {
                format!(
                    "protocols {low} to {high}, layout {layout}, {len} bytes more: not refused by name, but {why:?} \
                     {:02x?}",
                    answer.bytes
                )
            });
        }
    }
    for bit in (0..64).filter(|bit| SERVED & 1 << bit != 0) {
        let answer = ask([hello_of(2, 2, 2), rest_of_version_2(2, 1 << bit)].concat());
        count += found.check(answer.bytes.starts_with(&[3]), || {
            format!("a client that requires feature {bit}: {:?}", answer.end())
        });
    }
    for bit in [0, 3, 40, 63] {
        let why = ask([hello_of(2, 2, 2), rest_of_version_2(2, 1 << bit)].concat()).end();
        let is_named = why.as_ref().is_some_and(|(reason, why)| {
            *reason == wire::VERSION && why.contains(&format!("requires the features {bit},"))
        });
        count += found.check(is_named, || format!("a client that requires feature {bit}: {why:?}"));
    }
    // All of this cost nobody anything.
    let raw = Raw::connect(&ground.socket());
    found.check(raw.call(0, 1, b"abc") == [!b'a', !b'b', !b'c'], || "a client of our version is served no more".into());
    count
}

/// The header of two slots of 100 bytes.
pub const HEADER: [u8; 64] = [
    0x57, 0x49, 0x47, 0x57, 0x41, 0x47, 0x00, 0xf5, // "WIGWAG"
    2, 0, 0, 0, 0x00, 0x10, 0, 0, // layout 2, pages of 4096
    2, 0, 0, 0, 100, 0, 0, 0, // slots, capacity
    0x00, 0x10, 0, 0, 0, 0, 0, 0, // stride 4096
    0x80, 0x10, 0, 0, 0, 0, 0, 0, // deadlines at 4224
    0x00, 0x20, 0, 0, 0, 0, 0, 0, // bodies at 8192
    0x00, 0x40, 0, 0, 0, 0, 0, 0, // 16384 bytes
    0xa4, 0x1c, 0x85, 0x55, 0xfa, 0xc1, 0xd3, 0xaf, // contract "bytes" version 0, size 0, alignment 0
];

/// WELCOME to the same, of a server with the same clock.
pub const WELCOME: [u8; 36] = [
    3, 1, 2, 0, 2, 0, 0, 0, 100, 0, 0, 0, 0x00, 0x40, 0, 0, 0, 0, 0, 0, //
    2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // layout, one clock, no features
];

/// What a real server says and writes to a client of version 1.
fn golden_bytes_of_version_1(ground: &Ground, found: &mut Findings) -> usize {
    let socket = wire::connect_to(&ground.socket());
    wire::send(&socket, &wire::hello_of_version_1(), &[]).expect("said");
    let welcome = wire::receive(&socket).expect("an answer");
    let mut golden = WELCOME[..20].to_vec();
    golden[2] = 1;
    let count = found.golden("WELCOME of version 1", &welcome.bytes, &golden);
    let mut header = [0; 64];
    let _ = rustix::io::pread(welcome.descriptors.first().expect("memory"), &mut header, 0);
    let mut golden = HEADER;
    golden[8] = 1;
    count + found.golden("the header of version 1", &header, &golden)
}

/// What a real server says and writes, byte by byte. Returns how many things were compared.
fn golden_bytes_of_the_server(found: &mut Findings) -> usize {
    let ground = Ground::new();
    let server = Inverting::start(&ground.socket(), 2, 100);
    let mut count = 0;
    let socket = wire::connect_to(&ground.socket());
    wire::send(&socket, &wire::hello(), &[]).expect("said");
    let welcome = wire::receive(&socket).expect("an answer");
    count += found.golden("WELCOME", &welcome.bytes, &WELCOME);
    let memory = welcome.descriptors.first().expect("memory");
    let mut page = [0; 8192];
    let read = rustix::io::pread(memory, &mut page, 0);
    count += found.check(read == Ok(8192), || format!("the memory is not to be read: {read:?}"));
    count += found.golden("the header", &page[..64], &HEADER);
    count += found.golden("`closed`, as no thread serves it yet", &page[1164..1168], &[1, 0, 0, 0]);
    let is_zero = |range: std::ops::Range<usize>| page[range].iter().all(|byte| *byte == 0);
    count += found.check(is_zero(64..1164) && is_zero(1168..page.len()), || "a new segment is not zero".into());
    wire::send(&socket, READY, &[]).expect("said");
    count += golden_bytes_of_version_1(&ground, found);

    let raw = Raw::connect(&ground.socket());
    raw.write(0, false, b"abc");
    raw.pass(0, 0x101, 0x1_0000_0003);
    raw.wait(0);
    let mut line = [0; 64];
    let _ = rustix::io::pread(&raw.memory, &mut line, 4096);
    let mut golden = [0; 64];
    golden[..19].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0x9e, 0x9d, 0x9c]);
    count += found.golden("the line of a reply", &line, &golden);

    let refused = wire::connect_to(&ground.socket());
    wire::send(&refused, &[9], &[]).expect("said");
    let refusal = wire::receive(&refused).map(|message| message.bytes).unwrap_or_default();
    count += found.golden("REFUSAL", &refusal, b"\x04\x04the message is of an unknown kind");
    drop(server);
    let farewell = wire::receive(&raw.socket).map(|message| message.bytes).unwrap_or_default();
    count + found.golden("FAREWELL", &farewell, b"\x05\x05the server shut down")
}
