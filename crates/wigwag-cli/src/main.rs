//! `wigwag`: try, use and measure shared-memory calls between programs on one machine.
//!
//! Each subcommand is a file of the same name. What they share: `tracer` (counts system calls), `exit`, `surroundings`,
//! `first_process` and `signals` (what a program owes to those around it), `service_manager` (sockets from it, and what
//! it is told), `users`, `words` (errors in those of this program), `waiting`, `view` (what is to be seen of others),
//! `table`, and from the crate of the measuring parts `transport` (Wigwag and the kernel's own services behind one
//! trait), `peer` (the other process) and `output`.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use wigwag_bench::{output, peer, transport};

mod bench;
mod bridges;
mod call;
mod command;
mod demo;
mod doctor;
mod exit;
mod first_process;
mod inspect;
mod keep;
mod lock;
mod ls;
mod man;
mod metrics;
mod publish;
mod queue;
mod replacing;
mod serve;
mod service_manager;
mod service_view;
mod services;
mod signals;
mod standard;
mod stream;
mod subscribe;
mod surroundings;
mod table;
mod top;
mod tracer;
mod users;
mod waiting;
mod words;

const EXAMPLES: &str = "\
Examples:
  wigwag                           # the demo: pictures, checked and measured
  wigwag serve shout --do upper    # a server; then, in another terminal:
  wigwag call shout hello          # prints HELLO
  wigwag lock build -- make        # one at a time, whoever is killed
  wigwag queue recv jobs --keep    # prints what queue send jobs reads
  wigwag stream listen files | tar x        # a directory through shared memory
  wigwag publish log               # each line to everybody who subscribes
  wigwag ls                        # who is there, and what is stopped
  wigwag inspect shout             # who is served, who waits, what hangs
  wigwag top                       # all services, live
  wigwag metrics --listen 9464     # the same for Prometheus
  wigwag doctor                    # whether anything is wrong, and what helps
  wigwag bench --goal P1           # a measured goal and its verdict
  wigwag completions bash > wigwag.bash
";

/// Shared memory for programs that talk to each other on one machine
///
/// A client has data for a server; the server changes it where it lies and gives the same memory back. Nothing is
/// copied, and while both are awake the kernel is not asked for anything. Without a subcommand the demo runs.
#[derive(Debug, Parser)]
#[command(name = "wigwag", version, after_help = format!("{EXAMPLES}\n{}", exit::CODES))]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Call(call::Args),
    Lock(lock::Args),
    Queue(queue::Args),
    Stream(stream::Args),
    Publish(publish::Args),
    Subscribe(subscribe::Args),
    Ls(ls::Args),
    Inspect(inspect::Args),
    Top(top::Args),
    Metrics(metrics::Args),
    Doctor(doctor::Args),
    Bench(bench::BenchArgs),
    /// Print the completions for a shell
    #[command(
        after_help = "Examples:\n  wigwag completions bash > ~/.local/share/bash-completion/completions/wigwag\n  \
                            wigwag completions fish | source"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    Man(man::Args),
}

/// The other processes of the demo and the bench: `wigwag peer ROLE ...`. No business of a person, so that neither
/// help nor completions know of them.
#[derive(Debug, Parser)]
#[command(name = "wigwag peer")]
struct PeerArguments {
    #[command(subcommand)]
    role: Peer,
}

#[derive(Debug, clap::Subcommand)]
enum Peer {
    #[command(flatten)]
    Demo(demo::Role),
    /// Plays a part in the bench.
    Bench {
        /// What to do, in JSON.
        orders: String,
    },
    /// Sends messages.
    Messages {
        /// Which way, of which size.
        case: usize,
        /// Where to run.
        processor: usize,
        /// Where the receiver is.
        directory: std::path::PathBuf,
    },
    /// Listens to broadcasts.
    Broadcast {
        /// What to do, and at which name.
        part: String,
        /// How many times.
        count: usize,
        /// Where to run, or `-`.
        processor: String,
        /// Where the names are.
        directory: std::path::PathBuf,
    },
    /// Is replaced, or follows.
    Restart {
        /// `server`, or `clients`.
        part: String,
        /// Which server, or which process of clients.
        number: usize,
        /// Calls of each client for which there is room.
        room: usize,
        /// Where the server and the ledger are.
        directory: std::path::PathBuf,
    },
    /// Serves a program in C, or does the same as one in Rust.
    Foreign {
        /// `server`, or `client`.
        part: String,
        /// How to wait.
        wait: wigwag_bench::case::WaitMode,
        /// Where to run.
        processor: usize,
        /// Where the server is.
        directory: std::path::PathBuf,
    },
    /// Is the other one who wants a permit.
    Permits {
        /// Which kind of permit.
        which: usize,
        /// Where it is.
        directory: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    if let Some(code) = first_process::stand_by() {
        return code;
    }
    surroundings::put_right();
    if surroundings::was_closed(1) {
        output::set_closed();
    }
    let mut words = std::env::args_os().skip(1).peekable();
    let result = match words.peek() {
        Some(word) if word == "peer" => PeerArguments::try_parse_from(words).map_or_else(|said| tell(&said), play),
        _ => Arguments::try_parse().map_or_else(|said| tell(&said), run),
    };
    match result {
        Ok(code) => code,
        Err(error) if error.is::<output::Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("wigwag: {}", sentence(&error)));
            ExitCode::from(exit::code(&error))
        }
    }
}

/// Prints a help, the version, or what is wrong with the command line. The way in which clap ends a program would take
/// a help that could not be written for one that was.
fn tell(said: &clap::Error) -> anyhow::Result<ExitCode> {
    if said.use_stderr() {
        let _ = said.print(); // who cannot read it has the code
        return Ok(ExitCode::from(exit::USAGE));
    }
    output::written("the text", || said.print())?;
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command.unwrap_or_else(|| Command::Demo(demo::Args::default())) {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Call(args) => call::run(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Stream(args) => stream::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Subscribe(args) => subscribe::run(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Completions { shell } => completions(shell),
        Command::Man(args) => man::run(&args, Arguments::command()),
    }
}

fn play(arguments: PeerArguments) -> anyhow::Result<ExitCode> {
    match arguments.role {
        Peer::Demo(role) => role.play()?,
        Peer::Bench { orders } => bench::peer(orders)?,
        Peer::Messages { case, processor, directory } => bench::messages_peer(case, processor, &directory)?,
        Peer::Broadcast { part, count, processor, directory } => {
            bench::broadcast_peer(&part, count, &processor, &directory)?;
        }
        Peer::Restart { part, number, room, directory } => bench::restart_peer(&part, number, room, &directory)?,
        Peer::Foreign { part, wait, processor, directory } => {
            bench::foreign_peer(&part, wait, processor, &directory)?;
        }
        Peer::Permits { which, directory } => bench::permits_peer(which, &directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    // Into memory first: the generator does not survive a reader that goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "wigwag", &mut script);
    output::named("the completions", &script)?;
    Ok(ExitCode::SUCCESS)
}

/// An error and its causes, as one sentence with one full stop.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = format!("{error:#}");
    text.truncate(text.trim_end().len());
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_sentence() {
        let error = anyhow::anyhow!("no such file\n").context("the picture cannot be opened");
        assert_eq!(sentence(&error), "the picture cannot be opened: no such file.");
    }
}
