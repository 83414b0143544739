//! At every step: an operation is walked instruction by instruction, and at each point where shared memory changes or a
//! system call begins or ends, something terrible happens.
//!
//! ```text
//! client_victim  server_victim     who is struck, and what everybody else must go on doing
//! mutate  failing_calls            a peer that lies; a kernel that says no
//! walk                             the points of an operation
//! world  victim                    the processes
//! tracer                           one thread, held by ptrace
//! ```
//!
//! Goals G3 G4 G5 G15.

use std::process::Command;

use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;
use crate::scale::Trial;

mod client_victim;
mod tracer;
mod victim;
mod walk;
mod world;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal { id: "G3", title: "killed at every step, either side", limit_s: [120, 300, 86_400], run: kill },
    Goal { id: "G4", title: "stopped, forked or robbed at every step", limit_s: [120, 300, 86_400], run: stop },
];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[("step-server", victim::serve), ("step-client", victim::client)];

/// What is done to a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// It stands still while the others work, and then goes on.
    Stop,
    /// It stands still while its peer is killed and replaced, and then goes on.
    StopPastTheEnd,
    /// It forks, goes on, and is killed while the child holds what it had.
    Fork,
    /// One of its descriptors is closed.
    CloseDescriptor,
}

/// How many points are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every `n`th of the points worth a visit.
    Some(usize),
    /// Every instruction; of operations longer than this many instructions only so many, evenly.
    Every(usize),
}

impl Depth {
    fn is_every(self) -> bool {
        matches!(self, Depth::Every(_))
    }

    /// The points to visit.
    fn thin_out(self, points: &[walk::Point], operation: &str) -> Vec<walk::Point> {
        let step = match self {
            Depth::Some(step) => step,
            Depth::Every(most) => points.len().div_ceil(most),
        };
        // Another choice for another operation, so that the first point is not always the one that is visited.
        points.iter().skip(operation.len() % step.max(1)).step_by(step.max(1)).copied().collect()
    }
}

/// What was done and found.
#[derive(Default)]
pub struct Counts {
    /// Points visited.
    pub visits: usize,
    /// What was found.
    pub findings: Vec<String>,
}

impl Counts {
    fn find(&mut self, what: String) {
        eprintln!("{what}");
        self.findings.push(what);
    }
}

/// Two runs of the same program shall take the same way through the same addresses.
pub fn make_repeatable(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec only the personality is set, which is a plain system call.
    unsafe {
        command.pre_exec(|| {
            let old = nix::sys::personality::get()?;
            nix::sys::personality::set(old | nix::sys::personality::Persona::ADDR_NO_RANDOMIZE)?;
            Ok(())
        });
    }
}

fn kill(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut counts = Counts::default();
    let depth = trial.pick(Depth::Some(2), Depth::Some(1), Depth::Every(20_000));
    let worst = client_victim::visit_all(&[Blow::Kill], depth, &mut counts)?;
    let figure = format!("{} kills, worst: call {:?}, back after {:?}", counts.visits, worst.call, worst.back);
    Ok(Outcome::of(figure, counts.findings))
}

fn stop(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut counts = Counts::default();
    let blows = [Blow::Stop, Blow::StopPastTheEnd, Blow::Fork, Blow::CloseDescriptor];
    let depth = trial.pick(Depth::Some(7), Depth::Some(1), Depth::Every(5_000));
    let worst = client_victim::visit_all(&blows, depth, &mut counts)?;
    let figure = format!("{} blows, worst: call {:?}, back after {:?}", counts.visits, worst.call, worst.back);
    Ok(Outcome::of(figure, counts.findings))
}
