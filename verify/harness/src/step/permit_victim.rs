//! A process as the victim that opens, takes, waits for, gives back and closes a semaphore: killed at every point, it
//! loses no permit and doubles none, and whoever comes next is served.
//!
//! Short operations are walked with every instruction as a point, thinned out; of opening and closing, which are long,
//! the points are both sides of each system call.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wigwag::{ErrorKind, Permit, Semaphore};
use wigwag_testing::{Ground, Link, Process};

use super::tracer::{Tracee, survive_marks};
use super::victim::marked;
use super::walk::{self, End, Point, Sleeper};
use super::{Counts, Depth};
use crate::role;

/// What a victim does between its marks, and whether every instruction of it is a point.
const OPERATIONS: &[(&str, bool)] = &[
    ("open", false),
    ("open-after-dead", false),
    ("close", false),
    ("acquire", true),
    ("acquire-after-dead", true),
    ("acquire-waiting", false),
    ("acquire-many", true),
    ("give-back", true),
    ("give-back-to-waiter", true),
];
const PERMITS: usize = 2;
/// How long the next one may wait: a busy machine, and a tracer beside.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The semaphore, and others who use it.
struct Stage {
    ground: Ground,
    semaphore: Option<Semaphore>,
}

impl Stage {
    fn place(&self) -> PathBuf {
        self.ground.path("semaphore")
    }

    /// Everybody else has what is there: all permits, soon, and once.
    fn others_work(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let semaphore = match self.semaphore.take() {
            Some(semaphore) => semaphore,
            None => Semaphore::open(self.place(), PERMITS).context("the next one cannot open it")?,
        };
        let all = semaphore.acquire_many_timeout(PERMITS, TIME_LIMIT).context("a permit is lost")?;
        ensure!(semaphore.available() == 0, "a permit is there twice");
        drop(all);
        ensure!(semaphore.available() == PERMITS, "a permit is lost");
        let took = begin.elapsed();
        drop(semaphore);
        ensure!(!self.place().exists(), "the file is left behind");
        Ok(took)
    }
}

/// Kills at every point of every operation. The longest time until the others had all permits.
pub fn visit_all(depth: Depth, counts: &mut Counts) -> anyhow::Result<Duration> {
    let mut worst = Duration::ZERO;
    for (operation, is_every) in OPERATIONS {
        let points = points_of(operation, *is_every).with_context(|| format!("semaphore, {operation}"))?;
        // A short operation has a few hundred instructions: enough of them, evenly.
        let most = if *is_every { points.len().div_ceil(60).max(1) } else { 1 };
        let points: Vec<Point> = points.into_iter().step_by(if depth.is_every() { 1 } else { most }).collect();
        for point in depth.thin_out(&points, operation) {
            counts.visits += 1;
            match visit(operation, &point) {
                Ok(took) => worst = worst.max(took),
                Err(error) => counts.find(format!("semaphore, {operation}, killed at {point:?}: {error:#}")),
            }
        }
    }
    Ok(worst)
}

/// Prepares the semaphore, starts a victim, and walks it to the beginning of its operation.
fn stage(operation: &str) -> anyhow::Result<(Stage, Process, Tracee)> {
    let ground = Ground::new();
    let mut stage = Stage { ground, semaphore: None };
    if operation.ends_with("after-dead") {
        let mut dead = role::start("step-permits", [stage.place().as_os_str(), "die".as_ref()]);
        ensure!(dead.try_hear().is_some_and(|said| said.starts_with("ready")), "the dead one did not begin");
        dead.tell("go");
        dead.expect("done");
        dead.kill();
    }
    if !operation.starts_with("open") {
        stage.semaphore = Some(Semaphore::open(stage.place(), PERMITS)?);
    }
    let arguments = [stage.place().into_os_string(), operation.into()];
    let victim = role::start_with("step-permits", arguments, super::make_repeatable);
    let ready = victim.try_hear().context("the victim did not get to its operation")?;
    let thread = ready.strip_prefix("ready ").and_then(|id| id.parse().ok()).with_context(|| ready.clone())?;
    let tracee = Tracee::seize(victim.id(), thread)?;
    victim.tell("go");
    tracee.wait_for_mark()?;
    Ok((stage, victim, tracee))
}

fn points_of(operation: &str, is_every: bool) -> anyhow::Result<Vec<Point>> {
    let (mut stage, victim, mut tracee) = stage(operation)?;
    let sleeper = Sleeper::watch(victim.id(), tracee.thread, || {});
    let points = walk::points(&mut tracee, &End::Mark, &sleeper, is_every)?;
    drop(sleeper);
    tracee.release()?;
    ensure!(victim.try_hear().as_deref() == Some("done"), "the victim did not end well");
    victim.tell("end");
    victim.join();
    stage.others_work()?;
    Ok(points)
}

fn visit(operation: &str, point: &Point) -> anyhow::Result<Duration> {
    let (mut stage, mut victim, mut tracee) = stage(operation)?;
    if !walk::go_to(&mut tracee, point, || false)? {
        tracee.release()?; // the way was another one this time
    }
    victim.kill();
    stage.others_work()
}

/// The role: does one operation between two marks.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [place, operation] = arguments else { panic!("a victim needs a path and an operation") };
    survive_marks();
    let open = || Semaphore::open(place, PERMITS).expect("it opens");
    let begin = || {
        parent.tell(format_args!("ready {}", rustix::thread::gettid().as_raw_nonzero()));
        assert_eq!(parent.hear().as_deref(), Some("go"));
    };
    match *operation {
        "open" | "open-after-dead" => {
            begin();
            drop(marked(open));
        }
        "close" => {
            let semaphore = open();
            begin();
            marked(|| drop(semaphore));
        }
        "die" => {
            let semaphore = open();
            begin();
            std::mem::forget(semaphore.acquire());
            parent.tell("done");
            let _ = parent.hear();
        }
        "acquire" | "acquire-after-dead" => {
            let semaphore = open();
            begin();
            drop(marked(|| semaphore.acquire()).expect("a permit"));
        }
        "acquire-many" => {
            let semaphore = open();
            begin();
            drop(marked(|| semaphore.acquire_many(PERMITS)).expect("two permits"));
        }
        "acquire-waiting" => {
            let (semaphore, own) = (open(), open());
            let held = own.acquire_many(PERMITS).expect("two permits");
            begin();
            let error = marked(|| semaphore.acquire_timeout(Duration::from_millis(60))).map(drop).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error}");
            drop(held);
        }
        "give-back" => {
            let semaphore = open();
            let permit: Permit<'_> = semaphore.acquire().expect("a permit");
            begin();
            marked(|| drop(permit));
        }
        "give-back-to-waiter" => {
            let semaphore = open();
            let held = semaphore.acquire_many(PERMITS).expect("two permits");
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| drop(semaphore.acquire_timeout(TIME_LIMIT).expect("a permit")));
                std::thread::sleep(Duration::from_millis(10));
                begin();
                marked(|| drop(held));
                waiter.join().expect("the waiter");
            });
        }
        other => panic!("{other}?"),
    }
    parent.tell("done");
    let _ = parent.hear();
}
