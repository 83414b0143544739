//! At every step of a takeover, at both sides of each system call of the heir: the heir is killed there, or its holder
//! is while it stands there. Before the heir can say that it serves, its holder goes on; after that, its holder may
//! have ended. The next heir takes the name in either case, also if it waits for it already, and nothing is left of
//! those that were killed.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use wigwag::Server;
use wigwag_testing::{Link, Process};

use super::replaced::Stage;
use super::service;
use crate::processors;
use crate::role;
use crate::scale::Trial;
use crate::step::tracer::{Tracee, survive_marks};
use crate::step::victim::marked;
use crate::step::walk::{self, Kind, Point};
use crate::step::{Counts, Depth, blows, make_repeatable};

/// System calls that start a thread: clone, clone3.
const STARTS: [u64; 2] = [56, 435];

/// What is done at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    HeirKilled,
    /// Another one waits for its place.
    HeirKilledBeforeAnother,
    HolderKilled,
    /// For longer than a holder waits for its heir.
    HeirStopped,
}

/// Longer than a holder waits.
const LONG: Duration = Duration::from_secs(6);

/// Visits the points; the figure.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    processors::share_one()?;
    let points = points().context("an heir that nothing is done to")?;
    // The heir's control thread says that it serves; nothing does before.
    let starts = points.iter().filter(|point| matches!(point.kind, Kind::Enter(number) if STARTS.contains(&number)));
    let start = starts.map(|point| point.step).max().context("an heir that starts no control thread")?;
    let few = trial.pick(Depth::Some(30), Depth::Some(4), Depth::Some(1));
    let blows = [
        (Blow::HeirKilled, trial.pick(Depth::Some(10), Depth::Some(1), Depth::Some(1))),
        (Blow::HeirKilledBeforeAnother, few),
        (Blow::HolderKilled, few),
        (Blow::HeirStopped, Depth::Some(8)),
    ];
    // That one takes long.
    let blows = &blows[..trial.pick(3, 3, 4)];
    let (mut counts, mut slowest) = (Counts::default(), Duration::ZERO);
    for &(blow, depth) in blows {
        for point in depth.thin_out(&points, "replace") {
            if counts.is_enough() {
                break;
            }
            counts.visits += 1;
            match visit(&point, blow, point.step > start) {
                Ok(time) => slowest = slowest.max(time),
                Err(error) => counts.find(format!(
                    "{blow:?} at {point:?}, its control thread being started at step {start}: {error:#}"
                )),
            }
        }
    }
    findings.append(&mut counts.findings);
    let ms = slowest.as_millis();
    Ok(format!("{} kills at every step of a takeover: one server alone answered after {ms} ms at most", counts.visits))
}

/// A server, and an heir that stands at the beginning of its takeover.
fn start() -> anyhow::Result<(Stage, Process, Tracee)> {
    let stage = Stage::new();
    let mut victim = role::start_with("restarts_victim", [stage.socket.as_os_str()], make_repeatable);
    ensure!(victim.try_hear().as_deref() == Some("begun"), "the victim did not begin");
    let tracee = blows::seize(&mut victim)?;
    Ok((stage, victim, tracee))
}

fn points() -> anyhow::Result<Vec<Point>> {
    let (stage, victim, tracee) = start()?;
    let points = blows::points_of(&victim, tracee, false)?;
    ends_well(stage, victim)?;
    Ok(points)
}

/// A victim that nothing was done to has the name, and goes.
fn ends_well(mut stage: Stage, victim: Process) -> anyhow::Result<Duration> {
    let said = victim.try_hear();
    ensure!(said.as_deref() == Some("done"), "the victim says {said:?}");
    victim.tell("end");
    victim.join();
    stage.settle().map_err(|why| anyhow!(why))?;
    stage.end().map_err(|why| anyhow!(why))?;
    Ok(stage.slowest)
}

/// How long it took at most until one server was left and answered.
fn visit(point: &Point, blow: Blow, may_serve: bool) -> anyhow::Result<Duration> {
    let (mut stage, mut victim, mut tracee) = start()?;
    if !walk::go_to(&mut tracee, point, || false)? {
        tracee.release()?; // the way was another one this time
        return ends_well(stage, victim);
    }
    match blow {
        Blow::HolderKilled => {
            stage.kill_holder();
            tracee.release()?;
            return ends_well(stage, victim);
        }
        Blow::HeirStopped => {
            std::thread::sleep(LONG);
            tracee.release()?;
            return ends_well(stage, victim);
        }
        Blow::HeirKilledBeforeAnother => {
            stage.start_heir().map_err(|why| anyhow!(why))?;
            std::thread::sleep(Duration::from_millis(1)); // so that it most likely waits by now
        }
        Blow::HeirKilled => {}
    }
    victim.kill();
    tracee.bury()?;
    let came_back = match blow {
        Blow::HeirKilled => stage.comes_back(may_serve),
        _ => stage.passes_on(),
    };
    came_back.map_err(|why| anyhow!(why))?;
    Ok(stage.slowest)
}

/// The role: a server that takes a name over between two marks, and ends when it is told to. `arguments`: its socket.
pub fn play(parent: &Link, arguments: &[&str]) {
    let [socket] = arguments[..] else { panic!("{arguments:?}") };
    survive_marks();
    parent.tell("begun");
    drop(parent.hear());
    parent.tell(format_args!("ready {}", rustix::thread::gettid().as_raw_nonzero()));
    drop(parent.hear());
    let server = marked(|| Server::builder().replace(service::TIME).bind(socket));
    match &server {
        Ok(_) => parent.tell("done"),
        Err(error) => parent.tell(format_args!("! {error}").to_string().replace('\n', " ")),
    }
    drop(parent.hear_at_last());
}
