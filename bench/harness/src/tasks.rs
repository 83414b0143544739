//! Contenders whose two sides are tasks on tokio's multi-thread runtime, each side with a runtime of its own.
//!
//! Wigwag's tasks share one session; a socket has a connection for each task, as programs have it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;

use crate::case::Case;
use crate::clock;
use crate::exchange;
use crate::meter::Meter;
use crate::report::Report;
use crate::role::Orders;
use crate::usage::Usage;
use crate::work;

const SOCKET: &str = "tokio.sock";

/// A multi-thread runtime as tokio makes it.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// One side of a connection that makes calls in a task.
pub trait TaskCaller: Send + 'static {
    /// One request of `len` bytes and its reply.
    fn exchange(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) + Send,
        read: impl FnOnce(&[u8]) + Send,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

impl TaskCaller for wigwag::tokio::Client {
    async fn exchange(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) + Send,
        read: impl FnOnce(&[u8]) + Send,
    ) -> anyhow::Result<()> {
        let mut loan = self.loan(len).await?;
        fill(&mut loan);
        read(&loan.call().await?);
        Ok(())
    }
}

/// A socket, and room for a message.
pub struct Socket(UnixStream, Vec<u8>);

impl TaskCaller for Socket {
    async fn exchange(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) + Send,
        read: impl FnOnce(&[u8]) + Send,
    ) -> anyhow::Result<()> {
        let Socket(stream, message) = self;
        fill(&mut message[..len]);
        stream.write_all(&message[..len]).await?;
        stream.read_exact(&mut message[..len]).await?;
        read(&message[..len]);
        Ok(())
    }
}

/// Serves Wigwag's calls in a task until the process is ended.
pub fn serve_wigwag(orders: &Orders, ready: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Orders { case, directory, .. } = orders;
    runtime()?.block_on(async {
        let mut server = wigwag::tokio::Server::from_blocking(exchange::bind(directory, case)?)?;
        ready()?;
        let serving = tokio::spawn(async move { server.serve(async |request| work::change(request)).await });
        Ok(serving.await??)
    })
}

/// Serves a socket's clients, each in a task, until the process is ended. All messages are of the case's size.
pub fn serve_socket(orders: &Orders, ready: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let size = orders.case.size;
    runtime()?.block_on(async {
        let listener = UnixListener::bind(path(&orders.directory)).context("the socket cannot be made")?;
        ready()?;
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let mut message = vec![0; size];
                    while stream.read_exact(&mut message).await.is_ok() {
                        work::change(&mut message);
                        if stream.write_all(&message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        accepting.await?
    })
}

/// The client of [`serve_wigwag`]: one session for all tasks.
pub fn measure_wigwag(orders: &Orders) -> anyhow::Result<Report> {
    let client = exchange::connect(&orders.directory, &orders.case)?;
    runtime()?.block_on(async {
        let client = wigwag::tokio::Client::from_blocking(client)?;
        measure(orders, async || Ok(client.clone())).await
    })
}

/// The client of [`serve_socket`]: a connection for each task.
pub fn measure_socket(orders: &Orders) -> anyhow::Result<Report> {
    let (path, size) = (path(&orders.directory), orders.case.size);
    runtime()?.block_on(measure(orders, async || Ok(Socket(UnixStream::connect(&path).await?, vec![0; size]))))
}

/// As many tasks as the case has requests in flight, each in a closed loop over the same time.
pub async fn measure<C: TaskCaller>(
    orders: &Orders,
    connect: impl AsyncFn() -> anyhow::Result<C>,
) -> anyhow::Result<Report> {
    let Case { in_flight, .. } = orders.case;
    ensure!(orders.counter.is_none(), "the system calls of a runtime's threads are not counted");
    let client = std::process::id() as i32;
    let barrier = Arc::new(Barrier::new(in_flight + 1));
    let mut tasks = Vec::new();
    for _ in 0..in_flight {
        let (mut caller, mut meter, barrier) = (connect().await?, orders.meter()?, Arc::clone(&barrier));
        tasks.push(tokio::spawn(async move {
            let warm = meter.warm_in_task(&mut caller).await;
            barrier.wait().await; // everybody is waited for, also who has failed
            warm?;
            meter.run_in_task(&mut caller).await
        }));
    }
    barrier.wait().await;
    let before = (Usage::of(client)?, Usage::of(orders.server)?);
    let mut reports = Vec::new();
    for task in tasks {
        reports.push(task.await??);
    }
    let mut whole = Report::pooled(&reports);
    whole.elapsed /= reports.len() as u64;
    whole.client = Usage::of(client)? - before.0;
    whole.server = Usage::of(orders.server)? - before.1;
    Ok(whole)
}

impl Meter {
    /// Warms up in a task; see [`Meter::warm`].
    async fn warm_in_task<C: TaskCaller>(&mut self, caller: &mut C) -> anyhow::Result<()> {
        let wanted = self.begin_to_warm_up();
        self.load_in_task(caller).await?;
        self.end_warm_up(wanted);
        Ok(())
    }

    /// Measures in a task, without looking at the processes.
    async fn run_in_task<C: TaskCaller>(mut self, caller: &mut C) -> anyhow::Result<Report> {
        self.load_in_task(caller).await?;
        Ok(self.report(Usage::default(), Usage::default()))
    }

    async fn load_in_task<C: TaskCaller>(&mut self, caller: &mut C) -> anyhow::Result<()> {
        let len = self.size();
        let begin = clock::now();
        while self.goes_on(begin) {
            let start = clock::now();
            for number in self.next_batch() {
                let pattern = work::pattern(number);
                let mut sum = 0;
                caller.exchange(len, |bytes| work::fill(bytes, pattern), |bytes| sum = work::read(bytes)).await?;
                ensure!(sum == work::expected(len, pattern), "the reply to request {number} is not what was asked for");
            }
            self.record_batch(start);
        }
        Ok(())
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}
