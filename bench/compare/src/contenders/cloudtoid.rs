//! cloudtoid-interprocess: byte queues in shared memory, one for each direction.
//!
//! Best fair configuration: `try_send` and `try_recv_into` with a pause in between where both poll, `recv` where
//! they sleep; queues with room for all that may be under
//! way and three messages more, so that nothing ever waits. Messages are copied in and out:
//! that is its interface.

use anyhow::Context as _;
use cloudtoid_interprocess::{Error, Options, Publisher, Subscriber};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use crate::contender::{About, Contender, token};

/// The contender.
pub struct Cloudtoid;

/// Either end.
pub struct Ends {
    out: Publisher,
    back: Subscriber,
    bytes: Vec<u8>,
    polls: bool,
}

impl Contender for Cloudtoid {
    type Client = Ends;
    const ABOUT: About = About {
        one_at_a_time: None,
        ..About::new(
            "cloudtoid",
            "cloudtoid-interprocess 3.0",
            "two byte queues that are never full, copied in and out",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let mut ends = Ends::open(orders, "replies", "requests")?;
        role::ready(orders)?;
        loop {
            ends.receive()?;
            work::change(&mut ends.bytes);
            ends.send()?;
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        Ends::open(orders, "requests", "replies")
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run_or_pipeline(orders, || Self::connect(orders))
    }
}

impl Ends {
    fn open(orders: &Orders, out: &str, back: &str) -> anyhow::Result<Ends> {
        let len = orders.case.size;
        let queue = |name: &str| {
            let capacity = (orders.case.in_flight + 3) * (len + 32).next_multiple_of(64);
            Options::new(format!("{}-{name}", token(&orders.directory)), capacity).with_path(&orders.directory)
        };
        Ok(Ends {
            out: Publisher::open(&queue(out))?,
            back: Subscriber::open(&queue(back))?,
            bytes: vec![0; len],
            polls: orders.case.wait == WaitMode::Spin,
        })
    }

    #[inline]
    fn send(&mut self) -> anyhow::Result<()> {
        loop {
            match self.out.try_send(&self.bytes) {
                Err(Error::Full) => std::hint::spin_loop(),
                result => return result.context("the message cannot be sent"),
            }
        }
    }

    #[inline]
    fn receive(&mut self) -> anyhow::Result<()> {
        if !self.polls {
            // There is no blocking receive that fills a buffer; this one gives a new vector.
            self.bytes = self.back.recv()?;
            return Ok(());
        }
        while self.back.try_recv_into(&mut self.bytes)?.is_none() {
            std::hint::spin_loop();
        }
        Ok(())
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
