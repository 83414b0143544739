//! G10: how long it takes until the other side knows of a death.
//!
//! From just before the kill to the moment when, for a dead client, the server's statistics have one session less, and,
//! for a dead server, the client that waited for its reply has the error. All stamps are of CLOCK_MONOTONIC, on the
//! board. The victim sleeps when it is killed, and so does who learns of it: nobody's spinning makes it quicker. The
//! server's statistics are looked at every 20 us, which is part of the figure. Where the machine allows it, all who
//! take part run at a realtime priority, so that the figure is of the death and not of how busy the machine is; the
//! figure says so.
//!
//! How long the kernel itself takes is measured beside it, in as many deaths of the same kind. Of a client: until the
//! kernel hands the dead process to its parent, at the same kill. Of a server: until its killer is told that a socket
//! hangs up which the victim opened last, since the kernel closes the last descriptors first; at every second kill, but
//! at the same kill where the victim has much memory. (A server's whole end takes the kernel milliseconds that nobody
//! waits for: it closes the watch of the name.) A figure
//! that is beyond its fixed bound is judged by the kernel's: a median may be 100 us more, and p99 and the maximum twice
//! of that, since a machine that is slow to end a process is not Wigwag's fault.
//!
//! It is measured twice: with all on one processor, and spread over all, where each wake-up of an idle processor
//! counts, which is a property of the machine (in a virtual one, of its host): of that, only p99 and the maximum are
//! judged.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use wigwag::{Client, ErrorKind, Request, Server, Wait};
use wigwag_testing::{Link, Process};

use super::dice::Dice;
use super::family::{self, Child, Holders};
use super::figures::Quantiles;
use super::scoreboard::{Extent, Note, Phase, Single, now_ns};
use super::world::World;
use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::processors;
use crate::role;
use crate::scale::{Scale, Trial};

/// The goal.
pub const GOAL: Goal = Goal {
    id: "G10",
    name: "deaths-noticed",
    title: "a death is noticed at once, on either side",
    limit_s: [90, 120, 3600],
    run,
};

/// What is not noticed by then never is.
const NEVER: Duration = Duration::from_secs(4);
/// From one look at the statistics to the next.
const LOOK: Duration = Duration::from_micros(20);
/// Kills from one report to the next.
const ROUND: u64 = 250;
/// Memory of a large victim.
const LARGE: usize = 512 << 20;

/// The side that dies, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A small process.
    Plain,
    /// A child of it lives on, with copies of all its descriptors.
    Forked,
    /// One that holds 512 MiB of memory, which the kernel takes back first.
    Large,
    /// As plain, and nobody is kept on one processor.
    Spread,
}

impl Kind {
    const ALL: [(Kind, &'static str); 4] =
        [(Kind::Plain, "plain"), (Kind::Forked, "forked"), (Kind::Large, "large"), (Kind::Spread, "spread")];

    fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).expect("all are listed").1
    }
}

/// What is allowed where the kernel alone takes long.
fn beyond_the_kernel_ns(kernel: &Quantiles) -> [u64; 3] {
    [kernel.p50_ns + 100_000, kernel.p99_ns * 2, kernel.max_ns * 2]
}

/// What is allowed of p50, p99 and the maximum, in nanoseconds, on a machine that has nothing else to do.
fn bounds_ns(kind: Kind) -> [u64; 3] {
    match kind {
        Kind::Plain | Kind::Forked => [200_000, 5_000_000, 250_000_000],
        Kind::Spread => [u64::MAX, 5_000_000, 250_000_000],
        Kind::Large => [50_000_000; 3],
    }
}

fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let kills = trial.kills.unwrap_or(trial.pick(40, 1000, 100_000));
    let (forked, large) = (trial.pick(4, 100, 1000), trial.pick(1, 5, 50));
    let (mut figures, mut findings) = (Vec::new(), Vec::new());
    let together = [(Kind::Plain, kills), (Kind::Forked, forked), (Kind::Large, large)];
    let mut is_urgent = true;
    for (place, kinds) in [("one", &together[..]), ("all", &[(Kind::Spread, kills)])] {
        if findings.is_empty() {
            is_urgent &= measure(trial, place, kinds, &mut figures, &mut findings);
        }
    }
    let priority = if is_urgent { "realtime" } else { "ordinary" };
    findings.iter_mut().for_each(|finding| finding.push_str(&format!(" ({priority} priority, seed {})", trial.seed)));
    Ok(Outcome::of(format!("{}; {priority} priority; seed {}", figures.join("; "), trial.seed), findings))
}

/// Measures some kinds of deaths, with all processes on one processor or on all. Returns whether they were urgent.
fn measure(
    trial: &Trial,
    place: &str,
    kinds: &[(Kind, u64)],
    figures: &mut Vec<String>,
    findings: &mut Vec<String>,
) -> bool {
    let world = World::new(Extent { rows: 0, nonces: 0, samples: 1 << 12 });
    let start = |role: &str| {
        let mut process = role::start(role, world.arguments([place]));
        process.expect("ready");
        process
    };
    let (_watch, mut deaths, _waiting) = (start("storm_watch"), start("storm_deaths"), start("storm_waiting"));
    for (who, note) in [("client", Note::Gone), ("server", Note::Told)] {
        for &(kind, count) in kinds {
            let [noticed, kernel] = storm(&world, &mut deaths, who, kind, count, note, trial.seed).map(Quantiles::of);
            let name = kind.name();
            figures.push(format!("{who} {name}: {} kills {noticed} (the kernel: {kernel})", noticed.count));
            let reached = [noticed.p50_ns, noticed.p99_ns, noticed.max_ns];
            let beyond = beyond_the_kernel_ns(&kernel);
            let bounds = bounds_ns(kind).into_iter().zip(beyond).map(|(fixed, beyond)| fixed.max(beyond));
            for ((what, bound_ns), ns) in ["p50", "p99", "max"].into_iter().zip(bounds).zip(reached) {
                // The tests of a whole workspace run beside this one at that scale: only what never comes is a finding.
                if trial.scale != Scale::Test && ns > bound_ns {
                    let (us, most) = (ns / 1000, bound_ns / 1000);
                    findings.push(format!(
                        "a {who}'s death ({name}) was noticed after {us} us ({what}), {most} are allowed"
                    ));
                }
            }
        }
        findings.extend(world.complaints());
        if !findings.is_empty() {
            break;
        }
    }
    world.board.set_phase(Phase::End);
    world.board.single(Single::Urgent).load(Ordering::Relaxed) == 3
}

/// So many deaths of a kind; how long each took to be noticed, and how long the kernel itself takes.
fn storm(
    world: &World,
    deaths: &mut Process,
    who: &str,
    kind: Kind,
    count: u64,
    note: Note,
    seed: u64,
) -> [Vec<u64>; 2] {
    let (mut done, mut times) = (0, [Vec::new(), Vec::new()]);
    // A large victim takes a second to grow on a slow machine.
    let most = if kind == Kind::Large { 5 } else { ROUND };
    while done < count && world.complaints().is_empty() {
        let round = (count - done).min(most);
        deaths.tell(format!("{who} {} {round} {}", kind.name(), wigwag_testing::word(seed, done)));
        deaths.expect("done");
        let mut notes = world.board.take_notes();
        times.iter_mut().zip([note, Note::Kernel]).for_each(|(times, note)| times.append(&mut notes[note as usize]));
        done += round;
    }
    times
}

// ---- who kills ------------------------------------------------------------------------------------------------------

/// The role of who raises the victims and kills them.
pub fn play_deaths(parent: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    let holders = Holders::founder();
    begin_urgently(&world, rest[0]);
    parent.tell("ready");
    while let Some(line) = parent.hear() {
        let words: Vec<&str> = line.split(' ').collect();
        let [who, kind, count, seed] = words[..] else { panic!("{line}") };
        let kind = Kind::ALL.iter().find(|(_, name)| *name == kind).expect("a kind").0;
        let (count, mut dice): (u64, _) = (count.parse().expect("a number"), Dice::new(seed.parse().expect("a seed")));
        for _ in 0..count {
            let outcome = match who {
                "client" => kill_client(&world, &holders, kind, &mut dice),
                _ => Measured::of(kind)
                    .iter()
                    .try_for_each(|&measured| kill_server(&world, &holders, kind, &mut dice, measured)),
            };
            if let Err(what) = outcome {
                world.complain(what);
                break;
            }
        }
        parent.tell("done");
    }
}

fn begin_urgently(world: &World, place: &str) {
    if place == "one" {
        processors::share_one().expect("a thread has processors");
    }
    family::wake_in_time();
    if family::be_urgent() {
        world.board.single(Single::Urgent).fetch_add(1, Ordering::Relaxed);
    }
}

const THERE: u64 = 1;

fn kill_client(world: &World, holders: &Holders, kind: Kind, dice: &mut Dice) -> Result<(), String> {
    let (stage, holder) = (world.board.stage(0), world.board.single(Single::Holder));
    let (gone, held) = (world.board.single(Single::Gone), world.board.single(Single::Held));
    stage.store(0, Ordering::Release);
    let (gone_before, held_before, waits) =
        (gone.load(Ordering::Acquire), held.load(Ordering::Acquire), dice.once_in(2));
    let victim = Child::fork(|| {
        let _memory = (kind == Kind::Large).then(grow);
        let client = Client::builder().wait(Wait::Park).connect(world.socket()).expect("the server is there");
        if kind == Kind::Forked {
            holder.store(Holders::raise(HELD_FOR_US) as u64, Ordering::Release);
        }
        stage.store(THERE, Ordering::Release);
        if waits {
            let _ = client.call(b"hold this"); // asleep until it dies
        }
        std::thread::sleep(Duration::from_secs(600));
    });
    let seen = world.board.single(Single::Seen);
    // Nobody dies before the server's watcher has seen that it lives: it would not see the end either.
    let is_there = || {
        stage.load(Ordering::Acquire) == THERE
            && seen.load(Ordering::Acquire) > 0
            && (!waits || held.load(Ordering::Acquire) > held_before)
    };
    let result = if comes_true(Duration::from_secs(20), is_there) {
        std::thread::sleep(Duration::from_micros(300) + dice.up_to_us(1000)); // all are asleep by now
        let begin = now_ns();
        victim.kill().map_err(|how| format!("a client {how}"))?;
        world.board.note(Note::Kernel, now_ns() - begin);
        if comes_true(NEVER, || gone.load(Ordering::Acquire) > gone_before) {
            let gone_at = world.board.single(Single::GoneAt).load(Ordering::Acquire);
            world.board.note(Note::Gone, gone_at.saturating_sub(begin));
            Ok(())
        } else {
            Err(format!("a client's death ({}) was not noticed within {NEVER:?}", kind.name()))
        }
    } else {
        drop(victim.kill());
        Err("a client did not get to where it was to be killed".into())
    };
    end_holder(kind, holder, holders);
    result
}

/// What the kill of a server measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measured {
    /// When its client is told.
    Client,
    /// When the kernel itself says it.
    Kernel,
    /// Both, of the same kill.
    Both,
}

impl Measured {
    /// One after the other, because who wakes first on a processor is in the way of the other, which takes tens of
    /// microseconds. Taking back much memory takes the kernel 50 to 70 milliseconds, now more and now less: only the
    /// same kill tells whether who is told learns of it within a tenth of a millisecond.
    fn of(kind: Kind) -> &'static [Measured] {
        match kind {
            Kind::Large => &[Measured::Both],
            Kind::Plain | Kind::Forked | Kind::Spread => &[Measured::Client, Measured::Kernel],
        }
    }
}

/// Kills a server, and measures.
fn kill_server(
    world: &World,
    holders: &Holders,
    kind: Kind,
    dice: &mut Dice,
    measured: Measured,
) -> Result<(), String> {
    let (life, holder) = (world.board.single(Single::Life), world.board.single(Single::Holder));
    let (told, held) = (world.board.single(Single::Told), world.board.single(Single::Held));
    let (told_before, held_before) = (told.load(Ordering::Acquire), held.load(Ordering::Acquire));
    let number = life.load(Ordering::Acquire) + 1;
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let victim = Child::fork(|| {
        let _memory = (kind == Kind::Large).then(grow);
        let mut server = Server::bind(second_socket(world)).expect("the name is free");
        life.store(number, Ordering::Release); // the client comes now
        let _request = server.recv().expect("a request");
        let _last = rustix::io::fcntl_dupfd_cloexec(&theirs, LAST_DESCRIPTOR).expect("a descriptor");
        if kind == Kind::Forked {
            holder.store(Holders::raise(HELD_FOR_US) as u64, Ordering::Release);
        }
        held.fetch_add(1, Ordering::Release);
        std::thread::sleep(Duration::from_secs(600));
    });
    drop(theirs);
    let result = if comes_true(Duration::from_secs(20), || held.load(Ordering::Acquire) > held_before) {
        std::thread::sleep(Duration::from_micros(300) + dice.up_to_us(1000));
        let begin = now_ns();
        if measured != Measured::Client {
            victim.signal(Signal::KILL);
            // A forked holder has the socket as well: then the kernel's word is the pidfd.
            wait_for_any(&[ours.as_fd(), victim.pidfd().as_fd()]);
            world.board.note(Note::Kernel, now_ns() - begin);
        }
        victim.kill().map_err(|how| format!("a server {how}"))?;
        if comes_true(NEVER, || told.load(Ordering::Acquire) > told_before) {
            let told_at = world.board.single(Single::ToldAt).load(Ordering::Acquire);
            if measured != Measured::Kernel {
                world.board.note(Note::Told, told_at.saturating_sub(begin));
            }
            Ok(())
        } else {
            Err(format!("a waiting client was not told of its server's death ({}) within {NEVER:?}", kind.name()))
        }
    } else {
        drop(victim.kill());
        Err("the client did not come to the server that was to be killed".into())
    };
    end_holder(kind, holder, holders);
    result
}

/// The number from which the socket of the kernel's figure gets its own: behind all that a server has.
const LAST_DESCRIPTOR: i32 = 200;

/// Sleeps until one of these has something to say.
fn wait_for_any(descriptors: &[BorrowedFd]) {
    let mut polled: Vec<PollFd> =
        descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: NEVER.as_secs() as i64, tv_nsec: 0 };
    while rustix::event::poll(&mut polled, Some(&timeout)).is_err() {}
}

/// Takes the memory of a large victim, with pauses: the kernel suspends who is urgent and works without any.
fn grow() -> Vec<u8> {
    const STEP: usize = 8 << 20;
    let mut memory = Vec::with_capacity(LARGE);
    while memory.len() < LARGE {
        memory.resize(memory.len() + STEP, 1);
        std::thread::sleep(Duration::from_millis(2));
    }
    std::hint::black_box(memory)
}

/// A holder outlives every report, and this process ends it; should that be gone, it ends by itself.
const HELD_FOR_US: u32 = 60_000_000;

/// The holder has come to this process with its parent's death, so its id is its own until it has been waited for.
fn end_holder(kind: Kind, holder: &AtomicU64, holders: &Holders) {
    let id = holder.swap(0, Ordering::AcqRel) as i32;
    if kind != Kind::Forked || id <= 0 {
        return;
    }
    if let Some(pid) = rustix::process::Pid::from_raw(id) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        comes_true(NEVER, || holders.reap() > 0);
    }
}

fn comes_true(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

/// The socket of the servers that die; the one that lives has the other.
fn second_socket(world: &World) -> std::path::PathBuf {
    world.socket().with_file_name("server-that-dies")
}

// ---- who learns of it -----------------------------------------------------------------------------------------------

/// The role of the server whose clients die: it looks at its own statistics all the time.
pub fn play_watch(parent: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    begin_urgently(&world, rest[0]);
    let mut server = Server::bind(world.socket()).expect("the name is free");
    parent.tell("ready");
    let mut sessions = 0;
    let mut held: Option<Request> = None;
    while world.board.phase() != Phase::End {
        let now = server.stats().sessions;
        if now < sessions {
            world.board.single(Single::GoneAt).store(now_ns(), Ordering::Release);
            world.board.single(Single::Gone).fetch_add(sessions - now, Ordering::Release);
            held = None; // of the dead
        }
        sessions = now;
        world.board.single(Single::Seen).store(now, Ordering::Release);
        if let Some(request) = server.try_recv().expect("the server goes on") {
            held = Some(request);
            world.board.single(Single::Held).fetch_add(1, Ordering::Release);
        }
        std::thread::sleep(LOOK);
    }
    drop(held);
}

/// The role of the client whose servers die: it waits for a reply that never comes.
pub fn play_waiting(parent: &Link, arguments: &[&str]) {
    let (world, rest) = World::open(arguments);
    begin_urgently(&world, rest[0]);
    parent.tell("ready");
    let life = world.board.single(Single::Life);
    let mut last = 0;
    while world.board.phase() != Phase::End {
        let now = life.load(Ordering::Acquire);
        if now == last {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        last = now;
        let wait = if now.is_multiple_of(2) { Wait::Park } else { Wait::Adaptive };
        let client = Client::builder().wait(wait).connect(second_socket(&world)).expect("the server is there");
        let error = client.call(b"hold this").map(|_| ()).expect_err("nobody answers");
        world.board.single(Single::ToldAt).store(now_ns(), Ordering::Release);
        world.board.single(Single::Told).fetch_add(1, Ordering::Release);
        if error.kind() != (ErrorKind::PeerDied { maybe_executed: true }) {
            world.complain(format!("a dead server's client was told: {error:?}"));
        }
    }
}
