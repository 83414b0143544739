//! `wigwag serve`: a server from the command line.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use signal_hook::consts::SIGTSTP;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use wigwag::runtime::escaped;

use crate::replacing::Replacing;
use crate::signals::{self, ENDING};
use crate::users::Admission;
use crate::waiting::Waiting;
use crate::{call, command, exit, output, service_manager, words};

const EXAMPLES: &str = "\
Examples:
  wigwag serve shout --do upper         # then: wigwag call shout hello
  wigwag serve sort --exec 'sort -u'    # then: date | wigwag call sort
  wigwag serve frames --do invert --capacity 8M --threads 4
  wigwag serve thumbs --exec 'convert - -scale 64 -' --timeout 10 --threads 2
  wigwag serve /srv/shout.sock --do upper --allow-group users
  wigwag serve ./here.sock --do echo    # a path instead of a name
  wigwag serve shout --do upper --replace   # in the place of the one that runs

SIGTERM and Ctrl-C end it: calls under way are still answered, and the exit code is 0. A second one \
ends it at once, and the commands that still run. What was ignored when it began, as by nohup, stays ignored.

--exec runs `sh -c COMMAND` once for each request, with the request as its standard input and its \
standard output as the reply. A command that fails, or prints more than the capacity, is an error \
at the caller. The reply is there when the command ends, whatever it leaves behind. When its caller gives up or is \
    gone, or \
--timeout is over, the command is ended with all that it has started, but for what took a session of its own (setsid): \
    by SIGTERM, \
a second later by SIGKILL. Commands have a session of their own: what is typed at the server's terminal does not reach \
    them. If the server is killed (SIGKILL), so is the shell that runs \
COMMAND, and COMMAND itself where it is one program, which the shell becomes; what a script has started goes on until \
    it ends, mostly \
because its input and output are gone.";

/// Answer calls: with a built-in transformation, or with a command
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
#[command(group(clap::ArgGroup::new("handler").required(true).args(["transformation", "exec"])))]
pub struct Args {
    /// The name to answer to, or a path (starting with / ./ ../) for the socket
    pub name: OsString,
    /// What to do with each request
    #[arg(long = "do", value_name = "WHAT")]
    pub transformation: Option<Transformation>,
    /// A shell command: each request is its input, its output is the reply
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<OsString>,
    /// Calls that one client may have under way
    #[arg(long, value_name = "N")]
    pub slots: Option<usize>,
    /// The longest request or reply in bytes; K, M and G are understood [default: 1M]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub capacity: Option<usize>,
    /// Threads that answer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    pub threads: usize,
    /// What to do while there is nothing to do
    #[arg(long, value_enum, default_value_t)]
    pub wait: Waiting,
    /// How long a command of --exec may take, in seconds such as 10 or 0.5; then it is ended [default: for ever]
    #[arg(long, value_name = "SECONDS", conflicts_with = "transformation")]
    #[arg(allow_negative_numbers = true, value_parser = call::seconds)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub replacing: Replacing,
    #[command(flatten)]
    pub admission: Admission,
    /// Print a line of JSON when listening, and one at the end
    #[arg(long)]
    pub json: bool,
}

/// The built-in work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transformation {
    /// The reply is the request
    Echo,
    /// Every bit is turned over
    Invert,
    /// ASCII letters become capitals
    Upper,
    /// The last byte comes first
    Reverse,
    /// The reply is the sum of all bytes, as a decimal number in text
    Sum,
}

impl Transformation {
    fn apply(self, request: &mut wigwag::Request) -> Result<(), String> {
        match self {
            Transformation::Echo => {}
            Transformation::Invert => request.iter_mut().for_each(|byte| *byte = !*byte),
            Transformation::Upper => request.make_ascii_uppercase(),
            Transformation::Reverse => request.reverse(),
            Transformation::Sum => {
                let sum: u64 = request.iter().map(|byte| u64::from(*byte)).sum();
                let (sum, capacity) = (sum.to_string(), request.capacity());
                request.set_reply(sum.as_bytes()).map_err(|_| {
                    let digits = sum.len();
                    format!("{digits} digits do not fit into {capacity} bytes; the server's --capacity raises that")
                })?;
            }
        }
        Ok(())
    }
}

/// Serves until it is told to stop.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let inherited = service_manager::listener_for(&args.name)?; // while there is one thread
    // Before the name is taken: a signal that comes early must not leave it behind.
    let signals = signals::receive(&wanted_signals(args))?;
    let mut builder = builder(args);
    if let Some(listener) = inherited {
        builder = builder.from_listener(listener);
    }
    let mut server = builder.bind(&args.name).map_err(words::explain)?;
    shut_down_on(signals, server.shutdown_handle())?;
    output::announce(&announcement(args, &server))?;
    service_manager::ready();
    let handler = |request: &mut wigwag::Request| answer(args, request);
    match args.threads {
        1 => server.serve(handler)?,
        threads => server.serve_on(threads, handler)?,
    }
    command::wait_if_ending();
    let served = server.stats().calls;
    // Gives the name free before anybody hears that we are done.
    drop(server);
    output::announce(&farewell(args, served))?;
    Ok(ExitCode::SUCCESS)
}

fn builder(args: &Args) -> wigwag::ServerBuilder {
    let mut builder = wigwag::Server::builder().access(args.admission.access()).wait(args.wait.into());
    if let Some(slots) = args.slots {
        builder = builder.slots(slots);
    }
    if let Some(capacity) = args.capacity {
        builder = builder.capacity(capacity);
    }
    if let Some(timeout) = args.replacing.replace {
        builder = builder.replace(timeout);
    }
    builder
}

fn answer(args: &Args, request: &mut wigwag::Request) -> Result<(), String> {
    match (&args.exec, args.transformation) {
        (Some(exec), _) => {
            let bounds = command::Bounds {
                capacity: request.capacity(),
                timeout: args.timeout,
                is_given_up: &|| is_given_up(request),
            };
            let reply = command::run(exec, request, &bounds)?;
            request.set_reply(&reply).map_err(|error| error.to_string())
        }
        (None, Some(transformation)) => transformation.apply(request),
        (None, None) => Err("this server was started without anything to do".into()),
    }
}

/// How much later than its caller stops waiting a command is ended, if the caller has not said that it gave up: it may
/// be stopped.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);

/// Whether nobody waits for the answer: then the work is wasted, and its thread is wanted by others.
fn is_given_up(request: &wigwag::Request) -> bool {
    request.is_abandoned() || request.deadline().is_some_and(|at| Instant::now() > at + AFTER_DEADLINE)
}

/// The first signal ends the server in order, the second one at once, and the commands with it. Ctrl-Z stops commands,
/// too, which are no part of what the terminal stops.
fn shut_down_on(mut signals: Signals, shutdown: wigwag::ShutdownHandle) -> anyhow::Result<()> {
    let watch = move || {
        let mut told = false;
        for signal in signals.forever() {
            if signal == SIGTSTP {
                command::stop_all();
                let _ = emulate_default_handler(signal); // returns when this program goes on
                command::continue_all();
                continue;
            }
            if told {
                command::end_all();
                std::process::exit(128 + signal);
            }
            told = true;
            service_manager::stopping();
            shutdown.shutdown();
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .context("no thread can be started (is `ulimit -u`, `ulimit -v`, or the container's pids.max, reached?)")?;
    Ok(())
}

/// What the server reacts to. Without a terminal and a shell there is nobody who could let it go on after Ctrl-Z.
fn wanted_signals(args: &Args) -> Vec<i32> {
    let has_shell = nix::unistd::getppid().as_raw() != 1 && std::fs::File::open("/dev/tty").is_ok();
    ENDING.into_iter().chain((args.exec.is_some() && has_shell).then_some(SIGTSTP)).collect()
}

fn announcement(args: &Args, server: &wigwag::Server) -> String {
    let (name, path) = (escaped(&args.name), escaped(server.path()));
    if args.json {
        return json!({ "listening": path, "name": name }).to_string();
    }
    let word = words::word(&args.name);
    format!("Listening as {name} ({path}).\nCall it:  wigwag call {word} 'hello'\nStop it with Ctrl-C.")
}

fn farewell(args: &Args, served: u64) -> String {
    if args.json {
        return json!({ "served": served }).to_string();
    }
    format!("Served {} {}.", output::count(served), if served == 1 { "call" } else { "calls" })
}

/// A number of bytes, with K, M or G for powers of 1024.
pub fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| "a number of bytes such as 4096, 64K or 8M is needed".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than this machine can address".to_owned())
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("a number from 1 to 1024 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood() {
        assert_eq!(["0", "48", "64K", "8M", "2g"].map(size), [Ok(0), Ok(48), Ok(65_536), Ok(8 << 20), Ok(2 << 30)]);
        for wrong in ["", "K", "-1", "1.5M", "8MB", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
