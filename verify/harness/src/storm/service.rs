//! The server of a storm: it checks every byte of every request, marks it as executed, and inverts it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wigwag::{Request, Server};
use wigwag_testing::Link;

use super::dice::Dice;
use super::ledger::Ledger;
use super::parcel::{self, Content};
use super::scoreboard::{Phase, STEADY_MAX, Single, now_ns};
use super::world::World;

/// Bytes that a request can have.
pub const CAPACITY: usize = 128 << 10;
/// Slots of a session.
const SLOTS: usize = 8;

/// How a server of a storm behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Threads that serve.
    pub threads: usize,
    /// Some requests are not honest, and that is no finding.
    pub expects_junk: bool,
    /// Handlers take their time now and then.
    pub delays: bool,
}

/// Takes the name.
pub fn bind(world: &World) -> wigwag::Result<Server> {
    Server::builder().slots(SLOTS).capacity(CAPACITY).bind(world.socket())
}

/// Serves one request.
pub fn obey(world: &World, manner: Manner, request: &mut Request) {
    match parcel::read(request) {
        Content::Junk if manner.expects_junk => {
            world.board.single(Single::Junk).fetch_add(1, Ordering::Relaxed);
        }
        Content::Junk => world.complain(format!("a request of {} bytes that nobody has made", request.len())),
        Content::Broken(what) => world.complain(format!("wrong bytes reached the server: {what}")),
        Content::Parcel { row: parcel::GREETING, .. } => {
            let life = world.board.single(Single::Life).load(Ordering::Acquire);
            request[..8].copy_from_slice(&life.to_le_bytes());
            return;
        }
        Content::Parcel { row, nonce } => {
            execute(world, row, nonce);
            if manner.delays && nonce % 4 == 3 {
                std::thread::sleep(Duration::from_micros(wigwag_testing::word(row, nonce) % 3000));
            }
            let len = parcel::reply_len(request.len(), nonce, request.capacity());
            request.resize(len).expect("within the capacity");
        }
    }
    request.iter_mut().for_each(|byte| *byte = !*byte);
}

fn execute(world: &World, row: u64, nonce: u64) {
    if row < STEADY_MAX as u64 {
        // One call at a time: each is the next.
        let expected = world.board.steady(row as usize).expected.fetch_add(1, Ordering::AcqRel);
        if expected != nonce {
            world.complain(format!("steady client {row}: request {nonce} was executed where {expected} was next"));
        }
        return;
    }
    let (ledger, row) = (Ledger(&world.board), row - STEADY_MAX as u64);
    if !ledger.has(row, nonce) {
        world.complain(format!("request {nonce} of {row} is beyond the ledger"));
    } else if !ledger.execute(row, nonce) {
        world.complain(format!("request {nonce} of {row} was executed twice"));
    }
}

/// The role of a server that lives through the whole storm, and then says what it has counted.
pub fn play(parent: &Link, arguments: &[&str]) {
    let (world, options) = World::open(arguments);
    let expects_junk = options.contains(&"junk");
    let manner = Manner { threads: 2, expects_junk, delays: false };
    let mut server = bind(&world).expect("the name is free");
    let stop = server.shutdown_handle();
    parent.tell("ready");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while world.board.phase() != Phase::End {
                std::thread::sleep(Duration::from_millis(10));
            }
            stop.shutdown();
        });
        server
            .serve_on(manner.threads, |request| obey(&world, manner, request))
            .expect("serves until it is told to stop");
    });
    let stats = server.stats();
    parent.tell(format!("{} {} {}", stats.sessions_accepted, stats.calls, stats.violations));
}

/// One life of a server that is going to be killed: it never returns in good order.
pub fn live(world: &World, life: u64, seed: u64) {
    let mut dice = Dice::new(seed);
    let manner = Manner { threads: 1 + dice.below(2) as usize, expects_junk: false, delays: !dice.once_in(3) };
    let mut server = match bind(world) {
        Ok(server) => server,
        Err(error) => return world.complain(format!("life {life} could not take the name: {error}")),
    };
    let stop = server.shutdown_handle();
    let is_over = AtomicBool::new(false);
    world.board.life(life).ready_at.store(now_ns(), Ordering::Release);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while world.board.life(life).drains.load(Ordering::Acquire) == 0 && !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(200));
            }
            stop.shutdown();
        });
        if let Err(error) = server.serve_on(manner.threads, |request| obey(world, manner, request)) {
            world.complain(format!("life {life} stopped serving: {error}"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    drop(server);
    // Killed while it drains, or now that it has.
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
