//! `http-over-wigwag`: an HTTP/1.1 server and client by hyper, over a Wigwag stream or a Unix socket.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum as _};
use wigwag_http::carrier::Carrier;
use wigwag_http::client::Client;
use wigwag_http::runtime::Runtime;
use wigwag_http::{measure, service};

const EXAMPLES: &str = "Examples:
  http-over-wigwag serve --over wigwag ./http &
  http-over-wigwag get --over wigwag ./http /
  http-over-wigwag get --over wigwag ./http /chunks/3
  http-over-wigwag measure                    both carriers, taking turns
  http-over-wigwag measure --goal             the same, and whether P17 is met";

/// HTTP/1.1 by hyper over a Wigwag stream or a Unix socket
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve /, /echo (POST), /bytes/N, /chunks/N and /slowly/N until standard input ends
    Serve {
        /// What carries it
        #[arg(long, value_enum, default_value_t = Carrier::Wigwag)]
        over: Carrier,
        /// What runs its tasks
        #[arg(long, value_enum, default_value_t = Runtime::CurrentThread)]
        runtime: Runtime,
        /// The socket's path
        path: PathBuf,
    },
    /// Print a resource
    Get {
        /// What carries it
        #[arg(long, value_enum, default_value_t = Carrier::Wigwag)]
        over: Carrier,
        /// The socket's path
        path: PathBuf,
        /// The resource, such as /bytes/100
        uri: String,
    },
    /// Requests per second and latency over both, taking turns
    Measure {
        /// Time for all of it
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
        /// Rounds: each measures both carriers once
        #[arg(long, default_value_t = 10)]
        rounds: usize,
        /// What runs the tasks of both sides [default: one after the other]
        #[arg(long, value_enum)]
        runtime: Vec<Runtime>,
        /// Also say whether goal P17 is met; exits 0 when it is and 1 when not
        #[arg(long)]
        goal: bool,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Serve { over, runtime, path } => {
            end_with_input();
            runtime.run(async move { Ok(service::listen(over, &path, || println!("listening")).await?) })?;
        }
        Command::Get { over, path, uri } => {
            let get = async move { Client::connect(over, &path).await?.get(&uri).await };
            std::io::stdout().write_all(&Runtime::CurrentThread.run(get)?)?;
        }
        Command::Measure { seconds, rounds, runtime, goal, json } => {
            let runtimes = if runtime.is_empty() { Runtime::value_variants() } else { &runtime };
            let program = std::env::current_exe()?;
            let seconds = seconds / runtimes.len() as f64;
            let rows: Vec<measure::Row> = runtimes
                .iter()
                .map(|&runtime| {
                    let program = program.clone();
                    runtime.run(async move { measure::run(&program, runtime, seconds, rounds).await })
                })
                .collect::<anyhow::Result<Vec<_>>>()?
                .concat();
            if json {
                rows.iter().try_for_each(|row| serde_json::to_string(row).map(|line| println!("{line}")))?;
            } else {
                show(&rows);
            }
            if goal {
                let missed = measure::missed(&rows);
                missed.iter().for_each(|what| eprintln!("{what}"));
                eprintln!("P17: {}", if missed.is_empty() { "met" } else { "not met" });
                return Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(rows: &[measure::Row]) {
    println!(
        "{:<15} {:<28} {:<8} {:>11} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "runtime", "", "over", "requests/s", "p50 us", "p99 us", "CPU us", "x unix", "x CPU"
    );
    for row in rows {
        println!(
            "{:<15} {:<28} {:<8} {:>11.0} {:>8.1} {:>8.1} {:>8.1} {:>8.2} {:>8.2}",
            row.runtime.name(),
            row.work,
            row.carrier.name(),
            row.requests_per_second,
            row.p50_ns as f64 / 1e3,
            row.p99_ns as f64 / 1e3,
            row.processor_ns_per_request / 1e3,
            row.times_unix,
            row.processor_times_unix,
        );
    }
}

/// A server that was started by somebody who is gone ends, too.
fn end_with_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0)
    });
}
