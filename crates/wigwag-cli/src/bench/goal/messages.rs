//! Q1: messages one way, beside a POSIX message queue and a Unix datagram socket, at several sizes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::futex;

use super::others::{Others, exit_with_parent, map, median};
use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag_bench::messages::{Sink, Source, Way};
use wigwag_bench::placement::{Pin, Processors, confine};

/// The size of the goal, and others for the table.
const SIZES: [usize; 4] = [48, 512, 4096, 8192];
/// How many times as many messages as a POSIX message queue.
const LIMIT: f64 = 20.0;
const ROUNDS: usize = 20;
/// Received between two looks at the clock.
const BATCH: u64 = 256;
/// A queue from which nothing comes for so long is empty.
const SILENCE: Duration = Duration::from_millis(2);
/// Each sending process has a word of its own that says whether it is to send.
const STRIDE: usize = 128;

/// One way at one size: its receiving end, and what its sending process goes by.
struct Line {
    sink: Sink,
    run: &'static AtomicU32,
}

/// Q1.
pub(super) fn one_way(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let directory =
        tempfile::Builder::new().prefix("wigwag-bench-").permissions(Permissions::from_mode(0o700)).tempdir()?;
    let directory = directory.path();
    let cases: Vec<(Way, usize)> = SIZES.iter().flat_map(|&size| Way::EACH.map(|way| (way, size))).collect();
    let memory = map(&directory.join("words"), cases.len() * STRIDE)?;
    let (receiving, sending) = Processors::choose(&[])?.of(Pin::Two)?;
    confine(receiving)?;
    let mut lines = Vec::new();
    for (index, &(way, size)) in cases.iter().enumerate() {
        let sink = Sink::bind(way, &place(directory, index), size)?;
        lines.push(Line { sink, run: memory.word32(index * STRIDE) });
    }
    let arguments = |index: usize| {
        [
            "messages".into(),
            index.to_string().into(),
            sending.unwrap_or(0).to_string().into(),
            directory.as_os_str().to_owned(),
        ]
    };
    let _others = Others::start((0..cases.len()).map(arguments))?;
    // What is warm when it is measured is warm for all.
    for line in &mut lines {
        line.rate(Duration::from_millis(5))?;
    }
    let rounds = attempt.rounds.unwrap_or(ROUNDS);
    // The goal's size gets half of the time, the others the other half.
    let slice = |size: usize| {
        let share = if size == SIZES[0] { 0.5 } else { 0.5 / (SIZES.len() - 1) as f64 };
        let seconds = attempt.seconds * share / (rounds * Way::EACH.len()) as f64 - SILENCE.as_secs_f64();
        Duration::from_secs_f64(seconds.max(0.002))
    };
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (index, line) in lines.iter_mut().enumerate() {
            rates[index].push(line.rate(slice(cases[index].1))?);
        }
    }
    let ways = Way::EACH.len();
    let ratio = |size: usize, way: usize, other: usize| {
        let (ours, theirs) = (&rates[size * ways + way], &rates[size * ways + other]);
        median(ours.iter().zip(theirs).map(|(one, other)| one / other).collect())
    };
    let check = Check::at_least("messages of 48 B", ratio(0, 0, 2), LIMIT, "x POSIX message queue");
    let notes = SIZES.iter().enumerate().map(|(index, size)| {
        let parts: Vec<String> = Way::EACH
            .iter()
            .enumerate()
            .map(|(way, of)| format!("{} {:.0}/s", of.name(), median(rates[index * ways + way].clone())))
            .collect();
        let ratios = format!("{:.1} x message queue, {:.1} x datagram", ratio(index, 0, 2), ratio(index, 0, 3));
        format!("{size} B: {}; {ratios}", parts.join(", "))
    });
    Ok(notes.fold(Verdict::new(Goal::Q1, vec![check], Vec::new()), Verdict::noting))
}

impl Line {
    /// Messages that come in a second, while the other process sends.
    fn rate(&mut self, slice: Duration) -> anyhow::Result<f64> {
        self.run.store(1, Ordering::SeqCst);
        futex::wake(self.run, futex::Flags::empty(), 1)?;
        self.sink.receive()?; // it has begun
        let (begin, mut count) = (Instant::now(), 0);
        let elapsed = loop {
            let target = count + BATCH;
            while count < target {
                count += self.sink.receive()?;
            }
            let elapsed = begin.elapsed();
            if elapsed >= slice {
                break elapsed;
            }
        };
        self.run.store(0, Ordering::SeqCst);
        self.sink.drain(SILENCE)?;
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}

fn place(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("messages-{index}"))
}

/// The second process: sends while it is told to, until the one that started it is gone.
pub fn play(index: usize, processor: usize, directory: &Path) -> anyhow::Result<()> {
    let ways = Way::EACH.len();
    let size = *SIZES.get(index / ways).context("there is no such case")?;
    let way = Way::EACH[index % ways];
    exit_with_parent();
    confine(Some(processor))?;
    let memory = map(&directory.join("words"), SIZES.len() * ways * STRIDE)?;
    let run = memory.word32(index * STRIDE);
    let mut source = Source::connect(way, &place(directory, index))?;
    ensure!(size <= way.longest(), "{} takes no {size} bytes", way.name());
    let mut message = vec![0x55; size];
    let mut number = 0;
    loop {
        if run.load(Ordering::SeqCst) == 0 {
            // Woken, or the word was another already: looks again.
            let _ = futex::wait(run, futex::Flags::empty(), 0, None);
            continue;
        }
        source.send(&mut message, number, 64)?;
        number += 64;
    }
}
