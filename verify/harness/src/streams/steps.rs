//! One end of a stream at every step of what it does. Killed there, all that the other end reads is the beginning of
//! what was written, and then an error, unless it had closed; its writes find a broken pipe. Stopped there, nobody else
//! waits for it, and it goes on as if nothing had been. Lied to there, it comes through with bytes or an error.

use std::io::{BufRead as _, ErrorKind as Io, Read as _, Write as _};
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use wigwag::{Stream, StreamListener, Wait};
use wigwag_testing::{Ground, Link, Process};

use super::pattern;
use crate::processors;
use crate::role;
use crate::scale::Trial;
use crate::step::blows::{self, EndBlow, Lies, Way, descriptors};
use crate::step::tracer::{Tracee, survive_marks};
use crate::step::victim::marked;
use crate::step::walk::{self, Point};
use crate::step::{Counts, Depth, is_wanted, make_repeatable};

/// Bytes of each ring.
const RING: usize = 4096;
/// Bytes that each end has written before.
const BEFORE: usize = 100;
/// Bytes of an operation.
const LEN: usize = 300;
/// What a victim writes, and what it is sent.
const OURS: u64 = 1;
const THEIRS: u64 = 2;
/// How long an operation waits that gets nothing.
const WAIT: Duration = Duration::from_millis(60);
/// How long the other end may take: a busy machine, and a tracer beside.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// An operation of a victim.
struct Operation {
    name: &'static str,
    /// Whether every instruction of it is a point; else those where memory changes, and both sides of system calls.
    is_every: bool,
    /// Bytes that it hands over.
    writes: usize,
    /// Whether it ends what the victim writes.
    closes: bool,
    /// What the victim has written before.
    before: usize,
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "open", is_every: false, writes: 0, closes: false, before: 0 },
    Operation { name: "write", is_every: true, writes: LEN, closes: false, before: BEFORE },
    Operation { name: "write-waiting", is_every: false, writes: 0, closes: false, before: RING },
    Operation { name: "lend", is_every: true, writes: LEN, closes: false, before: BEFORE },
    Operation { name: "read", is_every: true, writes: 0, closes: false, before: BEFORE },
    Operation { name: "borrow", is_every: true, writes: 0, closes: false, before: BEFORE },
    Operation { name: "read-waiting", is_every: false, writes: 0, closes: false, before: BEFORE },
    Operation { name: "shutdown", is_every: true, writes: 0, closes: true, before: BEFORE },
    Operation { name: "close", is_every: false, writes: 0, closes: true, before: BEFORE },
];

const SIDES: [&str; 2] = ["connecting", "accepting"];

/// Words that a peer can reach: end lines and ring words, by docs/layout.md.
const WORDS: &[u64] = &[1024, 1032, 1040, 1152, 1160, 1168, 4096, 4224, 4352, 4480];
/// What they are changed to.
const VALUES: &[u64] = &[
    0,
    1,
    2,
    (RING as u64 + 1) << 1,
    (2 * RING as u64) << 1 | 1,
    (BEFORE as u64) << 1 | 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
    1 << 32 | 1,
];

const LIES: Lies = Lies { words: WORDS, values: VALUES };

/// Visits all points; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    processors::share_one()?;
    let mut visits = [0; 3];
    let mut counts = Counts::default();
    for side in SIDES {
        for operation in OPERATIONS.iter().filter(|operation| is_wanted(operation.name)) {
            let what = format!("the {side} end, {}", operation.name);
            let points = points_of(side, operation).with_context(|| what.clone())?;
            let way = Way { what, operation: operation.name, points, depths: depths(trial, operation) };
            let visit = |point: &Point, blow| visit(side, operation, point, blow);
            blows::strike(trial, &way, &LIES, &mut visits, &mut counts, visit);
        }
    }
    findings.append(&mut counts.findings);
    let [kills, stops, lies] = visits;
    Ok(format!("{kills} kills, {stops} stops and {lies} lies at the points of {} operations", 2 * OPERATIONS.len()))
}

/// How many of an operation's points are visited, for each kind of blow.
fn depths(trial: &Trial, operation: &Operation) -> [Depth; 3] {
    // Short operations have some hundred instructions, of which most change nothing.
    let every = |ci: usize| if operation.is_every { ci } else { 1 };
    trial.pick(
        [Depth::Some(20 * every(6)), Depth::Some(36 * every(6)), Depth::Some(20 * every(6))],
        [Depth::Some(every(3)), Depth::Some(every(5)), Depth::Some(every(2))],
        [Depth::Every(20_000), Depth::Every(5_000), Depth::Every(20_000)],
    )
}

// ---- the stage ------------------------------------------------------------------------------------------------------

/// A victim on its way into an operation, the other end of its stream, and whoever else is there.
struct Stage {
    ground: Ground,
    /// Here unless the victim is the one that accepts.
    listener: Option<StreamListener>,
    other: Option<Stream>,
    /// What the other end has read while the victim stood still.
    early: Vec<u8>,
    victim: Process,
}

impl Stage {
    fn new(side: &str, operation: &Operation) -> anyhow::Result<(Stage, Tracee)> {
        let ground = Ground::new();
        let is_connecting = side == "connecting";
        let listener = is_connecting.then(|| listen(&ground.socket())).transpose()?;
        let arguments = [ground.socket().into_os_string(), side.into(), operation.name.into()];
        let victim = role::start_with("stream-victim", arguments, make_repeatable);
        ensure!(victim.try_hear().as_deref() == Some("begun"), "the victim did not begin");
        let mut stage = Stage { ground, listener, other: None, early: Vec::new(), victim };
        let is_open = operation.name == "open";
        if !is_connecting {
            stage.other = Some(connect(&stage.ground.socket())?);
        }
        stage.victim.tell("go");
        if is_connecting && !is_open {
            stage.other = stage.accept(TIME_LIMIT)?;
        }
        if let Some(other) = &stage.other {
            other.set_read_timeout(Some(TIME_LIMIT))?;
            other.set_write_timeout(Some(TIME_LIMIT))?;
            if operation.name != "read-waiting" {
                (&mut &*other).write_all(&pattern::part(THEIRS, 0, BEFORE))?;
            }
        }
        let tracee = blows::seize(&mut stage.victim)?;
        Ok((stage, tracee))
    }

    /// A stream between two others, whatever became of this one.
    fn others_work(&mut self) -> anyhow::Result<()> {
        let own = match &self.listener {
            Some(_) => None,
            // A dead one's name can be had at once.
            None if !self.victim.is_alive() => Some(listen(&self.ground.socket())?),
            None => Some(listen(&self.ground.path("others"))?),
        };
        let listener = own.as_ref().or(self.listener.as_ref()).context("nobody listens")?;
        let mut one = connect(listener.path()).context("nobody else can connect")?;
        let wanted = pattern::part(7, 0, LEN);
        one.write_all(&wanted)?;
        let (victim, mut of_victim) = (self.victim.id() as i32, None);
        let mut other = loop {
            let next = accept(listener, TIME_LIMIT)?.context("nobody else is accepted")?;
            if next.peer().pid != victim {
                break next;
            }
            of_victim = Some(next); // it came first
        };
        other.set_read_timeout(Some(TIME_LIMIT))?;
        let mut found = vec![0; LEN];
        other.read_exact(&mut found).context("nobody else is heard")?;
        ensure!(found == wanted, "somebody else's bytes are not what they were");
        self.other = of_victim.or(self.other.take());
        Ok(())
    }

    /// The stream that the listener accepts, if one comes within that time.
    fn accept(&self, within: Duration) -> anyhow::Result<Option<Stream>> {
        accept(self.listener.as_ref().context("nobody listens here")?, within)
    }
}

fn accept(listener: &StreamListener, within: Duration) -> anyhow::Result<Option<Stream>> {
    listener.set_nonblocking(true)?;
    let begin = Instant::now();
    loop {
        match listener.accept() {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) if error.kind() == Io::WouldBlock && begin.elapsed() < within => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) if error.kind() == Io::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("the listener fails"),
        }
    }
}

fn listen(place: &Path) -> anyhow::Result<StreamListener> {
    StreamListener::builder().ring_bytes(RING).wait(Wait::Park).bind(place).context("nobody can listen")
}

fn connect(place: &Path) -> wigwag::Result<Stream> {
    Stream::builder().ring_bytes(RING).wait(Wait::Park).timeout(TIME_LIMIT).connect(place)
}

fn points_of(side: &str, operation: &Operation) -> anyhow::Result<Vec<Point>> {
    let (mut stage, tracee) = Stage::new(side, operation)?;
    let points = blows::points_of(&stage.victim, tracee, operation.is_every)?;
    stage.comes_to_its_end(operation)?;
    Ok(points)
}

impl Stage {
    /// A victim that nothing was done to, or that stood still for a while.
    fn comes_to_its_end(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let said = self.victim.try_hear();
        ensure!(said.as_deref() == Some("done well"), "the victim says {said:?}");
        self.victim.tell("end");
        if self.other.is_none() {
            self.other = self.accept(TIME_LIMIT)?;
        }
        let other = self.other.take().context("there is no other end")?;
        other.set_read_timeout(Some(TIME_LIMIT))?;
        let (bytes, end) = read_out(&other, &self.early);
        ensure!(end.is_ok(), "a stream that was closed ends with {end:?}");
        check_prefix(&bytes, operation.before + operation.writes, operation.before + operation.writes)?;
        let said = self.victim.try_hear();
        ensure!(said.as_deref() == Some("ended"), "the victim says {said:?}");
        Ok(())
    }

    /// A victim that stands still: what it wrote is there, and there is no end yet that it did not make.
    fn stands_still(&mut self, operation: &Operation) -> anyhow::Result<()> {
        let Some(mut other) = self.other.as_ref() else { return Ok(()) };
        other.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut piece = [0; 50];
        match other.read(&mut piece) {
            Ok(0) => ensure!(operation.closes, "a stream that stands still looks whole"),
            Ok(count) => self.early.extend_from_slice(&piece[..count]),
            Err(error) => ensure!(
                error.kind() == Io::TimedOut && operation.before == 0,
                "reading from one that stands still says {error}"
            ),
        }
        Ok(())
    }

    /// A victim that was killed.
    fn is_dead(&mut self, operation: &Operation) -> anyhow::Result<()> {
        if operation.name == "open" && self.listener.is_some() {
            self.other = self.accept(Duration::from_millis(1))?;
        }
        let Some(other) = self.other.take() else { return Ok(()) };
        other.set_read_timeout(Some(TIME_LIMIT))?;
        other.set_write_timeout(Some(TIME_LIMIT))?;
        let (bytes, end) = read_out(&other, &[]);
        check_prefix(&bytes, operation.before, operation.before + operation.writes)?;
        match end {
            Ok(()) => ensure!(operation.closes, "a stream that was cut off looks whole"),
            Err(kind) => ensure!(kind == Io::ConnectionReset, "reading from a dead end says {kind:?}"),
        }
        let begin = Instant::now();
        let error = loop {
            match (&other).write_all(&[9; 64]) {
                Ok(()) => ensure!(begin.elapsed() < TIME_LIMIT, "one can write to a dead end for ever"),
                Err(error) => break error,
            }
        };
        ensure!(error.kind() == Io::BrokenPipe, "writing to a dead end says {error}");
        Ok(())
    }
}

fn check_prefix(bytes: &[u8], least: usize, most: usize) -> anyhow::Result<()> {
    if let Some(at) = pattern::first_wrong(bytes, OURS, 0) {
        bail!("byte {at} is not what was written");
    }
    ensure!((least..=most).contains(&bytes.len()), "{} bytes came where {least} to {most} were written", bytes.len());
    Ok(())
}

/// Reads until there is no more.
fn read_out(mut stream: &Stream, early: &[u8]) -> (Vec<u8>, Result<(), Io>) {
    let (mut bytes, mut piece) = (early.to_vec(), [0; 1000]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (bytes, Ok(())),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) => return (bytes, Err(error.kind())),
        }
    }
}

fn visit(side: &str, operation: &Operation, point: &Point, blow: EndBlow) -> anyhow::Result<()> {
    let before = descriptors();
    let (mut stage, mut tracee) = Stage::new(side, operation)?;
    let is_there = walk::go_to(&mut tracee, point, || false)?;
    match blow {
        _ if !is_there => {
            tracee.release()?; // the way was another one this time
            stage.comes_to_its_end(operation)?;
        }
        EndBlow::Kill => {
            stage.victim.kill();
            tracee.bury()?;
            stage.is_dead(operation)?;
        }
        EndBlow::Stop => {
            stage.others_work()?;
            // A writer that waits for room shall not get any.
            if operation.before < RING {
                stage.stands_still(operation)?;
            }
            tracee.release()?;
            stage.comes_to_its_end(operation)?;
        }
        EndBlow::Lie(offset, value) => blows::lie(&mut stage.victim, tracee, offset, value)?,
    }
    if !matches!(blow, EndBlow::Lie(..)) {
        stage.others_work()?;
    }
    drop(stage);
    let begin = Instant::now();
    while descriptors() > before {
        ensure!(begin.elapsed() < TIME_LIMIT, "{} descriptors are left where {before} were", descriptors());
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

// ---- the victim -----------------------------------------------------------------------------------------------------

/// The role: does one operation between two marks.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [place, side, operation] = arguments else { panic!("a victim needs a path, a side and an operation") };
    survive_marks();
    let go = || assert_eq!(parent.hear().as_deref(), Some("go"));
    let place = Path::new(place);
    let listener = (*side == "accepting").then(|| listen(place).expect("it listens"));
    parent.tell("begun");
    go();
    let open = || match &listener {
        Some(listener) => listener.accept().expect("a stream"),
        None => connect(place).expect("a stream"),
    };
    let begin = || {
        go();
        parent.tell(format_args!("ready {}", rustix::thread::gettid().as_raw_nonzero()));
        go();
    };
    if *operation == "open" {
        begin();
        let stream = marked(open);
        end(parent, true, Some(stream));
        return;
    }
    let mut stream = open();
    let before = if *operation == "write-waiting" { RING } else { BEFORE };
    stream.write_all(&pattern::part(OURS, 0, before)).expect("there is room");
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    stream.set_write_timeout(Some(WAIT)).expect("a timeout");
    let mine = pattern::part(OURS, before, LEN);
    let mut found = vec![0; LEN];
    begin();
    let is_well = match *operation {
        "write" => marked(|| stream.write(&mine)).is_ok_and(|count| count == LEN),
        "write-waiting" => marked(|| stream.write(&mine)).is_err_and(|error| error.kind() == Io::TimedOut),
        "read-waiting" => marked(|| stream.read(&mut found)).is_err_and(|error| error.kind() == Io::TimedOut),
        "read" => {
            let count = marked(|| stream.read(&mut found)).unwrap_or(0);
            count == BEFORE && pattern::first_wrong(&found[..count], THEIRS, 0).is_none()
        }
        "lend" => marked(|| {
            let Ok(room) = stream.write_buf() else { return false };
            assert!(room.len() <= RING, "{} bytes are lent of a ring of {RING}", room.len());
            let count = LEN.min(room.len());
            room[..count].copy_from_slice(&mine[..count]);
            stream.commit(count);
            count == LEN
        }),
        "borrow" => marked(|| {
            let Ok(bytes) = stream.fill_buf() else { return false };
            assert!(bytes.len() <= RING, "{} bytes are there in a ring of {RING}", bytes.len());
            let is_right = bytes == &pattern::part(THEIRS, 0, BEFORE)[..];
            let count = bytes.len();
            stream.consume(count);
            is_right
        }),
        "shutdown" => marked(|| stream.shutdown(Shutdown::Write)).is_ok(),
        "close" => {
            marked(move || drop(stream));
            end(parent, true, None);
            return;
        }
        other => panic!("{other}?"),
    };
    end(parent, is_well, Some(stream));
}

fn end(parent: &Link, is_well: bool, stream: Option<Stream>) {
    parent.tell(if is_well { "done well" } else { "done otherwise" });
    if parent.hear().as_deref() == Some("end") {
        drop(stream);
        parent.tell("ended");
        let _ = parent.hear();
    }
}
