//! A client as the victim: at every point of each of its operations it is killed, stopped, forked, or loses a
//! descriptor.
//!
//! The server and a steady client go on meanwhile, and afterwards the server holds what it held before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use wigwag_testing::Process;

use super::tracer::Tracee;
use super::victim::{CLIENT_OPERATIONS, waits_for_release};
use super::walk::{self, End, Kind, Point, Sleeper};
use super::world::{World, Worst};
use super::{Blow, Counts, Depth};
use crate::role;

/// How long a victim that goes on may take.
const GOES_ON: Duration = Duration::from_secs(20);

/// Visits every point of every operation.
pub fn visit_all(blows: &[Blow], depth: Depth, counts: &mut Counts) -> anyhow::Result<Worst> {
    let mut world = World::new()?;
    for operation in CLIENT_OPERATIONS.iter().filter(|operation| super::is_wanted(operation)) {
        let points = points_of(&mut world, operation, depth).with_context(|| format!("client, {operation}"))?;
        for blow in blows {
            for (index, point) in depth.thin_out(&points, operation).iter().enumerate() {
                if counts.is_enough() {
                    return Ok(world.worst);
                }
                counts.visits += 1;
                if let Err(error) = visit(&mut world, operation, point, *blow, index) {
                    counts.find(format!("client, {operation}, {blow:?} at {point:?}: {error:#}"));
                    world = World::new()?; // whatever is wrong with the old one, it is said already
                }
            }
        }
    }
    world.end()
}

/// Starts a victim and walks it to the beginning of its operation.
pub fn stage(world: &mut World, operation: &str) -> anyhow::Result<(Process, Tracee)> {
    let victim = role::start_with("step-client", [world.socket().as_str(), operation], super::make_repeatable);
    let ready = victim.try_hear().context("the victim did not get to its operation")?;
    let thread = ready.strip_prefix("ready ").and_then(|id| id.parse().ok()).with_context(|| ready.clone())?;
    let mut tracee = Tracee::seize(victim.id(), thread)?;
    victim.tell("go");
    tracee.wait_for_mark()?;
    tracee.find_segment()?;
    Ok((victim, tracee))
}

/// What the operation waits for is given to it once it sleeps.
pub fn sleeper(world: &World, victim: &Process, tracee: &Tracee, operation: &str) -> Sleeper {
    let server = waits_for_release(operation).then(|| world.server.line_writer());
    Sleeper::watch(victim.id(), tracee.thread, move || {
        if let Some(server) = &server {
            server.tell("release");
        }
    })
}

fn points_of(world: &mut World, operation: &str, depth: Depth) -> anyhow::Result<Vec<Point>> {
    let (mut victim, mut tracee) = stage(world, operation)?;
    let sleeper = sleeper(world, &victim, &tracee, operation);
    let points = walk::points(&mut tracee, &End::Mark, &sleeper, depth.is_every())?;
    drop(sleeper);
    tracee.release()?;
    says_ok(&mut victim)?;
    victim.tell("end");
    victim.join();
    world.is_back()?;
    Ok(points)
}

/// Goes to a point, strikes, and looks at everybody else.
fn visit(world: &mut World, operation: &str, point: &Point, blow: Blow, index: usize) -> anyhow::Result<()> {
    let (mut victim, mut tracee) = stage(world, operation)?;
    let awaits = waits_for_release(operation).then(|| sleeper(world, &victim, &tracee, operation));
    // Where the point lies beyond a sleep, the way there needs what it waits for.
    let on_the_way = if point.kind == Kind::Asleep { None } else { awaits };
    let is_there = walk::go_to(&mut tracee, point, || false)?;
    drop(on_the_way);
    if !is_there {
        // The way was another one this time; it ended well.
        tracee.release()?;
        says_ok(&mut victim)?;
        return finish(world, victim);
    }
    match blow {
        Blow::Kill => {
            victim.kill();
            drop(tracee);
            world.others_work()?;
            world.is_back()
        }
        Blow::Stop => {
            world.others_work()?;
            let _awaits = sleeper(world, &victim, &tracee, operation);
            tracee.release()?;
            says_ok(&mut victim).context("after it had been stopped")?;
            world.others_work()?;
            finish(world, victim)
        }
        Blow::StopPastTheEnd => {
            world.replace_server()?;
            tracee.release()?; // what it writes now, it writes to memory that nobody has any more
            let said = said(&mut victim)?;
            world.others_work()?;
            let is_well = said == "done ok" && may_end_well_without_its_server(operation);
            if !is_well && !said.starts_with("done PeerDied") {
                bail!("its server was killed, and the victim says: {said}");
            }
            finish(world, victim)
        }
        Blow::Fork => {
            let child = Pid::from_raw(tracee.call(libc::SYS_fork, [0; 3])? as i32);
            let _child = Orphan(child);
            let awaits = sleeper(world, &victim, &tracee, operation);
            tracee.release()?;
            says_ok(&mut victim).context("after it had forked")?;
            drop(awaits);
            victim.kill(); // the child still holds everything
            world.others_work()?;
            world.is_back()
        }
        Blow::CloseDescriptor => {
            let own = descriptors(&victim)?;
            let Some(&descriptor) = own.get(index % own.len().max(1)) else {
                return kill_and_look(world, victim, tracee);
            };
            tracee.call(libc::SYS_close, [descriptor, 0, 0])?;
            let awaits = sleeper(world, &victim, &tracee, operation);
            tracee.release()?;
            // It has hurt itself: it may fail, or wait; it may not fall.
            let said = said_within(&mut victim, Duration::from_millis(300))?;
            drop(awaits);
            if said.as_deref() == Some("") && !is_check_of_the_standard_library(&mut victim)? {
                bail!("without descriptor {descriptor} it fell: {}", victim.child.wait()?);
            }
            victim.kill();
            world.others_work()?;
            world.is_back()
        }
    }
}

/// Debug builds abort when an owned descriptor is closed that is not open. That is the standard library's word on
/// someone who closes what is not his.
fn is_check_of_the_standard_library(victim: &mut Process) -> anyhow::Result<bool> {
    use std::os::unix::process::ExitStatusExt as _;
    Ok(cfg!(debug_assertions) && victim.child.wait()?.signal() == Some(libc::SIGABRT))
}

fn kill_and_look(world: &mut World, mut victim: Process, tracee: Tracee) -> anyhow::Result<()> {
    victim.kill();
    drop(tracee);
    world.is_back()
}

/// Operations after which the victim has no session, or one with the new server.
fn may_end_well_without_its_server(operation: &str) -> bool {
    matches!(operation, "connect" | "refused" | "disconnect")
}

pub fn says_ok(victim: &mut Process) -> anyhow::Result<()> {
    let said = said(victim)?;
    if said != "done ok" {
        bail!("the victim says: {said}");
    }
    Ok(())
}

fn said(victim: &mut Process) -> anyhow::Result<String> {
    match said_within(victim, GOES_ON)? {
        Some(said) if said.is_empty() => bail!("the victim fell: {}", victim.child.wait()?),
        Some(said) => Ok(said),
        None => bail!("the victim hangs"),
    }
}

/// What the victim says; nothing when it ended without a word; `None` when it says nothing in time.
pub fn said_within(victim: &mut Process, limit: Duration) -> anyhow::Result<Option<String>> {
    let begin = Instant::now();
    while !victim.has_said_something(Duration::from_millis(5))? {
        if begin.elapsed() > limit {
            return Ok(None);
        }
    }
    Ok(Some(victim.try_hear().unwrap_or_default()))
}

pub fn finish(world: &mut World, victim: Process) -> anyhow::Result<()> {
    victim.tell("end");
    victim.join();
    world.is_back()
}

/// What the victim's session consists of: all descriptors but the standard ones and the line to the harness.
pub fn descriptors(victim: &Process) -> anyhow::Result<Vec<u64>> {
    let directory = format!("/proc/{}/fd", victim.id());
    let line = std::fs::read_link(format!("{directory}/0"))?;
    let mut own = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let number: u64 = entry.file_name().to_string_lossy().parse()?;
        if number > 2 && std::fs::read_link(entry.path()).is_ok_and(|target| target != line) {
            own.push(number);
        }
    }
    own.sort_unstable();
    Ok(own)
}

/// A forked child of a victim, held by the tracer; killed when this is dropped.
pub struct Orphan(pub Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, Some(nix::sys::wait::WaitPidFlag::__WALL));
    }
}
