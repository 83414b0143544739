//! What the processes of a phase do: the server answers, the client measures, the idler only holds sessions.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Contender, Load, WaitMode};
use crate::exchange::{self, Exchange, Pipeline};
use crate::flow;
use crate::futex::PingPong;
use crate::handshake::{self, Greeter};
use crate::memory::Memory;
use crate::meter::{Extent, Meter};
use crate::peer;
use crate::placement;
use crate::raw::{self, Copying, InPlace, TwoBuffers};
use crate::report::Report;
use crate::ring::Ring;
use crate::system_calls;
use crate::tasks;
use crate::transport::{self, Caller, Rendezvous, Responder, Window};
use crate::usage::Usage;
use crate::work;

/// Which of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Answers.
    Server,
    /// Calls and measures.
    Client,
    /// Holds sessions that make no calls.
    Idler,
    /// Counts the system calls of a server and a client of its own.
    Tracer,
}

/// All that a process of a phase is told, on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Its part.
    pub role: Role,
    /// The case.
    pub case: Case,
    /// How long to measure.
    pub extent: Extent,
    /// The processor to run on; anywhere when there is none.
    pub processor: Option<usize>,
    /// The server's processor, for the tracer, whose own is the client's.
    pub partner: Option<usize>,
    /// Where a client tells its tracer when to count; server and client have a tracer where it is given.
    pub counter: Option<PathBuf>,
    /// Where the two sides meet.
    pub directory: PathBuf,
    /// The raw contenders' memory, by a path through the parent.
    pub memory: Option<PathBuf>,
    /// The process that started this one.
    pub parent: i32,
    /// The server's process id, for the client.
    pub server: i32,
}

impl Orders {
    fn memory(&self) -> anyhow::Result<Memory> {
        let path = self.memory.as_ref().context("a raw contender was started without memory")?;
        map(path, memory_needed(&self.case))
    }

    /// Where the two ends meet.
    pub fn rendezvous(&self) -> Rendezvous {
        Rendezvous::new(&self.directory, self.case.size).with_wait(self.case.wait.into())
    }

    /// A meter for the case.
    pub fn meter(&self) -> anyhow::Result<Meter> {
        let counter = self.counter.as_deref().map(|path| map(path, system_calls::MEMORY)).transpose()?;
        Ok(Meter::new(self.case, self.extent, counter))
    }
}

/// Maps memory that another process made.
fn map(path: &Path, len: usize) -> anyhow::Result<Memory> {
    let file = File::options().read(true).write(true).open(path).context("the shared memory cannot be opened")?;
    Memory::map(file, len)
}

/// The bytes of shared memory that a case's contender needs from its parent; none where it makes its own.
pub fn memory_needed(case: &Case) -> usize {
    match case.contender {
        Contender::Limit | Contender::Raw | Contender::TwoBuffers | Contender::Copy => raw::memory_needed(case.size),
        Contender::Raw64 => Ring::memory_needed(case.in_flight),
        Contender::Futex => PingPong::memory_needed(case.size),
        _ => 0,
    }
}

/// Makes this process one of a phase: it ends with its parent, has room for descriptors, and runs where it was told to.
pub fn prepare(orders: &Orders) -> anyhow::Result<()> {
    die_with(orders.parent)?;
    raise_descriptor_limit()?;
    placement::confine(orders.processor)
}

/// Runs a process of a phase until it has done its part or is ended.
pub fn play(orders: &Orders) -> anyhow::Result<()> {
    prepare(orders)?;
    match orders.role {
        Role::Server => serve(orders),
        Role::Client => peer::say(&serde_json::to_string(&measure(orders)?)?),
        Role::Idler => idle(orders),
        Role::Tracer => system_calls::trace(orders),
    }
}

/// A spinning process whose parent is gone would burn a processor for ever.
fn die_with(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    ensure!(getppid().map_or(0, Pid::as_raw_pid) == parent, "the bench that started this process is gone");
    Ok(())
}

/// The descriptors that this process may hold after it has raised its soft limit to the hard one.
pub fn raise_descriptor_limit() -> anyhow::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("the limit of open descriptors cannot be raised")?;
    Ok(limit.maximum.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX))
}

fn serve(orders: &Orders) -> anyhow::Result<()> {
    let (case, place, len) = (&orders.case, orders.rendezvous(), orders.case.size);
    if case.load == Load::OneWay {
        return flow::receive(orders);
    }
    match case.contender {
        Contender::Limit => answer(orders, InPlace::one_line(&orders.memory()?, len)),
        Contender::Raw => answer(orders, InPlace::apart(&orders.memory()?, len)),
        Contender::Copy => answer(orders, Copying::new(&orders.memory()?, len)),
        Contender::Raw64 => answer(orders, Ring::new(&orders.memory()?, case.in_flight, len)),
        Contender::Futex => answer(orders, PingPong::new(&orders.memory()?, len)),
        Contender::TwoBuffers => {
            let buffers = TwoBuffers::new(&orders.memory()?, len);
            ready(orders)?;
            buffers.serve_changed()
        }
        Contender::Stream => {
            let server = transport::StreamResponder::bind(&place)?;
            ready(orders)?;
            server.serve_each(case.sessions, work::change)
        }
        Contender::StreamInPlace => bail!("a stream in place carries bytes one way"),
        Contender::Unix => {
            let server = transport::UnixResponder::bind(&place)?;
            ready(orders)?;
            server.serve_each(case.sessions, work::change)
        }
        Contender::Tcp => {
            let server = transport::TcpResponder::bind(&place)?;
            ready(orders)?;
            server.serve_each(case.sessions, work::change)
        }
        Contender::Pipe => answer(orders, transport::PipeResponder::bind(&place)?),
        Contender::Mqueue => answer(orders, transport::MqueueResponder::bind(&place)?),
        Contender::File => answer(orders, transport::FileResponder::bind(&place)?),
        Contender::Wigwag | Contender::Uncounted => {
            let server = exchange::bind(&orders.directory, case)?;
            ready(orders)?;
            exchange::serve(server, case)
        }
        Contender::Tokio => tasks::serve_wigwag(orders, || ready(orders)),
        Contender::TokioUnix => tasks::serve_socket(orders, || ready(orders)),
        Contender::Handshake => {
            let greeter = Greeter::bind(&orders.directory)?;
            ready(orders)?;
            greeter.serve()
        }
        Contender::Rival(name) => bail!("{name} is no contender of this program"),
    }
}

fn answer(orders: &Orders, responder: impl Responder) -> anyhow::Result<()> {
    ready(orders)?;
    responder.serve(work::change)
}

/// Clients may connect from here on.
pub fn ready(orders: &Orders) -> anyhow::Result<()> {
    peer::say_ready()?;
    if orders.counter.is_some() { system_calls::submit_to_tracer() } else { Ok(()) }
}

/// The client's part for a contender of this crate.
fn measure(orders: &Orders) -> anyhow::Result<Report> {
    if orders.counter.is_some() {
        system_calls::submit_to_tracer()?;
    }
    let (case, place, len) = (&orders.case, orders.rendezvous(), orders.case.size);
    if case.load == Load::OneWay {
        return flow::send(orders);
    }
    match case.contender {
        Contender::Limit => run(orders, || Ok(InPlace::one_line(&orders.memory()?, len))),
        Contender::Raw => run(orders, || Ok(InPlace::apart(&orders.memory()?, len))),
        Contender::TwoBuffers => run(orders, || Ok(TwoBuffers::new(&orders.memory()?, len))),
        Contender::Copy => run(orders, || Ok(Copying::new(&orders.memory()?, len))),
        Contender::Futex => run(orders, || Ok(PingPong::new(&orders.memory()?, len))),
        Contender::Raw64 => {
            orders.meter()?.run_window(&mut Ring::new(&orders.memory()?, case.in_flight, len), orders.server)
        }
        Contender::Stream => run_or_pipeline(orders, || transport::StreamCaller::connect(&place)),
        Contender::StreamInPlace => bail!("a stream in place carries bytes one way"),
        Contender::Unix => run_or_pipeline(orders, || transport::UnixCaller::connect(&place)),
        Contender::Tcp => run_or_pipeline(orders, || transport::TcpCaller::connect(&place)),
        Contender::Pipe => run_or_pipeline(orders, || transport::PipeCaller::connect(&place)),
        Contender::Mqueue => run(orders, || transport::MqueueCaller::connect(&place)),
        Contender::File => run(orders, || transport::FileCaller::connect(&place)),
        Contender::Wigwag | Contender::Uncounted => measure_wigwag(orders),
        Contender::Tokio => tasks::measure_wigwag(orders),
        Contender::TokioUnix => tasks::measure_socket(orders),
        Contender::Handshake => orders.meter()?.run_connects(orders.server, || handshake::connect(&orders.directory)),
        Contender::Rival(name) => bail!("{name} is no contender of this program"),
    }
}

/// A client with one request under way for each session: connects, and does what the case's load asks for.
pub fn run<C: Caller>(orders: &Orders, connect: impl Fn() -> anyhow::Result<C> + Sync) -> anyhow::Result<Report> {
    match orders.case.load {
        Load::Start => orders.meter()?.run_start(orders.server, connect),
        Load::UntilDeath => orders.meter()?.run_until_death(&mut connect()?, peer::say_ready),
        _ if orders.case.busy > 1 => busy_sessions(orders, connect),
        _ => orders.meter()?.run(&mut connect()?, orders.server),
    }
}

/// The same for a client that can have several requests under way.
pub fn run_or_pipeline<C: Caller + Window>(
    orders: &Orders,
    connect: impl Fn() -> anyhow::Result<C> + Sync,
) -> anyhow::Result<Report> {
    if orders.case.in_flight == 1 {
        return run(orders, connect);
    }
    orders.meter()?.run_window(&mut connect()?, orders.server)
}

fn measure_wigwag(orders: &Orders) -> anyhow::Result<Report> {
    let case = &orders.case;
    match case.load {
        // The defaults of both sides, as a newcomer gets them.
        Load::Connect => orders
            .meter()?
            .run_connects(orders.server, || Ok(wigwag::Client::connect(exchange::path(&orders.directory))?)),
        _ if case.in_flight > 1 => {
            let client = exchange::connect(&orders.directory, case)?;
            orders.meter()?.run_window(&mut Pipeline::new(&client, case.in_flight), orders.server)
        }
        _ => run(orders, || exchange::connect(&orders.directory, case).map(Exchange)),
    }
}

/// Several sessions at once, a thread each, all measuring over the same time.
fn busy_sessions<C: Caller>(orders: &Orders, connect: impl Fn() -> anyhow::Result<C> + Sync) -> anyhow::Result<Report> {
    if orders.case.in_flight > 1 {
        bail!("several busy sessions have one request in flight each");
    }
    let client = std::process::id() as i32;
    let barrier = Barrier::new(orders.case.busy + 1);
    let work = || -> anyhow::Result<Report> {
        let warmed_up = || -> anyhow::Result<(C, Meter)> {
            let (mut session, mut meter) = (connect()?, orders.meter()?);
            meter.warm(&mut session)?;
            Ok((session, meter))
        };
        let warm = warmed_up();
        // Everybody is waited for, also who has failed.
        barrier.wait();
        warm.and_then(|(mut session, meter)| meter.run_unobserved(&mut session))
    };
    let work = &work;
    let (reports, before) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let threads: Vec<_> = (0..orders.case.busy).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let before = (Usage::of(client)?, Usage::of(orders.server)?);
        let ends = threads.into_iter().map(|thread| thread.join().expect("a session's thread does not panic"));
        Ok((ends.collect::<anyhow::Result<Vec<Report>>>()?, before))
    })?;
    let mut whole = Report::pooled(&reports);
    whole.elapsed /= reports.len() as u64;
    whole.session_rates = reports.iter().map(Report::rate).collect();
    whole.client = Usage::of(client)? - before.0;
    whole.server = Usage::of(orders.server)? - before.1;
    Ok(whole)
}

fn idle(orders: &Orders) -> anyhow::Result<()> {
    let (place, len) = (orders.rendezvous(), orders.case.size);
    let case = Case { wait: idle_wait(orders.case.wait), ..orders.case };
    let idle_place = place.clone().with_wait(case.wait.into());
    match case.contender {
        Contender::Stream => hold(orders, || one_call(transport::StreamCaller::connect(&idle_place)?, len)),
        Contender::Unix => hold(orders, || one_call(transport::UnixCaller::connect(&place)?, len)),
        Contender::Tcp => hold(orders, || one_call(transport::TcpCaller::connect(&place)?, len)),
        _ => hold(orders, || exchange::connect_idle(&orders.directory, &case)),
    }
}

/// Holds sessions, each of which the server has met, until the process is ended. A parked thread uses nothing.
pub fn hold<S>(orders: &Orders, connect: impl Fn() -> anyhow::Result<S>) -> anyhow::Result<()> {
    let _sessions = (orders.case.busy..orders.case.sessions).map(|_| connect()).collect::<anyhow::Result<Vec<_>>>()?;
    peer::say_ready()?;
    loop {
        std::thread::park();
    }
}

/// A session that has made one call, so that the server has met it.
pub fn one_call<C: Caller>(mut caller: C, len: usize) -> anyhow::Result<C> {
    caller.exchange(len, |bytes| work::fill(bytes, 7), |_| ())?;
    Ok(caller)
}

/// A client that waits for nothing does not wait in any way; this one only says so.
fn idle_wait(wait: WaitMode) -> WaitMode {
    if wait == WaitMode::Spin { WaitMode::Park } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_command_line() {
        let orders = Orders {
            role: Role::Client,
            case: Case::new(Contender::Limit, WaitMode::Spin, 48),
            extent: Extent::seconds(0.5),
            processor: Some(1),
            partner: None,
            counter: None,
            directory: PathBuf::from("there"),
            memory: None,
            parent: 1,
            server: 2,
        };
        let text = serde_json::to_string(&orders).unwrap();
        let read: Orders = serde_json::from_str(&text).unwrap();
        assert_eq!((read.case, read.extent, read.role), (orders.case, orders.extent, orders.role));
    }
}
