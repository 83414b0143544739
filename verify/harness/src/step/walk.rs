//! A walk through an operation: which points it has, and how to get to one of them.
//!
//! Between two instructions that change shared memory or enter or leave the kernel, a kill leaves the same state behind
//! whichever instruction it hits. So the points worth visiting are the beginning, every change of a control word, both
//! sides of every system call and the inside of one that sleeps. The long form visits every instruction instead, and so
//! checks the reduction itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::tracer::{Stop, Tracee, is_asleep};

/// A point of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Instructions since the beginning.
    pub step: usize,
    /// The instruction that comes next, and how often it has been executed before.
    address: u64,
    occurrence: usize,
    /// What makes it a point.
    pub kind: Kind,
}

/// What makes a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first instruction.
    Begin,
    /// A control word has just changed.
    Change,
    /// A system call comes next.
    Enter(u64),
    /// A system call has just been made.
    Leave,
    /// The thread sleeps in a system call.
    Asleep,
    /// Any other instruction.
    Plain,
}

/// How an operation ends.
pub enum End {
    /// With a mark.
    Mark,
    /// When the thread is about to wait for events, and this says that it has nothing left to do.
    Idle(Box<dyn Fn() -> bool>),
}

/// The longest operation, in instructions: one that is longer has gone astray.
const STEPS_MAX: usize = 2_000_000;
/// System calls that wait for events: epoll_wait, epoll_pwait, epoll_pwait2.
const WAITS: [u64; 3] = [232, 281, 441];

/// Walks from where the thread stands to the end, and returns all points.
pub fn points(tracee: &mut Tracee, end: &End, sleeper: &Sleeper, every: bool) -> anyhow::Result<Vec<Point>> {
    let mut executed: HashMap<u64, usize> = HashMap::new();
    let mut found = Vec::new();
    let mut words = tracee.control_words();
    let mut kind = Kind::Begin;
    for step in 0..STEPS_MAX {
        let registers = tracee.registers()?;
        let address = registers.rip;
        let count = executed.entry(address).or_default();
        let occurrence = std::mem::replace(count, *count + 1);
        let call = tracee.next_call(&registers);
        if let (End::Idle(is_over), Some(number)) = (end, call)
            && WAITS.contains(&number)
            && is_over()
        {
            return Ok(found);
        }
        let mut add = |kind| found.push(Point { step, address, occurrence, kind });
        match (kind, call) {
            (Kind::Plain, Some(number)) => add(Kind::Enter(number)),
            (Kind::Plain, None) if !every => {}
            (kind, _) => add(kind),
        }
        sleeper.has_slept.store(false, Ordering::Relaxed);
        match tracee.step()? {
            Stop::There => {}
            Stop::Mark => return Ok(found),
            other => bail!("a victim that nothing was done to came to {other:?} after {step} instructions"),
        }
        if call.is_some() {
            tracee.find_segment()?;
            if sleeper.has_slept.load(Ordering::Relaxed) {
                found.push(Point { step, address, occurrence, kind: Kind::Asleep });
            }
        }
        let now = tracee.control_words();
        kind = match call {
            Some(_) => Kind::Leave,
            None if now != words => Kind::Change,
            None => Kind::Plain,
        };
        words = now;
    }
    bail!("an operation of more than {STEPS_MAX} instructions")
}

/// Goes to a point. `false` when the operation took another way this time: it ended without passing it, at its mark or
/// when the work is over and the thread asleep; or it did not sleep where it slept before.
pub fn go_to(tracee: &mut Tracee, point: &Point, is_over: impl Fn() -> bool) -> anyhow::Result<bool> {
    match tracee.go_to(point.address, point.occurrence, is_over)? {
        Stop::There => {}
        Stop::Mark | Stop::Missed => return Ok(false),
        other => bail!("a victim that nothing was done to came to {other:?} on its way to {point:?}"),
    }
    if point.kind == Kind::Asleep {
        ptrace::step(tracee.thread, None)?;
        let begin = Instant::now();
        while !tracee.is_asleep() {
            if tracee.has_stopped()? {
                return Ok(false); // on a slow machine, the time that it waits for was over before it slept
            }
            if begin.elapsed() > Duration::from_secs(5) {
                bail!("a victim does not fall asleep at {point:?}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        tracee.interrupt()?;
    }
    tracee.find_segment()?;
    Ok(true)
}

/// Watches a thread; when it sleeps in a system call for a while, it is given what it waits for.
pub struct Sleeper {
    /// Whether it has slept since this was last cleared.
    has_slept: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    watcher: Option<std::thread::JoinHandle<()>>,
}

impl Sleeper {
    /// Watches until it is dropped. `wake` is called each time the thread has fallen asleep.
    pub fn watch(process: u32, thread: Pid, mut wake: impl FnMut() + Send + 'static) -> Sleeper {
        let process = Pid::from_raw(process as i32);
        let (has_slept, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let watcher = std::thread::spawn({
            let (has_slept, is_over) = (Arc::clone(&has_slept), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_micros(500));
                    let is_fast_asleep = (0..3).all(|_| {
                        std::thread::sleep(Duration::from_micros(200));
                        is_asleep(process, thread)
                    });
                    if is_fast_asleep && !is_over.load(Ordering::Relaxed) {
                        has_slept.store(true, Ordering::Relaxed);
                        wake();
                    }
                }
            }
        });
        Sleeper { has_slept, is_over, watcher: Some(watcher) }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}
