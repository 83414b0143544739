//! `wigwag call`: one request from the command line, or the same one many times.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{IsTerminal as _, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use wigwag::Form;
use wigwag::runtime::escaped;

use crate::words::Connecting;
use crate::{exit, output, standard, users, words};

/// The longest call that is told apart from a longer one, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

const EXAMPLES: &str = "\
Examples:
  wigwag call shout hello
  wigwag call sort --input words.txt --output sorted.txt
  date | wigwag call shout --input -
  wigwag call shout hello --repeat 10000 --json
  wigwag call shout hello --timeout 0.5 || echo \"code $?\"
  wigwag call shout hello --server-timeout 30    # begins before its server
  wigwag call shout hello --repeat 1000 --follow 10   # across restarts, too
  wigwag call /srv/shout.sock hello --server-user www-data
";

/// Call a server and print its reply
///
/// The request is TEXT, a file, or standard input. The reply goes to standard output or into a file, byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n{}", exit::CODES))]
pub struct Args {
    /// The server's name, or the path of its socket
    pub name: OsString,
    /// The request [default: standard input]
    #[arg(conflicts_with = "input")]
    pub text: Option<OsString>,
    /// A file with the request; - is standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// The file for the reply; - is standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Whose server is expected, by name or number, where it is not this user's
    #[arg(long, value_name = "USER", allow_negative_numbers = true, value_parser = users::user)]
    pub server_user: Option<u32>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Wait so long for a server while there is none [default: not at all]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    pub server_timeout: Option<Duration>,
    /// Outlive the server: look so long for its successor, and pass what no server has begun to that one
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    pub follow: Option<Duration>,
    /// Send the request so many times; the last reply counts, and the times are printed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
    /// Print what was done as JSON instead of the reply; it has the reply as `reply` where that is UTF-8 text and not
    /// in a file of --output
    #[arg(long)]
    pub json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    name: String,
    calls: u64,
    request_bytes: usize,
    reply_bytes: usize,
    /// The reply, where it is text and does not go into a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    calls_per_second: f64,
}

/// Calls and prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.output.is_none() {
        output::check()?; // nothing is executed whose answer would be lost
    }
    let client = connect(args)?;
    let request = request(args, client.capacity())?;
    let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST, 3)?;
    let mut reply = Vec::new();
    let start = Instant::now();
    for remaining in (0..args.repeat).rev() {
        let sent = Instant::now();
        let answer = match args.timeout {
            Some(timeout) => client.call_timeout(&request, timeout),
            None => client.call(&request),
        };
        let answer = answer.map_err(|error| connecting(args).explain(error))?;
        times.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if remaining == 0 {
            reply = answer.to_vec();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    deliver(args, &request, &reply, &times, seconds)?;
    Ok(ExitCode::SUCCESS)
}

fn connect(args: &Args) -> anyhow::Result<wigwag::Client> {
    let mut builder = wigwag::Client::builder();
    if let Some(timeout) = args.timeout {
        builder = builder.timeout(timeout);
    }
    if let Some(timeout) = args.server_timeout {
        builder = builder.server_timeout(timeout);
    }
    if let Some(time) = args.follow {
        builder = builder.follow_restarts(time);
    }
    if let Some(uid) = args.server_user {
        builder = builder.server_user(uid);
    }
    builder.connect(&args.name).map_err(|error| connecting(args).explain(error))
}

fn connecting(args: &Args) -> Connecting<'_> {
    Connecting { name: &args.name, form: Form::Exchange, server_user: args.server_user }
}

/// The request; never more of it in memory than the server takes.
fn request(args: &Args, capacity: usize) -> anyhow::Result<Vec<u8>> {
    if let Some(text) = &args.text {
        ensure!(text.len() <= capacity, too_long(args, Some(text.len() as u64), capacity));
        return Ok(text.as_bytes().to_vec());
    }
    match &args.input {
        Some(path) if path.as_os_str() != "-" => {
            let describe = || format!("the file {} cannot be read", path.display());
            let file = File::open(path).with_context(describe)?;
            let length = length(&file);
            read(file, capacity).with_context(describe)?.ok_or_else(|| too_long(args, length, capacity))
        }
        given => {
            let input = standard::input()?;
            let silent = given.is_none() && input.is_terminal();
            ensure!(!silent, "there is nothing to send: give a text, --input FILE, or --input - for standard input");
            let whole = read(input, capacity).context("standard input cannot be read")?;
            whole.ok_or_else(|| too_long(args, None, capacity))
        }
    }
}

/// All that `source` has; `None` where that is more than `capacity`.
fn read(source: impl Read, capacity: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut request = Vec::new();
    source.take((capacity as u64).saturating_add(1)).read_to_end(&mut request)?;
    Ok((request.len() <= capacity).then_some(request))
}

/// The length of a regular file. A device or a pipe tells nobody what is to come.
fn length(file: &File) -> Option<u64> {
    file.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len())
}

fn too_long(args: &Args, length: Option<u64>, capacity: usize) -> anyhow::Error {
    // A file of /proc, or one that was growing, has said less than it has.
    let known = length.filter(|length| *length > capacity as u64);
    let (extent, wanted) = match known {
        Some(length) => (format!("{length} bytes"), length.to_string()),
        None => (format!("more than {capacity} bytes"), "BYTES".to_owned()),
    };
    let cure = words::with_flags("serve", &args.name, &format!("--capacity {wanted} ..."));
    anyhow::anyhow!(
        "the request has {extent}, and this server takes {capacity} bytes at most: start it with more, `{cure}`"
    )
}

fn deliver(args: &Args, request: &[u8], reply: &[u8], times: &Histogram<u64>, seconds: f64) -> anyhow::Result<()> {
    let file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if let Some(path) = file {
        std::fs::write(path, reply).with_context(|| format!("the file {} cannot be written", path.display()))?;
    }
    let summary = Summary {
        name: escaped(&args.name),
        calls: args.repeat,
        request_bytes: request.len(),
        reply_bytes: reply.len(),
        reply: if file.is_none() { String::from_utf8(reply.to_vec()).ok() } else { None },
        p50_ns: times.value_at_quantile(0.5),
        p99_ns: times.value_at_quantile(0.99),
        max_ns: times.max(),
        calls_per_second: (args.repeat as f64 / seconds * 10.0).round() / 10.0,
    };
    if args.json {
        return output::json(&summary);
    }
    if file.is_none() {
        output::named("the reply", reply)?;
        if std::io::stdout().is_terminal() && !reply.ends_with(b"\n") {
            output::named("the reply", b"\n")?;
        }
    }
    if args.repeat > 1 {
        output::complain(&summary.sentence());
    }
    Ok(())
}

impl Summary {
    fn sentence(&self) -> String {
        format!(
            "{} calls: p50 {}, p99 {}, longest {}, {} calls a second.",
            output::count(self.calls),
            output::duration(self.p50_ns as f64),
            output::duration(self.p99_ns as f64),
            output::duration(self.max_ns as f64),
            output::count(self.calls_per_second as u64),
        )
    }
}

/// A number of seconds on the command line, above 0.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    number.filter(|duration| !duration.is_zero()).ok_or_else(|| "a number of seconds above 0 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_understood() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "soon", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
