//! A peer that lies at every step (goal G5): after each single instruction of the victim, hostile values are written
//! into the control words that it shares with its peer.
//!
//! What is read twice, used unchecked or believed shows here: as a crash, a hang, bytes beyond the capacity, or harm to
//! others. The victim may end the session, or go on as if nothing had been written; its process goes on in any case.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use wigwag::{Client, Wait};
use wigwag_testing::{Ground, HAS_DEADLINE, IN_BODY, Process, REQUEST, Raw, SERVER, check_inverted, fill, word};

use super::Counts;
use super::tracer::{Stop, Tracee};
use super::victim::CAPACITY;
use super::walk::{self, End, Point, Sleeper};
use super::world::World;
use crate::outcome::Outcome;
use crate::processors;
use crate::role;
use crate::scale::Trial;

/// How long a victim may take to come through, in all.
const LIMIT: Duration = Duration::from_secs(10);
/// Visits between two looks at the others.
const VISITS_PER_LOOK: usize = 64;

/// Where the peer writes: the name, the offset, the bytes.
const WORDS: &[(&str, u64, usize)] = &[
    ("turn", 4096, 8),
    ("head", 4104, 8),
    ("the other slot", 4160, 16),
    ("deadlines", 4224, 16),
    ("the client's line", 1024, 16),
    ("the server's line", 1152, 16),
];

/// What it writes.
fn values() -> Vec<u64> {
    let capacity = CAPACITY as u64;
    let mut values = vec![0, 1, capacity - 1, capacity, capacity + 1, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX];
    for kind in [REQUEST, 2 * REQUEST, 3 * REQUEST] {
        values.extend([capacity + 1, 1 << 31, u64::from(u32::MAX)].map(|len| kind | IN_BODY | len));
        values.extend([49, u64::from(u32::MAX)].map(|len| kind | HAS_DEADLINE | len));
    }
    // turns gone by, and to come
    values.extend([1, 2, 3, 1 << 24, u64::MAX >> 8].map(|sequence| sequence << 8 | SERVER));
    values.extend([1, 2].map(|sequence| sequence << 8));
    values
}

/// The goal.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    processors::share_one()?;
    let mut counts = Counts::default();
    // Lies for each instruction, of all there are; and every how-manieth instruction.
    let (lies, of_server, of_client) = trial.pick((2, 8, 48), (4, 1, 1), (usize::MAX, 1, 1));
    let plan = |stride| Plan { seed: trial.seed, lies, stride };
    let server = lie_to_server(&plan(of_server), &mut counts).context("a server that is lied to")?;
    let client = lie_to_client(&plan(of_client), &mut counts).context("a client that is lied to")?;
    let figure = format!(
        "{} lies at {server} instructions of a server and {client} of a client, {} values in {} places, seed {}",
        counts.visits,
        values().len(),
        WORDS.len(),
        trial.seed
    );
    Ok(Outcome::of(figure, counts.findings))
}

struct Plan {
    seed: u64,
    lies: usize,
    stride: usize,
}

/// One lie: where, and what.
type Lie = (&'static str, u64, Vec<u8>);

impl Plan {
    /// The lies to tell at an instruction: all, or some of them, others at each.
    fn lies_at(&self, step: usize) -> Vec<Lie> {
        let values = values();
        let all = WORDS.iter().flat_map(|&(name, offset, len)| {
            values.iter().map(move |value| (name, offset, value.to_ne_bytes().repeat(len / 8)))
        });
        let mut all: Vec<Lie> = all.collect();
        if self.lies < all.len() {
            // Half of them are lengths beyond everything in the head, where lies hurt most.
            let head = WORDS[1];
            let pick = |index: u64| word(self.seed, (step as u64) << 8 | index) as usize;
            let beyond = [REQUEST, 2 * REQUEST].map(|kind| kind | IN_BODY | u64::from(u32::MAX));
            let chosen = (0..self.lies as u64).map(|index| match index % 2 {
                0 => (head.0, head.1, beyond[pick(index) % 2].to_ne_bytes().to_vec()),
                _ => all[pick(index) % all.len()].clone(),
            });
            all = chosen.collect();
        }
        all
    }
}

// ---- a server that is lied to ---------------------------------------------------------------------------------------

/// A server that serves one request between marks at each line `go`, and one more, of somebody else, at `rest`.
pub fn server(parent: &wigwag_testing::Link, arguments: &[&str]) {
    let [socket] = arguments else { panic!("a server needs a path") };
    super::tracer::survive_marks();
    let mut server = super::victim::builder().bind(std::path::Path::new(socket)).unwrap();
    parent.tell("bound");
    while let Some(line) = parent.hear_at_last() {
        let wait = match line.as_str() {
            "go" => Duration::from_millis(10),
            "rest" => LIMIT,
            _ => break,
        };
        let mut serve = || {
            if let Ok(Some(mut request)) = server.recv_timeout(wait) {
                assert!(request.len() <= CAPACITY, "{} bytes", request.len());
                let _ = (request.deadline(), request.is_abandoned());
                request.iter_mut().for_each(|byte| *byte = !*byte);
                request.reply();
            }
        };
        match line.as_str() {
            "go" => super::victim::marked(serve),
            _ => serve(),
        }
        parent.tell("done");
    }
    drop(server);
    parent.tell("stopped");
}

/// A server, its tracer, and an honest client.
struct Listener {
    ground: Ground,
    server: Process,
    tracee: Tracee,
    honest: Client,
}

impl Listener {
    fn start() -> anyhow::Result<Listener> {
        let ground = Ground::new();
        let socket = ground.socket().to_string_lossy().into_owned();
        let server = role::start_with("step-lied-to-server", [socket], super::make_repeatable);
        if server.try_hear().as_deref() != Some("bound") {
            bail!("the victim could not bind");
        }
        let honest = Client::builder().wait(Wait::Park).connect(ground.socket())?;
        let tracee = Tracee::seize(server.id(), server.id())?;
        Ok(Listener { ground, server, tracee, honest })
    }

    /// A hostile session whose request is passed, and the server just before it looks for one.
    fn stage(&mut self) -> anyhow::Result<Raw> {
        let raw = Raw::connect(&self.ground.socket());
        raw.write(0, true, &[7; 100]);
        raw.pass(0, 1 << 8 | SERVER, REQUEST | IN_BODY | HAS_DEADLINE | 100);
        self.server.tell("go");
        self.tracee.wait_for_mark()?;
        self.tracee.find_segment()?;
        Ok(raw)
    }

    /// Lets it come through: to its mark, and to its word.
    fn comes_through(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut stop = self.tracee.go_unless(None, || begin.elapsed() > LIMIT)?;
        loop {
            stop = match stop {
                Stop::Mark => break,
                Stop::Signal(signal) => {
                    if matches!(signal, nix::sys::signal::Signal::SIGSEGV | nix::sys::signal::Signal::SIGBUS) {
                        bail!("it got {signal}");
                    }
                    self.tracee.go_unless(Some(signal), || begin.elapsed() > LIMIT)?
                }
                Stop::There | Stop::Forked(_) => self.tracee.go_unless(None, || begin.elapsed() > LIMIT)?,
                Stop::Missed => bail!("it hangs"),
                Stop::Ended => bail!("its process ended"),
            };
        }
        self.tracee.go_on()?;
        match self.server.try_hear().as_deref() {
            Some("done") => Ok(()),
            other => bail!("it says {other:?}"),
        }
    }

    /// The honest client is served as ever.
    fn others_work(&mut self, seed: u64) -> anyhow::Result<()> {
        let mut loan = self.honest.loan(300).context("the honest client gets no slot")?;
        fill(&mut loan, seed);
        let mut pending = loan.send().context("the honest client cannot send")?;
        self.server.tell("rest");
        let reply = pending.wait_timeout(LIMIT).context("the honest client was not answered")?;
        let reply = reply.context("the honest client's call failed")?;
        check_inverted(&reply, 300, seed);
        match self.server.try_hear().as_deref() {
            Some("done") => Ok(()),
            other => bail!("it says {other:?}"),
        }
    }
}

/// Returns the number of instructions.
fn lie_to_server(plan: &Plan, counts: &mut Counts) -> anyhow::Result<usize> {
    let mut listener = Listener::start()?;
    listener.others_work(0)?; // the first request of a server takes longer: it makes what it serves with
    let points = {
        let raw = listener.stage()?;
        let sleeper = Sleeper::watch(listener.server.id(), listener.tracee.thread, || {});
        let points = walk::points(&mut listener.tracee, &End::Mark, &sleeper, true)?;
        drop(sleeper);
        listener.tracee.go_on()?;
        listener.server.expect("done");
        drop(raw);
        points
    };
    for point in points.iter().step_by(plan.stride) {
        for lie in plan.lies_at(point.step) {
            if counts.is_enough() {
                return Ok(points.len());
            }
            counts.visits += 1;
            let told = tell_server(&mut listener, point, &lie);
            let told = match told {
                Ok(()) if counts.visits.is_multiple_of(VISITS_PER_LOOK) => listener.others_work(point.step as u64),
                other => other,
            };
            if let Err(error) = told {
                counts.find(format!("a server, {} at {point:?}: {error:#}", shown(&lie)));
                listener = Listener::start()?;
            }
        }
    }
    listener.others_work(0)?;
    Ok(points.len())
}

fn tell_server(listener: &mut Listener, point: &Point, (_, offset, bytes): &Lie) -> anyhow::Result<()> {
    let raw = listener.stage()?;
    if walk::go_to(&mut listener.tracee, point, || false)? {
        // Its own side of the memory: the same that the victim has.
        for (index, byte) in bytes.chunks_exact(8).enumerate() {
            let word = raw.word(*offset as usize + 8 * index);
            word.store(u64::from_ne_bytes(byte.try_into().expect("eight bytes")), std::sync::atomic::Ordering::SeqCst);
        }
        listener.comes_through()
    } else {
        listener.tracee.go_on()?;
        listener.server.expect("done");
        Ok(())
    }
}

fn shown((name, _, bytes): &Lie) -> String {
    format!("{name} <- {:#x}", u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes")))
}

// ---- a client that is lied to ---------------------------------------------------------------------------------------

/// A client that connects at each line `go` and makes a call between marks.
pub fn client(parent: &wigwag_testing::Link, arguments: &[&str]) {
    let [socket] = arguments else { panic!("a client needs a path") };
    super::tracer::survive_marks();
    parent.tell("ready");
    while parent.hear_at_last().is_some_and(|line| line == "go") {
        let client = Client::builder().wait(Wait::Park).connect(std::path::Path::new(socket)).unwrap();
        super::victim::marked(|| {
            let Ok(mut loan) = client.loan(100) else { return };
            loan.fill(7);
            match loan.call_timeout(Duration::from_millis(5)) {
                Ok(reply) => {
                    assert!(reply.len() <= CAPACITY, "{} bytes", reply.len());
                    std::hint::black_box(reply.iter().fold(0u64, |sum, byte| sum + u64::from(*byte)));
                }
                Err(error) => drop(std::hint::black_box(error.to_string())),
            }
        });
        drop(client);
        parent.tell("done");
    }
}

/// Returns the number of instructions.
fn lie_to_client(plan: &Plan, counts: &mut Counts) -> anyhow::Result<usize> {
    let mut world = World::new()?;
    let (mut victim, mut tracee) = start_client(&world)?;
    victim.tell("go");
    tracee.wait_for_mark()?;
    tracee.find_segment()?;
    let sleeper = Sleeper::watch(victim.id(), tracee.thread, || {});
    let points = walk::points(&mut tracee, &End::Mark, &sleeper, true)?;
    drop(sleeper);
    tracee.go_on()?;
    victim.expect("done");
    for point in points.iter().step_by(plan.stride) {
        for lie in plan.lies_at(point.step) {
            if counts.is_enough() {
                return Ok(points.len());
            }
            counts.visits += 1;
            let told = tell_client(&mut victim, &mut tracee, point, &lie);
            let told = match told {
                Ok(()) if counts.visits.is_multiple_of(VISITS_PER_LOOK) => world.others_work(),
                other => other,
            };
            if let Err(error) = told {
                counts.find(format!("a client, {} at {point:?}: {error:#}", shown(&lie)));
                (victim, tracee) = start_client(&world)?;
            }
        }
    }
    victim.kill();
    drop(tracee);
    world.others_work()?;
    world.is_back()?;
    world.end()?;
    Ok(points.len())
}

fn start_client(world: &World) -> anyhow::Result<(Process, Tracee)> {
    let mut victim = role::start_with("step-lied-to-client", [world.socket()], super::make_repeatable);
    victim.expect("ready");
    let tracee = Tracee::seize(victim.id(), victim.id())?;
    Ok((victim, tracee))
}

fn tell_client(victim: &mut Process, tracee: &mut Tracee, point: &Point, lie: &Lie) -> anyhow::Result<()> {
    victim.tell("go");
    tracee.wait_for_mark()?;
    tracee.find_segment()?;
    if walk::go_to(tracee, point, || false)? {
        let (_, offset, bytes) = lie;
        tracee.write(*offset, bytes)?;
        let begin = Instant::now();
        match tracee.go_unless(None, || begin.elapsed() > LIMIT)? {
            Stop::Mark => {}
            Stop::Missed => bail!("it hangs"),
            other => bail!("it came to {other:?}"),
        }
    }
    tracee.go_on()?;
    match victim.try_hear().as_deref() {
        Some("done") => Ok(()),
        other => bail!("it says {other:?}"),
    }
}
