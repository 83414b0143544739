//! The client's process: sends frames, takes the time of each exchange, and checks each pixel of each reply.
//!
//! The clock runs from before the first byte of the request is written until after the last byte of the reply has
//! been read. Making the next frame and checking the last one happen while it stands.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use super::filter;
use super::frames::Frames;
use super::job::Job;
use crate::transport::{AnyCaller, Caller};
use crate::{peer, tracer};

/// Frames that are checked but not timed, at the start: pages are touched, sockets grow, branches are learnt.
const WARM_UP: u64 = 3;

/// Also on a machine so slow that the time is up before.
const FEWEST_TIMED: u64 = 2;

/// Names of the last frame and its reply in the rendezvous.
pub const SENT: &str = "sent.raw";
/// See [`SENT`].
pub const RECEIVED: &str = "received.raw";

/// What the client shall do.
#[derive(Clone, Debug, clap::Args)]
pub struct Task {
    /// What both sides know.
    #[command(flatten)]
    pub job: Job,
    /// The number of the first frame.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Frames to time at the most.
    #[arg(long)]
    pub frames: u64,
    /// Seconds to go on for at the most.
    #[arg(long, default_value_t = f64::MAX)]
    pub seconds: f64,
    /// The server's process, whose context switches are counted.
    #[arg(long)]
    pub server: Option<u32>,
    /// Leave the last frame and its reply in the rendezvous.
    #[arg(long)]
    pub keep: bool,
    /// Take no times: give the tracer its marks instead, around `frames` and around twice as many.
    #[arg(long)]
    pub counted: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Observed {
    /// How long each exchange took.
    pub nanoseconds: Vec<u64>,
    /// Frames sent, those of the warm-up included. Each was checked.
    pub frames: u64,
    /// Pixels that were not what they should have been.
    pub wrong_pixels: u64,
    /// Context switches of both processes during the timed exchanges; none where the kernel does not tell.
    pub context_switches: Option<u64>,
}

/// A client without a server: the same work in one process and in private memory, to compare with.
struct Alone {
    pixels: Vec<u8>,
    stride: usize,
}

impl Caller for Alone {
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let pixels = &mut self.pixels[..len];
        fill(pixels);
        filter::apply(black_box(pixels), self.stride);
        read(pixels);
        Ok(())
    }
}

/// Runs the client and prints what it observed, as one line of JSON.
pub fn run(task: &Task) -> anyhow::Result<()> {
    if task.counted {
        // The tracer takes hold of us before we do anything.
        std::io::stdin().read_line(&mut String::new())?;
    }
    peer::never_outlive_parent()?;
    match observe(task) {
        Ok(observed) => peer::say(&serde_json::to_string(&observed)?),
        Err(error) => peer::say_failed(&error),
    }
}

fn observe(task: &Task) -> anyhow::Result<Observed> {
    let job = &task.job;
    let frames = Frames::new(job.picture()?);
    match job.transport {
        None => Session { caller: Alone { pixels: vec![0; job.length()], stride: job.stride() }, frames }.run(task),
        Some(kind) => Session { caller: AnyCaller::connect(kind, &job.place())?, frames }.run(task),
    }
}

/// A connected client with frames to send.
struct Session<C> {
    caller: C,
    frames: Frames,
}

impl<C: Caller> Session<C> {
    fn run(mut self, task: &Task) -> anyhow::Result<Observed> {
        let mut observed = Observed::default();
        let mut number = task.first;
        for _ in 0..WARM_UP {
            self.exchange(number, None)?.note(&mut observed);
            number += 1;
        }
        observed.nanoseconds.clear();
        if task.counted {
            self.run_counted(task, number, &mut observed)?;
        } else {
            self.run_timed(task, number, &mut observed)?;
        }
        Ok(observed)
    }

    fn run_timed(&mut self, task: &Task, first: u64, observed: &mut Observed) -> anyhow::Result<()> {
        let until = Duration::try_from_secs_f64(task.seconds).ok().and_then(|limit| Instant::now().checked_add(limit));
        let server_before = task.server.and_then(switches_of_process);
        let mut switches = Some(0);
        for timed in 0..task.frames {
            if timed >= FEWEST_TIMED && until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            let exchange = self.exchange(first + timed, None)?;
            switches = switches.zip(exchange.switches).map(|(sum, more)| sum + more);
            exchange.note(observed);
        }
        observed.context_switches = match task.server {
            None => switches,
            Some(server) => {
                let both = server_before.zip(switches_of_process(server)).zip(switches);
                both.map(|((before, after), own)| after.saturating_sub(before) + own)
            }
        };
        if task.keep {
            self.exchange(first + observed.nanoseconds.len() as u64, Some(&task.job))?;
        }
        Ok(())
    }

    fn run_counted(&mut self, task: &Task, first: u64, observed: &mut Observed) -> anyhow::Result<()> {
        let mut number = first;
        for frames in [task.frames, 2 * task.frames] {
            tracer::mark()?;
            for _ in 0..frames {
                self.exchange(number, None)?.note(observed);
                number += 1;
            }
        }
        tracer::mark()
    }

    /// One frame there and back.
    fn exchange(&mut self, number: u64, keep_in: Option<&Job>) -> anyhow::Result<Exchange> {
        let stride = self.frames.stride();
        let request = self.frames.make(number);
        let mut exchange = Exchange { nanoseconds: 0, switches: None, wrong_pixels: u64::MAX };
        let mut kept = Ok(());
        let switches_before = switches_of_self();
        let start = Instant::now();
        let fill = |memory: &mut [u8]| memory.copy_from_slice(request);
        let read = |reply: &[u8]| {
            black_box(read_all(reply));
            exchange.nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            exchange.switches =
                switches_before.zip(switches_of_self()).map(|(before, after)| after.saturating_sub(before));
            exchange.wrong_pixels = filter::wrong_pixels(request, reply, stride);
            if let Some(job) = keep_in {
                kept = keep(job, request, reply);
            }
        };
        self.caller.exchange(request.len(), fill, read)?;
        kept?;
        Ok(exchange)
    }
}

/// What one exchange cost, and whether it was right.
struct Exchange {
    nanoseconds: u64,
    switches: Option<u64>,
    wrong_pixels: u64,
}

impl Exchange {
    fn note(&self, observed: &mut Observed) {
        observed.nanoseconds.push(self.nanoseconds);
        observed.frames += 1;
        observed.wrong_pixels = observed.wrong_pixels.saturating_add(self.wrong_pixels);
    }
}

/// Reads each byte of the reply, as a client that wanted it would.
fn read_all(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    tail.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

fn keep(job: &Job, request: &[u8], reply: &[u8]) -> anyhow::Result<()> {
    std::fs::write(job.directory.join(SENT), request).context("the last frame cannot be kept")?;
    std::fs::write(job.directory.join(RECEIVED), reply).context("the last reply cannot be kept")
}

fn switches_of_self() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.voluntary_context_switches() + usage.involuntary_context_switches()).ok()
}

/// The same of another process, over all of its threads. `None` where the kernel does not tell.
fn switches_of_process(id: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{id}/task")).ok()? {
        // A thread may end between being listed and being looked at.
        let Ok(status) = std::fs::read_to_string(thread.ok()?.path().join("status")) else { continue };
        for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            sum += value.trim().parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_the_context_switches_of_both_sides() {
        assert!(switches_of_self().is_some());
        assert!(switches_of_process(std::process::id()).is_some());
        assert_eq!(switches_of_process(u32::MAX), None);
    }

    #[test]
    fn the_work_alone_is_right() {
        let picture = super::super::test_card::draw();
        let (width, height) = (picture.width, picture.height);
        let caller = Alone { pixels: vec![0; picture.pixels.len()], stride: width * 3 };
        let mut session = Session { caller, frames: Frames::new(picture) };
        assert_eq!(session.exchange(7, None).unwrap().wrong_pixels, 0, "{width} x {height}");
    }
}
