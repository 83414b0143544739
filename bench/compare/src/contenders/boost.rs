//! Boost.Interprocess: a `message_queue` in shared memory for each direction.
//!
//! Best fair configuration: messages exactly as large as the payload, queues that are never full; `send` and `receive`
//! where both sleep, `try_send` and `try_receive` with a pause in between where they poll. Messages are copied in and
//! out: that is its interface. Built where a C++ compiler finds Boost's headers.

use std::ffi::{CString, c_char, c_int, c_long, c_void};

use anyhow::{bail, ensure};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use crate::contender::{About, Contender, token};

// SAFETY: the signatures are those of the functions in boost_queue.cpp.
unsafe extern "C" {
    fn wigwag_boost_open(name: *const c_char, create: c_int, messages: usize, bytes: usize) -> *mut c_void;
    fn wigwag_boost_send(queue: *mut c_void, bytes: *const c_void, length: usize, polls: c_int) -> c_int;
    fn wigwag_boost_receive(queue: *mut c_void, bytes: *mut c_void, length: usize, polls: c_int) -> c_long;
}

/// The contender.
pub struct Boost;

/// Either end.
pub struct Ends {
    out: *mut c_void,
    back: *mut c_void,
    bytes: Vec<u8>,
    polls: c_int,
}

impl Contender for Boost {
    type Client = Ends;
    const ABOUT: About = super::BOOST;

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let mut ends = Ends::open(orders, "replies", "requests", true)?;
        role::ready(orders)?;
        loop {
            ends.receive()?;
            work::change(&mut ends.bytes);
            ends.send()?;
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        Ends::open(orders, "requests", "replies", false)
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

impl Ends {
    fn open(orders: &Orders, out: &str, back: &str, create: bool) -> anyhow::Result<Ends> {
        let len = orders.case.size;
        let queue = |name: &str| {
            let name = CString::new(format!("{}-boost-{name}", token(&orders.directory)))?;
            // SAFETY: the name ends with a zero byte and is only read.
            let queue = unsafe { wigwag_boost_open(name.as_ptr(), create.into(), orders.case.in_flight + 2, len) };
            ensure!(!queue.is_null(), "Boost cannot make or open a message queue");
            Ok(queue)
        };
        let polls = (orders.case.wait == WaitMode::Spin).into();
        Ok(Ends { out: queue(out)?, back: queue(back)?, bytes: vec![0; len], polls })
    }

    #[inline]
    fn send(&mut self) -> anyhow::Result<()> {
        loop {
            // SAFETY: a queue that `open` made, and bytes that are there.
            match unsafe { wigwag_boost_send(self.out, self.bytes.as_ptr().cast(), self.bytes.len(), self.polls) } {
                1 => return Ok(()),
                0 => std::hint::spin_loop(),
                _ => bail!("Boost cannot send"),
            }
        }
    }

    #[inline]
    fn receive(&mut self) -> anyhow::Result<()> {
        let len = self.bytes.len();
        loop {
            // SAFETY: a queue that `open` made, and room for `len` bytes.
            match unsafe { wigwag_boost_receive(self.back, self.bytes.as_mut_ptr().cast(), len, self.polls) } {
                -2 => std::hint::spin_loop(),
                received if usize::try_from(received) == Ok(len) => return Ok(()),
                other => bail!("Boost received {other} bytes instead of {len}"),
            }
        }
    }
}

impl Window for Ends {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(&mut self.bytes[..len]);
        self.send()
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        self.receive()?;
        read(&self.bytes);
        Ok(())
    }
}
