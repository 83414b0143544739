//! Python's `multiprocessing.shared_memory` with two semaphores, both sides in Python.
//!
//! Best fair configuration: bytes move and change by compiled code, never by a loop in Python: slice assignment and
//! `bytes.translate`, and from 1 KiB on, where numpy is installed, its addition in place. The meter is Python too,
//! because a process of Python cannot use ours: it times each call with `perf_counter_ns` and reports in the same form
//! (`python_peer.py`). Both processes become Python by `exec`, so that processor time and context switches are those of
//! Python.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{anyhow, bail};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::Orders;
use wigwag_bench::transport::Caller;

use crate::contender::{About, Contender};

const PROGRAM: &str = include_str!("python_peer.py");

/// Its name.
pub const NAME: &str = "python";

/// The contender.
pub struct Python;

/// There is no client in Rust.
pub enum NoClient {}

impl Contender for Python {
    type Client = NoClient;
    const ABOUT: About = About::new(
        NAME,
        "Python shared_memory",
        "multiprocessing.shared_memory and two semaphores; changed by bytes.translate, from 1 KiB on by numpy where it \
         is \
         installed; polled with acquire(block=False)",
    );

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        become_python("serve", orders)
    }

    fn connect(_: &Orders) -> anyhow::Result<NoClient> {
        bail!("the client is Python")
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        become_python("measure", orders)
    }

    fn idle(_: &Orders) -> anyhow::Result<()> {
        bail!("one pair of semaphores is for one client")
    }
}

/// Whether there is an interpreter that has what is needed.
pub fn missing() -> Option<&'static str> {
    let check = ["-c", "import multiprocessing.shared_memory, multiprocessing.synchronize"];
    let found = Command::new("python3").args(check).output().is_ok_and(|output| output.status.success());
    (!found).then_some("no python3 with multiprocessing.shared_memory is installed")
}

fn become_python<T>(part: &str, orders: &Orders) -> anyhow::Result<T> {
    let polls = if orders.case.wait == WaitMode::Spin { "poll" } else { "block" };
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM, part, polls]).arg(serde_json::to_string(orders)?);
    // Its resource tracker complains about every process that was killed; what matters is said on standard output.
    let error = command.stderr(Stdio::null()).exec();
    Err(anyhow!(error).context("python3 cannot be started"))
}

impl Caller for NoClient {
    fn exchange<F, R>(&mut self, _: usize, _: F, _: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        match *self {}
    }
}
