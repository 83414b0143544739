//! An heir killed at every step: at both sides of each system call on its way from the beginning of the takeover to the
//! end. Before it has said that it serves, its holder goes on; after that, its holder has ended. The next heir takes the
//! name in either case, and nothing is left of the one that was killed.

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

/// System calls that send a message: sendto, sendmsg.
const SENDS: [u64; 2] = [44, 46];

/// Visits the points: how many.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<usize> {
    processors::share_one()?;
    let points = points().context("an heir that nothing is done to")?;
    // It says first that it wants the name, and last that it serves.
    let sends = points.iter().filter(|point| matches!(point.kind, Kind::Enter(number) if SENDS.contains(&number)));
    let ready = sends.map(|point| point.step).max().context("an heir that sends nothing")?;
    let mut counts = Counts::default();
    let depth = trial.pick(Depth::Some(6), Depth::Some(1), Depth::Some(1));
    for point in depth.thin_out(&points, "replace") {
        if counts.is_enough() {
            break;
        }
        counts.visits += 1;
        if let Err(error) = visit(&point, point.step > ready) {
            counts.find(format!("an heir killed at {point:?}, {ready} being its last word: {error:#}"));
        }
    }
    findings.append(&mut counts.findings);
    Ok(counts.visits)
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
fn ends_well(mut stage: Stage, victim: Process) -> anyhow::Result<()> {
    let said = victim.try_hear();
    ensure!(said.as_deref() == Some("done"), "the victim says {said:?}");
    victim.tell("end");
    victim.join();
    stage.settle().map_err(|why| anyhow!(why))?;
    stage.end().map_err(|why| anyhow!(why))
}

fn visit(point: &Point, has_said_ready: bool) -> anyhow::Result<()> {
    let (stage, mut victim, mut tracee) = start()?;
    if !walk::go_to(&mut tracee, point, || false)? {
        tracee.release()?; // the way was another one this time
        return ends_well(stage, victim);
    }
    victim.kill();
    tracee.bury()?;
    stage.comes_back(has_said_ready).map_err(|why| anyhow!(why))
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
