//! A server in a process of its own that does what each request orders.
//!
//! A request that begins with [`ORDER`] is one in words (see [`obey`]); any other is inverted byte by byte. Requests go
//! to [`wigwag::Server::serve_on`]; with the option `recv` they go through [`wigwag::Server::recv_timeout`], so that
//! the server can be asked for its statistics meanwhile. A binary that uses this has a role `workshop` that calls
//! [`play`].

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use wigwag::{Request, Server, ServerBuilder, ServerStats, Wait};

use wigwag_testing::{Ground, Link, Process};

/// How an order in words begins. No pattern of the tests does.
pub const ORDER: &str = "order: ";

/// The server's process, as its test sees it.
pub struct Workshop {
    /// The process, which tells when a request hangs.
    pub process: Process,
}

impl Workshop {
    /// Starts it at the ground's socket, with options such as `slots=4`; returns when clients can connect.
    pub fn start(ground: &Ground, options: &[&str]) -> Workshop {
        let socket = ground.socket().into_os_string().into_string().unwrap();
        let arguments = std::iter::once(socket.as_str()).chain(options.iter().copied());
        let mut process = Process::start("workshop", arguments);
        process.expect("ready");
        Workshop { process }
    }

    /// Shuts it down in good order, and waits for that; returns how many requests it served.
    pub fn stop(mut self) -> u64 {
        self.process.tell("stop");
        let calls = self.process.hear().parse().unwrap();
        self.process.join();
        calls
    }
}

/// The role.
pub fn play(parent: &Link, arguments: &[&str]) {
    std::panic::set_hook(Box::new(|panic| {
        // What a test ordered is no news.
        if !panic.to_string().contains("\nas ordered") {
            eprintln!("in the workshop: {panic}");
        }
    }));
    let [socket, options @ ..] = arguments else { panic!("a workshop needs a path") };
    let (mut builder, mut threads, mut by_recv) = (Server::builder(), 1, false);
    for option in options {
        match option.split_once('=') {
            Some(("threads", number)) => threads = number.parse().unwrap(),
            None if *option == "recv" => by_recv = true,
            _ => builder = build(builder, option),
        }
    }
    let mut server = builder.bind(Path::new(socket)).unwrap();
    let stop = server.shutdown_handle();
    parent.tell("ready");
    std::thread::scope(|scope| {
        let (asked, questions) = mpsc::channel();
        scope.spawn(move || {
            while let Some(line) = parent.hear() {
                match line.as_str() {
                    "stop" => return stop.shutdown(),
                    _ => asked.send(line).unwrap(),
                }
            }
            std::process::exit(0); // the test is gone
        });
        if by_recv {
            serve_and_talk(&mut server, parent, &questions);
        } else {
            server.serve_on(threads, |request| obey(request, parent)).unwrap();
        }
        let calls = server.stats().calls;
        drop(server); // the farewells are said before the test goes on
        parent.tell(calls);
    });
}

fn build(builder: ServerBuilder, option: &str) -> ServerBuilder {
    let (key, value) = option.split_once('=').unwrap_or_else(|| panic!("`{option}` has no value"));
    let number = || value.parse::<usize>().unwrap();
    match key {
        "slots" => builder.slots(number()),
        "capacity" => builder.capacity(number()),
        "max_handshakes" => builder.max_handshakes(number()),
        "handshake_ms" => builder.handshake_timeout(Duration::from_millis(number() as u64)),
        "nofile" => {
            let limit = rustix::process::Rlimit { current: Some(number() as u64), maximum: Some(number() as u64) };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            builder
        }
        "processor" => {
            stay_on(value);
            builder
        }
        "allow_user" => builder.allow_user(number() as u32),
        "wait" => builder.wait(wait(value)),
        _ => panic!("`{option}` is not an option"),
    }
}

/// The waiting policy of that name.
pub fn wait(name: &str) -> Wait {
    match name {
        "adaptive" => Wait::Adaptive,
        "spin" => Wait::Spin,
        "park" => Wait::Park,
        _ => panic!("`{name}` is no way to wait"),
    }
}

/// Keeps this thread, and those it starts, on the first or the last processor it may use.
pub fn stay_on(which: &str) {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let mut allowed = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
    let mut one = rustix::thread::CpuSet::new();
    one.set(if which == "first" { allowed.next() } else { allowed.next_back() }.unwrap());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
}

fn serve_and_talk(server: &mut Server, parent: &Link, questions: &mpsc::Receiver<String>) {
    loop {
        match server.recv_timeout(Duration::from_millis(5)) {
            Ok(Some(mut request)) => match obey(&mut request, parent) {
                Ok(()) => request.reply(),
                Err(why) => request.fail(why),
            },
            Ok(None) => {}
            Err(end) => {
                assert_eq!(end.kind(), wigwag::ErrorKind::ServerClosed { maybe_executed: false });
                return;
            }
        }
        if questions.try_recv().is_ok() {
            let ServerStats { sessions, sessions_accepted, sessions_refused, violations, .. } = server.stats();
            parent.tell(format_args!("{sessions} {sessions_accepted} {sessions_refused} {violations}"));
        }
    }
}

/// | order | what it does |
/// |---|---|
/// | `reply LEN SEED` | replies LEN bytes of the pattern, inverted |
/// | `fail LEN` | fails with a text of LEN bytes |
/// | `panic LEN` | panics with a message of LEN bytes |
/// | `hang` | tells the test, and never returns |
/// | `work MS` | takes that long |
/// | `thread` | replies the serving thread's id |
/// | `peer` | replies who asked |
fn obey(request: &mut Request, parent: &Link) -> Result<(), String> {
    if !request.starts_with(ORDER.as_bytes()) {
        let (words, rest) = request.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = (!u64::from_ne_bytes(*word)).to_ne_bytes());
        rest.iter_mut().for_each(|byte| *byte = !*byte);
        return Ok(());
    }
    let order = String::from_utf8(request.to_vec()).unwrap();
    let words: Vec<&str> = order[ORDER.len()..].split_whitespace().collect();
    let number = |index: usize| words[index].parse::<usize>().unwrap();
    match words[0] {
        "reply" => {
            request.resize(number(1)).map_err(|error| error.to_string())?;
            wigwag_testing::fill(request, number(2) as u64);
            request.iter_mut().for_each(|byte| *byte = !*byte);
            Ok(())
        }
        "fail" => Err(text_of(number(1))),
        "panic" => panic!("{}", text_of(number(1))),
        "hang" => {
            parent.tell("hanging");
            loop {
                std::thread::park();
            }
        }
        "work" => {
            std::thread::sleep(Duration::from_millis(number(1) as u64));
            Ok(())
        }
        "thread" => {
            request.set_reply(format!("{:?}", std::thread::current().id()).as_bytes()).map_err(|e| e.to_string())
        }
        "peer" => {
            let peer = request.peer();
            request.set_reply(format!("{} {}", peer.uid, peer.pid).as_bytes()).map_err(|e| e.to_string())
        }
        _ => Err(format!("what does `{order}` mean?")),
    }
}

/// A text of `len` bytes, at least 10, in characters of more than one byte.
pub fn text_of(len: usize) -> String {
    let mut text = String::from("as ordered");
    while text.len() + 2 <= len {
        text.push('ä');
    }
    while text.len() < len {
        text.push('.');
    }
    text
}
