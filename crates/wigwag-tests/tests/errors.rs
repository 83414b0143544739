//! What bad input gets: each a typed error with a sentence that names the value, the limit and the cure; and nothing
//! that a bad peer does costs anybody else anything.

#[path = "support/workshop.rs"]
mod workshop;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use wigwag::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use wigwag::{
    Client, ClientBuilder, Contract, Error, ErrorKind, Payload, Pending, Reply, Request, Sender, Server, ServerBuilder,
    Stream, TypedClient, TypedServer,
};
use wigwag_testing::wire::{self, LATER, READY, VIOLATION, hello, hello_of_version_1};
use wigwag_testing::{Ground, LIMIT, Process, check_inverted, eventually, fill, role};
use wigwag_testing::{RawServer, SERVER, Snapshot};
use workshop::{ORDER, Workshop};

#[test]
#[ignore = "a role: other tests start it as a process"]
fn workshop() {
    role("workshop", workshop::play);
}

/// The kind, and everything that the sentence must say.
#[track_caller]
fn check(error: &Error, kind: ErrorKind, says: &[&str]) {
    let sentence = error.to_string();
    assert_eq!(error.kind(), kind, "{sentence}");
    for part in says {
        assert!(sentence.contains(part), "{sentence:?} does not say {part:?}");
    }
}

#[track_caller]
fn invert(client: &Client, len: usize, seed: u64) {
    let mut loan = client.loan(len).unwrap();
    fill(&mut loan, seed);
    check_inverted(&loan.call().unwrap(), len, seed);
}

// ---- names and paths ------------------------------------------------------------------------------------------------

#[test]
fn a_bad_name_is_told_what_is_wrong_with_it() {
    let long = [b'x'; 200];
    let cases: [(&[u8], &[&str]); 6] = [
        (b"", &["is empty"]),
        (b"some/name", &["`some/name`", "contains a slash", "begin it with / or ./"]),
        (b"some\0name", &["NUL byte at position 4"]),
        (b"..", &["stands for a directory"]),
        (&long, &["`xxxxx", "...`", "has 200 bytes, and "]),
        (b"escape\x1b[2J/", &["escape\\x1b[2J/"]),
    ];
    for (name, says) in cases {
        let name = OsStr::from_bytes(name);
        check(&Client::connect(name).unwrap_err(), ErrorKind::NameInvalid, says);
        check(&Server::bind(name).unwrap_err(), ErrorKind::NameInvalid, says);
    }
}

#[test]
fn a_bad_path_is_told_what_is_wrong_with_it() {
    let ground = Ground::new();
    let cases = [
        ("/".to_owned(), "does not end in a file name"),
        (format!("{}/", ground.path("x").display()), "ends in a slash"),
        (ground.path(&"x".repeat(200)).to_str().unwrap().to_owned(), "a name of 200 bytes, and "),
    ];
    for (path, says) in cases {
        check(&Client::connect(&path).unwrap_err(), ErrorKind::PathInvalid, &[&path, says]);
        check(&Server::bind(&path).unwrap_err(), ErrorKind::PathInvalid, &[&path, says]);
    }
}

#[test]
fn the_longest_name_that_is_allowed_works_wherever_it_lies() {
    let ground = Ground::new();
    let deep = ground.path(&"d".repeat(200));
    fs::create_dir(&deep).unwrap();
    fs::set_permissions(&deep, PermissionsExt::from_mode(0o700)).unwrap();
    let refusal = Client::connect(deep.join("x".repeat(200))).unwrap_err().to_string();
    let (_, limit) = refusal.split_once("bytes, and ").expect("the sentence names the limit");
    let limit: usize = limit.split(' ').next().unwrap().parse().unwrap();
    assert!(limit >= 50, "{limit}");
    check(&Server::bind(deep.join("x".repeat(limit + 1))).unwrap_err(), ErrorKind::PathInvalid, &[&limit.to_string()]);
    // With descriptors of several digits, too.
    let _held: Vec<_> = (0..150).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let _server = Server::bind(deep.join("x".repeat(limit))).unwrap();
    Client::connect(deep.join("x".repeat(limit))).unwrap();
    Process::start("longest_name", [ground.path("").as_os_str(), limit.to_string().as_ref()]).join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn longest_name() {
    role("longest_name", |_, arguments| {
        // SAFETY: this process has no other thread that reads the environment: it plays a role, and nothing else.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", arguments[0]) };
        let name = "n".repeat(arguments[1].parse().unwrap());
        let _server = Server::bind(&name).unwrap();
        Client::connect(&name).unwrap();
    });
}

#[test]
fn what_stands_at_the_path_and_is_not_ours_is_left_alone() {
    let ground = Ground::new();
    let file = ground.path("precious");
    fs::write(&file, "data").unwrap();
    check(&Client::connect(&file).unwrap_err(), ErrorKind::PathInvalid, &["precious", "is not a socket"]);
    check(&Server::bind(&file).unwrap_err(), ErrorKind::PathInvalid, &["precious", "not a socket", "remove it or"]);
    assert_eq!(fs::read(&file).unwrap(), b"data");

    let stream = ground.path("stream");
    let listener = UnixListener::bind(&stream).unwrap();
    check(&Client::connect(&stream).unwrap_err(), ErrorKind::PathInvalid, &["stream", "a socket of another kind"]);
    check(&Server::bind(&stream).unwrap_err(), ErrorKind::PathInvalid, &["stream", "another program", "remove it or"]);
    UnixStream::connect(&stream).expect("the other program still has its socket");
    let mut there: Vec<_> = fs::read_dir(ground.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["precious", "stream"], "a server that could not be leaves nothing");
    drop(listener);
    drop(Server::bind(&stream).expect("nobody listens there any more"));
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let ground = Ground::new();
    let open = ground.path("open");
    fs::create_dir(&open).unwrap();
    for (mode, shown) in [(0o777, "777"), (0o770, "770"), (0o1777, "1777")] {
        fs::set_permissions(&open, PermissionsExt::from_mode(mode)).unwrap();
        let says = [open.to_str().unwrap(), shown, "chmod 700"];
        check(&Server::bind(open.join("x")).unwrap_err(), ErrorKind::DirectoryUnsafe, &says);
        check(&Client::connect(open.join("x")).unwrap_err(), ErrorKind::DirectoryUnsafe, &says);
    }
    fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(&open, ground.path("link")).unwrap();
    let through_link = ground.path("link/x");
    check(&Server::bind(&through_link).unwrap_err(), ErrorKind::DirectoryUnsafe, &["a symbolic link"]);
    check(&Client::connect(&through_link).unwrap_err(), ErrorKind::DirectoryUnsafe, &["a symbolic link"]);
    drop(Server::bind(open.join("x")).unwrap());
}

#[test]
fn a_server_that_is_not_there_is_told_how_to_start() {
    let ground = Ground::new();
    let path = ground.path("absent");
    let start = [format!("Server::bind(\"{}\")", path.display()), format!("wigwag serve {} --do echo", path.display())];
    let says = [path.to_str().unwrap(), &start[0], &start[1]];
    check(&Client::connect(&path).unwrap_err(), ErrorKind::NotRunning, &says);
    check(&Client::connect(ground.path("no/directory")).unwrap_err(), ErrorKind::NotRunning, &["wigwag serve"]);
    let no_directory = Server::bind(ground.path("no/directory")).unwrap_err();
    check(&no_directory, ErrorKind::PathInvalid, &["does not exist", "create it"]);
}

#[test]
fn c7_whoever_is_missing_is_called_by_its_name_and_the_command_can_be_typed() {
    let name = "nobody.has.this.name";
    let says = |server: &str, command: &str| [format!("{server}::bind(\"{name}\")"), format!("`wigwag {command}`")];
    let missing = [
        (Client::connect(name).map(drop), says("Server", &format!("serve {name} --do echo"))),
        (Sender::connect(name).map(drop), says("Receiver", &format!("queue recv {name} --keep"))),
        (Stream::connect(name).map(drop), says("StreamListener", &format!("stream listen {name}"))),
    ];
    for (outcome, says) in missing {
        check(&outcome.unwrap_err(), ErrorKind::NotRunning, &says.each_ref().map(String::as_str));
    }
    // Options stand before what ends them.
    let missing = [
        (Client::connect("-x").map(drop), "`wigwag serve --do echo -- -x`"),
        (Sender::connect("-x").map(drop), "`wigwag queue recv --keep -- -x`"),
        (Stream::connect("-x").map(drop), "`wigwag stream listen -- -x`"),
    ];
    for (outcome, command) in missing {
        check(&outcome.unwrap_err(), ErrorKind::NotRunning, &[command]);
    }
}

#[test]
fn w13_a_sandbox_that_does_not_tell_limits_makes_nothing_panic() {
    let ground = Ground::new();
    let mut child = Process::start("in_a_sandbox_without_limits", [ground.path("")]);
    child.expect("served and held");
    child.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn in_a_sandbox_without_limits() {
    role("in_a_sandbox_without_limits", |parent, arguments| {
        let ground = Path::new(arguments[0]);
        wigwag_testing::others::without_call(libc::SYS_prlimit64);
        let mut server = Server::bind(ground.join("server")).unwrap();
        let stop = server.shutdown_handle();
        let serving = std::thread::spawn(move || server.serve(|request| request.reverse()));
        let client = Client::connect(ground.join("server")).unwrap();
        assert_eq!(client.call(&[1, 2]).unwrap()[..], [2, 1]);
        stop.shutdown();
        serving.join().unwrap().unwrap();
        let semaphore = wigwag::Semaphore::open(ground.join("semaphore"), 1).unwrap();
        drop(semaphore.acquire().unwrap());
        parent.tell("served and held");
    });
}

#[test]
fn s6_a_reply_of_a_kind_that_answers_no_call_is_a_violation() {
    for kind in [5, 0, 1, 6, 7, 8, 9, 10, 11, 12, 127, 128, 255] {
        let ground = Ground::new();
        let server = RawServer::bind(&ground.socket());
        let serving = std::thread::spawn(move || server.serve(4, 4096));
        let client = Client::connect(ground.socket()).unwrap();
        let raw = serving.join().unwrap();
        let mut pending = client.loan(0).unwrap().send().unwrap();
        let slot = (0..4).find(|slot| raw.turn(*slot).load(Ordering::Acquire) & SERVER != 0).unwrap();
        raw.head(slot).store(kind << 32, Ordering::Relaxed);
        raw.turn(slot).fetch_and(!SERVER, Ordering::AcqRel);
        let error = pending.try_wait().expect("the turn was passed").unwrap_err();
        match kind {
            5 => check(&error, ErrorKind::Unanswered, &["without an answer"]),
            128.. => check(&error, ErrorKind::Unanswered, &["a way that this version does not know"]),
            _ => check(&error, ErrorKind::Violation, &["broke the protocol", &format!("head {:#x}", kind << 32)]),
        }
    }
}

#[test]
fn the_runtime_directory_is_checked_like_any_other() {
    let ground = Ground::new();
    let mut child = Process::start("in_bad_runtime_directories", [ground.path("")]);
    child.expect("done");
    child.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn in_bad_runtime_directories() {
    role("in_bad_runtime_directories", |parent, arguments| {
        let ground = Path::new(arguments[0]);
        let set = |value: &Path| {
            // SAFETY: this process has no other thread that reads the environment: it plays a role, and nothing else.
            unsafe { std::env::set_var("XDG_RUNTIME_DIR", value) };
        };
        set(&ground.join("absent"));
        let says = ["absent", "does not exist: create it, or unset XDG_RUNTIME_DIR"];
        check(&Server::bind("name").unwrap_err(), ErrorKind::DirectoryUnsafe, &says);
        check(&Client::connect("name").unwrap_err(), ErrorKind::NotRunning, &["`name`", "wigwag serve name"]);

        let shared = ground.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        set(&shared);
        check(&Server::bind("name").unwrap_err(), ErrorKind::DirectoryUnsafe, &["shared", "mode 777"]);
        check(&Client::connect("name").unwrap_err(), ErrorKind::DirectoryUnsafe, &["shared", "mode 777"]);

        let swapped = ground.join("swapped");
        fs::create_dir_all(swapped.join("wigwag")).unwrap();
        fs::set_permissions(&swapped, PermissionsExt::from_mode(0o700)).unwrap();
        fs::set_permissions(swapped.join("wigwag"), PermissionsExt::from_mode(0o777)).unwrap();
        set(&swapped);
        check(&Server::bind("name").unwrap_err(), ErrorKind::DirectoryUnsafe, &["swapped/wigwag", "mode 777"]);
        check(&Client::connect("name").unwrap_err(), ErrorKind::DirectoryUnsafe, &["swapped/wigwag", "mode 777"]);
        parent.tell("done");
    });
}

#[test]
fn a_second_server_on_the_name_is_refused_and_a_killed_one_replaced() {
    let ground = Ground::new();
    let mut first = Workshop::start(&ground, &[]);
    let says = [ground.socket().to_str().unwrap().to_owned(), "stop it, or take another name".to_owned()];
    let says = [says[0].as_str(), says[1].as_str()];
    check(&Server::bind(ground.socket()).unwrap_err(), ErrorKind::NameTaken, &says);
    invert(&Client::connect(ground.socket()).unwrap(), 100, 1);

    first.process.kill();
    let left: usize = fs::read_dir(ground.path("")).unwrap().count();
    assert_eq!(left, 2, "the socket and its lock");
    let error = Client::connect(ground.socket()).unwrap_err();
    check(&error, ErrorKind::NotRunning, &["a server that is gone left it", "wigwag serve"]);

    let second = Workshop::start(&ground, &[]);
    check(&Server::bind(ground.socket()).unwrap_err(), ErrorKind::NameTaken, &says);
    invert(&Client::connect(ground.socket()).unwrap(), 100, 2);
    second.stop();
    assert_eq!(fs::read_dir(ground.path("")).unwrap().count(), 0);
}

// ---- a server that is none ------------------------------------------------------------------------------------------

fn listen(ground: &Ground, backlog: i32) -> OwnedFd {
    let family = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family.0, family.1, family.2, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(ground.socket()).unwrap()).unwrap();
    rustix::net::listen(&socket, backlog).unwrap();
    socket
}

/// Listens where a server would, and does something to each client that connects.
fn impostor(ground: &Ground, welcome: impl Fn(&OwnedFd) + Send + 'static) {
    let socket = listen(ground, 16);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        // Until the test's process ends.
        while let Ok(client) = rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
            welcome(&client);
            held.push(client);
        }
    });
}

fn quickly() -> ClientBuilder {
    Client::builder().timeout(Duration::from_millis(100))
}

/// A welcome that announces a segment of one slot with 4096 bytes, and whose numbers are right.
fn welcome(slots: u32, capacity: u32, segment_size: u64) -> Vec<u8> {
    let mut welcome = vec![3, 1, 2, 0];
    welcome.extend(slots.to_le_bytes());
    welcome.extend(capacity.to_le_bytes());
    welcome.extend(segment_size.to_le_bytes());
    welcome.extend(wire::WELCOME_EXTENSION);
    welcome
}

const SIZE: u64 = 12_288;

fn memory(size: u64, seals: rustix::fs::SealFlags) -> OwnedFd {
    use rustix::fs::MemfdFlags;
    let memory = rustix::fs::memfd_create("impostor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&memory, size).unwrap();
    rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
    memory
}

#[test]
fn a_server_that_never_answers_is_waited_for_as_long_as_was_said() {
    let ground = Ground::new();
    impostor(&ground, |_| {});
    let error = quickly().connect(ground.socket()).unwrap_err();
    check(&error, ErrorKind::TimedOut { maybe_executed: false }, &["did not answer within 100 ms"]);
    let error = Client::connect_timeout(ground.socket(), Duration::from_millis(1)).unwrap_err();
    check(&error, ErrorKind::TimedOut { maybe_executed: false }, &["1 ms"]);
}

#[test]
fn a_server_that_does_not_accept_is_waited_for_as_long_as_was_said() {
    let ground = Ground::new();
    let _socket = listen(&ground, 0);
    let _first_in_the_queue = wire::connect_to(&ground.socket());
    let error = quickly().connect(ground.socket()).unwrap_err();
    check(&error, ErrorKind::TimedOut { maybe_executed: false }, &["did not accept within 100 ms"]);
}

#[test]
fn a_server_that_hangs_up_has_died() {
    let ground = Ground::new();
    impostor(&ground, |client| rustix::net::shutdown(client, rustix::net::Shutdown::Both).unwrap());
    let error = Client::connect(ground.socket()).unwrap_err();
    check(&error, ErrorKind::PeerDied { maybe_executed: false }, &["went away during the handshake"]);
}

#[test]
fn a_server_that_speaks_something_else_broke_the_protocol() {
    let size = SealedSizes::new();
    type Case = (&'static str, Box<dyn Fn(&OwnedFd) + Send>);
    let says = |bytes: Vec<u8>| Box::new(move |client: &OwnedFd| wire::send(client, &bytes, &[]).unwrap());
    let sends = |bytes: Vec<u8>, memory: OwnedFd, more: usize| {
        Box::new(move |client: &OwnedFd| {
            let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
            let mut descriptors = vec![memory.as_fd()];
            descriptors.extend(std::iter::repeat_n(bell.as_fd(), more));
            wire::send(client, &bytes, &descriptors).unwrap();
        })
    };
    let cases: Vec<Case> = vec![
        ("an unknown kind", says(b"HTTP/1.1 200 OK\r\n".to_vec())),
        ("too short", says(vec![3, 1])),
        ("too long", says([welcome(1, 4096, SIZE), vec![0; 5000]].concat())),
        ("neither yes nor no", says([vec![3, 7], welcome(1, 4096, SIZE)[2..].to_vec()].concat())),
        ("rang before it welcomed", says(vec![6])),
        ("impossible geometry", says(welcome(0, 4096, SIZE))),
        ("impossible geometry", says(welcome(1, u32::MAX, SIZE))),
        ("impossible geometry", says(welcome(4096, 1 << 30, u64::MAX))),
        ("not offered", says([vec![3, 1, 9, 9], welcome(1, 4096, SIZE)[4..].to_vec()].concat())),
        ("too few descriptors", says(welcome(1, 4096, SIZE))),
        ("too few descriptors", sends(welcome(1, 4096, SIZE), memory(SIZE, size.sealed), 0)),
        ("other descriptors than it announced", sends(welcome(1, 4096, SIZE), memory(SIZE, size.sealed), 1)),
        ("other descriptors than it announced", sends(welcome(1, 4096, SIZE), memory(SIZE, size.sealed), 3)),
        ("can still change its size", sends(welcome(1, 4096, SIZE), memory(SIZE, size.none), 2)),
        ("can still change its size", sends(welcome(1, 4096, SIZE), memory(SIZE, size.half), 2)),
        ("has 4096 bytes where 12288 were announced", sends(welcome(1, 4096, SIZE), memory(4096, size.sealed), 2)),
        ("not a memfd", sends(welcome(1, 4096, SIZE), file(), 2)),
        ("the segment's header is", sends(welcome(1, 4096, SIZE), memory(SIZE, size.sealed), 2)),
    ];
    for (sentence, welcome) in cases {
        let ground = Ground::new();
        impostor(&ground, welcome);
        check(&Client::connect(ground.socket()).unwrap_err(), ErrorKind::Violation, &[sentence]);
    }
}

struct SealedSizes {
    none: rustix::fs::SealFlags,
    half: rustix::fs::SealFlags,
    sealed: rustix::fs::SealFlags,
}

impl SealedSizes {
    fn new() -> SealedSizes {
        use rustix::fs::SealFlags;
        SealedSizes { none: SealFlags::empty(), half: SealFlags::GROW, sealed: SealFlags::GROW | SealFlags::SHRINK }
    }
}

fn file() -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    file.into()
}

/// As a client is that was too slow for the server's deadline: the refusal comes after the welcome, before READY.
#[test]
fn a_client_that_is_turned_away_after_its_welcome_is_told_why() {
    let genuine = Ground::new();
    let _server = Server::builder().slots(1).capacity(4096).bind(genuine.socket()).unwrap();
    let path = genuine.socket();
    let ground = Ground::new();
    impostor(&ground, move |client| {
        let inner = wire::connect_to(&path);
        wire::send(&inner, &hello(), &[]).unwrap();
        let welcome = wire::receive(&inner).unwrap();
        let descriptors: Vec<_> = welcome.descriptors.iter().map(AsFd::as_fd).collect();
        wire::send(client, &welcome.bytes, &descriptors).unwrap();
        wire::send(client, b"\x04\x01too slow", &[]).unwrap();
        rustix::net::shutdown(client, rustix::net::Shutdown::Both).unwrap();
    });
    // On a busy machine READY may have been quicker; then the first call is told.
    let was_told = (0..50).any(|_| match Client::connect(ground.socket()) {
        Err(error) => {
            check(&error, ErrorKind::Refused, &["refused the session: too slow"]);
            true
        }
        Ok(client) => {
            let error = client.call(b"too late").unwrap_err();
            assert!(error.to_string().contains("too slow"), "{error:?}");
            false
        }
    });
    assert!(was_told);
}

#[test]
fn a_refusal_cannot_steer_a_terminal() {
    let ground = Ground::new();
    impostor(&ground, |client| wire::send(client, b"\x04\x01\x1b[2Jno\nroom", &[]).unwrap());
    let error = Client::connect(ground.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().ends_with(" [2Jno room"), "{error:?}");
}

/// Whatever a bad server sent is gone again. In a process of its own, where nothing else opens descriptors.
#[test]
fn a_refused_client_keeps_nothing() {
    let child = Process::start("often_refused", [Ground::new().path("")]);
    child.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn often_refused() {
    role("often_refused", |_, _| {
        let sealed = SealedSizes::new().sealed;
        let grounds: Vec<Ground> = (0..4).map(|_| Ground::new()).collect();
        impostor(&grounds[0], move |client| {
            let memory = memory(SIZE, sealed);
            // Too many for the message: the kernel drops some, and the client the rest.
            wire::send(client, &welcome(1, 4096, SIZE), &[memory.as_fd(); 60]).unwrap();
            let _ = rustix::net::shutdown(client, rustix::net::Shutdown::Both);
        });
        impostor(&grounds[1], move |client| {
            let memory = memory(SIZE, sealed);
            wire::send(client, &welcome(1, 4096, SIZE), &[memory.as_fd(); 3]).unwrap();
        });
        let contract = Contract::named("other", 1);
        let _server = Server::builder().contract(contract).bind(grounds[2].socket()).unwrap();
        let _threads: Vec<_> = grounds[..3].iter().map(|ground| Client::connect(ground.socket()).is_ok()).collect();
        let baseline = own_side();
        for ground in &grounds {
            for _ in 0..20 {
                Client::connect(ground.socket()).unwrap_err();
            }
        }
        eventually("a refused client keeps nothing", || own_side() == baseline);
    });
}

/// What this process holds, but for the sockets that an impostor keeps.
fn own_side() -> Snapshot {
    let mut snapshot = Snapshot::of(std::process::id());
    snapshot.descriptors.remove("socket");
    snapshot
}

// ---- agreements -----------------------------------------------------------------------------------------------------

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug)]
#[repr(C)]
struct Tick {
    at: u64,
}

impl Payload for Tick {
    const NAME: &'static str = "Tick";
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug)]
#[repr(C)]
struct LongTick {
    at: u64,
    until: u64,
}

impl Payload for LongTick {
    const NAME: &'static str = "Tick";
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy, Debug)]
#[repr(C)]
struct NextTick {
    at: u64,
}

impl Payload for NextTick {
    const NAME: &'static str = "Tick";
    const VERSION: u32 = 1;
}

#[test]
fn a_contract_that_differs_shows_both() {
    let ground = Ground::new();
    let _server = TypedServer::<Tick>::bind(ground.socket()).unwrap();
    let mismatch = |error: Error, theirs: &str| {
        check(&error, ErrorKind::ContractMismatch, &["serves Tick version 0 (8 bytes, align 8)", theirs]);
    };
    mismatch(Client::connect(ground.socket()).unwrap_err(), "the client speaks bytes version 0");
    mismatch(TypedClient::<LongTick>::connect(ground.socket()).unwrap_err(), "Tick version 0 (16 bytes, align 8)");
    mismatch(TypedClient::<NextTick>::connect(ground.socket()).unwrap_err(), "Tick version 1 (8 bytes, align 8)");
    let named = Contract::named("a\x1bname", 3);
    mismatch(Client::builder().contract(named).connect(ground.socket()).unwrap_err(), "a\\u{1b}name version 3");
    TypedClient::<Tick>::connect(ground.socket()).unwrap();

    let bytes = Ground::new();
    let _server = Server::bind(bytes.socket()).unwrap();
    let error = TypedClient::<Tick>::connect(bytes.socket()).unwrap_err();
    check(&error, ErrorKind::ContractMismatch, &["serves bytes version 0", "speaks Tick version 0 (8 bytes, align 8)"]);
}

#[test]
fn another_version_of_the_protocol_shows_both() {
    let ground = Ground::new();
    let _server = Server::bind(ground.socket()).unwrap();
    let mut newer = hello();
    newer[5..9].copy_from_slice(&[7, 0, 9, 0]);
    let mut other_layout = hello_of_version_1();
    other_layout[9] = 99;
    for (hello, says) in [(newer, "the client protocols 7 to 9"), (other_layout, "layout 99")] {
        let socket = wire::connect_to(&ground.socket());
        wire::send(&socket, &hello, &[]).unwrap();
        let (reason, why) = wire::receive_end(&socket).unwrap();
        assert_eq!(reason, 3);
        assert!(why.contains("protocols 1 to 2 with layouts 1 to 2") && why.contains(says), "{why}");
    }
}

#[test]
fn a_payload_over_the_capacity_shows_both_numbers() {
    let ground = Ground::new();
    let mut server = Server::builder().capacity(5000).bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || {
        server.serve(|request: &mut Request| {
            assert_eq!(request.capacity(), 5000);
            let before = request.to_vec();
            for error in [request.resize(5001).unwrap_err(), request.set_reply(&[0; 5001]).unwrap_err()] {
                check_capacity(&error, 5001, 5000);
            }
            assert_eq!(before, request[..], "a failed resize changes nothing");
            request.resize(5000)
        })
    });
    let client = Client::connect(ground.socket()).unwrap();
    for error in [
        client.loan(5001).unwrap_err(),
        client.try_loan(5001).unwrap_err(),
        client.loan_timeout(5001, LIMIT).unwrap_err(),
        client.call(&[0; 5001]).unwrap_err(),
        client.call_timeout(&[0; 5001], LIMIT).unwrap_err(),
    ] {
        check_capacity(&error, 5001, 5000);
    }
    check_capacity(&client.loan(usize::MAX).unwrap_err(), usize::MAX, 5000);
    let reply = client.call(&[1; 10]).unwrap();
    assert_eq!(reply.len(), 5000);
    check_capacity(&reply.into_loan(5001).unwrap_err(), 5001, 5000);
    drop(client.loan(5000).unwrap());

    let error = Client::builder().capacity(5001).connect(ground.socket()).unwrap_err();
    check(&error, ErrorKind::Refused, &["wants 5001 bytes of capacity", "allows 5000", "ServerBuilder::capacity"]);
    let small = Client::builder().capacity(100).connect(ground.socket()).unwrap();
    check_capacity(&small.loan(101).unwrap_err(), 101, 100);
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[track_caller]
fn check_capacity(error: &Error, len: usize, capacity: usize) {
    let says = [format!("{len} bytes"), format!("capacity is {capacity} bytes"), "ClientBuilder::capacity".to_owned()];
    check(error, ErrorKind::CapacityExceeded { len, capacity }, &says.each_ref().map(String::as_str));
}

#[test]
fn builders_refuse_numbers_out_of_their_limits() {
    let ground = Ground::new();
    let name = ground.socket();
    let invalid = |error: Error, says: &str| check(&error, ErrorKind::InvalidConfiguration, &[says]);
    invalid(Server::builder().slots(0).bind(&name).unwrap_err(), "0 slots are outside of 1 to 4096");
    invalid(Server::builder().slots(4097).bind(&name).unwrap_err(), "4097 slots are outside of 1 to 4096");
    invalid(Server::builder().capacity((1 << 30) + 1).bind(&name).unwrap_err(), "1073741825 bytes is above");
    invalid(Client::builder().slots(0).connect(&name).unwrap_err(), "0 slots");
    invalid(Client::builder().slots(4097).connect(&name).unwrap_err(), "4097 slots");
    invalid(Client::builder().capacity(usize::MAX).connect(&name).unwrap_err(), "above the most possible, 1073741824");
    for (len, says) in [(0, "0 bytes"), (129, "129 bytes")] {
        let contract = Contract::named("x".repeat(len), 0);
        invalid(Server::builder().contract(contract.clone()).bind(&name).unwrap_err(), says);
        invalid(Client::builder().contract(contract).connect(&name).unwrap_err(), says);
    }
    let mut server = Server::builder().contract(Contract::named("x".repeat(128), 0)).bind(&name).unwrap();
    invalid(server.serve_on(0, |_| ()).unwrap_err(), "at least one thread");
}

// ---- limits ---------------------------------------------------------------------------------------------------------

/// Two clients fit, a third does not; when one leaves, it does.
fn only_two_fit(limits: ServerBuilder, says: &[&str]) {
    let ground = Ground::new();
    let server = limits.bind(ground.socket()).unwrap();
    let first = Client::connect(ground.socket()).unwrap();
    let _second = Client::connect(ground.socket()).unwrap();
    for _ in 0..3 {
        let error = Client::connect(ground.socket()).unwrap_err();
        check(&error, ErrorKind::Refused, says);
        check(&error, ErrorKind::Refused, &["the server refused the session"]);
    }
    drop(first);
    let mut third = None;
    eventually("the place of a client that left is free", || {
        third = Client::connect(ground.socket()).ok();
        third.is_some()
    });
    assert!(Client::connect(ground.socket()).is_err());
    eventually("all are counted", || server.stats().sessions == 2 && server.stats().sessions_refused >= 4);
}

#[test]
fn limits_refuse_with_their_numbers() {
    let small = || Server::builder().slots(1).capacity(100_000);
    only_two_fit(small().max_sessions(2), &["all 2 sessions the server allows", "ServerBuilder::max_sessions)"]);
    only_two_fit(small().max_sessions_per_user(2), &["all 2 sessions the server allows one user"]);
    only_two_fit(small().max_bytes_total(300_000), &["110592 more", "300000", "ServerBuilder::max_bytes_total"]);

    let ground = Ground::new();
    let _server = Server::builder().slots(4).max_bytes_per_session(300_000).bind(ground.socket()).unwrap();
    let error = Client::connect(ground.socket()).unwrap_err();
    let says = ["4 slots of 1048576 bytes make", "allows 300000 for a session", "ServerBuilder::max_bytes_per_session"];
    check(&error, ErrorKind::Refused, &says);
    let error = Client::builder().slots(5).connect(ground.socket()).unwrap_err();
    check(&error, ErrorKind::Refused, &["wants 5 slots, the server allows 4", "ServerBuilder::slots"]);
    Client::builder().slots(2).capacity(100_000).connect(ground.socket()).unwrap();
}

#[test]
fn half_open_handshakes_are_limited_and_dropped_at_their_deadline() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["max_handshakes=3", "handshake_ms=1000"]);
    let id = server.process.child.id();
    drop(Client::connect(ground.socket()).unwrap());
    let baseline = Snapshot::when_settled(id, 0);
    // On a slow machine the deadline may come before the client: then all is tried again.
    let made_room = (0..50).any(|_| {
        let silent: Vec<_> = (0..3).map(|_| wire::connect_to(&ground.socket())).collect();
        // One of them has said HELLO, so that the server has made memory for it.
        wire::send(&silent[0], &hello(), &[]).unwrap();
        // Of the same user, and not shut out: the oldest has to go.
        let client = Client::connect(ground.socket()).unwrap();
        invert(&client, 100, 1);
        let ends: Vec<_> = silent.iter().map(|socket| wire::receive_end(socket).unwrap()).collect();
        let is_late = |why: &str| why.contains("took longer than 1s");
        assert!(ends.iter().all(|(reason, _)| *reason == LATER), "{ends:?}");
        assert!(ends[1..].iter().all(|(_, why)| is_late(why)), "{ends:?}");
        assert!(is_late(&ends[0].1) || ends[0].1.contains("newcomer needed the place"), "{ends:?}");
        !is_late(&ends[0].1)
    });
    assert!(made_room, "there is a limit");
    baseline.is_back(id);
}

#[test]
fn a_thousand_who_only_knock_do_not_shut_out_their_own_user() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["handshake_ms=25000"]);
    let baseline = Snapshot::when_settled(server.process.child.id(), 0);
    let mut silent = Vec::new();
    for number in 0..20 {
        silent.extend((0..50).map(|_| wire::connect_to(&ground.socket())));
        invert(&Client::connect(ground.socket()).unwrap(), 100, number);
    }
    drop(silent);
    baseline.is_back(server.process.child.id());
}

/// A client whose `connect` has returned is no handshake any more, as far as the next client is concerned.
#[test]
fn clients_that_come_one_after_the_other_never_meet_the_limit_of_handshakes() {
    let ground = Ground::new();
    let _server = Server::builder().max_handshakes(1).slots(1).bind(ground.socket()).unwrap();
    for _ in 0..500 {
        drop(Client::connect(ground.socket()).unwrap());
    }
}

#[test]
fn a_server_without_descriptors_says_so_and_recovers() {
    // A session keeps four: each of what it needs is once the one that is not to be had.
    (40..44).for_each(fill_a_server_that_may_have);
}

fn fill_a_server_that_may_have(descriptors: usize) {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[&format!("nofile={descriptors}"), "slots=1"]);
    let id = server.process.child.id();
    let baseline = Snapshot::when_settled(id, 0);
    let mut clients = Vec::new();
    // A handshake that is not quite over has a descriptor more: full is who refuses for a while.
    let mut refusals = 0;
    while refusals < 5 {
        match quickly().connect(ground.socket()) {
            Ok(client) => {
                clients.push(client);
                refusals = 0;
            }
            // A machine that is busy itself may answer later than who asks quickly waits for it.
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => {}
            Err(error) => {
                check(&error, ErrorKind::Busy, &["all the descriptors it may have", "ulimit -n"]);
                refusals += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(clients.len() < 40);
    }
    // Each has what it takes to notice its client's death.
    let watched = fs::read_dir(format!("/proc/{id}/fdinfo")).unwrap().flatten();
    let watched = watched.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    assert_eq!(watched.filter(|info| info.contains("\nNSpid:")).count(), clients.len());
    assert!(clients.len() >= 4, "{}", clients.len());
    for (number, client) in clients.iter().enumerate() {
        invert(client, 100, number as u64);
    }
    for _ in 0..20 {
        // On a machine that is busy itself the refusal may come later than who asks quickly waits for it.
        let kind = quickly().connect(ground.socket()).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Busy | ErrorKind::TimedOut { .. }), "{kind:?}");
    }
    clients.truncate(1);
    eventually("there is room again", || Client::connect(ground.socket()).is_ok());
    invert(&clients[0], 100, 9);
    clients.clear();
    baseline.is_back(id);
}

#[test]
fn a_client_without_descriptors_says_so_and_keeps_nothing() {
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    Process::start("poor_client", [ground.socket()]).join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn poor_client() {
    role("poor_client", |_, arguments| {
        let name = arguments[0];
        drop(Client::connect(name).unwrap());
        let baseline = Snapshot::of(std::process::id());
        let mut is_enough = 0u64;
        for spare in 0..12 {
            // Exactly so many numbers are free below the limit, whatever this process was born with.
            let is_free = |fd: &u64| fs::read_link(format!("/proc/self/fd/{fd}")).is_err();
            let limit = (0..).filter(is_free).nth(spare).unwrap();
            let limit = rustix::process::Rlimit { current: Some(limit), maximum: Some(1000) };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            match Client::connect(name) {
                Ok(client) => {
                    invert(&client, 100, spare as u64);
                    is_enough += 1;
                }
                Err(error) => {
                    assert_eq!(is_enough, 0, "{spare}: {error}");
                    check(&error, ErrorKind::Io, &["all the descriptors it may have", "ulimit -n"]);
                }
            }
            let limit = rustix::process::Rlimit { current: Some(1000), maximum: Some(1000) };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            assert_eq!(Snapshot::of(std::process::id()), baseline, "with {spare} to spare");
        }
        assert!((1..12).contains(&is_enough), "{is_enough}");
    });
}

// ---- a client that is none ------------------------------------------------------------------------------------------

#[test]
fn a_handshake_that_is_none_is_refused_and_leaves_nothing() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &["recv", "handshake_ms=20000"]);
    let id = server.process.child.id();
    let honest = Client::connect(ground.socket()).unwrap();
    invert(&honest, 100, 0);
    let baseline = Snapshot::when_settled(id, 1);

    let mut truncated = hello();
    truncated.truncate(20);
    let mut nameless = hello();
    nameless[33] = 0;
    let mut wrong_magic = hello();
    wrong_magic[1] ^= 1;
    let mut not_text = hello();
    *not_text.last_mut().unwrap() = 0xff;
    let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![b"GET / HTTP/1.1\r\n".to_vec()], "unknown kind"),
        (vec![vec![0xff; 4096]], "unknown kind"),
        (vec![vec![1; 8000]], "too long"),
        (vec![[hello_of_version_1(), vec![0]].concat()], "too long"),
        (vec![truncated], "too short"),
        (vec![nameless], "empty or too long"),
        (vec![wrong_magic], "not Wigwag's"),
        (vec![not_text], "not UTF-8"),
        (vec![READY.to_vec()], "out of order"),
        (vec![hello(), hello()], "out of order"),
        (vec![hello(), vec![2, 0]], "too long"),
        (vec![hello(), vec![3; 22]], "unknown kind"),
    ];
    let count = cases.len() as u64;
    for (messages, says) in cases {
        let socket = wire::connect_to(&ground.socket());
        for message in messages {
            let _ = wire::send(&socket, &message, &[]); // it may have been refused by now
        }
        let (reason, why) = wire::receive_end(&socket).expect("a refusal");
        assert_eq!(reason, VIOLATION, "{why}");
        assert!(why.contains(says), "{why:?} does not say {says:?}");
        invert(&honest, 100, 1);
    }
    // Those who leave in the middle cost nothing either.
    for said in [vec![], vec![hello()]] {
        let socket = wire::connect_to(&ground.socket());
        for message in said {
            wire::send(&socket, &message, &[]).unwrap();
            let welcome = wire::receive(&socket).expect("a welcome");
            assert_eq!((welcome.bytes[0], welcome.descriptors.len()), (3, 3));
        }
    }
    baseline.is_back(id);
    server.process.tell("stats");
    let mut server = server;
    eventually("all refusals are counted", || {
        server.process.tell("stats");
        server.process.hear() == format!("1 1 {} 0", count + 2)
    });
}

#[test]
fn descriptors_that_nobody_asked_for_are_not_kept() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[]);
    let id = server.process.child.id();
    let honest = Client::connect(ground.socket()).unwrap();
    invert(&honest, 100, 0);
    let baseline = Snapshot::when_settled(id, 1);
    let unwanted = rustix::fs::memfd_create("unwanted", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    for (greeting, count) in [(hello(), 1), (hello(), 4), (hello(), 5), (hello(), 60), (vec![0xff], 60)] {
        let socket = wire::connect_to(&ground.socket());
        // The kernel may refuse to carry them at all: that is how it should be.
        match wire::send(&socket, &greeting, &vec![unwanted.as_fd(); count]) {
            Ok(()) => drop(wire::receive(&socket).expect("some answer")),
            Err(error) => assert_eq!(error, rustix::io::Errno::PERM),
        }
        assert!(!Snapshot::of(id).descriptors.keys().any(|kind| kind.contains("unwanted")), "{count}");
        invert(&honest, 100, count as u64);
    }
    // Within a session, too.
    let socket = wire::connect_to(&ground.socket());
    wire::send(&socket, &hello(), &[]).unwrap();
    drop(wire::receive(&socket).unwrap());
    wire::send(&socket, READY, &[]).unwrap();
    let _ = wire::send(&socket, b"more", &[unwanted.as_fd(); 10]);
    invert(&honest, 100, 99);
    drop(socket);
    baseline.is_back(id);
}

// ---- fork -----------------------------------------------------------------------------------------------------------

/// Runs something in a forked child and waits for it. A panic there is a panic here.
fn in_child(what: &str, run: impl FnOnce()) {
    // SAFETY: the caller plays a role in a process whose other threads hold no lock that the child needs: they sleep in
    // the kernel. The child ends below without running anything of the parent's.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            // SAFETY: no memory is involved. A child that hangs fails the test instead of hanging it.
            unsafe { libc::alarm(LIMIT.as_secs() as libc::c_uint) };
            let outcome = catch_unwind(AssertUnwindSafe(run));
            // SAFETY: ends the process at once; destructors and buffers are the parent's affair.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        child => {
            let child = rustix::process::Pid::from_raw(child).unwrap();
            let (_, status) =
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "{what}: {status:?}");
        }
    }
}

#[track_caller]
fn forked<T>(outcome: wigwag::Result<T>) {
    let error = outcome.map(drop).unwrap_err();
    check(&error, ErrorKind::Forked, &["before a fork", "connect or bind anew in the child"]);
}

#[test]
fn a_client_is_of_no_use_to_a_forked_child_and_of_full_use_to_its_parent() {
    let ground = Ground::new();
    let server = Workshop::start(&ground, &[]);
    Process::start("forking_client", [ground.socket()]).join();
    invert(&Client::connect(ground.socket()).unwrap(), 100, 1);
    server.stop();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn forking_client() {
    role("forking_client", |_, arguments| {
        let name = arguments[0];
        let client = Client::builder().slots(8).connect(name).unwrap();
        invert(&client, 5000, 1);
        in_child("new calls", || {
            forked(client.loan(1));
            forked(client.try_loan(1));
            forked(client.loan_timeout(1, LIMIT));
            forked(client.call(b"hello"));
            forked(client.call_timeout(b"hello", LIMIT));
            assert_eq!((client.slots(), client.capacity()), (8, 1 << 20));
            let anew = client.try_clone().unwrap();
            invert(&anew, 5000, 2);
            let quite_anew = Client::connect(name).unwrap();
            invert(&quite_anew, 5000, 3);
            in_child("a grandchild", || forked(anew.loan(1)));
            invert(&anew, 5000, 4);
        });
        invert(&client, 5000, 5);

        let loan = |seed| {
            let mut loan = client.loan(100).unwrap();
            fill(&mut loan, seed);
            loan
        };
        let (first, second, third) = (loan(1), loan(2), loan(3));
        let pending: [Pending<'_>; 4] = std::array::from_fn(|seed| loan(10 + seed as u64).send().unwrap());
        let reply: Reply<'_> = loan(4).call().unwrap();
        // The child has copies of all these, and drops them, or uses them, as it likes.
        let (pending, held) = in_child_with((first, second, third, pending, reply), |(a, b, c, pending, reply)| {
            forked(a.call());
            forked(b.send());
            drop(c);
            let [mut polled, waited, timed, dropped] = pending;
            eventually("polling ends with an error", || polled.try_wait().is_some_and(|outcome| outcome.is_err()));
            forked(waited.wait());
            let mut timed = timed;
            forked(timed.wait_timeout(LIMIT).expect("it cannot come any more"));
            drop(dropped);
            drop(reply);
        });
        for (seed, pending) in pending.into_iter().enumerate() {
            check_inverted(&pending.wait().unwrap(), 100, 10 + seed as u64);
        }
        let (first, second, third, reply) = held;
        check_inverted(&reply, 100, 4);
        for (seed, loan) in [first, second, third].into_iter().enumerate() {
            check_inverted(&loan.call().unwrap(), 100, seed as u64 + 1);
        }
        // In the child, the client itself goes too: the parent's session does not end by that.
        let reply = client.call(&[1; 100]).unwrap();
        in_child("a reply cannot become a request", || {
            forked(duplicate(&reply).into_loan(10));
        });
        drop(reply);
        in_child("dropping the client", || drop(duplicate(&client)));
        invert(&client, 5000, 6);
    });
}

/// What a forked child gets is a copy of everything, whether it can be cloned or not.
fn duplicate<T>(value: &T) -> T {
    // SAFETY: only called in a forked child, which ends without dropping the original: there is one owner.
    unsafe { std::ptr::read(value) }
}

type Held<'c> = (wigwag::Loan<'c>, wigwag::Loan<'c>, wigwag::Loan<'c>, [Pending<'c>; 4], Reply<'c>);

fn in_child_with<'c>(
    held: Held<'c>,
    run: impl FnOnce(Held<'c>),
) -> ([Pending<'c>; 4], (wigwag::Loan<'c>, wigwag::Loan<'c>, wigwag::Loan<'c>, Reply<'c>)) {
    in_child("what was held", || run(duplicate(&held)));
    let (first, second, third, pending, reply) = held;
    (pending, (first, second, third, reply))
}

#[test]
fn a_server_is_of_no_use_to_a_forked_child_and_of_full_use_to_its_parent() {
    let ground = Ground::new();
    let mut server = Process::start("forking_server", [ground.socket()]);
    server.expect("ready");
    let client = Client::connect(ground.socket()).unwrap();
    for seed in 0..4 {
        invert(&client, 5000, seed);
    }
    server.expect("served");
    server.join();
    assert_eq!(fs::read_dir(ground.path("")).unwrap().count(), 0, "the parent removed the name");
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn forking_server() {
    role("forking_server", |parent, arguments| {
        let name = arguments[0];
        let mut server = Server::bind(name).unwrap();
        parent.tell("ready");
        let answer = |mut request: Request| {
            request.iter_mut().for_each(|byte| *byte = !*byte);
            request.reply();
        };
        answer(server.recv().unwrap());
        let request = server.recv().unwrap();
        in_child("with a server and a request", || {
            let mut server = duplicate(&server);
            forked(server.recv());
            forked(server.try_recv());
            forked(server.recv_timeout(LIMIT));
            forked(server.serve(|_| ()));
            forked(server.serve_on(2, |_| ()));
            drop(duplicate(&request));
            duplicate(&request).reply();
            duplicate(&request).fail("why not");
            assert!(!request.is_abandoned());
            assert_eq!(request.deadline(), None);
            let taken = Server::bind(name).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::NameTaken);
            server.shutdown_handle().shutdown();
            assert!(format!("{server:?} {:?}", server.stats()).contains("sessions"));
            drop(server);
            assert!(fs::exists(name).unwrap(), "the name is still the parent's");
            // A child can be a client of its parent, and a server of its own.
            drop(Client::connect(name).unwrap());
            let other = format!("{name}-child");
            let child = Server::bind(&other).unwrap();
            drop(Client::connect(&other).unwrap());
            drop(child);
        });
        answer(request);
        answer(server.recv().unwrap());
        answer(server.recv().unwrap());
        parent.tell("served");
    });
}

/// A forked child that lives on has copies of all descriptors; an epoll that forgot to remove one would report it for
/// ever.
#[test]
fn a_forked_child_of_the_server_does_not_keep_it_awake() {
    let ground = Ground::new();
    let mut server = Process::start("server_with_child", [ground.socket()]);
    server.expect("ready");
    let left_in_the_middle = wire::connect_to(&ground.socket());
    wire::send(&left_in_the_middle, &hello(), &[]).unwrap();
    drop(wire::receive(&left_in_the_middle).unwrap());
    let silent = wire::connect_to(&ground.socket());
    let client = Client::connect(ground.socket()).unwrap();
    invert(&client, 100, 1);
    let mut visitor = Process::start("visitor", [ground.socket()]);
    visitor.expect("there");
    server.tell("fork");
    server.expect("forked");
    drop((left_in_the_middle, silent, client));
    visitor.kill();
    invert(&Client::connect(ground.socket()).unwrap(), 100, 2);
    server.tell("rest");
    let ticks: u64 = server.hear().parse().unwrap();
    assert!(ticks < 15, "the control thread used {ticks} of 50 ticks while nothing happened");
    server.tell("end");
    server.join();
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn visitor() {
    role("visitor", |parent, arguments| {
        let client = Client::connect(arguments[0]).unwrap();
        invert(&client, 100, 1);
        parent.tell("there");
        parent.hear();
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn server_with_child() {
    role("server_with_child", |parent, arguments| {
        let mut server = Server::bind(arguments[0]).unwrap();
        let stop = server.shutdown_handle();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                server.serve(|request| request.iter_mut().for_each(|byte| *byte = !*byte)).unwrap();
            });
            parent.tell("ready");
            assert_eq!(parent.hear().unwrap(), "fork");
            // SAFETY: the child only sleeps, until it is killed below or with its parent.
            let child = match unsafe { libc::fork() } {
                0 => loop {
                    // SAFETY: no memory is involved.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    // SAFETY: no memory is involved.
                    unsafe { libc::pause() };
                },
                child => rustix::process::Pid::from_raw(child).unwrap(),
            };
            parent.tell("forked");
            assert_eq!(parent.hear().unwrap(), "rest");
            let before = control_thread_ticks();
            std::thread::sleep(Duration::from_millis(500));
            parent.tell(control_thread_ticks() - before);
            assert_eq!(parent.hear().unwrap(), "end");
            rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
            let _ = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
            stop.shutdown();
        });
    });
}

/// Processor time of this process's control thread in hundredths of a second.
fn control_thread_ticks() -> u64 {
    let is_control_thread = |task: &Path| fs::read_to_string(task.join("comm")).unwrap().trim_end() == "wigwag-control";
    let mut tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let stat = fs::read_to_string(tasks.find(|task| is_control_thread(task)).unwrap().join("stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn orders_are_known() {
    // The workshop's words are used by other tests; a mistake in them would look like a failing library.
    let ground = Ground::new();
    let _server = Workshop::start(&ground, &[]);
    let client = Client::connect(ground.socket()).unwrap();
    let error = client.call(format!("{ORDER}dance").as_bytes()).unwrap_err();
    check(&error, ErrorKind::HandlerFailed, &["what does", "dance"]);
}

#[test]
fn a_path_in_an_error_does_not_steer_a_terminal() {
    for path in ["/no\x1b[2Jsuch/place", "/no\x1b[2Jsuch/", "./\x07\u{9b}/\r", "/tmp/\x1b[2J"] {
        for error in [Client::connect(path).unwrap_err(), Server::bind(format!("{path}/x")).unwrap_err()] {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
        }
    }
}
