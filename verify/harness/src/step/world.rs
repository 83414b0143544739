//! What goes on around a victim: the honest server and a steady client, which must not notice anything.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use wigwag::{Client, Wait};
use wigwag_testing::{Ground, LIMIT, Process, Snapshot, check_inverted, fill};

use crate::role;

/// Calls of the steady client after each blow.
const STEADY_CALLS: u64 = 10;

/// How long the server may take to let go of a dead client. It takes milliseconds; the machine may be busy.
const GIVEN_BACK: Duration = Duration::from_secs(5);

/// The server, a steady client, and what the server held before anybody else came.
pub struct World {
    /// Where the server listens.
    pub ground: Ground,
    /// The server.
    pub server: Process,
    steady: Client,
    baseline: Snapshot,
    /// What the steady client and the notices of deaths have taken so far, in the worst case.
    pub worst: Worst,
}

/// The worst cases, to be reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worst {
    /// A call of the steady client.
    pub call: Duration,
    /// From a blow until the server held what it had held before.
    pub back: Duration,
}

impl World {
    /// Starts the server and connects the steady client.
    pub fn new() -> anyhow::Result<World> {
        let ground = Ground::new();
        let server = start_server(&ground)?;
        let steady = connect(&ground)?;
        let baseline = Snapshot::when_settled(server.id(), 1);
        Ok(World { ground, server, steady, baseline, worst: Worst::default() })
    }

    /// Where the server listens, as an argument.
    pub fn socket(&self) -> String {
        self.ground.socket().to_string_lossy().into_owned()
    }

    /// The steady client's calls, with every byte checked.
    pub fn others_work(&mut self) -> anyhow::Result<()> {
        for seed in 0..STEADY_CALLS {
            let len = if seed % 2 == 0 { 48 } else { 3000 };
            let begin = Instant::now();
            let mut loan = self.steady.loan(len).context("the steady client gets no slot")?;
            fill(&mut loan, seed);
            let reply = loan.call_timeout(LIMIT).context("the steady client's call failed")?;
            check_inverted(&reply, len, seed);
            drop(reply);
            self.worst.call = self.worst.call.max(begin.elapsed());
        }
        Ok(())
    }

    /// Waits until the server holds what it held before: no descriptor, mapping or thread more or less.
    pub fn is_back(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            // What it keeps for a dead client, it keeps until it is told; a request may be on its way there only now.
            self.server.tell("release");
            let now = Snapshot::of(self.server.id());
            if now == self.baseline {
                self.worst.back = self.worst.back.max(begin.elapsed());
                return Ok(());
            }
            if !self.server.is_alive() {
                bail!("the server is gone");
            }
            if begin.elapsed() > GIVEN_BACK {
                bail!("the server held\n{:?}\nand {GIVEN_BACK:?} later holds\n{now:?}", self.baseline);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Kills the server, and starts another at the same place.
    pub fn replace_server(&mut self) -> anyhow::Result<()> {
        self.server.kill();
        self.server = start_server(&self.ground)?;
        self.steady = connect(&self.ground)?;
        self.baseline = Snapshot::when_settled(self.server.id(), 1);
        Ok(())
    }

    /// Shuts the server down in good order: nothing is left.
    pub fn end(self) -> anyhow::Result<Worst> {
        drop(self.steady);
        self.server.tell("stop");
        while self.server.try_hear().context("the server is gone")? != "stopped" {}
        self.server.join();
        let left = std::fs::read_dir(self.ground.path(""))?.count();
        if left != 0 {
            bail!("{left} files are left of the server");
        }
        Ok(self.worst)
    }
}

fn start_server(ground: &Ground) -> anyhow::Result<Process> {
    let mut server = role::start("step-server", [ground.socket()]);
    server.expect("ready");
    Ok(server)
}

fn connect(ground: &Ground) -> anyhow::Result<Client> {
    Client::builder().wait(Wait::Park).connect(ground.socket()).context("the steady client cannot connect")
}
