//! `wigwag stream`: standard input into a stream, a stream to standard output, as netcat does with a socket.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::iterator::Signals;
use wigwag::{Form, Stream, StreamListener};

use crate::replacing::Replacing;
use crate::users::Admission;
use crate::waiting::Waiting;
use crate::words::Connecting;
use crate::{call, exit, output, service_manager, signals, standard, users, words};

const EXAMPLES: &str = "\
Examples:
  wigwag stream listen files | tar x           # a directory is received,
  tar c . | wigwag stream connect files        # and sent, in another terminal
  wigwag stream listen log --keep >> log.txt   # one connection after another
  echo hello | wigwag stream connect echo      # prints the answer
  wigwag stream connect log --server-timeout 30 < log.txt  # may begin first
  wigwag stream connect /srv/log.sock --server-user www-data < log.txt

Standard input goes into the stream and what comes out of it to standard output, at the same time. At the end of the \
input the stream is shut for writing, and what the other end still has to say is waited for. Where the input is a \
    terminal, \
the end of the other's bytes is the end. If the input is a pipe that nobody closes, use --recv-only.

If the other end is killed, or gives up, what it had written is printed first, and then the code is 5: a stream that \
    was cut \
off is never taken for a whole one. An end gives up when its input cannot be read, or its output cannot be written to \
    or is read \
by nobody any more. A listener that says nothing ends its direction when it has printed all, so whoever connects and \
gets 0 knows that; one that has said its last before, or connects to receive, may fail unseen with the bytes that were \
    under way.";

/// Copy standard input into a stream and a stream to standard output: netcat over shared memory
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Take a name and wait for somebody to connect
    #[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
    Listen {
        #[command(flatten)]
        end: End,
        /// Accept one connection after another, until told to end; only receives
        #[arg(long, conflicts_with = "send_only")]
        keep: bool,
        #[command(flatten)]
        replacing: Replacing,
        #[command(flatten)]
        admission: Admission,
    },
    /// Connect to somebody who listens
    #[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
    Connect {
        #[command(flatten)]
        end: End,
        /// Whose listener is expected, by name or number, where it is not this user's
        #[arg(long, value_name = "USER", allow_negative_numbers = true, value_parser = users::user)]
        server_user: Option<u32>,
        /// Wait so long for a listener while there is none [default: not at all]
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = call::seconds)]
        server_timeout: Option<Duration>,
    },
}

/// What both ends can be told.
#[derive(Debug, clap::Args)]
struct End {
    /// The name, or a path (starting with / ./ ../)
    name: OsString,
    /// Send nothing; standard input is not read
    #[arg(long, conflicts_with = "send_only")]
    recv_only: bool,
    /// Print nothing; what comes is thrown away, and its end waited for
    #[arg(long)]
    send_only: bool,
    /// Bytes under way in each direction, a power of two [default: 2097152]
    #[arg(long, value_name = "BYTES")]
    ring: Option<usize>,
    /// How to wait
    #[arg(long, value_enum, default_value_t)]
    wait: Waiting,
}

impl End {
    /// Nothing is taken that could not be printed, and no end is told that is none.
    fn check(&self) -> anyhow::Result<()> {
        if !self.send_only {
            output::check()?;
        }
        if !self.recv_only {
            drop(standard::input()?);
        }
        Ok(())
    }
}

/// Bytes copied at a time.
const PIECE: usize = 64 << 10;

/// Listens or connects.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Connect { end, server_user, server_timeout } => {
            end.check()?;
            let mut builder = Stream::builder().wait(end.wait.into());
            if let Some(bytes) = end.ring {
                builder = builder.ring_bytes(bytes);
            }
            if let Some(uid) = server_user {
                builder = builder.server_user(*uid);
            }
            if let Some(timeout) = server_timeout {
                builder = builder.server_timeout(*timeout);
            }
            let to = Connecting { name: &end.name, form: Form::Stream, server_user: *server_user };
            let stream = builder.connect(&end.name).map_err(|error| to.explain(error))?;
            copy(stream, Ways::of(end, false))?;
        }
        Command::Listen { end, keep, replacing, admission } => {
            let inherited = service_manager::listener_for(&end.name)?; // while there is one thread
            end.check()?;
            let mut builder = StreamListener::builder().access(admission.access()).wait(end.wait.into());
            if let Some(bytes) = end.ring {
                builder = builder.ring_bytes(bytes);
            }
            if let Some(timeout) = replacing.replace {
                builder = builder.replace(timeout);
            }
            if let Some(listener) = inherited {
                builder = builder.from_listener(listener);
            }
            let signals = signals::receive(&signals::ENDING)?;
            return listen(builder.bind(&end.name).map_err(words::explain)?, signals, end, *keep);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Accepts one connection, or one after another. A signal ends the waiting for the next one, and gives the name back; a
/// connection that is there is cut off by it, unless it is one of many: then it is received to its end.
fn listen(listener: StreamListener, signals: Signals, end: &End, keep: bool) -> anyhow::Result<ExitCode> {
    let ending = Arc::new(OnceLock::new());
    let (told, shutdown) = (Arc::clone(&ending), listener.shutdown_handle());
    let is_accepted = Arc::new(OnceLock::new());
    let connected = Arc::clone(&is_accepted);
    signals::end_in_order(signals, move |signal| {
        let _ = told.set(signal);
        service_manager::stopping();
        if connected.get().is_some() {
            std::process::exit(128 + signal);
        }
        shutdown.shutdown();
    })?;
    service_manager::ready();
    let ended = || match ending.get() {
        Some(signal) if !keep => u8::try_from(128 + signal).ok(),
        Some(_) => Some(0),
        None => None,
    };
    if keep {
        let served = serve(&listener, || ended().is_some());
        return served.map(|()| ExitCode::SUCCESS);
    }
    let stream = match (listener.accept().map_err(ours), ended()) {
        (Err(_), Some(code)) => return Ok(ExitCode::from(code)),
        (accepted, _) => accepted?,
    };
    let _ = is_accepted.set(());
    drop(listener); // one is enough: the next one is told at once
    copy(stream, Ways::of(end, true))?;
    Ok(ExitCode::SUCCESS)
}

/// One connection after another. One that is cut off does not end the others.
fn serve(listener: &StreamListener, has_been_told: impl Fn() -> bool) -> anyhow::Result<()> {
    loop {
        let stream = match listener.accept().map_err(ours) {
            Err(_) if has_been_told() => return Ok(()),
            accepted => accepted?,
        };
        match copy(stream, Ways { receives: true, sends: false, listens: true }) {
            Ok(()) => {}
            Err(error) if error.is::<output::Unread>() => return Err(error),
            Err(error) => output::complain(&format!("wigwag: {error:#}.")),
        }
    }
}

/// Which way bytes go, and who began.
#[derive(Clone, Copy)]
struct Ways {
    receives: bool,
    sends: bool,
    /// The listening end, as long as it has said nothing, ends its own direction only when it has printed all: so the
    /// other one learns whether that could be done. The connecting end may be asked for the end of its request before
    /// it gets an answer.
    listens: bool,
}

impl Ways {
    fn of(end: &End, listens: bool) -> Ways {
        Ways { receives: !end.send_only, sends: !end.recv_only, listens }
    }
}

/// Both directions, until both have ended. Whatever fails at this end aborts the stream: the other one must not take
/// what was not printed for printed, nor what was not read to its end for whole.
fn copy(stream: Stream, ways: Ways) -> anyhow::Result<()> {
    stream.set_abort_on_drop(true);
    let stream = Arc::new(stream);
    let has_input_failed = Arc::new(AtomicBool::new(false));
    let sending = match ways.sends {
        true => Some(send(Arc::clone(&stream), ways, Arc::clone(&has_input_failed))?),
        false if ways.listens => None,
        false => {
            stream.shutdown(Shutdown::Write)?;
            None
        }
    };
    let received = receive(&stream, ways);
    match sending {
        // Nobody can tell whether a person will go on: the other end has said its last.
        Some(_) if ways.receives && received.is_ok() && io::stdin().is_terminal() => {}
        // Release, partner: `send`. Where that thread gave the stream up, it knows why.
        Some(sending) if received.is_ok() || has_input_failed.load(Ordering::Acquire) => {
            sending.join().unwrap_or_else(|_| anyhow::bail!("the sending thread failed"))?
        }
        _ => {}
    }
    received?;
    // The sending thread may wait for a person and keep the stream: close it by name.
    Ok(stream.shutdown(Shutdown::Both)?)
}

/// The stream to standard output, to the end; with --send-only to nowhere, because the end is waited for all the same.
fn receive(mut stream: &Stream, ways: Ways) -> anyhow::Result<()> {
    let mut out = if ways.receives { Some(standard::unbuffered_output()?) } else { None };
    let mut piece = vec![0; PIECE];
    loop {
        let count = stream.read(&mut piece).map_err(ours)?;
        if count == 0 {
            return Ok(());
        }
        let Some(Err(error)) = out.as_mut().map(|out| out.write_all(&piece[..count])) else { continue };
        let (reason, error) = match error.kind() {
            io::ErrorKind::BrokenPipe => ("nobody reads its output any more".to_owned(), output::Unread.into()),
            _ => (
                format!("its output cannot be written to: {error}"),
                anyhow::Error::new(error).context("standard output cannot be written to"),
            ),
        };
        stream.abort(&reason)?;
        return Err(error);
    }
}

/// Standard input into the stream, to its end, on a thread of its own.
fn send(
    stream: Arc<Stream>,
    ways: Ways,
    has_input_failed: Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().context("there is no standard input")?);
    let work = move || {
        let mut piece = vec![0; PIECE];
        let mut has_said_something = false;
        loop {
            let count = match input.read(&mut piece) {
                Ok(0) if ways.listens && ways.receives && !has_said_something => return Ok(()),
                Ok(0) => return stream.shutdown(Shutdown::Write).map_err(ours),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Before the abort, which ends the receiving.
                    has_input_failed.store(true, Ordering::Release);
                    stream.abort(&format!("its input cannot be read: {error}"))?;
                    return Err(anyhow::Error::new(error).context("standard input cannot be read"));
                }
            };
            (&*stream).write_all(&piece[..count]).map_err(ours)?;
            has_said_something = true;
        }
    };
    std::thread::Builder::new()
        .name("send".into())
        .spawn(work)
        .context("no thread can be started (is `ulimit -u`, `ulimit -v`, or the container's pids.max, reached?)")
}

/// The library's error inside of an input or output error, which has the exit code.
fn ours(error: io::Error) -> anyhow::Error {
    match error.downcast::<wigwag::Error>() {
        Ok(error) => error.into(),
        Err(error) => error.into(),
    }
}
