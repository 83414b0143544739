//! P12: a permit that is free, taken and given back, beside a POSIX semaphore in shared memory and a lock on a file;
//! and the same while another process wants it, too.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::fs::{FlockOperation, flock};

use super::others::{Others, exit_with_parent, map, median};
use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag_bench::memory::Memory;

/// Taken and given back so often between two looks at the clock.
const BATCH: u64 = 200;
const ROUNDS: usize = 40;
const LIMIT: f64 = 1.5;

/// What is measured, in this order.
const CONTENDERS: [&str; 3] = ["wigwag", "sem_t", "flock"];
/// Where the words of the measurement lie: for each contender whether its second process runs, and how often it came
/// in.
const RUN: usize = 0;
const COUNT: usize = 8;
const STRIDE: usize = 128;
/// Where the POSIX semaphore lies.
const SEMAPHORE: usize = 2048;
const SIZE: usize = 4096;

/// Something that one at a time can have.
enum Contender {
    Wigwag(Box<wigwag::Semaphore>),
    Posix(&'static Posix),
    Flock(File),
}

impl Contender {
    fn open(which: usize, directory: &Path, memory: &Memory) -> anyhow::Result<Contender> {
        Ok(match CONTENDERS[which] {
            "wigwag" => Contender::Wigwag(Box::new(wigwag::Semaphore::open(directory.join("permits"), 1)?)),
            "sem_t" => Contender::Posix(Posix::at(memory)),
            _ => Contender::Flock(File::options().create(true).append(true).open(directory.join("lock"))?),
        })
    }

    /// Takes it and gives it back so often.
    fn rounds(&self, count: u64) -> anyhow::Result<()> {
        match self {
            Contender::Wigwag(semaphore) => {
                for _ in 0..count {
                    drop(semaphore.acquire()?);
                }
            }
            Contender::Posix(semaphore) => (0..count).for_each(|_| semaphore.once()),
            Contender::Flock(file) => {
                for _ in 0..count {
                    flock(file, FlockOperation::LockExclusive)?;
                    flock(file, FlockOperation::Unlock)?;
                }
            }
        }
        Ok(())
    }
}

/// A process-shared POSIX semaphore with one permit (sem_overview(7)).
struct Posix(std::cell::UnsafeCell<libc::sem_t>);

impl Posix {
    fn at(memory: &Memory) -> &'static Posix {
        let at = memory.region(SEMAPHORE, size_of::<Posix>());
        // SAFETY: in bounds as `region` checked, aligned to 2048, never unmapped; only touched through libc's
        // functions, which expect other processes to do the same.
        unsafe { &*at.start().cast::<Posix>() }
    }

    fn init(&self) -> bool {
        // SAFETY: nobody else has the memory yet.
        unsafe { libc::sem_init(self.0.get(), 1, 1) == 0 }
    }

    fn once(&self) {
        // SAFETY: it was made by `init` before any process was told of it.
        while unsafe { libc::sem_wait(self.0.get()) } != 0 {}
        // SAFETY: as above.
        unsafe { libc::sem_post(self.0.get()) };
    }
}

/// P12.
pub(super) fn taking(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let directory =
        tempfile::Builder::new().prefix("wigwag-bench-").permissions(Permissions::from_mode(0o700)).tempdir()?;
    let directory = directory.path();
    let memory = map(&directory.join("words"), SIZE)?;
    ensure!(Posix::at(&memory).init(), "no process-shared semaphore can be made here");
    let contenders: Vec<Contender> =
        (0..3).map(|which| Contender::open(which, directory, &memory)).collect::<anyhow::Result<_>>()?;
    let arguments = |which: usize| ["permits".into(), which.to_string().into(), directory.into()];
    let _others = Others::start((0..3).map(arguments))?;
    let rounds = attempt.rounds.unwrap_or(ROUNDS);
    let slice = Duration::from_secs_f64((attempt.seconds / rounds as f64 / 6.0).max(0.001));
    let (mut free, mut contended, mut shares) = (Vec::new(), Vec::new(), [0.0; 3]);
    for _ in 0..rounds {
        free.push(each(|which| per_round_ns(&contenders[which], slice))?);
        contended.push(each(|which| {
            let [run, count] = words(&memory, which);
            let before = count.load(Ordering::Relaxed);
            run.store(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1)); // until it has noticed
            let ns = per_round_ns(&contenders[which], slice);
            run.store(0, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            shares[which] += (count.load(Ordering::Relaxed) - before) as f64 / rounds as f64;
            ns
        })?);
    }
    let ratio = |of: &[[f64; 3]], other: usize| median(of.iter().map(|round| round[0] / round[other]).collect());
    let ns = |of: &[[f64; 3]], which: usize| median(of.iter().map(|round| round[which]).collect());
    let check = Check::at_most("taken and given back, free", ratio(&free, 1), LIMIT, "x sem_t");
    let line = |what: &str, of: &[[f64; 3]]| {
        let parts: Vec<String> =
            CONTENDERS.iter().enumerate().map(|(which, name)| format!("{name} {:.1} ns", ns(of, which))).collect();
        format!("{what}: {}; {:.2} x sem_t, {:.3} x flock", parts.join(", "), ratio(of, 1), ratio(of, 2))
    };
    let came = CONTENDERS.iter().zip(shares).map(|(name, share)| format!("{name} {share:.0}")).collect::<Vec<_>>();
    let notes = vec![
        line("free", &free),
        line("beside another process that does the same", &contended),
        format!("times that the other process came in, each time: {}", came.join(", ")),
    ];
    Ok(notes.into_iter().fold(Verdict::new(Goal::P12, vec![check], Vec::new()), Verdict::noting))
}

fn each(mut measure: impl FnMut(usize) -> anyhow::Result<f64>) -> anyhow::Result<[f64; 3]> {
    Ok([measure(0)?, measure(1)?, measure(2)?])
}

fn per_round_ns(contender: &Contender, slice: Duration) -> anyhow::Result<f64> {
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < slice {
        contender.rounds(BATCH)?;
        count += BATCH;
    }
    Ok(begin.elapsed().as_nanos() as f64 / count as f64)
}

fn words(memory: &Memory, which: usize) -> [&'static AtomicU64; 2] {
    [RUN, COUNT].map(|offset| memory.word(which * STRIDE + offset))
}

/// The second process: takes and gives back while it is told to, until the one that started it is gone.
pub fn play(which: usize, directory: &Path) -> anyhow::Result<()> {
    ensure!(which < CONTENDERS.len(), "there is no contender {which}");
    exit_with_parent();
    let memory = map(&directory.join("words"), SIZE)?;
    let contender = Contender::open(which, directory, &memory)?;
    let [run, count] = words(&memory, which);
    loop {
        if run.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        contender.rounds(10)?;
        count.fetch_add(10, Ordering::Relaxed);
    }
}
