//! The client's loops: how calls are made and how they are timed.
//!
//! Below a microsecond a clock read would be a good part of what it measures, so the mean of a batch is taken and
//! the distribution is one over batches. Above, each call is timed by itself. Every loop is compiled once for each
//! contender; nothing in it is looked up, allocated or printed.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Load};
use crate::clock::{self, SECOND};
use crate::flow::Sink;
use crate::memory::Memory;
use crate::report::{Latencies, PICOSECONDS, Report, latencies, pack};
use crate::system_calls;
use crate::transport::{Caller, Window};
use crate::usage::Usage;
use crate::work;

/// Calls in a batch.
const BATCH: u64 = 1000;
/// Calls faster than this are timed in batches.
const BATCHED_BELOW: u64 = 1000;
/// Calls in a batch while nobody knows how fast they are.
const PROBE: u64 = 8;

/// How long to measure: whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Calls at most.
    pub calls: u64,
    /// Nanoseconds at most.
    pub nanos: u64,
    /// Nanoseconds before, which do not count.
    pub warm_up: u64,
}

impl Extent {
    /// So many seconds, after a tenth of it for warming up.
    pub fn seconds(seconds: f64) -> Extent {
        let nanos = (seconds * SECOND as f64) as u64;
        Extent { calls: u64::MAX, nanos, warm_up: nanos / 10 }
    }

    /// The same, or fewer calls.
    pub fn at_most(self, calls: u64) -> Extent {
        Extent { calls, ..self }
    }
}

/// One run of a loop.
pub struct Meter {
    case: Case,
    extent: Extent,
    batch: u64,
    number: u64,
    all: Latencies,
    first: Latencies,
    calls: u64,
    elapsed: u64,
    counter: Option<Memory>,
}

/// Makes one exchange and checks the reply.
#[inline(always)]
fn exchange<C: Caller>(caller: &mut C, len: usize, number: u64) -> anyhow::Result<()> {
    let pattern = work::pattern(number);
    let mut sum = 0;
    caller.exchange(len, |bytes| work::fill(bytes, pattern), |bytes| sum = work::read(bytes))?;
    check(sum, len, pattern, number)
}

#[inline(always)]
fn check(sum: u64, len: usize, pattern: u64, number: u64) -> anyhow::Result<()> {
    ensure!(sum == work::expected(len, pattern), "the reply to request {number} ({len} B) is not what was asked for");
    Ok(())
}

/// The innermost loop.
#[inline(never)]
fn exchanges<C: Caller>(caller: &mut C, len: usize, first: u64, calls: u64) -> anyhow::Result<()> {
    for number in first..first + calls {
        exchange(caller, len, number)?;
    }
    Ok(())
}

/// The innermost loop of a pipelining client: `in_flight` requests are under way when it starts and when it ends.
#[inline(never)]
fn windowed<W: Window>(window: &mut W, len: usize, first: u64, calls: u64, in_flight: u64) -> anyhow::Result<()> {
    for number in first..first + calls {
        finish_oldest(window, len, number - in_flight)?;
        let pattern = work::pattern(number);
        window.submit(len, |bytes| work::fill(bytes, pattern))?;
    }
    Ok(())
}

#[inline(always)]
fn finish_oldest<W: Window>(window: &mut W, len: usize, number: u64) -> anyhow::Result<()> {
    let mut sum = 0;
    window.complete(|bytes| sum = work::read(bytes))?;
    check(sum, len, work::pattern(number), number)
}

/// The innermost loop of one who only writes.
#[inline(never)]
fn pieces<S: Sink>(sink: &mut S, len: usize, first: u64, count: u64) -> anyhow::Result<()> {
    for number in first..first + count {
        sink.put(number, len)?;
    }
    Ok(())
}

impl Meter {
    /// A meter for one case. One with a counter works for a tracer and times nothing of worth.
    pub fn new(case: Case, extent: Extent, counter: Option<Memory>) -> Meter {
        let (all, first) = (latencies(), latencies());
        Meter { case, extent, batch: 1, number: 0, all, first, calls: 0, elapsed: 0, counter }
    }

    /// Warms up, measures, and says what it cost both processes.
    pub fn run<C: Caller>(mut self, caller: &mut C, server: i32) -> anyhow::Result<Report> {
        self.warm_up(|meter| meter.load(caller))?;
        self.between_borders(server, |meter| meter.load(caller))
    }

    /// The first half of [`run`](Meter::run), for one of several threads.
    pub fn warm<C: Caller>(&mut self, caller: &mut C) -> anyhow::Result<()> {
        self.warm_up(|meter| meter.load(caller))
    }

    /// The second half, without looking at the processes.
    pub fn run_unobserved<C: Caller>(mut self, caller: &mut C) -> anyhow::Result<Report> {
        self.load(caller)?;
        Ok(self.report(Usage::default(), Usage::default()))
    }

    /// A pipelining client in a closed loop.
    pub fn run_window<W: Window>(mut self, window: &mut W, server: i32) -> anyhow::Result<Report> {
        let (len, in_flight) = (self.case.size, self.case.in_flight as u64);
        for number in 0..in_flight {
            window.submit(len, |bytes| work::fill(bytes, work::pattern(number)))?;
        }
        self.number = in_flight;
        let mut go_on =
            |meter: &mut Meter| meter.batches(|first, calls| windowed(window, len, first, calls, in_flight));
        self.warm_up(&mut go_on)?;
        let end = self.between_borders(server, go_on)?;
        for number in self.number - in_flight..self.number {
            finish_oldest(window, len, number)?;
        }
        Ok(end)
    }

    /// One way: a call is a piece. The time ends when the reader has checked every byte.
    pub fn run_flow<S: Sink>(mut self, sink: &mut S, server: i32) -> anyhow::Result<Report> {
        let len = self.case.size;
        self.warm_up(|meter| meter.batches(|first, count| pieces(sink, len, first, count)))?;
        self.between_borders(server, |meter| {
            let begin = clock::now();
            meter.batches(|first, count| pieces(sink, len, first, count))?;
            let (checked, written) = (sink.close()?, meter.number * len as u64);
            ensure!(checked == written, "the reader has checked {checked} bytes where {written} were written");
            meter.elapsed = clock::now() - begin;
            Ok(())
        })
    }

    /// Connecting again and again: `connect` comes back as soon as a call could be made, with what ends it.
    pub fn run_connects<S>(mut self, server: i32, connect: impl Fn() -> anyhow::Result<S>) -> anyhow::Result<Report> {
        /// The server takes the last session down in this time, so that it does not slow the next connect.
        const REST: u64 = 1_000_000;
        let mut repeat = |meter: &mut Meter| {
            let begin = clock::now();
            while meter.goes_on(begin) {
                clock::pause(REST);
                let start = clock::now();
                let session = connect()?;
                meter.record_one(clock::now() - start);
                drop(session);
            }
            Ok(())
        };
        self.warm_up(&mut repeat)?;
        self.between_borders(server, repeat)
    }

    /// One connect and its first call. Nothing is warm, which is the point: it is what a new process pays.
    pub fn run_start<C: Caller>(
        mut self,
        server: i32,
        connect: impl FnOnce() -> anyhow::Result<C>,
    ) -> anyhow::Result<Report> {
        let mut connected = None;
        let report = self.between_borders(server, |meter| {
            let start = clock::now();
            let caller = connected.insert(connect()?);
            exchange(caller, meter.case.size, 0)?;
            meter.elapsed = clock::now() - start;
            meter.record_one(meter.elapsed);
            Ok(())
        });
        drop(connected);
        report
    }

    /// Calls until one fails because the server is gone. `elapsed` is then the point of the monotonic clock at which
    /// the client knew; the process that ended the server knows when that was. `first_reply` runs after the first call.
    pub fn run_until_death<C: Caller>(
        mut self,
        caller: &mut C,
        first_reply: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Report> {
        exchange(caller, self.case.size, 0)?;
        first_reply()?;
        while exchange(caller, self.case.size, self.calls + 1).is_ok() {
            self.calls += 1;
        }
        self.elapsed = clock::now();
        Ok(self.report(Usage::default(), Usage::default()))
    }

    /// Runs the loop for the warm-up's time, learns from it whether to batch, and forgets the rest.
    fn warm_up(&mut self, mut lap: impl FnMut(&mut Meter) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let wanted = self.begin_to_warm_up();
        lap(self)?;
        self.end_warm_up(wanted);
        Ok(())
    }

    /// Until the end of the warm-up only its extent counts; what is wanted after it is returned.
    pub(crate) fn begin_to_warm_up(&mut self) -> Extent {
        let wanted = self.extent;
        self.extent = Extent { calls: wanted.calls.max(PROBE), nanos: wanted.warm_up, warm_up: 0 };
        self.batch = PROBE;
        wanted
    }

    /// Learns from the warm-up whether to batch, and forgets the rest.
    pub(crate) fn end_warm_up(&mut self, wanted: Extent) {
        self.extent = wanted;
        // The fastest batch: a contender that has to get going first is judged by what it has become.
        let fastest = self.all.min() / PICOSECONDS;
        let batched = matches!(self.case.load, Load::Closed | Load::OneWay) && fastest < BATCHED_BELOW;
        self.batch = if batched { BATCH.min(wanted.calls.div_ceil(8)).max(1) } else { 1 };
        (self.all, self.first) = (latencies(), latencies());
        (self.calls, self.elapsed) = (0, 0);
    }

    fn between_borders(
        &mut self,
        server: i32,
        lap: impl FnOnce(&mut Meter) -> anyhow::Result<()>,
    ) -> anyhow::Result<Report> {
        if let Some(counter) = self.counter.take() {
            self.batch = 1;
            system_calls::counted(&counter, || lap(self))?;
            return Ok(self.report(Usage::default(), Usage::default()));
        }
        let client = std::process::id() as i32;
        let before = (Usage::of(client)?, Usage::of(server)?);
        lap(self)?;
        let after = (Usage::of(client)?, Usage::of(server)?);
        Ok(self.report(after.0 - before.0, after.1 - before.1))
    }

    pub(crate) fn report(&self, client: Usage, server: Usage) -> Report {
        Report {
            calls: self.calls,
            elapsed: self.elapsed,
            batch: self.batch,
            latency: pack(&self.all),
            first: pack(&self.first),
            client,
            server,
            session_rates: Vec::new(),
        }
    }

    fn load<C: Caller>(&mut self, caller: &mut C) -> anyhow::Result<()> {
        let len = self.case.size;
        match self.case.load {
            Load::Closed => self.batches(|first, calls| exchanges(caller, len, first, calls)),
            Load::Paced { rate } => self.paced(caller, rate),
            Load::Bursts { burst, pause_ns } => self.bursts(caller, burst, pause_ns),
            Load::OneWay | Load::Connect | Load::Start | Load::UntilDeath => {
                unreachable!("this load has a loop of its own")
            }
        }
    }

    #[inline(always)]
    fn batches(&mut self, mut run: impl FnMut(u64, u64) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let begin = clock::now();
        while self.goes_on(begin) {
            let start = clock::now();
            run(self.number, self.batch)?;
            self.record_batch(start);
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn record_batch(&mut self, start: u64) {
        self.all.saturating_record((clock::now() - start) * PICOSECONDS / self.batch);
        self.number += self.batch;
        self.calls += self.batch;
    }

    /// The numbers of the next batch's requests.
    pub(crate) fn next_batch(&self) -> std::ops::Range<u64> {
        self.number..self.number + self.batch
    }

    /// Bytes of a request.
    pub(crate) fn size(&self) -> usize {
        self.case.size
    }

    /// Calls at a steady pace. A late call starts at once and does not catch up: no burst follows a stall.
    fn paced<C: Caller>(&mut self, caller: &mut C, rate: f64) -> anyhow::Result<()> {
        let period = (SECOND as f64 / rate) as u64;
        let sleeps = period >= clock::SHORTEST_SLEEP;
        let begin = clock::now();
        let mut due = begin + period;
        while self.goes_on(begin) {
            if sleeps {
                clock::sleep_until(due)
            } else {
                clock::think_until(due)
            }
            self.timed_exchange(caller)?;
            due = (due + period).max(clock::now());
        }
        Ok(())
    }

    fn bursts<C: Caller>(&mut self, caller: &mut C, burst: u32, pause: u64) -> anyhow::Result<()> {
        let begin = clock::now();
        while self.goes_on(begin) {
            let took = self.timed_exchange(caller)?;
            self.first.saturating_record(took * PICOSECONDS);
            for _ in 1..burst {
                self.timed_exchange(caller)?;
            }
            clock::pause(pause);
        }
        Ok(())
    }

    #[inline(always)]
    fn timed_exchange<C: Caller>(&mut self, caller: &mut C) -> anyhow::Result<u64> {
        let start = clock::now();
        exchange(caller, self.case.size, self.number)?;
        let took = clock::now() - start;
        self.record_one(took);
        self.number += 1;
        Ok(took)
    }

    #[inline(always)]
    fn record_one(&mut self, took: u64) {
        self.all.saturating_record(took * PICOSECONDS);
        self.calls += 1;
    }

    /// Notes the time since `begin` and says whether there is more to do.
    #[inline(always)]
    pub(crate) fn goes_on(&mut self, begin: u64) -> bool {
        self.elapsed = clock::now() - begin;
        self.calls == 0 || (self.calls < self.extent.calls && self.elapsed < self.extent.nanos)
    }
}
