//! A server as the victim: at every point of each of its operations, and of its control thread's, it is killed,
//! stopped, forked, or loses a descriptor.
//!
//! Its clients wait in a call and idle meanwhile. All of them learn of a death in bounded time, none takes a stopped
//! server for a dead one, the next server takes the name at once, and nothing is left over, here or there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::unistd::Pid;
use rustix::process::Signal;
use wigwag::{Client, ErrorKind, Wait};
use wigwag_testing::{Ground, LIMIT, Process, Raw, Snapshot, check_inverted, fill, wire};

use super::client_victim::{Orphan, descriptors};
use super::tracer::Tracee;
use super::victim::{CAPACITY, SERVER_OPERATIONS, is_of_control_thread};
use super::walk::{self, End, Point, Sleeper};
use super::{Blow, Counts, Depth};
use crate::role;

/// How long the clients of a dead server may take to learn of it. It takes milliseconds; the machine may be busy.
const NOTICED: Duration = Duration::from_secs(8);

/// How long a call to a server that stands still is waited for.
const STANDSTILL: Duration = Duration::from_millis(20);

/// The worst case of a waiting client's learning of its server's death.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worst {
    /// From the blow until the waiting call had ended.
    pub end: Duration,
    /// From the blow until a client of the next server had its first reply.
    pub again: Duration,
}

/// Visits every point of every operation.
pub fn visit_all(blows: &[Blow], depth: Depth, counts: &mut Counts) -> anyhow::Result<Worst> {
    let mut worst = Worst::default();
    for operation in SERVER_OPERATIONS.iter().filter(|operation| super::is_wanted(operation)) {
        let points = points_of(operation, depth).with_context(|| format!("server, {operation}"))?;
        for blow in blows {
            for (index, point) in depth.thin_out(&points, operation).iter().enumerate() {
                if counts.is_enough() {
                    return Ok(worst);
                }
                counts.visits += 1;
                if let Err(error) = visit(operation, point, *blow, index, &mut worst) {
                    counts.find(format!("server, {operation}, {blow:?} at {point:?}: {error:#}"));
                }
            }
        }
    }
    Ok(worst)
}

/// A victim server at the beginning of its operation, and its clients.
pub struct Scene {
    /// Where it listens.
    pub ground: Ground,
    /// The victim.
    pub server: Process,
    /// Its thread, while it is held.
    tracee: Option<Tracee>,
    /// Waits in a call, where the operation has to do with one.
    caller: Option<JoinHandle<wigwag::Result<()>>>,
    /// Has a session and does nothing.
    pub idle: Option<Client>,
    /// What began the control thread's operation, and whether that is through.
    trigger: Option<JoinHandle<anyhow::Result<()>>>,
    is_over: Arc<AtomicBool>,
    /// Then its clients may be told anything, as long as they are told.
    has_hurt_itself: bool,
}

fn connect(ground: &Ground) -> wigwag::Result<Client> {
    Client::builder().wait(Wait::Park).timeout(Duration::from_secs(60)).connect(ground.socket())
}

/// One call, checked.
fn call(client: &Client, limit: Duration) -> wigwag::Result<()> {
    let mut loan = client.loan(500)?;
    fill(&mut loan, 5);
    check_inverted(&loan.call_timeout(limit)?, 500, 5);
    Ok(())
}

fn spawn_call(client: Client, operation: &'static str) -> JoinHandle<wigwag::Result<()>> {
    std::thread::spawn(move || {
        let reply = client.call_timeout(&[1; 100], LIMIT);
        match (operation, reply) {
            ("fail", Err(error)) if error.kind() == ErrorKind::HandlerFailed => Ok(()),
            ("unanswered", Err(error)) if error.kind() == ErrorKind::Unanswered => Ok(()),
            ("reply-body", reply) => reply.map(|reply| assert_eq!(&reply[..], [9; 3000])),
            (_, reply) => reply.map(|reply| assert_eq!(&reply[..], [!1; 100])),
        }
    })
}

pub fn stage(operation: &'static str) -> anyhow::Result<Scene> {
    let ground = Ground::new();
    let socket = ground.socket().to_string_lossy().into_owned();
    let server = role::start_with("step-victim-server", [socket.as_str(), operation], super::make_repeatable);
    let hear = || server.try_hear().context("the victim did not get to its operation");
    let (mut caller, mut idle, mut raw) = (None, None, None);
    if operation != "bind" {
        if hear()? != "bound" {
            bail!("the victim could not bind");
        }
        idle = Some(connect(&ground)?);
        match operation {
            "condemn" => raw = Some(Raw::connect(&ground.socket())),
            "receive-asleep" => {}
            _ if is_of_control_thread(operation) => {}
            _ => caller = Some(spawn_call(connect(&ground)?, operation)),
        }
    }
    let other = if operation == "end" { Some(connect(&ground)?) } else { None };
    let ready = hear()?;
    let thread = ready.strip_prefix("ready ").and_then(|id| id.parse().ok()).with_context(|| ready.clone())?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut trigger = None;
    let mut tracee;
    if is_of_control_thread(operation) {
        let control_thread = Pid::from_raw(thread as i32);
        server.tell("go");
        // The sessions of the scene are made; from here on only what is triggered happens.
        let settled = Snapshot::when_settled(server.id(), 1 + usize::from(other.is_some() || raw.is_some()));
        tracee = Tracee::seize(server.id(), thread)?;
        let begin = Instant::now();
        while !tracee.is_asleep() {
            if begin.elapsed() > LIMIT {
                bail!("the control thread {control_thread} does not come to rest");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        tracee.interrupt()?;
        let over = Arc::clone(&is_over);
        let (id, ground_path) = (server.id(), ground.socket());
        trigger = Some(std::thread::spawn(move || {
            let done = strike_up(operation, &ground_path, id, &settled, other, raw);
            over.store(true, Ordering::SeqCst);
            done
        }));
    } else {
        tracee = Tracee::seize(server.id(), thread)?;
        server.tell("go");
        tracee.wait_for_mark()?;
    }
    tracee.find_segment()?;
    Ok(Scene { ground, server, tracee: Some(tracee), caller, idle, trigger, is_over, has_hurt_itself: false })
}

/// What a client does for the control thread to have work. Errors are those of a client whose server is struck.
fn strike_up(
    operation: &str,
    socket: &std::path::Path,
    server: u32,
    settled: &Snapshot,
    other: Option<Client>,
    raw: Option<Raw>,
) -> anyhow::Result<()> {
    let patience = Duration::from_secs(60);
    let connect = |capacity| Client::builder().capacity(capacity).wait(Wait::Park).timeout(patience).connect(socket);
    match operation {
        "accept" => {
            let client = connect(CAPACITY)?;
            call(&client, LIMIT)?;
            // What the session has is let go without its end being a part of the operation.
            std::mem::forget(client);
        }
        "refuse" => match connect(CAPACITY + 1) {
            Err(error) if error.kind() == ErrorKind::Refused => {}
            Err(error) => return Err(error.into()),
            Ok(_) => bail!("a session beyond the limits"),
        },
        "end" => {
            drop(other);
            wait_until_less(server, settled);
        }
        _ => {
            let raw = raw.context("a session by hand")?;
            wire::send(&raw.socket, b"what nobody may say", &[])?;
            wait_until_less(server, settled);
        }
    }
    Ok(())
}

fn wait_until_less(server: u32, settled: &Snapshot) {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        let maps = std::fs::read_to_string(format!("/proc/{server}/maps")).unwrap_or_default();
        if maps.matches("memfd:wigwag").count() < settled.segments {
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

impl Scene {
    /// Its thread.
    pub fn tracee(&mut self) -> anyhow::Result<&mut Tracee> {
        self.tracee.as_mut().context("the victim was let go")
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.server.signal(Signal::KILL);
        self.tracee.take().map_or(Ok(()), Tracee::bury)?;
        self.server.kill();
        Ok(())
    }

    /// Lets its thread go.
    pub fn release(&mut self) -> anyhow::Result<()> {
        self.tracee.take().map_or(Ok(()), Tracee::release)
    }

    /// Whether the control thread's work is through.
    pub fn is_over(&self) -> impl Fn() -> bool + use<> {
        let (is_over, is_stewards) = (Arc::clone(&self.is_over), self.trigger.is_some());
        move || is_stewards && is_over.load(Ordering::SeqCst)
    }

    fn end(&self) -> End {
        match self.trigger {
            Some(_) => End::Idle(Box::new(self.is_over())),
            None => End::Mark,
        }
    }

    /// A server that waits for a request is given one.
    pub fn sleeper(&self, operation: &'static str) -> Sleeper {
        let socket = operation.starts_with("receive").then(|| self.ground.socket());
        let mut calling: Option<JoinHandle<()>> = None;
        let thread = self.tracee.as_ref().map_or(Pid::from_raw(0), |tracee| tracee.thread);
        Sleeper::watch(self.server.id(), thread, move || {
            // Again, should somebody have been turned away.
            if let Some(socket) = socket.clone().filter(|_| calling.as_ref().is_none_or(JoinHandle::is_finished)) {
                calling = Some(std::thread::spawn(move || {
                    let client = Client::builder().wait(Wait::Park).connect(socket);
                    let _ = client.and_then(|client| client.call_timeout(&[1; 100], LIMIT).map(drop));
                }));
            }
        })
    }

    /// Whether the client whose connecting is the control thread's work got its session.
    pub fn was_let_in(&mut self) -> anyhow::Result<bool> {
        let Some(trigger) = self.trigger.take() else { return Ok(false) };
        join(&trigger)?;
        Ok(trigger.join().map_err(|_| anyhow::anyhow!("a client fell"))?.is_ok())
    }

    /// All who wait for the server get an answer of some kind; how it was, and when.
    fn all_end(&mut self, begin: Instant, worst: &mut Worst) -> anyhow::Result<Vec<anyhow::Result<()>>> {
        let mut ends = Vec::new();
        if let Some(caller) = self.caller.take() {
            join(&caller)?;
            ends.push(caller.join().map_err(|_| anyhow::anyhow!("a client fell"))?.map_err(Into::into));
        }
        if let Some(trigger) = self.trigger.take() {
            join(&trigger)?;
            ends.push(trigger.join().map_err(|_| anyhow::anyhow!("a client fell"))?);
        }
        worst.end = worst.end.max(begin.elapsed());
        Ok(ends)
    }
}

fn join<T>(thread: &JoinHandle<T>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !thread.is_finished() {
        if begin.elapsed() > NOTICED {
            bail!("a client hangs");
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn points_of(operation: &'static str, depth: Depth) -> anyhow::Result<Vec<Point>> {
    let mut scene = stage(operation)?;
    let end = scene.end();
    let sleeper = scene.sleeper(operation);
    let points = walk::points(scene.tracee()?, &end, &sleeper, depth.is_every())?;
    drop(sleeper);
    goes_on(scene, operation)?;
    Ok(points)
}

fn visit(operation: &'static str, point: &Point, blow: Blow, index: usize, worst: &mut Worst) -> anyhow::Result<()> {
    let mut scene = stage(operation)?;
    let sleeper = (point.kind != walk::Kind::Asleep).then(|| scene.sleeper(operation));
    // Without marks nobody says that the way was another one: the point is given up once the work is done.
    let is_over = Arc::clone(&scene.is_over);
    let has_marks = scene.trigger.is_none();
    let is_there = walk::go_to(scene.tracee()?, point, || !has_marks && is_over.load(Ordering::SeqCst))?;
    drop(sleeper);
    if !is_there {
        return goes_on(scene, operation);
    }
    let begin = Instant::now();
    match blow {
        Blow::Kill => {
            scene.kill()?;
            is_noticed(scene, begin, worst)
        }
        Blow::Stop => {
            scene.server.signal(Signal::STOP);
            if let Some(idle) = &scene.idle {
                match call(idle, STANDSTILL) {
                    Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => {}
                    // It had said its farewell before.
                    Err(error) if operation == "shutdown" && matches!(error.kind(), ErrorKind::ServerClosed { .. }) => {
                    }
                    other => bail!("a call to a server that stands still came to {other:?}"),
                }
            }
            scene.server.signal(Signal::CONT);
            let _sleeper = scene.sleeper(operation);
            goes_on(scene, operation).context("after it had been stopped")
        }
        Blow::StopPastTheEnd => {
            scene.server.signal(Signal::STOP);
            scene.idle = None; // a peer that goes while the server cannot notice
            scene.server.signal(Signal::CONT);
            let _sleeper = scene.sleeper(operation);
            goes_on(scene, operation).context("after a client had gone while it was stopped")
        }
        Blow::Fork => {
            let _child = Orphan(Pid::from_raw(scene.tracee()?.call(libc::SYS_fork, [0; 3])? as i32));
            scene.kill()?;
            // The child holds the lock of the name until it ends, as it would hold any other.
            scene.clients_learn_of_the_end(begin, worst)
        }
        Blow::CloseDescriptor => {
            let own = descriptors(&scene.server)?;
            if let Some(&descriptor) = own.get(index % own.len().max(1)) {
                scene.tracee()?.call(libc::SYS_close, [descriptor, 0, 0])?;
            }
            // It has hurt itself, and may do what it likes, but for taking its clients with it.
            scene.release()?;
            if let Some(idle) = &scene.idle {
                let _ = call(idle, STANDSTILL);
            }
            scene.server.kill();
            scene.has_hurt_itself = true;
            is_noticed(scene, Instant::now(), worst)
        }
    }
}

/// The victim was let go unharmed: everything is as it should be, to the end.
pub fn goes_on(mut scene: Scene, operation: &'static str) -> anyhow::Result<()> {
    scene.release()?;
    let begin = Instant::now();
    match super::client_victim::said_within(&mut scene.server, LIMIT)?.as_deref() {
        Some("done ok") => {}
        Some("") => bail!("the victim fell: {}", scene.server.child.wait()?),
        Some(said) => bail!("the victim says: {said}"),
        None => bail!("the victim hangs"),
    }
    for end in scene.all_end(begin, &mut Worst::default())? {
        match (operation, end) {
            (_, Ok(())) | ("shutdown", Err(_)) => {}
            (_, Err(error)) => return Err(error.context("a client of a server that nothing was done to")),
        }
    }
    if let Some(idle) = scene.idle.take().filter(|_| operation != "shutdown") {
        call(&idle, LIMIT).context("the idle client's call")?;
    }
    if operation == "shutdown" {
        scene.server.join();
    } else {
        let client = connect(&scene.ground).context("a new client")?;
        call(&client, LIMIT).context("a new client's call")?;
        drop(client);
        scene.server.tell("stop");
        if scene.server.try_hear().as_deref() != Some("stopped") {
            bail!("the victim does not stop in order");
        }
        scene.server.join();
    }
    is_empty(&scene.ground)
}

/// The victim is dead: everybody learns of it, and the next one takes its place.
fn is_noticed(mut scene: Scene, begin: Instant, worst: &mut Worst) -> anyhow::Result<()> {
    scene.clients_learn_of_the_end(begin, worst)?;
    let socket = scene.ground.socket().to_string_lossy().into_owned();
    let mut next = role::start("step-server", [socket]);
    if next.try_hear().as_deref() != Some("ready") {
        bail!("the next server cannot take the name");
    }
    let client = connect(&scene.ground).context("a client of the next server")?;
    call(&client, LIMIT).context("a call to the next server")?;
    worst.again = worst.again.max(begin.elapsed());
    drop(client);
    next.tell("stop");
    next.expect("stopped");
    next.join();
    is_empty(&scene.ground)
}

impl Scene {
    fn clients_learn_of_the_end(&mut self, begin: Instant, worst: &mut Worst) -> anyhow::Result<()> {
        for end in self.all_end(begin, worst)? {
            let Err(error) = end else { continue }; // the answer had been passed
            match error.downcast_ref::<wigwag::Error>().map(wigwag::Error::kind) {
                Some(ErrorKind::PeerDied { .. } | ErrorKind::NotRunning | ErrorKind::ServerClosed { .. }) => {}
                _ if error.downcast_ref::<rustix::io::Errno>().is_some() => {} // a session by hand
                Some(_) if self.has_hurt_itself => {}
                _ => return Err(error.context("a client of a server that was killed")),
            }
        }
        if let Some(idle) = self.idle.take() {
            match call(&idle, LIMIT).map_err(|error| error.kind()) {
                Err(ErrorKind::PeerDied { .. } | ErrorKind::ServerClosed { .. }) => {}
                Err(_) if self.has_hurt_itself => {}
                other => bail!("the idle client of a server that was killed gets {other:?}"),
            }
        }
        Ok(())
    }
}

fn is_empty(ground: &Ground) -> anyhow::Result<()> {
    match std::fs::read_dir(ground.path(""))?.count() {
        0 => Ok(()),
        left => bail!("{left} files are left of the server"),
    }
}
