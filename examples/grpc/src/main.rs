//! Serves and calls over shared memory or a Unix socket, and measures one against the other.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_stream::wrappers::UnixListenerStream;
use wigwag_grpc::messages::Bytes;
use wigwag_grpc::work_client::WorkClient;
use wigwag_grpc::{bench, channel, serve};

/// gRPC over shared memory, beside a Unix socket.
#[derive(Parser)]
#[command(name = "wigwag-grpc")]
enum Command {
    /// Serves until it is interrupted
    Serve(Place),
    /// Makes one call
    Call {
        /// The bytes that the server inverts
        text: String,
        #[command(flatten)]
        place: Place,
    },
    /// P14: unary calls over both, with 1 and with 64 callers
    Bench {
        /// How long, about
        #[arg(long, default_value_t = 30.0)]
        seconds: f64,
    },
    /// One part of a measurement
    #[command(subcommand, hide = true)]
    Peer(Peer),
}

#[derive(Subcommand)]
enum Peer {
    /// A process of a phase
    Bench {
        /// JSON
        orders: String,
    },
}

#[derive(clap::Args)]
struct Place {
    /// A path for a Unix socket instead of shared memory
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// The name in shared memory
    #[arg(long, default_value = "work")]
    name: String,
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wigwag-grpc: {error:#}.");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = wigwag_bench::tasks::runtime()?;
    match command {
        Command::Serve(Place { unix, name }) => runtime.block_on(async {
            let stop = async { drop(tokio::signal::ctrl_c().await) };
            match unix {
                Some(path) => serve(UnixListenerStream::new(tokio::net::UnixListener::bind(path)?), stop).await?,
                None => serve(wigwag::tokio::StreamListener::bind(name)?.incoming(), stop).await?,
            }
            Ok(ExitCode::SUCCESS)
        }),
        Command::Call { text, place: Place { unix, name } } => runtime.block_on(async {
            let channel = match unix {
                Some(path) => channel(move || tokio::net::UnixStream::connect(path.clone())).await?,
                None => channel(move || wigwag::tokio::Stream::connect(name.clone())).await?,
            };
            let reply = WorkClient::new(channel).invert(Bytes { data: text.into_bytes() }).await?;
            println!("{:02x?}", reply.into_inner().data);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Bench { seconds } => {
            drop(runtime);
            let verdict = bench::run(seconds)?;
            verdict.lines.iter().for_each(|line| println!("{line}"));
            Ok(if verdict.is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Peer(Peer::Bench { orders }) => bench::play(&orders).map(|()| ExitCode::SUCCESS),
    }
}
