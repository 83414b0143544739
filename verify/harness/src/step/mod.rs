//! At every step: an operation is walked instruction by instruction, and at each point where shared memory changes or a
//! system call begins or ends, something terrible happens.
//!
//! ```text
//! client_victim  server_victim     who is struck, and what everybody else must go on doing
//! permit_victim                    who is struck with a permit, or on the way to one
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
use crate::processors;
use crate::role::Play;
use crate::scale::Trial;

pub mod blows;
mod client_victim;
mod failing_calls;
mod mutate;
mod permit_victim;
mod server_victim;
pub mod tracer;
pub mod victim;
pub mod walk;
mod world;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal {
        id: "G3",
        name: "killed-at-every-step",
        title: "killed at every step, either side",
        limit_s: [120, 300, 86_400],
        run: kill,
    },
    Goal {
        id: "G4",
        name: "stopped-at-every-step",
        title: "stopped, forked or robbed at every step",
        limit_s: [120, 300, 86_400],
        run: stop,
    },
    Goal {
        id: "G5",
        name: "lied-to-at-every-step",
        title: "lied to after every instruction, either side",
        limit_s: [120, 300, 86_400],
        run: mutate::run,
    },
    Goal {
        id: "G15",
        name: "failing-calls",
        title: "told no at every system call, either side",
        limit_s: [120, 300, 3600],
        run: failing_calls::run,
    },
];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("step-server", victim::serve),
    ("step-client", victim::client),
    ("step-lied-to-server", mutate::server),
    ("step-lied-to-client", mutate::client),
    ("step-victim-server", victim::victim_server),
    ("step-permits", permit_victim::play),
];

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
    pub fn thin_out(self, points: &[walk::Point], operation: &str) -> Vec<walk::Point> {
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
    /// There is no need to visit the rest: something was found, and each finding may take as long as a hang is waited
    /// for.
    pub fn is_enough(&self) -> bool {
        !self.findings.is_empty()
    }

    /// Something was found.
    pub fn find(&mut self, what: String) {
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

/// Whether an operation is to be walked: all are, but to see a finding again, when the environment names one
/// (`WIGWAG_PROOF_OPERATION=reply-body cargo xtask prove --only G3`).
pub fn is_wanted(operation: &str) -> bool {
    std::env::var("WIGWAG_PROOF_OPERATION").map_or(true, |wanted| wanted == operation)
}

fn kill(trial: &Trial) -> anyhow::Result<Outcome> {
    let depth = trial.pick(Depth::Some(15), Depth::Some(1), Depth::Every(20_000));
    strike(&[Blow::Kill], depth, "kills")
}

fn stop(trial: &Trial) -> anyhow::Result<Outcome> {
    let depth = trial.pick(Depth::Some(57), Depth::Some(1), Depth::Every(5_000));
    strike(&[Blow::Stop, Blow::StopPastTheEnd, Blow::Fork, Blow::CloseDescriptor], depth, "blows")
}

/// Strikes clients, then servers.
fn strike(blows: &[Blow], depth: Depth, what: &str) -> anyhow::Result<Outcome> {
    processors::share_one()?;
    let mut counts = Counts::default();
    let clients = client_victim::visit_all(blows, depth, &mut counts)?;
    let of_clients = counts.visits;
    let servers = server_victim::visit_all(blows, depth, &mut counts)?;
    let of_servers = counts.visits - of_clients;
    let permits =
        if blows == [Blow::Kill] { permit_victim::visit_all(depth, &mut counts)? } else { Default::default() };
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let figure = format!(
        "{of_clients} {what} of clients: others' slowest call {:.1} ms, all given back after {:.1} ms at most; {} of \
         servers: \
         waiting calls end after {:.1} ms at most, the next server answers after {:.1} ms; {} of holders of permits: \
         all \
         permits had after {:.1} ms at most",
        ms(clients.call),
        ms(clients.back),
        of_servers,
        ms(servers.end),
        ms(servers.again),
        counts.visits - of_clients - of_servers,
        ms(permits),
    );
    Ok(Outcome::of(figure, counts.findings))
}
