//! `http-over-wigwag`: an HTTP/1.1 server and client by hyper, over a Wigwag stream or a Unix socket.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use wigwag_http::carrier::Carrier;
use wigwag_http::client::Client;
use wigwag_http::{measure, service};

const EXAMPLES: &str = "Examples:
  http-over-wigwag serve --over wigwag ./http &
  http-over-wigwag get --over wigwag ./http /
  http-over-wigwag get --over wigwag ./http /chunks/3
  http-over-wigwag measure                    both carriers, taking turns";

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
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve { over, path } => {
            end_with_input();
            service::listen(over, &path, || println!("listening")).await?;
        }
        Command::Get { over, path, uri } => {
            let bytes = Client::connect(over, &path).await?.get(&uri).await?;
            std::io::stdout().write_all(&bytes)?;
        }
        Command::Measure { seconds, rounds, json } => {
            let rows = measure::run(&std::env::current_exe()?, seconds, rounds).await?;
            if json {
                rows.iter().try_for_each(|row| serde_json::to_string(row).map(|line| println!("{line}")))?;
                return Ok(());
            }
            println!("{:<28} {:<8} {:>11} {:>10} {:>10} {:>8}", "", "over", "requests/s", "p50 us", "p99 us", "x unix");
            for row in rows {
                println!(
                    "{:<28} {:<8} {:>11.0} {:>10.1} {:>10.1} {:>8.2}",
                    row.work,
                    row.carrier.name(),
                    row.requests_per_second,
                    row.p50_ns as f64 / 1e3,
                    row.p99_ns as f64 / 1e3,
                    row.times_unix
                );
            }
        }
    }
    Ok(())
}

/// A server that was started by somebody who is gone ends, too.
fn end_with_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0)
    });
}
