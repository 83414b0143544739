//! B1, B1b, B2, B3: a broadcast beside a bare store of the line, beside one ring, beside our own exchange, and by
//! itself to one, four and sixteen subscribers.
//!
//! The publisher is this process. Who listens is another one, which is told by words that both have.

use std::fs::Permissions;
use std::hint::black_box;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;
use wigwag::{Client, ErrorKind, Overrun, Publisher, Server, Subscriber, Wait};

use super::others::{Others, exit_with_parent, map, median};
use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag_bench::memory::Memory;
use wigwag_bench::placement::{Pin, Processors, confine};

/// The size of the goals, which lies in an entry.
const SHORT: usize = 48;
/// Subscribers that are stopped, or asleep.
const CROWD: usize = 999;
const ROUNDS: usize = 12;
/// Published between two looks at the clock.
const BATCH: u64 = 256;
/// As many lines as a publisher has entries by default, so that the bare store goes round as it does.
const LINES: usize = 65;
/// Messages that a publisher keeps whose rate is measured: 1.5 MiB of entries.
const LONG_HISTORY: usize = 24 << 10;
/// How long a subscriber waits for a publisher, and the other way round.
const PATIENCE: Duration = Duration::from_secs(20);

/// The words: how many are ready, how many messages were read, what is to be done.
const READY: usize = 0;
const READ: usize = 128;
const TASK: usize = 256;
const SIZE: usize = 4096;

/// What the crowd is told.
const ARM: u64 = 1;
const GO_ON: u64 = 2;

/// A directory for the names, and the words.
struct Ground {
    directory: TempDir,
    memory: Memory,
    processors: (Option<usize>, Option<usize>),
}

impl Ground {
    /// `processors`: this process's, and that of the others.
    fn new(processors: (Option<usize>, Option<usize>)) -> anyhow::Result<Ground> {
        let permissions = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("wigwag-bench-").permissions(permissions).tempdir()?;
        let memory = map(&directory.path().join("words"), SIZE)?;
        confine(processors.0)?;
        raise_descriptors()?;
        Ok(Ground { directory, memory, processors })
    }

    fn name(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn word(&self, offset: usize) -> &'static AtomicU64 {
        self.memory.word(offset)
    }

    /// Starts another process that plays a part.
    fn other(&self, part: &str, count: usize) -> anyhow::Result<Others> {
        let processor = self.processors.1.map_or_else(|| "-".to_owned(), |processor| processor.to_string());
        let arguments = [
            "broadcast".into(),
            part.into(),
            count.to_string().into(),
            processor.into(),
            self.directory.path().as_os_str().to_owned(),
        ];
        Others::start([arguments])
    }

    /// Waits until so many are ready.
    fn wait(&self, ready: u64) -> anyhow::Result<()> {
        let begin = Instant::now();
        while self.word(READY).load(Ordering::SeqCst) < ready {
            ensure!(begin.elapsed() < PATIENCE, "the other process is not ready within {PATIENCE:?}");
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}

/// Two processors, chosen before this process is confined to one of them.
fn two() -> anyhow::Result<(Option<usize>, Option<usize>)> {
    Processors::choose(&[])?.of(Pin::Two)
}

/// A thousand sessions need thousands of descriptors.
fn raise_descriptors() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("this process may not have the descriptors that it needs")
}

fn publisher(name: &Path, size: usize, overrun: Overrun) -> anyhow::Result<Publisher> {
    Ok(Publisher::builder().capacity(size.max(SHORT)).overrun(overrun).bind(name)?)
}

/// Nanoseconds for one, as often as there is time.
fn per_one_ns(slice: Duration, mut batch: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (begin, mut count) = (Instant::now(), 0);
    loop {
        batch()?;
        count += BATCH;
        let elapsed = begin.elapsed();
        if elapsed >= slice {
            return Ok(elapsed.as_nanos() as f64 / count as f64);
        }
    }
}

fn publish_batch(publisher: &mut Publisher, message: &[u8]) -> anyhow::Result<()> {
    for _ in 0..BATCH {
        publisher.send(black_box(message))?;
    }
    Ok(())
}

/// A line as an entry has it.
#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; 8]);

/// What every publisher has to do: the message's words into a line, and an exchange that says so.
fn store_batch(lines: &[Line], at: &mut (usize, u64), message: &[u64; 6]) {
    for _ in 0..BATCH {
        let line = &lines[at.0];
        for (word, value) in line.0[2..].iter().zip(black_box(message)) {
            word.store(*value, Ordering::Relaxed);
        }
        line.0[0].swap(at.1, Ordering::SeqCst);
        *at = (if at.0 + 1 == lines.len() { 0 } else { at.0 + 1 }, at.1 + 1);
    }
}

/// B1.
pub(super) fn nobody_and_the_stopped(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let ground = Ground::new(two()?)?;
    let rounds = attempt.rounds.unwrap_or(ROUNDS);
    let slice = Duration::from_secs_f64((attempt.seconds / rounds as f64 / 6.0).max(0.01));
    let lines: Vec<Line> = std::iter::repeat_with(Line::default).take(LINES).collect();
    let mut quiet = publisher(&ground.name("quiet"), SHORT, Overrun::DropOldest)?;
    let message = [0x55; SHORT];
    let (mut ratios, mut stores, mut publishes, mut at) = (Vec::new(), Vec::new(), Vec::new(), (0, 1));
    for _ in 0..rounds {
        let store = per_one_ns(slice, || {
            store_batch(&lines, &mut at, &[0x55; 6]);
            Ok(())
        })?;
        let publish = per_one_ns(slice, || publish_batch(&mut quiet, &message))?;
        ratios.push(publish / store);
        stores.push(store);
        publishes.push(publish);
    }
    // One that reads, alone and beside the crowd: two publishers, each with a reader, take turns.
    let mut alone = publisher(&ground.name("alone"), SHORT, Overrun::DropOldest)?;
    let mut crowded = publisher(&ground.name("crowded"), SHORT, Overrun::DropOldest)?;
    let _crowd = ground.other("crowd crowded", CROWD)?;
    ground.wait(1)?;
    crowded.wait_for_subscribers(CROWD, PATIENCE)?;
    let crowd = crowded.subscribers().first().context("the crowd is gone")?.peer.pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(crowd), nix::sys::signal::Signal::SIGSTOP)?;
    publish_batch(&mut crowded, &message)?; // whoever was armed is rung, once
    std::thread::sleep(Duration::from_millis(50));
    let _readers = [ground.other("reader alone", 1)?, ground.other("reader crowded", 1)?];
    ground.wait(3)?;
    let mut reading = Vec::new();
    for _ in 0..rounds {
        let rate = |publisher: &mut Publisher| -> anyhow::Result<f64> {
            let read = ground.word(READ);
            let (begin, before) = (Instant::now(), read.load(Ordering::SeqCst));
            per_one_ns(slice, || publish_batch(publisher, &message))?;
            Ok((read.load(Ordering::SeqCst) - before) as f64 / begin.elapsed().as_secs_f64())
        };
        reading.push((rate(&mut alone)?, rate(&mut crowded)?));
    }
    let checks = vec![
        Check::at_most("publish to nobody", median(ratios), 3.0, "x a bare store"),
        Check::at_least(
            "rate of one reader beside 999 that are stopped",
            median(reading.iter().map(|(alone, crowded)| crowded / alone).collect()),
            0.95,
            "x alone",
        ),
    ];
    let millions = |of: Vec<f64>| median(of) / 1e6;
    let note = format!(
        "a bare store {:.1} ns, a publish to nobody {:.1} ns; a reader alone {:.2} M/s, beside {CROWD} stopped \
         {:.2} M/s",
        median(stores),
        median(publishes),
        millions(reading.iter().map(|it| it.0).collect()),
        millions(reading.iter().map(|it| it.1).collect()),
    );
    Ok(Verdict::new(Goal::B1, checks, Vec::new()).noting(note))
}

/// B1b.
pub(super) fn to_sleepers(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let ground = Ground::new(two()?)?;
    let rounds = attempt.rounds.unwrap_or(20 * ROUNDS);
    let mut one = publisher(&ground.name("one"), SHORT, Overrun::DropOldest)?;
    let mut many = publisher(&ground.name("many"), SHORT, Overrun::DropOldest)?;
    let _others = [ground.other("crowd one", 1)?, ground.other("crowd many", CROWD)?];
    ground.wait(2)?;
    one.wait_for_subscribers(1, PATIENCE)?;
    many.wait_for_subscribers(CROWD, PATIENCE)?;
    ground.word(TASK).store(GO_ON, Ordering::SeqCst);
    let (mut ratios, mut rings, mut publishes, mut awake) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs_f64(attempt.seconds);
    for _ in 0..rounds {
        let (ring, _) = publish_to(&mut one, 1, &ground)?;
        let (publish, last) = publish_to(&mut many, CROWD, &ground)?;
        ratios.push(publish / ring);
        rings.push(ring);
        publishes.push(publish);
        awake.push(last);
        if Instant::now() >= end {
            break;
        }
    }
    let check = Check::at_most("publish to 999 that sleep", median(ratios), 1.2, "x one ring");
    let note = format!(
        "a publish that rings one {:.1} us, one to {CROWD} asleep {:.1} us; the last one awake after {:.1} ms",
        median(rings) / 1e3,
        median(publishes) / 1e3,
        median(awake) / 1e6
    );
    Ok(Verdict::new(Goal::B1B, vec![check], Vec::new()).noting(note))
}

/// Publishes to so many that sleep: how long that took, and how long until all of them had read it.
fn publish_to(publisher: &mut Publisher, count: usize, ground: &Ground) -> anyhow::Result<(f64, f64)> {
    let begin = Instant::now();
    while publisher.subscribers().iter().filter(|it| it.is_asleep && it.lag == 0).count() < count {
        ensure!(begin.elapsed() < PATIENCE, "the subscribers do not sleep");
        std::thread::sleep(Duration::from_micros(500));
    }
    let read = ground.word(READ);
    let before = read.load(Ordering::SeqCst);
    let begin = Instant::now();
    publisher.send(&[0x55; SHORT])?;
    let published = begin.elapsed();
    while read.load(Ordering::SeqCst) < before + count as u64 {
        ensure!(begin.elapsed() < PATIENCE, "somebody is not woken");
        std::thread::yield_now();
    }
    Ok((published.as_nanos() as f64, begin.elapsed().as_nanos() as f64))
}

/// B2.
pub(super) fn one_way_time(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let mut checks = Vec::new();
    let mut notes = Vec::new();
    let rounds = attempt.rounds.unwrap_or(ROUNDS / 3); // each starts two processes
    let slice = Duration::from_secs_f64((attempt.seconds / rounds as f64 / 4.0).max(0.01));
    let processors = two()?;
    for (word, wait) in [("spin", Wait::Spin), ("adaptive", Wait::Adaptive)] {
        let ground = Ground::new(processors)?;
        let mut there = publisher(&ground.name("there"), SHORT, Overrun::DropOldest)?;
        let message = [0x55; SHORT];
        let (mut ratios, mut halves, mut trips) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            // One after the other: two that spin would share a processor.
            let half = {
                ground.word(READY).store(0, Ordering::SeqCst);
                let _other = ground.other(&format!("echo {word}"), 1)?;
                let builder = Subscriber::builder().wait(wait).server_timeout(PATIENCE);
                let mut back = builder.connect(ground.name("back"))?;
                ground.wait(1)?;
                there.wait_for_subscribers(1, PATIENCE)?;
                per_one_ns(slice, || {
                    for _ in 0..BATCH {
                        there.send(black_box(&message))?;
                        black_box(&back.recv()?[..]);
                    }
                    Ok(())
                })? / 2.0
            };
            let trip = {
                let _other = ground.other(&format!("server {word}"), 1)?;
                let builder = Client::builder().wait(wait).server_timeout(PATIENCE);
                let client = builder.connect(ground.name("calls"))?;
                per_one_ns(slice, || {
                    for _ in 0..BATCH {
                        black_box(&client.call(black_box(&message))?[..]);
                    }
                    Ok(())
                })?
            };
            ratios.push(half / trip);
            halves.push(half);
            trips.push(trip);
        }
        checks.push(Check::at_most(format!("one way, {word}"), median(ratios), 0.7, "x a call there and back"));
        notes.push(format!("{word}: one way {:.0} ns, a call {:.0} ns", median(halves), median(trips)));
    }
    Ok(notes.into_iter().fold(Verdict::new(Goal::B2, checks, Vec::new()), Verdict::noting))
}

/// B3.
pub(super) fn rates(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let mut notes = Vec::new();
    let mut to_one = 0.0;
    let processors = two()?;
    // One subscriber last: then each side has a processor of its own, and this process keeps it.
    let cases: Vec<(usize, usize)> =
        [4, 16, 1].into_iter().flat_map(|count| [SHORT, 4096, 1 << 20].map(|size| (size, count))).collect();
    let slice = Duration::from_secs_f64((attempt.seconds / cases.len() as f64 - 0.3).max(0.05) / 5.0);
    for (size, count) in cases {
        let ground = Ground::new(if count == 1 { processors } else { (None, None) })?;
        let builder = Publisher::builder().capacity(size.max(SHORT)).overrun(Overrun::Wait(PATIENCE));
        // A ring of short messages that is larger than a second-level cache: what is written again has left it.
        let builder = if size <= SHORT { builder.history(LONG_HISTORY) } else { builder };
        let mut publisher = builder.bind(ground.name("all"))?;
        let _readers = ground.other("reader all", count)?;
        ground.wait(1)?;
        publisher.wait_for_subscribers(count, PATIENCE)?;
        let mut rates = Vec::new();
        for _ in 0..5 {
            let (begin, mut sent) = (Instant::now(), 0_u64);
            while begin.elapsed() < slice {
                for _ in 0..if size > 4096 { 4 } else { BATCH } {
                    // Every byte is written: a short message from here, a long one where it is read.
                    if size <= SHORT {
                        publisher.send(&[sent as u8; SHORT][..size])?;
                    } else {
                        let mut draft = publisher.loan(size)?;
                        draft.fill(sent as u8);
                        draft.commit()?;
                    }
                    sent += 1;
                }
            }
            rates.push(sent as f64 / begin.elapsed().as_secs_f64());
        }
        let rate = median(rates);
        if (size, count) == (SHORT, 1) {
            to_one = rate;
        }
        let gigabytes = rate * size as f64 / 1e9;
        notes.push(format!(
            "{size} B to {count}: {rate:.0} messages/s, {gigabytes:.2} GB/s, each read by all, none lost"
        ));
    }
    let check = Check::at_least("48 B to one subscriber", to_one / 1e6, 20.0, "M/s");
    Ok(notes.into_iter().fold(Verdict::new(Goal::B3, vec![check], Vec::new()), Verdict::noting))
}

/// Another process: plays its part until the one that started it is gone.
pub fn play(part: &str, count: usize, processor: &str, directory: &Path) -> anyhow::Result<()> {
    exit_with_parent();
    confine(processor.parse().ok())?;
    raise_descriptors()?;
    let memory = map(&directory.join("words"), SIZE)?;
    let (part, name) = part.split_once(' ').context("a part and a name")?;
    match part {
        "crowd" => crowd(&directory.join(name), count, &memory),
        "reader" => readers(&directory.join(name), count, &memory),
        "echo" => echo(directory, name, &memory),
        "server" => serve(&directory.join("calls"), name, &memory),
        _ => bail!("there is no part {part}"),
    }
}

fn waiting(word: &str) -> Wait {
    if word == "spin" { Wait::Spin } else { Wait::Adaptive }
}

/// Subscribers that sleep, all in one poll: each reads what has come, and sleeps again.
fn crowd(name: &Path, count: usize, memory: &Memory) -> anyhow::Result<()> {
    let builder = || Subscriber::builder().wait(Wait::Park).server_timeout(PATIENCE).timeout(PATIENCE);
    let mut subscribers =
        (0..count).map(|_| builder().connect(name)).collect::<Result<Vec<Subscriber>, wigwag::Error>>()?;
    let sleep = |subscriber: &mut Subscriber| -> anyhow::Result<()> {
        loop {
            while let Some(message) = subscriber.try_recv()? {
                black_box(&message[..]);
                memory.word(READ).fetch_add(1, Ordering::SeqCst);
            }
            if subscriber.arm()? {
                return Ok(());
            }
        }
    };
    subscribers.iter_mut().try_for_each(sleep)?;
    memory.word(TASK).fetch_max(ARM, Ordering::SeqCst);
    memory.word(READY).fetch_add(1, Ordering::SeqCst);
    loop {
        let ready: Vec<usize> = {
            let descriptors: Vec<BorrowedFd<'_>> = subscribers.iter().map(|subscriber| subscriber.as_fd()).collect();
            let mut polled: Vec<PollFd<'_>> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            poll(&mut polled, None)?;
            (0..polled.len()).filter(|&index| !polled[index].revents().is_empty()).collect()
        };
        for index in ready {
            sleep(&mut subscribers[index])?;
        }
    }
}

/// Subscribers that read every byte, each in a thread.
fn readers(name: &Path, count: usize, memory: &Memory) -> anyhow::Result<()> {
    let subscribers = (0..count)
        .map(|_| Subscriber::builder().server_timeout(PATIENCE).connect(name))
        .collect::<Result<Vec<Subscriber>, wigwag::Error>>()?;
    memory.word(READY).fetch_add(1, Ordering::SeqCst);
    let said = memory.word(READ);
    std::thread::scope(|scope| {
        let read = |mut subscriber: Subscriber| {
            let (mut sum, mut unsaid) = (0_u64, 0);
            loop {
                let message = match subscriber.recv() {
                    Ok(message) => message,
                    Err(error) if error.kind() == ErrorKind::Ended => return Ok(()),
                    Err(error) => return Err(error),
                };
                let (words, rest) = message.as_chunks::<8>();
                sum = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
                sum = rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
                black_box(sum);
                unsaid += 1;
                if unsaid == 64 {
                    said.fetch_add(unsaid, Ordering::Relaxed);
                    unsaid = 0;
                }
            }
        };
        let threads: Vec<_> = subscribers.into_iter().map(|it| scope.spawn(move || read(it))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("it does not panic");
        Ok(threads.into_iter().try_for_each(join)?)
    })
}

/// Publishes what it reads. Nobody spins before both are connected: there is one processor for this and for the threads
/// that shake hands.
fn echo(directory: &Path, word: &str, memory: &Memory) -> anyhow::Result<()> {
    let mut back = publisher(&directory.join("back"), SHORT, Overrun::DropOldest)?;
    back.wait_for_subscribers(1, PATIENCE)?;
    let builder = Subscriber::builder().wait(waiting(word)).server_timeout(PATIENCE);
    let mut there = builder.connect(directory.join("there"))?;
    memory.word(READY).fetch_add(1, Ordering::SeqCst);
    loop {
        let message = there.recv()?;
        back.send(&message)?;
    }
}

fn serve(name: &Path, word: &str, memory: &Memory) -> anyhow::Result<()> {
    let mut server = Server::builder().wait(waiting(word)).bind(name)?;
    memory.word(READY).fetch_add(1, Ordering::SeqCst);
    while server.stats().sessions == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.serve(|request| {
        for byte in request.iter_mut() {
            *byte = !*byte;
        }
    })?;
    Ok(())
}
