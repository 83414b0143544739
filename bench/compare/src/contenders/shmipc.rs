//! shmipc: streams whose bytes lie in shared memory, CloudWeGo's port to Rust.
//!
//! Best fair configuration: memfd and the eventfd wake-up that its documentation recommends for low latency, slices as
//! large as the payload so that it is one piece, written and read in place, changed on the way from one slice into the
//! other. A current-thread runtime on each side. It has nothing to poll with below a timer's tick.

use std::os::unix::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use shmipc::Listener;
use shmipc::buffer::BufferReader as _;
use shmipc::config::{Config, SizePercentPair};
use shmipc::consts::MemMapType;
use shmipc::session::{SessionManager, SessionManagerConfig};
use shmipc::stream::Stream;
use shmipc::transport::{DefaultUnixConnect, DefaultUnixListen};
use tokio::runtime::Runtime;
use wigwag_bench::case::WaitMode;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Caller;
use wigwag_bench::work;

use super::tokio_unix::runtime;
use crate::contender::{About, Contender, token};

/// The contender.
pub struct Shmipc;

/// The client's end.
pub struct Ends {
    runtime: Runtime,
    stream: Stream,
    _manager: SessionManager<DefaultUnixConnect>,
}

impl Contender for Shmipc {
    type Client = Ends;
    const ABOUT: About = About {
        waits: &[WaitMode::Park],
        alone: None,
        one_at_a_time: Some("a stream is a byte stream; several requests are several streams"),
        ..About::new(
            "shmipc",
            "shmipc 0.2",
            "memfd, eventfd wake-ups, slices as large as the payload, written and read in place",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let len = orders.case.size;
        runtime()?.block_on(async {
            let mut listener = Listener::new(DefaultUnixListen, address(orders)?, config(orders)).await?;
            role::ready(orders)?;
            loop {
                let mut stream = listener.accept().await?;
                tokio::spawn(async move {
                    // A client that hangs up ends its task.
                    while answer(&mut stream, len).await.is_ok() {}
                });
            }
        })
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let runtime = runtime()?;
        let config = SessionManagerConfig::new().with_config(config(orders)).with_session_num(1);
        let manager = runtime.block_on(SessionManager::new(config, DefaultUnixConnect, address(orders)?));
        let manager = manager.map_err(said)?;
        let stream = runtime.block_on(async { manager.get_stream() }).map_err(said)?;
        Ok(Ends { runtime, stream, _manager: manager })
    }
}

async fn answer(stream: &mut Stream, len: usize) -> anyhow::Result<()> {
    let request = stream.read_exact_bytes(len).await.map_err(said)?.into_bytes();
    work::change_into(stream.reserve(len).map_err(said)?, &request);
    drop(request);
    stream.recv_buf().release_previous_read();
    stream.flush(false).await.map_err(said)
}

fn address(orders: &Orders) -> anyhow::Result<SocketAddr> {
    SocketAddr::from_pathname(orders.directory.join("shmipc")).context("the path is too long for a socket")
}

fn config(orders: &Orders) -> Config {
    let mut config = Config::new().with_v4_eventfd();
    config.mem_map_type = MemMapType::MemMapTypeMemFd;
    config.share_memory_path_prefix = format!("/dev/shm/{}-shmipc", token(&orders.directory));
    config.queue_path = format!("/dev/shm/{}-queue", token(&orders.directory));
    let slice = u32::try_from(orders.case.size + 256).unwrap_or(u32::MAX);
    config.buffer_slice_sizes = vec![SizePercentPair { size: slice, percent: 100 }];
    config
}

fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("shmipc says: {error}")
}

impl Caller for Ends {
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let stream = &mut self.stream;
        fill(stream.reserve(len).map_err(said)?);
        self.runtime.block_on(async {
            stream.flush(false).await.map_err(said)?;
            read(&stream.read_exact_bytes(len).await.map_err(said)?);
            stream.release_read_and_reuse();
            anyhow::Ok(())
        })
    }
}
