//! What the ends of queues and streams suffer at the points of their operations, whatever the form: kills, stops and
//! lies.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use wigwag_testing::{Process, word};

use crate::scale::Trial;
use crate::step::tracer::{Stop, Tracee};
use crate::step::walk::{self, End, Point, Sleeper};
use crate::step::{Counts, Depth};

/// A victim that does not get to its mark within this hangs.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What is done at a point.
#[derive(Clone, Copy, Debug)]
pub enum EndBlow {
    /// SIGKILL.
    Kill,
    /// It stands still while others work, and then goes on.
    Stop,
    /// A word of the segment becomes something else.
    Lie(u64, u64),
}

/// What a peer can reach, as offsets in the segment, and what it makes of it.
pub struct Lies {
    /// Where.
    pub words: &'static [u64],
    /// To what.
    pub values: &'static [u64],
}

/// The points of an operation, and how many of them each kind of blow visits.
pub struct Way<'a> {
    /// For people: whose operation it is, and which.
    pub what: String,
    /// The operation, by which points are thinned out.
    pub operation: &'a str,
    /// All points on its way.
    pub points: Vec<Point>,
    /// Kills, stops and lies.
    pub depths: [Depth; 3],
}

/// Kills, stops and lies at the points of one operation. `visits` counts them.
pub fn strike(
    trial: &Trial,
    way: &Way<'_>,
    lies: &Lies,
    visits: &mut [usize; 3],
    counts: &mut Counts,
    mut visit: impl FnMut(&Point, EndBlow) -> anyhow::Result<()>,
) {
    for (kind, depth) in way.depths.into_iter().enumerate() {
        for point in depth.thin_out(&way.points, way.operation) {
            if counts.is_enough() {
                break;
            }
            let pick = |salt: u64, of: &[u64]| of[word(trial.seed ^ salt, point.step as u64) as usize % of.len()];
            let blow = [EndBlow::Kill, EndBlow::Stop, EndBlow::Lie(pick(1, lies.words), pick(2, lies.values))][kind];
            visits[kind] += 1;
            if let Err(error) = visit(&point, blow) {
                counts.find(format!("{}, {blow:?} at {point:?}: {error:#}", way.what));
            }
        }
    }
}

/// The points on a victim's way from one mark to the next; the victim goes on after that.
pub fn points_of(victim: &Process, mut tracee: Tracee, is_every: bool) -> anyhow::Result<Vec<Point>> {
    let sleeper = Sleeper::watch(victim.id(), tracee.thread, || {});
    let points = walk::points(&mut tracee, &End::Mark, &sleeper, is_every)?;
    drop(sleeper);
    tracee.release()?;
    Ok(points)
}

/// A victim that says `ready THREAD` stands at its first mark, in the hands of the tracer.
pub fn seize(victim: &mut Process) -> anyhow::Result<Tracee> {
    victim.tell("go");
    let ready = victim.try_hear().context("the victim did not get to its operation")?;
    let thread = ready.strip_prefix("ready ").and_then(|id| id.parse().ok()).with_context(|| ready.clone())?;
    let mut tracee = Tracee::seize(victim.id(), thread)?;
    victim.tell("go");
    tracee.wait_for_mark()?;
    tracee.find_segment()?;
    Ok(tracee)
}

/// Writes a lie, and checks that the side that was lied to comes to its mark and says that it is done.
pub fn lie(victim: &mut Process, tracee: Tracee, offset: u64, value: u64) -> anyhow::Result<()> {
    // Before it has a segment, there is nothing to lie in.
    if tracee.write(offset, &value.to_ne_bytes()).is_ok() {
        comes_through(&tracee)?;
    }
    tracee.release()?;
    let said = victim.try_hear();
    ensure!(said.is_some_and(|said| said.starts_with("done")), "the victim is gone");
    Ok(())
}

fn comes_through(tracee: &Tracee) -> anyhow::Result<()> {
    use nix::sys::signal::Signal;
    let begin = Instant::now();
    let go = |signal| tracee.go_unless(signal, || begin.elapsed() > TIME_LIMIT);
    let mut stop = go(None)?;
    loop {
        stop = match stop {
            Stop::Mark => return Ok(()),
            Stop::Signal(signal) => {
                ensure!(!matches!(signal, Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGABRT), "it got {signal}");
                go(Some(signal))?
            }
            Stop::There | Stop::Forked(_) => go(None)?,
            Stop::Missed => bail!("it hangs"),
            Stop::Ended => bail!("its process ended"),
        };
    }
}

/// How many descriptors this process has.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
