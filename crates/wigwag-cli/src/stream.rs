//! `wigwag stream`: standard input into a stream, a stream to standard output, as netcat does with a socket.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use wigwag::{Stream, StreamListener};

use crate::waiting::Waiting;
use crate::{exit, output};

const EXAMPLES: &str = "\
Examples:
  wigwag stream listen files | tar x           # a directory through shared memory:
  tar c . | wigwag stream connect files        # this in another terminal
  wigwag stream listen log --keep >> log.txt   # one connection after another
  echo hello | wigwag stream connect echo      # prints the answer

Standard input goes into the stream and what comes out of it to standard output, at the same time. At the end of the \
input the stream is shut for writing, and what the other end still has to say is waited for. Where the input is a terminal, \
the end of the other's bytes is the end. If the input is a pipe that nobody closes, use --recv-only.

If the other end is killed, what it had written is printed first, and then the code is 5: a stream that was cut off is \
never taken for a whole one.";

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
        /// Accept one connection after another, until killed; only receives
        #[arg(long, conflicts_with = "send_only")]
        keep: bool,
    },
    /// Connect to somebody who listens
    #[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
    Connect {
        #[command(flatten)]
        end: End,
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
    /// Print nothing; what comes is not read
    #[arg(long)]
    send_only: bool,
    /// Bytes under way in each direction, a power of two [default: 2097152]
    #[arg(long, value_name = "BYTES")]
    ring: Option<usize>,
    /// How to wait
    #[arg(long, value_enum, default_value_t)]
    wait: Waiting,
}

/// Bytes copied at a time.
const PIECE: usize = 64 << 10;

/// Listens or connects.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Connect { end } => {
            let mut builder = Stream::builder().wait(end.wait.into());
            if let Some(bytes) = end.ring {
                builder = builder.ring_bytes(bytes);
            }
            copy(builder.connect(&end.name)?, end.recv_only, end.send_only)?;
        }
        Command::Listen { end, keep } => {
            let mut builder = StreamListener::builder().wait(end.wait.into());
            if let Some(bytes) = end.ring {
                builder = builder.ring_bytes(bytes);
            }
            let listener = builder.bind(&end.name)?;
            if *keep {
                return serve(&listener);
            }
            let stream = listener.accept().map_err(ours)?;
            drop(listener); // one is enough: the next one is told at once
            copy(stream, end.recv_only, end.send_only)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One connection after another. One that is cut off does not end the others.
fn serve(listener: &StreamListener) -> anyhow::Result<ExitCode> {
    for stream in listener.incoming() {
        match copy(stream.map_err(ours)?, true, false) {
            Ok(()) => {}
            Err(error) if error.is::<output::Unread>() => return Err(error),
            Err(error) => eprintln!("wigwag: {error:#}."),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Both directions, until both have ended.
fn copy(stream: Stream, recv_only: bool, send_only: bool) -> anyhow::Result<()> {
    let stream = Arc::new(stream);
    let sending = if recv_only {
        stream.shutdown(Shutdown::Write)?;
        None
    } else {
        Some(send(Arc::clone(&stream))?)
    };
    let received = match send_only {
        true => stream.shutdown(Shutdown::Read).map_err(ours),
        false => receive(&stream),
    };
    match sending {
        // Nobody can tell whether a person will go on: the other end has said its last.
        Some(_) if !send_only && io::stdin().is_terminal() => {}
        Some(sending) if received.is_ok() => {
            sending.join().unwrap_or_else(|_| anyhow::bail!("the sending thread failed"))?
        }
        _ => {}
    }
    // The sending thread may wait for a person and keep the stream: close it by name.
    stream.shutdown(Shutdown::Both)?;
    received
}

/// The stream to standard output, to the end.
fn receive(mut stream: &Stream) -> anyhow::Result<()> {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned().context("there is no standard output")?);
    let mut piece = vec![0; PIECE];
    loop {
        let count = stream.read(&mut piece).map_err(ours)?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&piece[..count]).map_err(|error| {
            let _ = stream.shutdown(Shutdown::Both);
            match error.kind() {
                io::ErrorKind::BrokenPipe => output::Unread.into(),
                _ => anyhow::Error::new(error).context("standard output cannot be written to"),
            }
        })?;
    }
}

/// Standard input into the stream, to its end, on a thread of its own.
fn send(stream: Arc<Stream>) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().context("there is no standard input")?);
    let work = move || {
        let mut piece = vec![0; PIECE];
        loop {
            let count = match input.read(&mut piece) {
                Ok(0) => return stream.shutdown(Shutdown::Write).map_err(ours),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(anyhow::Error::new(error).context("standard input cannot be read")),
            };
            (&*stream).write_all(&piece[..count]).map_err(ours)?;
        }
    };
    std::thread::Builder::new().name("send".into()).spawn(work).context("no thread can be started")
}

/// The library's error inside of an input or output error, which has the exit code.
fn ours(error: io::Error) -> anyhow::Error {
    match error.downcast::<wigwag::Error>() {
        Ok(error) => error.into(),
        Err(error) => error.into(),
    }
}
