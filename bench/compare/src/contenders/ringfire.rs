//! ringfire: a ring in shared memory for each direction.
//!
//! Best fair configuration: where both poll, a ring of few fixed-size items below 1 KiB, looked at with `try_recv` and
//! a pause in between, and above it the blob ring, written in place into its arena and read in place, which is quicker
//! there. Where they sleep, a ring of items up to 4 KiB with its default `FutexWait` (32 looks, then asleep); the blob
//! ring has nothing to sleep on.

use std::path::PathBuf;

use anyhow::Context as _;
use ringfire::{BlobConsumer, BlobProducer, FutexWait, RingConsumer, RingProducer, RingfireError};
use wigwag_bench::case::WaitMode;
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Window;
use wigwag_bench::work;

use crate::contender::{About, Contender};

/// Items of a ring: twice as many as are under way. More would only be more memory that leaves the cache.
fn items(orders: &Orders) -> u64 {
    (2 * orders.case.in_flight as u64).next_power_of_two().max(4)
}

/// The contender.
pub struct Ringfire;

/// Either end of two rings of fixed-size items.
pub struct Fixed<const N: usize> {
    out: RingProducer<[u8; N]>,
    back: RingConsumer<[u8; N]>,
    bytes: Box<[u8; N]>,
    wait: Option<FutexWait>,
}

/// Either end of two rings of blobs.
pub struct Blobs {
    out: BlobProducer<u64>,
    back: BlobConsumer<u64>,
}

/// Where both poll, blobs take over from here on: an item is handed on by value, which is several copies.
const BLOBS_FROM: usize = 1024;

/// Calls a function of the payload's size, where a ring of fixed-size items carries it.
macro_rules! by_size {
    ($orders:expr, $fixed:ident, $blobs:expr) => {
        match $orders.case.size {
            BLOBS_FROM.. if $orders.case.wait == WaitMode::Spin => $blobs,
            8 => $fixed::<8>($orders),
            48 => $fixed::<48>($orders),
            256 => $fixed::<256>($orders),
            1024 => $fixed::<1024>($orders),
            4096 => $fixed::<4096>($orders),
            _ => $blobs,
        }
    };
}

impl Contender for Ringfire {
    type Client = Blobs;
    const ABOUT: About = About {
        one_at_a_time: None,
        asleep_max: 4096,
        ..About::new(
            "ringfire",
            "ringfire 0.5",
            "two rings of fixed-size items up to 4 KiB; polled from 1 KiB on, blob rings, written and read in place",
        )
    };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        by_size!(orders, serve_fixed, serve_blobs(orders))
    }

    fn connect(orders: &Orders) -> anyhow::Result<Blobs> {
        Blobs::open(orders, "requests", "replies")
    }

    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        by_size!(orders, measure_fixed, role::run_or_pipeline(orders, || Self::connect(orders)))
    }
}

fn path(orders: &Orders, name: &str) -> PathBuf {
    orders.directory.join(name)
}

/// Attaches to what the other side is only just making.
fn attach<T>(attach: impl Fn() -> Result<T, RingfireError>) -> anyhow::Result<T> {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match attach() {
            Ok(ring) => return Ok(ring),
            Err(_) if std::time::Instant::now() < give_up => std::thread::yield_now(),
            Err(error) => return Err(error).context("the other side's ring cannot be attached to"),
        }
    }
}

fn serve_fixed<const N: usize>(orders: &Orders) -> anyhow::Result<()> {
    let out = RingProducer::create(path(orders, "replies"), items(orders))?;
    role::ready(orders)?;
    let mut ends = Fixed::<N>::over(orders, out, "requests")?;
    loop {
        ends.receive();
        work::change(ends.bytes.as_mut());
        ends.out.push(&ends.bytes);
    }
}

fn measure_fixed<const N: usize>(orders: &Orders) -> anyhow::Result<Report> {
    role::run_or_pipeline(orders, || {
        let out = RingProducer::create(path(orders, "requests"), items(orders))?;
        Fixed::<N>::over(orders, out, "replies")
    })
}

impl<const N: usize> Fixed<N> {
    fn over(orders: &Orders, out: RingProducer<[u8; N]>, back: &str) -> anyhow::Result<Fixed<N>> {
        let back = attach(|| RingConsumer::builder().start_from_oldest().attach(path(orders, back)))?;
        let wait = (orders.case.wait != WaitMode::Spin).then(FutexWait::default);
        Ok(Fixed { out, back, bytes: Box::new([0; N]), wait })
    }

    #[inline(always)]
    fn receive(&mut self) {
        if let Some(wait) = &mut self.wait {
            *self.bytes = self.back.recv_blocking(wait);
            return;
        }
        loop {
            if let Some(item) = self.back.try_recv() {
                *self.bytes = item;
                return;
            }
            std::hint::spin_loop();
        }
    }
}

impl<const N: usize> Window for Fixed<N> {
    #[inline(always)]
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        fill(&mut self.bytes[..len]);
        self.out.push(&self.bytes);
        Ok(())
    }

    #[inline(always)]
    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        self.receive();
        read(&self.bytes[..]);
        Ok(())
    }
}

fn producer(orders: &Orders, name: &str) -> anyhow::Result<BlobProducer<u64>> {
    // As with the items: a larger arena is only more memory that leaves the cache.
    let arena = (2 * orders.case.in_flight * orders.case.size).next_power_of_two();
    Ok(BlobProducer::create(path(orders, name), items(orders), arena)?)
}

fn serve_blobs(orders: &Orders) -> anyhow::Result<()> {
    let mut out = producer(orders, "replies")?;
    role::ready(orders)?;
    let mut back = attach(|| BlobConsumer::<u64>::attach(path(orders, "requests")))?;
    loop {
        let answered = back.view(|_, request| {
            out.push_with(&0, request.len(), |reply| work::change_into(reply, request)).map(|_| ())
        })?;
        match answered {
            Some(result) => result?,
            None => std::hint::spin_loop(),
        }
    }
}

impl Blobs {
    fn open(orders: &Orders, out: &str, back: &str) -> anyhow::Result<Blobs> {
        let out = producer(orders, out)?;
        Ok(Blobs { out, back: attach(|| BlobConsumer::attach(path(orders, back)))? })
    }
}

impl Window for Blobs {
    fn submit<F>(&mut self, len: usize, fill: F) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
    {
        self.out.push_with(&0, len, fill)?;
        Ok(())
    }

    fn complete<R>(&mut self, read: R) -> anyhow::Result<()>
    where
        R: FnOnce(&[u8]),
    {
        let mut read = Some(read);
        loop {
            let seen = self.back.view(|_, bytes| {
                if let Some(read) = read.take() {
                    read(bytes);
                }
            })?;
            match seen {
                Some(()) => return Ok(()),
                None => std::hint::spin_loop(),
            }
        }
    }
}
