//! `wigwag queue`: lines of standard input into a queue, messages of a queue to standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use wigwag::{Batch, ErrorKind, Receiver, Sender};

use crate::lock::seconds;
use crate::waiting::Waiting;
use crate::{exit, output};

const EXAMPLES: &str = "\
Examples:
  wigwag queue recv jobs --keep | xargs -n1 make    # carries orders out
  printf 'all\\ntest\\n' | wigwag queue send jobs     # in another terminal
  wigwag queue recv pictures --raw > picture.png    # one message as it is
  wigwag queue send pictures --whole < picture.png
  tail -f log | wigwag queue send log --timeout 60  # survives restarts

Each line of standard input is a message, and each message becomes a line of standard output. Sending ends once all are \
acknowledged; receiving acknowledges what it has printed. A receiver that is killed leaves what it had not acknowledged to \
the next one, so a line may be printed twice, and none is lost.";

/// Send lines as messages, or print messages as lines: a queue that survives its receiver
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send each line of standard input, and wait until all are acknowledged
    #[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
    Send {
        /// The name, or a path (starting with / ./ ../)
        name: OsString,
        /// Send all of standard input as one message, as it is
        #[arg(long)]
        whole: bool,
        /// Wait so long for a receiver while there is none [default: not at all]
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
        /// How to wait
        #[arg(long, value_enum, default_value_t)]
        wait: Waiting,
    },
    /// Take the name, and print messages; without --count or --keep one
    #[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
    Recv {
        /// The name, or a path (starting with / ./ ../)
        name: OsString,
        /// How many messages
        #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// One message after another, until killed or --timeout
        #[arg(long, conflicts_with = "count")]
        keep: bool,
        /// End when no message comes for so long; the code is 5 if some of --count are missing
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
        /// Print messages as they are, with no end of line after each
        #[arg(long)]
        raw: bool,
        /// The longest message in bytes [default: 65536]
        #[arg(long, value_name = "BYTES")]
        capacity: Option<usize>,
        /// Messages of each sender under way [default: 256]
        #[arg(long, value_name = "NUMBER")]
        slots: Option<usize>,
        /// How to wait
        #[arg(long, value_enum, default_value_t)]
        wait: Waiting,
    },
}

/// Messages printed, and then acknowledged, at a time.
const BATCH: u64 = 64;

/// Sends or receives.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Send { name, whole, timeout, wait } => {
            let builder = Sender::builder().receiver_timeout(timeout.unwrap_or(Duration::ZERO)).wait((*wait).into());
            send(builder.connect(name)?, *whole)
        }
        Command::Recv { name, count, keep, timeout, raw, capacity, slots, wait } => {
            let mut builder = Receiver::builder().wait((*wait).into());
            if let Some(bytes) = *capacity {
                builder = builder.capacity(bytes);
            }
            if let Some(slots) = *slots {
                builder = builder.slots(slots);
            }
            receive(&builder.bind(name)?, (!keep).then_some(*count), *timeout, *raw)
        }
    }
}

fn send(mut sender: Sender, whole: bool) -> anyhow::Result<ExitCode> {
    let mut input = io::stdin().lock();
    let mut message = Vec::new();
    let outcome = loop {
        message.clear();
        let read = match whole {
            true => input.read_to_end(&mut message),
            false => input.read_until(b'\n', &mut message),
        };
        match read.context("standard input cannot be read") {
            Ok(0) if !whole => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        if !whole && message.last() == Some(&b'\n') {
            message.pop();
        }
        if let Err(error) = sender.send(&message) {
            break Err(explained(error));
        }
        if whole {
            break Ok(());
        }
    };
    // What was sent before something went wrong is not left behind.
    let closed = sender.close().map_err(anyhow::Error::from);
    outcome.and(closed)?;
    Ok(ExitCode::SUCCESS)
}

fn explained(error: wigwag::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::CapacityExceeded { .. } => {
            anyhow::Error::new(error).context("a message is too long; the receiver's --capacity raises the limit")
        }
        _ => error.into(),
    }
}

/// Receives `count` messages, or goes on for ever.
fn receive(receiver: &Receiver, count: Option<u64>, timeout: Option<Duration>, raw: bool) -> anyhow::Result<ExitCode> {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned().context("there is no standard output")?);
    let mut text = Vec::new();
    let mut left = count;
    while left != Some(0) {
        let most = left.unwrap_or(BATCH).min(BATCH) as usize;
        let batch = match timeout {
            Some(timeout) => receiver.recv_batch_timeout(most, timeout)?,
            None => Some(receiver.recv_batch(most)?),
        };
        let Some(batch) = batch else {
            return match left {
                None => Ok(ExitCode::SUCCESS),
                Some(left) => {
                    eprintln!("wigwag: no message came within the time allowed; {left} are missing.");
                    Ok(ExitCode::from(exit::LOST))
                }
            };
        };
        text.clear();
        for message in batch.iter() {
            text.extend_from_slice(message);
            if !raw {
                text.push(b'\n');
            }
        }
        left = left.map(|left| left - batch.len() as u64);
        print(&mut out, &text, batch)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints, and then acknowledges. What could not be printed stays with its senders.
fn print(out: &mut File, text: &[u8], batch: Batch) -> anyhow::Result<()> {
    match out.write_all(text) {
        Ok(()) => {
            batch.ack();
            Ok(())
        }
        Err(error) => {
            batch.nack();
            match error.kind() {
                io::ErrorKind::BrokenPipe => Err(output::Unread.into()),
                _ => Err(anyhow::Error::new(error).context("standard output cannot be written to")),
            }
        }
    }
}
