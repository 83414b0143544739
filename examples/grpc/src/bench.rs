//! P14: unary calls over shared memory and over a Unix socket, in the same run, with the phases and meters of
//! `wigwag bench`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Channel;
use wigwag_bench::case::{Case, Contender, WaitMode};
use wigwag_bench::meter::Extent;
use wigwag_bench::phase::Stage;
use wigwag_bench::placement::{Pin, Processors};
use wigwag_bench::progress::Progress;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders, Role};
use wigwag_bench::series::{Plan, Rounds, Series};
use wigwag_bench::tasks::{self, TaskCaller};

use crate::messages::Bytes;
use crate::work_client::WorkClient;
use crate::{channel, serve};

/// Over shared memory.
const OURS: &str = "grpc-wigwag";
/// Over a Unix socket.
const UNIX: &str = "grpc-unix";
/// Callers at a time, and what is to be reached beside the Unix socket: at most so much of its median, and at least so
/// many times its rate. The processor time of a call is to be at most the socket's.
const GOALS: [(usize, f64, f64); 2] = [(1, 0.35, 2.5), (64, 0.95, 1.15)];
/// Bytes of a request and of its reply.
const SIZE: usize = 48;

/// What is shown at the end.
pub struct Verdict {
    /// One line for each figure.
    pub lines: Vec<String>,
    /// Whether each goal is reached.
    pub is_met: bool,
}

/// Measures for about so many seconds.
pub fn run(seconds: f64) -> anyhow::Result<Verdict> {
    let root = wigwag_bench::transport::private_directory()?;
    let stage = Stage::new(Processors::choose(&[])?, root.path())?;
    let case = |name, callers| {
        Case::new(Contender::Rival(name), WaitMode::Adaptive, SIZE).pinned(Pin::None).in_flight(callers)
    };
    let cases = GOALS.map(|(callers, ..)| [case(UNIX, callers), case(OURS, callers)]).concat();
    let rounds = 20;
    let extent = Extent::seconds((seconds / rounds as f64 / cases.len() as f64 - 0.03).max(0.02) / 1.1);
    let plans = cases.iter().map(|case| Plan { case: *case, extent }).collect();
    let limit = Rounds { most: rounds, budget: Duration::from_secs_f64(seconds * 1.1) };
    let series = Series::run(&stage, plans, limit, &Progress::new()).whole()?;
    let (mut lines, mut is_met) = (Vec::new(), true);
    for (pair, (callers, most_p50, least_rate)) in GOALS.into_iter().enumerate() {
        let (unix, ours) = (2 * pair, 2 * pair + 1);
        let p50 = series.ratio(ours, unix, |report| report.percentile(50.0));
        let rate = series.ratio(ours, unix, Report::rate);
        let cpu = series.ratio(ours, unix, Report::cpu_per_call);
        let is_reached = p50 <= most_p50 && rate >= least_rate && cpu <= 1.0;
        is_met &= is_reached;
        let figures = |index: usize| {
            let whole = series.pooled(index);
            let [p50, p99] = [50.0, 99.0].map(|percent| whole.percentile(percent) / 1e3);
            format!(
                "p50 {p50:.1} us, p99 {p99:.1} us, {:.0}/s, {:.1} us of CPU each",
                whole.rate(),
                whole.cpu_per_call() / 1e3
            )
        };
        lines.push(format!("{callers} callers, Unix socket:   {}", figures(unix)));
        lines.push(format!("{callers} callers, shared memory: {}", figures(ours)));
        lines.push(format!(
            "{callers} callers: p50 {p50:.2} x, rate {rate:.2} x, processor time {cpu:.2} x the socket's; \
             at most {most_p50}, at least {least_rate}, at most 1: {}",
            if is_reached { "met" } else { "not met" }
        ));
    }
    lines.push(format!("P14: {}", if is_met { "met" } else { "not met" }));
    Ok(Verdict { lines, is_met })
}

/// Plays one part of a phase, in a process of its own; `orders` is JSON.
pub fn play(orders: &str) -> anyhow::Result<()> {
    let orders: Orders =
        serde_json::from_str(orders).context("these are not the orders of a process of this program")?;
    let played = role::prepare(&orders).and_then(|()| match orders.role {
        Role::Server => answer(&orders),
        Role::Client => wigwag_bench::peer::say(&serde_json::to_string(&measure(&orders)?)?),
        Role::Idler | Role::Tracer => bail!("this program has no such part"),
    });
    played.or_else(|error| wigwag_bench::peer::say_failed(&error))
}

fn answer(orders: &Orders) -> anyhow::Result<()> {
    let (path, never) = (socket(&orders.directory), std::future::pending());
    tasks::runtime()?.block_on(async {
        match orders.case.contender.name() {
            OURS => {
                let incoming = wigwag::tokio::StreamListener::bind(&path)?.incoming();
                role::ready(orders)?;
                Ok(serve(incoming, never).await?)
            }
            UNIX => {
                let incoming = UnixListenerStream::new(tokio::net::UnixListener::bind(&path)?);
                role::ready(orders)?;
                Ok(serve(incoming, never).await?)
            }
            other => bail!("there is no {other}"),
        }
    })
}

fn measure(orders: &Orders) -> anyhow::Result<Report> {
    let path = socket(&orders.directory);
    tasks::runtime()?.block_on(async {
        let channel = match orders.case.contender.name() {
            OURS => channel(move || wigwag::tokio::Stream::connect(path.clone())).await?,
            _ => channel(move || tokio::net::UnixStream::connect(path.clone())).await?,
        };
        tasks::measure(orders, async || Ok(Caller(WorkClient::new(channel.clone())))).await
    })
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("grpc.sock")
}

/// One of the callers that share a channel.
struct Caller(WorkClient<Channel>);

impl TaskCaller for Caller {
    async fn exchange(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) + Send,
        read: impl FnOnce(&[u8]) + Send,
    ) -> anyhow::Result<()> {
        let mut data = vec![0; len];
        fill(&mut data);
        let mut reply = self.0.invert(Bytes { data }).await?.into_inner().data;
        // The meter expects each byte one higher: that is made of the inverted one here, at the same cost for both.
        reply.iter_mut().for_each(|byte| *byte = (!*byte).wrapping_add(1));
        read(&reply);
        Ok(())
    }
}
