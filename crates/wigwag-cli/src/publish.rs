//! `wigwag publish`: lines of standard input, or whole files, to everybody who listens.

use std::ffi::OsString;
use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wigwag::runtime::escaped;
use wigwag::{ErrorKind, Overrun, Publisher};

use crate::lock::seconds;
use crate::replacing::Replacing;
use crate::serve::size;
use crate::users::Admission;
use crate::waiting::Waiting;
use crate::{exit, output, service_manager, signals, standard, words};

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
    #[arg(long, value_name = "NUMBER", value_parser = rate, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Begin when so many subscribers are there
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    wait_for: usize,
    /// Give up after so long, with --wait-for; the code is 5
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "wait_for")]
    #[arg(allow_negative_numbers = true)]
    timeout: Option<Duration>,
    /// Wait for subscribers of this user that have not read what the next message would replace, each at most so long
    /// within --history messages [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    patience: Option<Duration>,
    /// Messages that are kept for subscribers that read later [default: 64]
    #[arg(long, value_name = "NUMBER")]
    history: Option<usize>,
    /// The longest message in bytes; K, M and G are understood [default: 64K, or as long as the longest file, or as
    /// what is published as a whole]
    #[arg(long, value_name = "BYTES", value_parser = size)]
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
    // Read first, so that it is known how long it is.
    let whole = if args.whole { Some(whole_input()?) } else { None };
    let mut builder = Publisher::builder().access(args.admission.access()).wait(args.wait.into());
    let longest = longest(&args.files)?.max(whole.as_ref().map(Vec::len));
    if let Some(bytes) = args.capacity.or(longest) {
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
    let is_ending = Arc::new(AtomicBool::new(false));
    let (ended, told) = (Arc::clone(&shared), Arc::clone(&is_ending));
    signals::end_in_order(signals, move |signal| {
        service_manager::stopping();
        told.store(true, Ordering::SeqCst);
        // Between two messages, or two turns of waiting: subscribers are told of the end.
        drop(ended.lock().unwrap_or_else(PoisonError::into_inner).take());
        std::process::exit(128 + signal);
    })?;
    service_manager::ready();
    let mut sending = Sending { shared, is_ending, pace: args.rate.map(Pace::new), sent: 0, was_heard: false };
    let published = publish_all(&mut sending, args, whole);
    // Whatever came of it: subscribers are told of the end, and the name is free. The other thread has it, too.
    drop(sending.shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    published?;
    if sending.sent > 0 && !sending.was_heard {
        output::complain(&format!(
            "wigwag: nobody subscribed to {name} while {} published; with --wait-for 1 the first one waits for \
             somebody (`wigwag subscribe {name}`).",
            if sending.sent == 1 { "1 message was".to_owned() } else { format!("{} messages were", sending.sent) },
            name = words::word(&args.name),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// How long one wait lasts at most, after which a signal may end the broadcast.
const TURN: Duration = Duration::from_millis(100);

fn publish_all(sending: &mut Sending, args: &Args, whole: Option<Vec<u8>>) -> anyhow::Result<()> {
    if args.wait_for > 0 {
        let timeout = args.timeout.unwrap_or(Duration::MAX);
        let hint = |error: wigwag::Error| match error.kind() {
            ErrorKind::TimedOut { .. } => {
                let subscribe = words::with_flags("subscribe", &args.name, "");
                words::explain_with(error, &format!("; start more with `{subscribe}`, or give them longer (--timeout)"))
            }
            _ => words::explain(error),
        };
        let wait = |publisher: &mut Publisher, turn| publisher.wait_for_subscribers(args.wait_for, turn);
        sending.in_turns(timeout, wait).map_err(hint)?;
    }
    match (whole, args.files.is_empty()) {
        (Some(message), _) => sending.send(&message),
        (None, true) => publish_lines(sending),
        (None, false) => args.files.iter().try_for_each(|file| publish_file(sending, file)),
    }
}

/// What is sent by, and how often.
struct Sending {
    shared: Shared,
    /// A signal has come: who has it ends this program, and waits for the publisher.
    is_ending: Arc<AtomicBool>,
    pace: Option<Pace>,
    sent: u64,
    /// Whether there was a subscriber at any time.
    was_heard: bool,
}

impl Sending {
    /// Does what may wait, turn by turn.
    fn in_turns<R>(
        &self,
        timeout: Duration,
        mut what: impl FnMut(&mut Publisher, Duration) -> wigwag::Result<R>,
    ) -> wigwag::Result<R> {
        let begin = Instant::now();
        loop {
            if self.is_ending.load(Ordering::SeqCst) {
                std::thread::park(); // until the program ends
                continue;
            }
            let left = timeout.saturating_sub(begin.elapsed());
            let mut publisher = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(publisher) = publisher.as_mut() else { continue };
            match what(publisher, left.min(TURN)) {
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) && left > TURN => {}
                done => return done,
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.pace.iter_mut().for_each(Pace::wait);
        let subscribers = self.in_turns(Duration::MAX, |publisher, turn| {
            publisher.send_timeout(message, turn)?;
            Ok(publisher.stats().subscribers)
        });
        self.sent += 1;
        self.was_heard |= subscribers.map_err(words::explain)? > 0;
        Ok(())
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

fn whole_input() -> anyhow::Result<Vec<u8>> {
    let mut message = Vec::new();
    standard::input()?.read_to_end(&mut message).context("standard input cannot be read")?;
    Ok(message)
}

fn publish_lines(sending: &mut Sending) -> anyhow::Result<()> {
    let mut input = standard::input()?;
    let mut message = Vec::new();
    loop {
        message.clear();
        if input.read_until(b'\n', &mut message).context("standard input cannot be read")? == 0 {
            return Ok(());
        }
        if message.last() == Some(&b'\n') {
            message.pop();
        }
        sending.send(&message)?;
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
