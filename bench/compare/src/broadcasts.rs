//! One publisher and several readers, each a process, by each medium in turn: messages a second that all of them have
//! read whole.
//!
//! The publisher fills every byte and publishes as fast as it may; each reader reads every byte and checks the sum.
//! Both count in words of a memory that all have, which is looked at twice: so nothing has to be said at the end, and
//! a medium that loses messages is told by the difference.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wigwag_bench::case::WaitMode;
use wigwag_bench::memory::{self, Memory};
use wigwag_bench::page::{Broadcast, LeftOut};
use wigwag_bench::peer::{self, PeerProcess};
use wigwag_bench::placement::{self, Pin, Processors};
use wigwag_bench::progress::Progress;
use wigwag_bench::transport::private_directory_in;
use wigwag_bench::work;

use crate::contenders::OURS;
use crate::contenders::broadcast::{self, Entry, Medium, Part};
use crate::leftovers;

/// Each word on lines of its own: first the publisher's, then each reader's.
const SPACING: usize = 128;
/// What a reader counts that has read a wrong byte.
const WRONG: u64 = u64::MAX;
/// Messages that may be under way beyond a reader's depth, in the kernel or in a runtime.
const ON_THE_WAY: usize = 256;

/// What is varied.
pub struct Extent {
    /// Bytes of a message.
    pub sizes: &'static [usize],
    /// Readers.
    pub readers: &'static [usize],
    /// How often each medium has its turn.
    pub rounds: usize,
    /// How long is counted in a turn, after a fifth of it that is not.
    pub turn: Duration,
}

/// What was counted in one turn.
#[derive(Clone, Copy, Debug)]
struct Count {
    published_per_second: f64,
    /// Of the slowest reader.
    read_per_second: f64,
    /// The share that is not under way and was not read.
    lost: f64,
}

/// Measures all cases of these media.
pub fn measure(
    extent: &Extent,
    only: &[String],
    processors: Processors,
    root: &Path,
    progress: &Progress,
) -> (Vec<Broadcast>, Vec<LeftOut>) {
    let is_asked = |entry: &Entry| {
        let name = entry.about.name;
        only.is_empty() || name == OURS || only.iter().any(|only| only == name)
    };
    let entries: Vec<Entry> = broadcast::all().into_iter().filter(is_asked).collect();
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for entry in entries.iter().filter(|entry| entry.missing.is_some()) {
        let why = entry.missing.unwrap_or_default().to_owned();
        left_out.push(LeftOut { contender: entry.about.name.to_owned(), what: WHAT.to_owned(), why });
    }
    let there: Vec<(&Entry, WaitMode)> = entries
        .iter()
        .filter(|entry| entry.missing.is_none())
        .flat_map(|entry| entry.about.waits.iter().map(move |wait| (entry, *wait)))
        .collect();
    for &size in extent.sizes {
        for &readers in extent.readers {
            eprintln!("measuring: {size} B from one publisher to {readers}");
            let mut turns: Vec<Result<Vec<Count>, String>> = there.iter().map(|_| Ok(Vec::new())).collect();
            for round in 0..extent.rounds {
                // Forwards and backwards: a machine that slows down slows down all of them.
                let order: Box<dyn Iterator<Item = usize>> =
                    if round % 2 == 0 { Box::new(0..there.len()) } else { Box::new((0..there.len()).rev()) };
                for index in order {
                    let (entry, wait) = there[index];
                    progress.show(&format!("{} {wait}, round {}", entry.about.name, round + 1));
                    let Ok(counts) = &mut turns[index] else { continue };
                    match turn(entry, wait, (size, readers), extent.turn, (processors, root)) {
                        Ok(count) => counts.push(count),
                        Err(error) => turns[index] = Err(format!("{error:#}")),
                    }
                    leftovers::remove(root);
                }
            }
            progress.clear();
            let ours = turns[0].clone().unwrap_or_default();
            for ((entry, wait), counts) in there.iter().zip(turns) {
                match counts {
                    Ok(counts) => found.push(row(entry, *wait, (size, readers), &counts, &ours)),
                    Err(why) => left_out.push(LeftOut {
                        contender: entry.about.name.to_owned(),
                        what: format!("{size} B to {readers} readers, {wait}"),
                        why,
                    }),
                }
            }
        }
    }
    (found, left_out)
}

/// What was to be measured.
const WHAT: &str = "one publisher and its readers";

fn row(entry: &Entry, wait: WaitMode, (size, readers): (usize, usize), counts: &[Count], ours: &[Count]) -> Broadcast {
    let of = |figure: fn(&Count) -> f64| median(counts.iter().map(figure).collect());
    let ratios = counts.iter().zip(ours).map(|(count, ours)| count.read_per_second / ours.read_per_second);
    Broadcast {
        contender: entry.about.name.to_owned(),
        label: entry.about.label.to_owned(),
        how: entry.about.how.to_owned(),
        wait: wait.to_string(),
        size,
        readers,
        rounds: counts.len(),
        published_per_second: of(|count| count.published_per_second),
        read_per_second: of(|count| count.read_per_second),
        lost: Some(of(|count| count.lost)).filter(|lost| *lost > 0.0),
        ratio: Some(median(ratios.collect())).filter(|ratio| ratio.is_finite()),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// New processes for each turn: one publishes, the others read.
fn turn(
    entry: &Entry,
    wait: WaitMode,
    (size, readers): (usize, usize),
    length: Duration,
    (processors, root): (Processors, &Path),
) -> anyhow::Result<Count> {
    let directory = private_directory_in(root)?;
    let len = (readers + 1) * SPACING;
    let object = memory::create(len)?;
    let words = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), object.as_raw_fd()));
    // Two processors are enough for one reader; more have to share them as the kernel likes.
    let pin = if readers == 1 && processors.server.is_some() { Pin::Two } else { Pin::None };
    let (of_publisher, of_readers) = processors.of(pin)?;
    let part = Part {
        medium: entry.about.name.to_owned(),
        wait,
        reader: None,
        readers,
        size,
        processor: of_publisher,
        directory: directory.path().to_owned(),
        words,
    };
    let start = |part: &Part| PeerProcess::start_ready(["broadcast".to_owned(), serde_json::to_string(part)?]);
    let mut publisher = start(&part)?;
    let reading = |reader| start(&Part { reader: Some(reader), processor: of_readers, ..part.clone() });
    let reading = (0..readers).map(reading).collect::<anyhow::Result<Vec<_>>>()?;
    publisher.tell("begin")?;
    publisher.await_ready()?;
    let memory = Memory::map(&object, len)?;
    std::thread::sleep(length / 5);
    let (begin, before) = (Instant::now(), counted(&memory, readers)?);
    std::thread::sleep(length);
    let (seconds, after) = (begin.elapsed().as_secs_f64(), counted(&memory, readers)?);
    drop(publisher);
    drop(reading);
    let passed = |index: usize| after[index] - before[index];
    let slowest = (1..=readers).map(passed).min().context("nobody reads")?;
    ensure!(slowest > 0, "a reader has read nothing in {:.1} s", seconds);
    let missing = passed(0).saturating_sub(slowest + (part.depth() + ON_THE_WAY) as u64);
    let per_second = |count: u64| count as f64 / seconds;
    Ok(Count {
        published_per_second: per_second(passed(0)),
        read_per_second: per_second(slowest),
        lost: missing as f64 / passed(0).max(1) as f64,
    })
}

fn word(memory: &Memory, index: usize) -> &'static AtomicU64 {
    memory.word(index * SPACING)
}

/// What the publisher and each reader have counted.
fn counted(memory: &Memory, readers: usize) -> anyhow::Result<Vec<u64>> {
    let counts: Vec<u64> = (0..=readers).map(|index| word(memory, index).load(Ordering::Relaxed)).collect();
    ensure!(!counts.contains(&WRONG), "a reader has read a wrong byte");
    Ok(counts)
}

/// Another process: finds its part.
pub fn peer(part: &str) -> anyhow::Result<()> {
    let part: Part = serde_json::from_str(part).context("this is no part in a broadcast")?;
    match broadcast::all().into_iter().find(|entry| entry.about.name == part.medium) {
        Some(entry) => (entry.play)(&part).or_else(|error| peer::say_failed(&error)),
        None => anyhow::bail!("there is no medium {}", part.medium),
    }
}

/// Plays a part until the parent ends it.
pub fn play<M: Medium>(part: &Part) -> anyhow::Result<()> {
    placement::confine(part.processor)?;
    let words = File::options().read(true).write(true).open(&part.words).context("the words cannot be opened")?;
    let memory = Memory::map(&words, (part.readers + 1) * SPACING)?;
    match part.reader {
        None => publish::<M>(part, word(&memory, 0)),
        Some(reader) => read::<M>(part, word(&memory, reader + 1)),
    }
}

/// Its parent is gone, or has seen enough.
fn end_with_parent() -> anyhow::Result<()> {
    peer::when_parent_leaves(|| std::process::exit(0))
}

fn publish<M: Medium>(part: &Part, count: &AtomicU64) -> anyhow::Result<()> {
    let mut publisher = M::publisher(part)?;
    peer::say_ready()?;
    std::io::stdin().read_line(&mut String::new())?;
    end_with_parent()?;
    M::meet(&mut publisher, part)?;
    peer::say_ready()?;
    for number in 1_u64.. {
        M::publish(&mut publisher, part.size, |bytes| work::fill(bytes, work::pattern(number)))?;
        count.store(number, Ordering::Relaxed);
    }
    Ok(())
}

fn read<M: Medium>(part: &Part, count: &AtomicU64) -> anyhow::Result<()> {
    let mut reader = M::reader(part)?;
    end_with_parent()?;
    peer::say_ready()?;
    let is_right = |bytes: &[u8]| {
        let Some(pattern) = bytes.first_chunk() else { return false };
        let expected = work::expected_unchanged(part.size, u64::from_le_bytes(*pattern));
        bytes.len() == part.size && work::read(bytes) == expected
    };
    for number in 1_u64.. {
        if !M::read(&mut reader, is_right)? {
            count.store(WRONG, Ordering::Relaxed);
            anyhow::bail!("a wrong byte was read");
        }
        count.store(number, Ordering::Relaxed);
    }
    Ok(())
}
