//! `wigwag serve`: a server from the command line.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::waiting::Waiting;
use crate::{command, exit, output};

const EXAMPLES: &str = "\
Examples:
  wigwag serve shout --do upper         # then: wigwag call shout hello
  wigwag serve sort --exec 'sort -u'    # then: date | wigwag call sort
  wigwag serve frames --do invert --capacity 8M --threads 4
  wigwag serve ./here.sock --do echo    # a path instead of a name

SIGTERM and Ctrl-C end it: calls under way are still answered, and the exit code is 0. A second one \
ends it at once.

--exec runs `sh -c COMMAND` once for each request, with the request as its standard input and its \
standard output as the reply. A command that fails, or prints more than the capacity, is an error \
at the caller.";

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
    /// Another user who may call, by number (may be repeated)
    #[arg(long, value_name = "UID", allow_negative_numbers = true, value_parser = user)]
    pub allow_uid: Vec<u32>,
    /// A group whose members may call, by number (may be repeated)
    #[arg(long, value_name = "GID", allow_negative_numbers = true, value_parser = group)]
    pub allow_gid: Vec<u32>,
    /// Let every user of this machine call
    #[arg(long)]
    pub allow_everyone: bool,
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
    // Before the name is taken: a signal that comes early must not leave it behind.
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).context("the signals that end a server cannot be received")?;
    let mut server = builder(args).bind(&args.name)?;
    shut_down_on(signals, server.shutdown_handle())?;
    tell(&announcement(args, &server))?;
    let handler = |request: &mut wigwag::Request| answer(args, request);
    match args.threads {
        1 => server.serve(handler)?,
        threads => server.serve_on(threads, handler)?,
    }
    let served = server.stats().calls;
    // Gives the name free before anybody hears that we are done.
    drop(server);
    tell(&farewell(args, served))?;
    Ok(ExitCode::SUCCESS)
}

fn builder(args: &Args) -> wigwag::ServerBuilder {
    let mut builder = wigwag::Server::builder().wait(args.wait.into());
    if let Some(slots) = args.slots {
        builder = builder.slots(slots);
    }
    if let Some(capacity) = args.capacity {
        builder = builder.capacity(capacity);
    }
    for uid in &args.allow_uid {
        builder = builder.allow_user(*uid);
    }
    for gid in &args.allow_gid {
        builder = builder.allow_group(*gid);
    }
    if args.allow_everyone {
        builder = builder.allow_everyone();
    }
    builder
}

fn answer(args: &Args, request: &mut wigwag::Request) -> Result<(), String> {
    match (&args.exec, args.transformation) {
        (Some(exec), _) => {
            let reply = command::run(exec, request, request.capacity())?;
            request.set_reply(&reply).map_err(|error| error.to_string())
        }
        (None, Some(transformation)) => transformation.apply(request),
        (None, None) => Err("this server was started without anything to do".into()),
    }
}

/// The first signal ends the server in order, the second one at once.
fn shut_down_on(mut signals: Signals, shutdown: wigwag::ShutdownHandle) -> anyhow::Result<()> {
    let watch = move || {
        let mut told = false;
        for signal in signals.forever() {
            if told {
                std::process::exit(128 + signal);
            }
            told = true;
            shutdown.shutdown();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).context("no thread can be started")?;
    Ok(())
}

fn announcement(args: &Args, server: &wigwag::Server) -> String {
    let (name, path) = (args.name.to_string_lossy(), server.path());
    if args.json {
        return json!({ "listening": path, "name": name }).to_string();
    }
    let options_end = if name.starts_with('-') { "-- " } else { "" };
    let call = format!("wigwag call {options_end}{} 'hello'", output::shell_word(&args.name));
    format!("Listening as {name} ({}).\nCall it:  {call}\nStop it with Ctrl-C.", path.display())
}

fn farewell(args: &Args, served: u64) -> String {
    if args.json {
        return json!({ "served": served }).to_string();
    }
    format!("Served {} {}.", output::count(served), if served == 1 { "call" } else { "calls" })
}

/// Prints a line. A server goes on when nobody listens to what it says.
fn tell(text: &str) -> anyhow::Result<()> {
    match output::line(text) {
        Err(error) if error.is::<output::Unread>() => Ok(()),
        result => result,
    }
}

/// A number of bytes, with K, M or G for powers of 1024.
fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| "a number of bytes such as 4096, 64K or 8M is needed".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than this machine can address".to_owned())
}

fn user(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("a user number is needed, for example from `id -u {}`", account(text)))
}

fn group(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("a group number is needed, for example from `getent group {}`", account(text)))
}

/// What was given, where it can be somebody's name.
fn account(text: &str) -> String {
    let named = text.starts_with(|first: char| first.is_alphabetic() || first == '_');
    if named { output::shell_word(text.as_ref()) } else { "NAME".to_owned() }
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
    fn users_and_groups_are_numbers() {
        assert_eq!((user("1000"), group("0")), (Ok(1000), Ok(0)));
        let sentences = [user("root"), user("-1"), group("video")].map(Result::unwrap_err);
        for (sentence, cure) in sentences.iter().zip(["`id -u root`", "`id -u NAME`", "`getent group video`"]) {
            assert!(sentence.contains(cure), "{sentence}");
        }
    }

    #[test]
    fn sizes_are_understood() {
        assert_eq!(["0", "48", "64K", "8M", "2g"].map(size), [Ok(0), Ok(48), Ok(65_536), Ok(8 << 20), Ok(2 << 30)]);
        for wrong in ["", "K", "-1", "1.5M", "8MB", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
