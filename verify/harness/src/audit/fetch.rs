//! G9: no control word is read twice in one request, but for those of a reviewed list.
//!
//! Every path of a request through the server and through the client is walked by [`Tracer`], with the other side
//! played here: by hand for the server, by a real server for the client. What was read how often is compared with
//! [`REVIEWED`](super::words::REVIEWED). On the paths that copy a payload, its bytes count as well.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::sync::{Arc, Condvar, Mutex};

use anyhow::{Context as _, ensure};
use wigwag::Server;
use wigwag_testing::{Ground, HAS_DEADLINE, IN_BODY, Process, REQUEST, Raw, SERVER, eventually, wire};

use super::tracer::{Access, Event, Tracer};
use super::words::{Loads, Side, Word};
use super::{CAPACITY, SLOTS, victims};
use crate::outcome::Outcome;
use crate::role;
use crate::scale::Trial;

/// In a turn: the client does not wait any more.
const ABANDONED: u64 = 4;
/// A user that nothing else here runs as.
const OTHER_USER: u32 = 60_123;
/// What lies in a head: what is passed back.
const REPLY: u64 = 2;
const FAILED: u64 = 3;
const UNANSWERED: u64 = 5;
/// Instead of a kind: the session ends.
const VIOLATION: u64 = 0;
/// One byte more than there is room for.
const TOO_MUCH: u64 = CAPACITY as u64 + 1;
/// Offsets in the segment of slot 0's turn and head.
const TURN: usize = 4096;
const HEAD: usize = 4096 + 8;

/// When the other side acts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the walk begins.
    Before,
    /// When the victim is about to sleep.
    Asleep,
    /// After so many instructions, of a victim that never sleeps.
    Step(u64),
}

/// A path through the server that serves by hand.
struct ByHand {
    name: &'static str,
    order: &'static str,
    wait: &'static str,
    is_other_user: bool,
    when: When,
    pass: fn(&Raw),
    comes_back: u64,
}

const fn by_hand(name: &'static str, order: &'static str, pass: fn(&Raw), comes_back: u64) -> ByHand {
    ByHand { name, order, wait: "park", is_other_user: false, when: When::Before, pass, comes_back }
}

const BY_HAND: &[ByHand] = &[
    by_hand("small request", "reply", small, REPLY),
    by_hand("request in the body", "reply", in_body, REPLY),
    by_hand("reply that outgrows the line", "grow", small, REPLY),
    by_hand("deadline", "deadline", with_deadline, REPLY),
    by_hand("abandoned", "is abandoned", abandoned, REPLY),
    by_hand("error reply", "fail", small, FAILED),
    by_hand("error reply in the body", "fail at length", small, FAILED),
    by_hand("dropped", "drop", small, UNANSWERED),
    by_hand("unknown head", "nothing", unknown_head, VIOLATION),
    by_hand("too long", "nothing", too_long, VIOLATION),
    by_hand("wrong sequence", "nothing", wrong_sequence, VIOLATION),
    by_hand("unknown bit in the turn", "nothing", unknown_bit, VIOLATION),
    ByHand { when: When::Asleep, ..by_hand("asleep and rung", "reply", small, REPLY) },
    ByHand { wait: "spin", when: When::Step(3000), ..by_hand("polled", "reply", small, REPLY) },
    ByHand { is_other_user: true, ..by_hand("snapshot", "reply", small, REPLY) },
    ByHand { is_other_user: true, ..by_hand("snapshot of the line's end", "reply", line_full, REPLY) },
    ByHand { is_other_user: true, ..by_hand("snapshot of the body", "reply", in_body, REPLY) },
    ByHand { is_other_user: true, ..by_hand("snapshot that grows", "grow", small, REPLY) },
    ByHand { is_other_user: true, ..by_hand("snapshot, error reply", "fail", small, FAILED) },
    ByHand { is_other_user: true, ..by_hand("snapshot, unknown head", "nothing", unknown_head, VIOLATION) },
];

/// The turn of the walked request: the greeting was the first.
const SECOND: u64 = 2 << 8 | SERVER;

fn pass(raw: &Raw, turn: u64, flags: u64, len: usize) {
    raw.write(0, flags & IN_BODY != 0, &vec![b'm'; len]);
    raw.pass(0, turn, REQUEST | flags | len as u64);
}

fn small(raw: &Raw) {
    pass(raw, SECOND, 0, 21);
}

fn line_full(raw: &Raw) {
    pass(raw, SECOND, 0, 48);
}

fn in_body(raw: &Raw) {
    pass(raw, SECOND, IN_BODY, 3001);
}

fn with_deadline(raw: &Raw) {
    raw.deadline(0).store(u64::MAX / 4, std::sync::atomic::Ordering::Relaxed);
    pass(raw, SECOND, HAS_DEADLINE, 21);
}

fn abandoned(raw: &Raw) {
    pass(raw, SECOND | ABANDONED, 0, 21);
}

fn unknown_head(raw: &Raw) {
    raw.pass(0, SECOND, 0xff << 32);
}

fn too_long(raw: &Raw) {
    raw.pass(0, SECOND, REQUEST | IN_BODY | TOO_MUCH);
}

fn wrong_sequence(raw: &Raw) {
    raw.pass(0, 7 << 8 | SERVER, REQUEST | 1);
}

fn unknown_bit(raw: &Raw) {
    raw.pass(0, 3 << 8 | SERVER | 8, REQUEST | 1);
}

/// What has been found so far.
#[derive(Default)]
struct Audit {
    server_paths: usize,
    client_paths: usize,
    steps: u64,
    /// The most reads of each word in one request, where it was not polled.
    most: BTreeMap<(&'static str, Word), usize>,
    findings: Vec<String>,
}

/// The goal.
pub fn try_it(_: &Trial) -> anyhow::Result<Outcome> {
    let mut audit = Audit::default();
    let is_root = rustix::process::geteuid().is_root();
    for path in BY_HAND.iter().filter(|path| is_root || !path.is_other_user) {
        audit.by_hand(path).with_context(|| format!("the server's path `{}`", path.name))?;
    }
    audit.overwritten().context("the server's path `turn overwritten`")?;
    for (wait, is_other_user) in [("park", false), ("spin", false), ("park", true), ("spin", true)] {
        if is_root || !is_other_user {
            audit.by_handler(wait, is_other_user).with_context(|| format!("the server's handler, {wait}"))?;
        }
    }
    for path in CLIENT {
        audit.client(path).with_context(|| format!("the client's path `{}`", path.name))?;
    }
    let reads = |side: &str| {
        let of = audit.most.iter().filter(|((other, _), _)| *other == side);
        of.map(|((_, word), count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
    };
    let figure = format!(
        "{} paths of the server and {} of the client, {} instructions walked{}; reads in one request at most, where \
         nothing \
         is polled: server: {}; client: {}",
        audit.server_paths,
        audit.client_paths,
        audit.steps,
        if is_root { "" } else { " (no snapshots: only root can play another user)" },
        reads("server"),
        reads("client"),
    );
    Ok(Outcome::of(figure, audit.findings))
}

impl Audit {
    fn judge(&mut self, side: Side, path: &str, is_polled: bool, payloads: bool, accesses: &[Access]) {
        let loads = Loads::of(accesses, SLOTS);
        self.findings.extend(loads.not_allowed(side, path, payloads));
        let name = match side {
            Side::Server => {
                self.server_paths += 1;
                "server"
            }
            Side::Client => {
                self.client_paths += 1;
                "client"
            }
        };
        if std::env::var_os("WIGWAG_AUDIT_TRACE").is_some() {
            for (word, places) in loads.by_word(payloads) {
                eprintln!("{name}, {path}, {}: {word} {}", self.steps, places.len());
            }
        }
        for (word, places) in loads.by_word(payloads) {
            if !is_polled {
                let most = self.most.entry((name, word)).or_default();
                *most = (*most).max(places.len());
            }
        }
    }

    fn by_hand(&mut self, path: &ByHand) -> anyhow::Result<()> {
        let mut stage = Stage::new("audited-by-hand", path.wait, path.is_other_user)?;
        stage.server.tell("greet");
        stage.raw.call(0, 1, b"good morning");
        if path.when == When::Before {
            (path.pass)(&stage.raw);
        }
        stage.server.tell(path.order);
        let mut is_passed = path.when == When::Before;
        let accesses = stage.tracer.window(|event| {
            if !is_passed && is_time(path.when, event) {
                (path.pass)(&stage.raw);
                is_passed = true;
            }
        })?;
        stage.server.expect("done");
        self.steps += stage.tracer.steps;
        if path.comes_back == VIOLATION {
            ensure!(stage.raw.end().0 == wire::VIOLATION, "the session did not end as a violation");
        } else {
            let head = stage.raw.head(0).load(std::sync::atomic::Ordering::SeqCst);
            ensure!(head >> 32 & 0xff == path.comes_back, "{head:#x} came back");
        }
        self.judge(Side::Server, path.name, matches!(path.when, When::Step(_)), path.is_other_user, &accesses);
        Ok(())
    }

    /// The client writes to the turn while it is the server's: seen when the turn is passed back.
    fn overwritten(&mut self) -> anyhow::Result<()> {
        let mut stage = Stage::new("audited-by-hand", "park", false)?;
        stage.server.tell("greet");
        stage.raw.call(0, 1, b"good morning");
        small(&stage.raw);
        stage.server.tell("hold");
        let mut accesses = stage.tracer.window(|_| {})?;
        stage.server.expect("held");
        stage.raw.turn(0).store(9 << 8, std::sync::atomic::Ordering::SeqCst);
        stage.server.tell("go on");
        accesses.extend(stage.tracer.window(|_| {})?);
        stage.server.expect("done");
        ensure!(stage.raw.end().0 == wire::VIOLATION, "the session did not end as a violation");
        self.steps += stage.tracer.steps;
        self.judge(Side::Server, "turn overwritten", false, false, &accesses);
        Ok(())
    }

    /// From the handler of one request to that of the next.
    fn by_handler(&mut self, wait: &'static str, is_other_user: bool) -> anyhow::Result<()> {
        for (name, in_body) in [("handler, small request", false), ("handler, request in the body", true)] {
            let mut stage = Stage::new("audited-by-handler", wait, is_other_user)?;
            stage.raw.call(0, 1, b"good morning");
            let (len, flag) = if in_body { (3001, IN_BODY) } else { (21, 0) };
            pass(&stage.raw, SECOND, flag, len);
            let when = if wait == "spin" { When::Step(2000) } else { When::Asleep };
            let mut is_passed = false;
            let accesses = stage.tracer.window(|event| {
                if !is_passed && is_time(when, event) {
                    pass(&stage.raw, 3 << 8 | SERVER, flag, len);
                    is_passed = true;
                }
            })?;
            stage.raw.wait(0);
            self.steps += stage.tracer.steps;
            let path = match wait {
                "spin" => format!("{name}, polled"),
                _ => name.to_owned(),
            };
            self.judge(Side::Server, &path, wait == "spin", is_other_user, &accesses);
            stage.server.tell("stop");
        }
        Ok(())
    }
}

fn is_time(when: When, event: Event) -> bool {
    match when {
        When::Before => false,
        When::Asleep => event == Event::Sleep,
        When::Step(step) => event == Event::Step(step),
    }
}

/// A walked server, and a client played by hand.
struct Stage {
    raw: Raw,
    tracer: Tracer,
    server: Process,
    _ground: Ground,
}

impl Stage {
    fn new(role: &str, wait: &str, is_other_user: bool) -> anyhow::Result<Stage> {
        let ground = Ground::new();
        let socket = ground.socket();
        let user = OTHER_USER.to_string();
        let mut server = role::start(role, [socket.as_os_str(), wait.as_ref(), user.as_ref()]);
        server.expect("ready");
        let tracer = Tracer::seize(server.id())?;
        let raw = if is_other_user {
            std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755))?;
            connect_as_other_user(&socket)?
        } else {
            Raw::connect(&socket)
        };
        Ok(Stage { raw, tracer, server, _ground: ground })
    }
}

/// Connects as another user: a thread of this process has that identity for as long as it lives.
fn connect_as_other_user(socket: &FilePath) -> anyhow::Result<Raw> {
    let connect = || {
        let user = rustix::fs::Uid::from_raw(OTHER_USER);
        rustix::thread::set_thread_res_uid(user, user, user)?;
        anyhow::Ok(Raw::connect(socket))
    };
    std::thread::scope(|scope| scope.spawn(connect).join())
        .map_err(|_| anyhow::anyhow!("the other user is not let in"))?
}

/// A path through the client.
struct ClientPath {
    name: &'static str,
    order: &'static str,
    wait: &'static str,
    /// The server holds its reply back until then.
    when: When,
    /// What a hostile server writes into turn and head after its reply.
    lie: Option<(u64, u64)>,
    copies_payload: bool,
}

const fn client(name: &'static str, order: &'static str) -> ClientPath {
    ClientPath { name, order, wait: "park", when: When::Before, lie: None, copies_payload: false }
}

const CLIENT: &[ClientPath] = &[
    client("small reply", "call 21"),
    client("reply in the body", "call 3001"),
    ClientPath { when: When::Asleep, ..client("asleep and rung", "call 21") },
    ClientPath { wait: "spin", when: When::Step(3000), ..client("polled", "call 21") },
    client("sent and waited for", "pend 21"),
    ClientPath { copies_payload: true, ..client("error reply", "fail 21") },
    ClientPath { copies_payload: true, ..client("error reply in the body", "fail 100") },
    ClientPath { when: When::Asleep, ..client("given up", "give-up 21") },
    ClientPath { lie: Some((3 << 8, 0xff << 32)), ..client("unknown head", "violate 21") },
    ClientPath { lie: Some((3 << 8, REPLY << 32 | IN_BODY | TOO_MUCH)), ..client("too long", "violate 21") },
    ClientPath { lie: Some((9 << 8, REPLY << 32 | 1)), ..client("wrong sequence", "violate 21") },
];

impl Audit {
    fn client(&mut self, path: &ClientPath) -> anyhow::Result<()> {
        let ground = Ground::new();
        // A client that is walked is slow: one that was turned away for it would shake hands twice.
        let patience = std::time::Duration::from_secs(30);
        let builder = Server::builder().slots(SLOTS).capacity(CAPACITY).handshake_timeout(patience);
        let mut server = builder.bind(ground.socket())?;
        let stop = server.shutdown_handle();
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let serving = std::thread::spawn(move || {
            server.serve(|request| {
                held.pass();
                victims::answer(request)
            })
        });
        let walked = self.walk_client(path, &ground, &gate);
        gate.open();
        stop.shutdown();
        serving.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        walked
    }

    fn walk_client(&mut self, path: &ClientPath, ground: &Ground, gate: &Gate) -> anyhow::Result<()> {
        let mut victim = role::start("audited-client", [ground.socket().as_os_str(), path.wait.as_ref()]);
        victim.expect("ready");
        let mut tracer = Tracer::seize(victim.id())?;
        victim.tell("connect");
        if path.name == CLIENT[0].name {
            let connecting = tracer.window(|_| {})?;
            self.judge(Side::Client, "connect", false, true, &connecting);
        } else {
            tracer.pass_over()?;
        }
        victim.expect("done");
        victim.tell("greet 21");
        if path.when != When::Before {
            eventually("the greeting is answered", || tracer_sees_reply(&tracer, 2));
            gate.close();
        }
        victim.tell(path.order);
        let mut accesses = tracer.window(|event| {
            if is_time(path.when, event) && !path.order.starts_with("give-up") {
                gate.open();
            }
        })?;
        match path.order.split(' ').next() {
            Some("pend" | "violate") => {
                victim.expect("sent");
                eventually("the reply", || tracer_sees_reply(&tracer, 3));
                if let Some((turn, head)) = path.lie {
                    tracer.poke(HEAD, head)?;
                    tracer.poke(TURN, turn)?;
                }
                victim.tell("go on");
                accesses.extend(tracer.window(|_| {})?);
            }
            Some("give-up") => {
                victim.expect("gave up");
                gate.open();
                eventually("the reply", || tracer_sees_reply(&tracer, 3));
                victim.tell("go on");
                accesses.extend(tracer.window(|_| {})?);
            }
            _ => {}
        }
        victim.expect("done");
        self.steps += tracer.steps;
        self.judge(Side::Client, path.name, matches!(path.when, When::Step(_)), path.copies_payload, &accesses);
        Ok(())
    }
}

/// Whether request `sequence` of slot 0 has been answered.
fn tracer_sees_reply(tracer: &Tracer, sequence: u64) -> bool {
    tracer.peek(TURN).is_ok_and(|turn| turn & SERVER == 0 && turn >> 8 == sequence)
}

/// Holds the server's handler back while it is closed.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.is_closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.is_closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_closed = self.is_closed.lock().unwrap();
        let _open = self.opened.wait_while(is_closed, |is_closed| *is_closed).unwrap();
    }
}
