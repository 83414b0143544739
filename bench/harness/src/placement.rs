//! Which processor each side may run on.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Where client and server are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// The client on one processor, the server on another
    Two,
    /// Both on the same processor
    One,
    /// Wherever the kernel puts them
    None,
}

/// The processors that the two sides are put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// The client's, and the server's too when both share one.
    pub client: usize,
    /// The server's, where there are two.
    pub server: Option<usize>,
}

impl Processors {
    /// The first two that this process may use, or the two that the user named.
    pub fn choose(named: &[usize]) -> anyhow::Result<Processors> {
        let allowed = sched_getaffinity(None).context("the allowed processors cannot be read")?;
        if let Some(missing) = named.iter().find(|index| **index >= CpuSet::MAX_CPU || !allowed.is_set(**index)) {
            bail!("processor {missing} is not one that this process may use");
        }
        let mut order = (0..CpuSet::MAX_CPU).filter(|index| allowed.is_set(*index));
        let (client, server) = match *named {
            [] => (order.next().context("no processor is allowed")?, order.next()),
            [one] => (one, order.find(|index| *index != one)),
            [one, two, ..] => (one, (one != two).then_some(two)),
        };
        Ok(Processors { client, server })
    }

    /// The processors of client and server; an error where two are asked for and only one is allowed.
    pub fn of(self, pin: Pin) -> anyhow::Result<(Option<usize>, Option<usize>)> {
        match (pin, self.server) {
            (Pin::None, _) => Ok((None, None)),
            (Pin::One, _) => Ok((Some(self.client), Some(self.client))),
            (Pin::Two, Some(server)) => Ok((Some(self.client), Some(server))),
            (Pin::Two, None) => bail!("two processors are needed and this process may use only one"),
        }
    }
}

/// Confines this thread, and those it will start, to one processor.
pub fn confine(processor: Option<usize>) -> anyhow::Result<()> {
    let Some(processor) = processor else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).with_context(|| format!("this process cannot be put on processor {processor}"))
}
