//! How long a wake-up takes on this machine: two threads that sleep, and wake each other by an eventfd.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::{self, SECOND};
use crate::placement::confine;

/// Wake-ups that are not counted: what is touched first takes longer.
const WARM_UP: usize = 16;

/// Wake-ups, one after the other, and what they cost.
#[derive(Clone, Debug)]
pub struct WakeUps {
    /// Nanoseconds from the ring to the moment in which the woken side runs, there and back in turns.
    pub nanoseconds: Vec<u64>,
    /// Nanoseconds of processor time of both sides for one there and one back.
    pub cpu_ns: u64,
}

impl WakeUps {
    /// `count` wake-ups there and as many back, each side on its processor, or wherever the kernel puts it.
    ///
    /// # Errors
    ///
    /// If a processor is not one that this process may use, or there is no descriptor left.
    pub fn measure(processors: (Option<usize>, Option<usize>), count: usize) -> anyhow::Result<WakeUps> {
        let bells = [Bell::new()?, Bell::new()?];
        let [there, back] = &bells;
        let [caller, answerer] = thread::scope(|scope| {
            let caller = scope.spawn(|| {
                confine(processors.0)?;
                take_turns(count, || {
                    there.ring()?;
                    back.wait()
                })
            });
            let answerer = scope.spawn(|| {
                confine(processors.1)?;
                take_turns(count, || {
                    let waited = there.wait()?;
                    back.ring()?;
                    Ok(waited)
                })
            });
            [caller, answerer].map(|side| side.join().map_err(|_| anyhow!("a measuring thread panicked")))
        });
        let ((back, caller_cpu_ns), (there, answerer_cpu_ns)) = (caller??, answerer??);
        let nanoseconds = there.into_iter().zip(back).flat_map(|(there, back)| [there, back]).collect();
        Ok(WakeUps { nanoseconds, cpu_ns: (caller_cpu_ns + answerer_cpu_ns) / count.max(1) as u64 })
    }
}

/// Does `turn` until `count` of them are counted; gives what each took to wake up, and the processor time of all.
fn take_turns(count: usize, turn: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<(Vec<u64>, u64)> {
    for _ in 0..WARM_UP {
        turn()?;
    }
    let before_ns = thread_cpu_ns();
    let wake_ups = (0..count).map(|_| turn()).collect::<anyhow::Result<Vec<u64>>>()?;
    Ok((wake_ups, thread_cpu_ns() - before_ns))
}

/// What one side rings and the other sleeps on.
struct Bell {
    event: OwnedFd,
    /// When it was rung, on the monotonic clock. Read behind the eventfd's read, which comes after the ringer's store.
    rung_at_ns: AtomicU64,
}

impl Bell {
    fn new() -> anyhow::Result<Bell> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).context("there is no eventfd")?;
        Ok(Bell { event, rung_at_ns: AtomicU64::new(0) })
    }

    fn ring(&self) -> anyhow::Result<()> {
        self.rung_at_ns.store(clock::now(), Ordering::Release);
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).context("the eventfd cannot be rung")?;
        Ok(())
    }

    /// Sleeps until it is rung; how long ago that was.
    fn wait(&self) -> anyhow::Result<u64> {
        rustix::io::read(&self.event, &mut [0; 8]).context("the eventfd cannot be read")?;
        Ok(clock::now().saturating_sub(self.rung_at_ns.load(Ordering::Acquire)))
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wake_up_takes_some_time() {
        let wake_ups = WakeUps::measure((None, None), 20).unwrap();
        assert_eq!(wake_ups.nanoseconds.len(), 40);
        assert!(wake_ups.nanoseconds.iter().all(|nanoseconds| *nanoseconds > 0));
        assert!(wake_ups.cpu_ns > 0);
    }

    #[test]
    fn a_processor_that_is_not_there_is_said() {
        let absent = Some(1_000);
        let error = WakeUps::measure((absent, absent), 1).unwrap_err();
        assert!(format!("{error:#}").contains("processor 1000"), "{error:#}");
    }
}
