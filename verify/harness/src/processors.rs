//! On which processors the processes of a goal run.
//!
//! A process that is started inherits the processors of the thread that starts it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the caller, and all it starts from now on, on one processor: the last it may use.
///
/// A tracer and its victim hand over to each other at every step: on one processor that takes a quarter of the time,
/// and on a busy machine far less than that. Servers and steady clients give it up ([`use_all`]).
pub fn share_one() -> anyhow::Result<()> {
    let last = allowed()?.pop();
    last.map_or(Ok(()), |last| stay_on(&[last]))
}

/// Gives up what was inherited from [`share_one`]: the kernel takes those that there are.
pub fn use_all() {
    let _ = stay_on(&(0..CpuSet::MAX_CPU).collect::<Vec<_>>());
}

/// Runs something on the first of the processors that the caller may use. What is started meanwhile stays there.
pub fn on_the_first<T>(run: impl FnOnce() -> T) -> anyhow::Result<T> {
    on(0, run)
}

/// As [`on_the_first`], on one of the others, counted round and round; where there is but one, on that.
pub fn on_another<T>(index: usize, run: impl FnOnce() -> T) -> anyhow::Result<T> {
    let others = (allowed()?.len() - 1).max(1);
    on(1 + index % others, run)
}

fn on<T>(index: usize, run: impl FnOnce() -> T) -> anyhow::Result<T> {
    let all = allowed()?;
    stay_on(&[all[index % all.len()]])?;
    let result = run();
    stay_on(&all)?;
    Ok(result)
}

fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor)).collect())
}

fn stay_on(processors: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|&processor| set.set(processor));
    Ok(sched_setaffinity(None, &set)?)
}
