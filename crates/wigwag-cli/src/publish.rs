//! `wigwag publish`: lines of standard input, or whole files, to everybody who listens.

use std::ffi::OsString;
use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wigwag::runtime::escaped;
use wigwag::{ErrorKind, Overrun, Publisher};

use crate::lock::seconds;
use crate::replacing::Replacing;
use crate::users::Admission;
use crate::waiting::Waiting;
use crate::{exit, service_manager, signals, standard, words};

const EXAMPLES: &str = "\
Examples:
  wigwag subscribe log                           # in as many terminals as you like
  tail -f log | wigwag publish log               # each line to all of them
  wigwag publish frames *.png --rate 30          # each file, thirty times a second
  wigwag publish frames --whole < picture.png    # all of standard input
  seq 1000 | wigwag publish numbers --wait-for 2 --patience 1   # nothing is lost for a second

A subscriber that is slow, stopped or dead keeps nobody waiting: it loses messages, and is told how many. With \
    --patience it is waited for, so long within as many messages as are kept, and then cut off. When the input ends, \
    subscribers read what is left, and are told of the end.";

/// Publish lines or files to any number of subscribers, none of which can hold up this program
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
pub struct Args {
    /// The name, or a path (starting with / ./ ../)
    name: OsString,
    /// Files to publish, each as one message, in the place of lines of standard input
    files: Vec<PathBuf>,
    /// Publish all of standard input as one message, as it is
    #[arg(long, conflicts_with = "files")]
    whole: bool,
    /// At most so many messages a second
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,
    /// Begin when so many subscribers are there
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    wait_for: usize,
    /// Give up after so long, with --wait-for; the code is 5
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "wait_for")]
    timeout: Option<Duration>,
    /// Wait for subscribers of this user that have not read what the next message would replace, each at most so long
    /// within --history messages [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    patience: Option<Duration>,
    /// Messages that are kept for subscribers that read later [default: 64]
    #[arg(long, value_name = "NUMBER")]
    history: Option<usize>,
    /// The longest message in bytes [default: 65536, or as long as the longest file]
    #[arg(long, value_name = "BYTES")]
    capacity: Option<usize>,
    /// How to wait
    #[arg(long, value_enum, default_value_t)]
    wait: Waiting,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    admission: Admission,
}

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let is_possible = |rate: &f64| (0.001..=1e9).contains(rate);
    number.filter(is_possible).ok_or_else(|| "a number of messages a second is needed, from 0.001 to 1e9".to_owned())
}

/// The publisher, for whoever ends it: this thread, or the one that receives signals.
type Shared = Arc<Mutex<Option<Publisher>>>;

/// Publishes until there is nothing more.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let inherited = service_manager::listener_for(&args.name)?; // while there is one thread
    let mut builder = Publisher::builder().access(args.admission.access()).wait(args.wait.into());
    if let Some(bytes) = args.capacity.or(longest(&args.files)?) {
        builder = builder.capacity(bytes);
    }
    if let Some(messages) = args.history {
        builder = builder.history(messages);
    }
    if let Some(patience) = args.patience {
        builder = builder.overrun(Overrun::Wait(patience));
    }
    if let Some(timeout) = args.replacing.replace {
        builder = builder.replace(timeout);
    }
    if let Some(listener) = inherited {
        builder = builder.from_listener(listener);
    }
    let signals = signals::receive(&signals::ENDING)?;
    let shared: Shared = Arc::new(Mutex::new(Some(builder.bind(&args.name).map_err(words::explain)?)));
    let ended = Arc::clone(&shared);
    signals::end_in_order(signals, move |signal| {
        service_manager::stopping();
        // Between two messages: subscribers are told of the end.
        drop(ended.lock().unwrap_or_else(PoisonError::into_inner).take());
        std::process::exit(128 + signal);
    })?;
    service_manager::ready();
    let mut sending = Sending { shared, pace: args.rate.map(Pace::new) };
    if args.wait_for > 0 {
        let timeout = args.timeout.unwrap_or(Duration::MAX);
        sending.with(|publisher| publisher.wait_for_subscribers(args.wait_for, timeout)).map_err(
            |error| match error.downcast_ref::<wigwag::Error>().map(wigwag::Error::kind) {
                Some(ErrorKind::TimedOut { .. }) => error.context("there are too few subscribers"),
                _ => error,
            },
        )?;
    }
    match args.files.is_empty() {
        true => publish_input(&mut sending, args.whole)?,
        false => args.files.iter().try_for_each(|file| publish_file(&mut sending, file))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is sent by, and how often.
struct Sending {
    shared: Shared,
    pace: Option<Pace>,
}

impl Sending {
    fn with<R>(&self, what: impl FnOnce(&mut Publisher) -> wigwag::Result<R>) -> anyhow::Result<R> {
        let mut publisher = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match publisher.as_mut() {
            Some(publisher) => what(publisher).map_err(words::explain),
            None => anyhow::bail!("a signal has ended the broadcast"),
        }
    }

    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.pace.iter_mut().for_each(Pace::wait);
        self.with(|publisher| publisher.send(message)).map(drop)
    }
}

/// One message at a time, at even distances: a late one is not made up for.
struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    fn new(rate: f64) -> Pace {
        Pace { every: Duration::from_secs_f64(1.0 / rate), next: Instant::now() }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        std::thread::sleep(self.next.saturating_duration_since(now));
        self.next = self.next.max(now) + self.every;
    }
}

fn publish_input(sending: &mut Sending, whole: bool) -> anyhow::Result<()> {
    let mut input = standard::input()?;
    let mut message = Vec::new();
    loop {
        message.clear();
        let read = match whole {
            true => input.read_to_end(&mut message),
            false => input.read_until(b'\n', &mut message),
        };
        if read.context("standard input cannot be read")? == 0 && !whole {
            return Ok(());
        }
        if !whole && message.last() == Some(&b'\n') {
            message.pop();
        }
        sending.send(&message)?;
        if whole {
            return Ok(());
        }
    }
}

fn publish_file(sending: &mut Sending, file: &Path) -> anyhow::Result<()> {
    let message = std::fs::read(file).with_context(|| format!("{} cannot be read", escaped(file)))?;
    sending.send(&message)
}

/// How long the longest of the files is; of none, nothing.
fn longest(files: &[PathBuf]) -> anyhow::Result<Option<usize>> {
    let len = |file: &PathBuf| {
        let metadata = file.metadata().with_context(|| format!("{} cannot be read", escaped(file)))?;
        anyhow::Ok(metadata.len() as usize)
    };
    let lens: Vec<usize> = files.iter().map(len).collect::<Result<_, _>>()?;
    Ok(lens.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_that_can_be_kept() {
        assert_eq!(rate("30"), Ok(30.0));
        for wrong in ["", "0", "-1", "often", "NaN", "inf", "1e10"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
