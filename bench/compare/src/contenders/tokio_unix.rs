//! A Unix stream socket under tokio: what an asynchronous program talks over.
//!
//! Best fair configuration: one current-thread runtime on each side, so that no task moves between threads; one write
//! and one read for each direction where the kernel allows it; a task for each client. A runtime sleeps, it does not
//! poll.

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use crate::contender::{About, Contender};

/// The contender.
pub struct TokioUnix;

/// The client's end.
pub struct Ends {
    runtime: Runtime,
    stream: UnixStream,
    bytes: Vec<u8>,
}

/// A runtime of one thread.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime can be made")
}

impl Contender for TokioUnix {
    type Client = Ends;
    const ABOUT: About = About {
        waits: &[WaitMode::Park],
        alone: None,
        one_at_a_time: None,
        ..About::new("tokio-unix", "tokio UnixStream", "a current-thread runtime on each side, a task for each client")
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let len = orders.case.size;
        runtime()?.block_on(async {
            let listener = UnixListener::bind(orders.directory.join("tokio"))?;
            role::ready(orders)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let mut bytes = vec![0; len];
                    // A client that hangs up ends its task.
                    while stream.read_exact(&mut bytes).await.is_ok() {
                        work::change(&mut bytes);
                        if stream.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                });
            }
        })
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        let runtime = runtime()?;
        let stream = runtime.block_on(UnixStream::connect(orders.directory.join("tokio")))?;
        Ok(Ends { runtime, stream, bytes: vec![0; orders.case.size] })
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

impl Window for Ends {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(&mut self.bytes[..len]);
        self.runtime.block_on(self.stream.write_all(&self.bytes)).context("the request cannot be sent")
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        self.runtime.block_on(self.stream.read_exact(&mut self.bytes))?;
        read(&self.bytes);
        Ok(())
    }

    fn exchange_alone<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        fill(&mut self.bytes[..len]);
        let (stream, bytes) = (&mut self.stream, &mut self.bytes);
        self.runtime.block_on(async {
            stream.write_all(bytes).await?;
            stream.read_exact(bytes).await
        })?;
        read(&self.bytes);
        Ok(())
    }
}
