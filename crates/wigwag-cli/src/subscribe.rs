//! `wigwag subscribe`: what a publisher publishes, to standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use wigwag::{ErrorKind, Form, Message, Subscriber};

use crate::lock::seconds;
use crate::waiting::Waiting;
use crate::words::Connecting;
use crate::{exit, output, standard, users};

const EXAMPLES: &str = "\
Examples:
  wigwag subscribe log                              # each message becomes a line
  wigwag subscribe prices --start last --count 1    # the newest one
  wigwag subscribe frames --count 1 --raw > picture.png
  wigwag subscribe log --json | jq .lost_before     # numbers, losses and texts
  wigwag subscribe log --timeout 60                 # survives restarts of a minute

It ends with the publisher, once all is read. What this subscriber was too slow for is lost: it is told on standard \
    error, and with --json in each message. With --timeout it goes on at the next publisher of the name.";

/// Print what a publisher publishes
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
pub struct Args {
    /// The name, or a path (starting with / ./ ../)
    name: OsString,
    /// Which message comes first
    #[arg(long, value_enum, default_value_t)]
    start: Start,
    /// End after so many messages
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print each message as a line of JSON: its number, what was lost before it, its length, and its text, or its
    /// bytes in hexadecimal where they are no text
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Print messages as they are, with no end of line after each
    #[arg(long)]
    raw: bool,
    /// Wait so long for a publisher while there is none, also after one has ended [default: not at all]
    #[arg(long, visible_alias = "server-timeout", value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Whose publisher is expected, by name or number, where it is not this user's
    #[arg(long, value_name = "USER", alias = "publisher-user")]
    #[arg(allow_negative_numbers = true, value_parser = users::user)]
    server_user: Option<u32>,
    /// How to wait
    #[arg(long, value_enum, default_value_t)]
    wait: Waiting,
}

/// Which message comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Start {
    /// The first one that is published from now on
    #[default]
    Next,
    /// The oldest one that is kept
    Oldest,
    /// The newest one that is there
    Last,
}

impl From<Start> for wigwag::Start {
    fn from(start: Start) -> wigwag::Start {
        match start {
            Start::Next => wigwag::Start::Next,
            Start::Oldest => wigwag::Start::Oldest,
            Start::Last => wigwag::Start::Last,
        }
    }
}

/// Prints messages until there are no more.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = standard::unbuffered_output()?;
    let to = Connecting { name: &args.name, form: Form::Broadcast, server_user: args.server_user };
    let mut builder = Subscriber::builder().start(args.start.into()).wait(args.wait.into());
    if let Some(timeout) = args.timeout {
        builder = builder.server_timeout(timeout).reconnect(timeout);
    }
    if let Some(uid) = args.server_user {
        builder = builder.server_user(uid);
    }
    let mut subscriber = builder.connect(&args.name).map_err(|error| to.explain(error))?;
    let mut left = args.count;
    while left != Some(0) {
        let message = match subscriber.recv() {
            Ok(message) => message,
            Err(error) if error.kind() == ErrorKind::Ended && left.is_none() => return Ok(ExitCode::SUCCESS),
            Err(error) if error.kind() == ErrorKind::NotRunning && left.is_none() => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(to.explain(error)),
        };
        left = left.map(|left| left - 1);
        if !args.json {
            tell_what_is_lost(&message);
        }
        print(&mut out, &text_of(&message, args))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is missing before a message.
fn tell_what_is_lost(message: &Message) {
    let (sequence, lost) = (message.sequence(), message.lost_before());
    let messages = if lost == 1 { "message was" } else { "messages were" };
    match (message.is_of_new_publisher(), lost) {
        (true, 0) => output::complain("wigwag: another publisher has taken the name; none of its messages is missing."),
        (true, _) => output::complain(&format!(
            "wigwag: another publisher has taken the name; {lost} {messages} gone before it was found."
        )),
        (false, 0) => {}
        (false, _) => output::complain(&format!(
            "wigwag: {lost} {messages} lost before number {sequence}: more came than the publisher keeps \
             (--history)."
        )),
    }
}

/// A message as it is printed.
fn text_of(message: &Message, args: &Args) -> Vec<u8> {
    if args.raw {
        return message.to_vec();
    }
    if !args.json {
        return [message, &b"\n"[..]].concat();
    }
    let mut object = json!({
        "sequence": message.sequence(),
        "lost_before": message.lost_before(),
        "is_of_new_publisher": message.is_of_new_publisher(),
        "len": message.len(),
    });
    match std::str::from_utf8(message) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["hex"] = message.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
    format!("{object}\n").into_bytes()
}

fn print(out: &mut File, text: &[u8]) -> anyhow::Result<()> {
    match out.write_all(text) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(output::Unread.into()),
        Err(error) => Err(anyhow::Error::new(error).context("standard output cannot be written to")),
    }
}
