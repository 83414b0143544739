//! `wigwag queue`: lines of standard input into a queue, messages of a queue to standard output. The keeper of messages
//! is in [`keep`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use wigwag::{Batch, ErrorKind, Form, Receiver, Sender};

use crate::keep::{self, KeptBy};
use crate::lock::seconds;
use crate::replacing::Replacing;
use crate::users::Admission;
use crate::waiting::Waiting;
use crate::words::{Connecting, Told};
use crate::{exit, output, service_manager, signals, standard, users, words};

const EXAMPLES: &str = "\
Examples:
  wigwag queue recv jobs --keep | xargs -n1 make    # carries orders out
  printf 'all\\ntest\\n' | wigwag queue send jobs     # in another terminal
  wigwag queue recv jobs --keep --shared --slots 1  # several take turns
  wigwag queue recv pictures --raw > picture.png    # one message as it is
  wigwag queue send pictures --whole < picture.png
  tail -f log | wigwag queue send log               # survives restarts
  wigwag queue send log --timeout 60 < log          # of a minute each

Each line of standard input is a message, and each message becomes a line of standard output. Sending ends once all \
    are \
acknowledged; receiving acknowledges what it has printed. A receiver that is killed leaves what it had not \
    acknowledged to \
the next one, so a line may be printed twice, and none is lost. One that is told to end (SIGTERM, Ctrl-C) prints what \
    had been sent.

Sending begins when there is a receiver. If it goes away, what it had not acknowledged waits for the next one, for as \
    long as that \
takes; with --timeout for so long, and then the code is 3.";

/// Send lines as messages, print messages as lines, or keep messages of the dead: a queue that survives its receiver
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
        /// Wait so long for a receiver while there is none
        /// [default: not at all for the first, for ever for the next after one]
        #[arg(long, visible_alias = "server-timeout", value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
        /// Whose receiver is expected, by name or number, where it is not this user's
        #[arg(long, value_name = "USER", alias = "receiver-user")]
        #[arg(allow_negative_numbers = true, value_parser = users::user)]
        server_user: Option<u32>,
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
        /// Let other receivers have the same name, in as many processes: they take turns
        #[arg(long, conflicts_with = "replace")]
        shared: bool,
        /// The longest message in bytes [default: 65536]
        #[arg(long, value_name = "BYTES")]
        capacity: Option<usize>,
        /// Messages of each sender under way [default: 256]
        #[arg(long, value_name = "NUMBER")]
        slots: Option<usize>,
        /// How to wait
        #[arg(long, value_enum, default_value_t)]
        wait: Waiting,
        #[command(flatten)]
        kept_by: KeptBy,
        #[command(flatten)]
        replacing: Replacing,
        #[command(flatten)]
        admission: Admission,
    },
    Keep(keep::Args),
}

/// Messages printed, and then acknowledged, at a time.
const BATCH: u64 = 64;

/// Sends or receives.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Send { name, whole, timeout, server_user, wait } => {
            let input = standard::input()?;
            let to = Connecting { name, form: Form::Queue, server_user: *server_user };
            // It closes its sender, or has waited for as long as it was told to.
            let mut builder = Sender::builder().linger(Duration::ZERO);
            builder = builder.server_timeout(timeout.unwrap_or(Duration::ZERO)).wait((*wait).into());
            if let Some(uid) = server_user {
                builder = builder.server_user(*uid);
            }
            let sender = builder.connect(name).map_err(|error| to.explain(error))?;
            send(Sending { sender, to, timeout: *timeout, has_waited: false }, input, *whole)
        }
        Command::Keep(args) => keep::run(args),
        Command::Recv {
            name,
            count,
            keep,
            timeout,
            raw,
            shared,
            capacity,
            slots,
            wait,
            kept_by,
            replacing,
            admission,
        } => {
            let inherited = service_manager::listener_for(name)?; // while there is one thread
            let out = standard::unbuffered_output()?;
            let builder = Receiver::builder().access(admission.access()).wait((*wait).into()).shared(*shared);
            let mut builder = kept_by.apply(builder);
            if let Some(bytes) = *capacity {
                builder = builder.capacity(bytes);
            }
            if let Some(slots) = *slots {
                builder = builder.slots(slots);
            }
            if let Some(timeout) = replacing.replace {
                builder = builder.replace(timeout);
            }
            if let Some(listener) = inherited {
                builder = builder.from_listener(listener);
            }
            let signals = signals::receive(&signals::ENDING)?;
            let receiver = builder.bind(name).map_err(words::explain)?;
            let ending = Arc::new(OnceLock::new());
            let (told, shutdown) = (Arc::clone(&ending), receiver.shutdown_handle());
            signals::end_in_order(signals, move |signal| {
                let _ = told.set(signal);
                service_manager::stopping();
                shutdown.shutdown();
            })?;
            service_manager::ready();
            receive(&receiver, out, (!keep).then_some(*count), *timeout, *raw, &ending)
        }
    }
}

/// A sender, and what is to be done when its receiver is gone.
struct Sending<'a> {
    sender: Sender,
    to: Connecting<'a>,
    timeout: Option<Duration>,
    /// It has been told that the next receiver is waited for.
    has_waited: bool,
}

/// How often the next receiver is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A flush is tried for so long; then once more.
const FLUSH: Duration = Duration::from_secs(3600);

impl Sending<'_> {
    /// Does `work`, again and again while the receiver is gone, if nobody has said for how long.
    fn insist(&mut self, mut work: impl FnMut(&mut Sender) -> wigwag::Result<()>) -> anyhow::Result<()> {
        loop {
            let error = match work(&mut self.sender) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match (error.kind(), self.timeout) {
                (ErrorKind::NotRunning, None) => self.say_that_it_waits(),
                (ErrorKind::NotRunning, Some(timeout)) => return Err(lost(timeout, &self.unacknowledged())),
                (ErrorKind::TimedOut { .. }, None) => continue,
                _ => return Err(self.to.explain(error)),
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// How many messages are not acknowledged, in words.
    fn unacknowledged(&self) -> String {
        let stats = self.sender.stats();
        match stats.sent.saturating_sub(stats.acknowledged) {
            1 => "1 message was".to_owned(),
            count => format!("{count} messages were"),
        }
    }

    fn say_that_it_waits(&mut self) {
        if !std::mem::replace(&mut self.has_waited, true) {
            let (next, count) = (words::with_flags("queue recv", self.to.name, "--keep"), self.unacknowledged());
            output::complain(&format!(
                "wigwag: the receiver is gone, and {count} not acknowledged: waiting for the next one, `{next}`; \
                 --timeout says for how long."
            ));
        }
    }

    fn close(self) -> anyhow::Result<()> {
        let timeout = self.timeout;
        self.sender.close().map_err(|error| match (error.kind(), timeout) {
            (ErrorKind::NotRunning, Some(timeout)) => lost(timeout, "some messages were"),
            _ => self.to.explain(error),
        })
    }
}

/// No receiver came in time.
fn lost(timeout: Duration, unacknowledged: &str) -> anyhow::Error {
    let within = output::duration(timeout.as_nanos() as f64);
    let sentence = format!(
        "the receiver is gone, and no other took its name within {within} (--timeout): {unacknowledged} not \
         acknowledged, and may be \
         lost"
    );
    Told::new(ErrorKind::NotRunning, sentence).into()
}

fn send(mut sending: Sending<'_>, mut input: io::StdinLock<'_>, whole: bool) -> anyhow::Result<ExitCode> {
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
        if let Err(error) = sending.insist(|sender| sender.send(&message)) {
            break Err(error);
        }
        if whole {
            break Ok(());
        }
    };
    // What was sent before something went wrong is not left behind.
    let flushed = match sending.timeout {
        None => sending.insist(|sender| sender.flush(FLUSH)),
        Some(_) => Ok(()),
    };
    let closed = flushed.and_then(|()| sending.close());
    outcome.and(closed)?;
    Ok(ExitCode::SUCCESS)
}

/// Receives `count` messages, or goes on for ever, or until a signal ends it: then what had been sent is still printed.
fn receive(
    receiver: &Receiver,
    mut out: File,
    count: Option<u64>,
    timeout: Option<Duration>,
    raw: bool,
    ending: &OnceLock<i32>,
) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let mut left = count;
    while left != Some(0) {
        let most = left.unwrap_or(BATCH).min(BATCH) as usize;
        let batch = match timeout {
            Some(timeout) => receiver.recv_batch_timeout(most, timeout),
            None => receiver.recv_batch(most).map(Some),
        };
        let batch = match (batch, ending.get()) {
            (Err(error), Some(signal)) if matches!(error.kind(), ErrorKind::ServerClosed { .. }) => {
                let code = if left.is_none() { 0 } else { 128 + signal };
                return Ok(ExitCode::from(u8::try_from(code).unwrap_or(exit::FAILED)));
            }
            (batch, _) => batch.map_err(words::explain)?,
        };
        let Some(batch) = batch else {
            return match left {
                None => Ok(ExitCode::SUCCESS),
                Some(left) => {
                    output::complain(&format!("wigwag: no message came within the time allowed; {left} are missing."));
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
