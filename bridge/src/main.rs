//! The program.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use wigwag_bridge::settings::{ExportSettings, ImportSettings, Settings};
use wigwag_bridge::status::{STATUS_NAME, Status};
use wigwag_bridge::{Bridge, bench, bridge};

const EXAMPLES: &str = "\
Examples:
  wigwag-bridge --export orders --listen tcp/10.0.0.1:7447       on the machine where the service runs
  wigwag-bridge --import orders --connect tcp/10.0.0.1:7447      on another: programs there call orders
  wigwag-bridge --import orders@a --as orders-of-a ...           of one machine, under another name
  wigwag-bridge --config bridge.toml --check                     says what it would do
  wigwag-bridge status                                           what the bridge of this machine does

It listens on the loopback address only unless told otherwise. SIGTERM and SIGINT end it in order: what is under way is
answered. It exits with 0 then, with 1 after an error, with 2 on wrong usage.";

/// Carries calls of services to other machines, and of other machines' services to this one
#[derive(Parser)]
#[command(name = "wigwag-bridge", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// What a bridge does just now: links, round trips, losses
    Status(StatusArguments),
    /// Measures a bridged call beside bare zenoh
    Bench(bench::Arguments),
}

#[derive(Args)]
struct StatusArguments {
    /// The name under which the bridge tells of itself
    #[arg(long, value_name = "NAME", default_value = STATUS_NAME)]
    status_name: String,
    /// As JSON
    #[arg(long, conflicts_with = "metrics")]
    json: bool,
    /// As Prometheus reads it
    #[arg(long)]
    metrics: bool,
}

#[derive(Args)]
struct Run {
    /// A service of this machine for others; may be given several times
    #[arg(long, value_name = "NAME")]
    export: Vec<String>,
    /// A service of others for this machine; may be given several times
    #[arg(long, value_name = "NAME[@HOST]")]
    import: Vec<String>,
    /// The other name of the only export (its public name) or import (its local name)
    #[arg(long = "as", value_name = "NAME")]
    other_name: Option<String>,
    /// Largest payload in bytes [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    capacity: Option<usize>,
    /// Calls of one link at a time [default: 64]
    #[arg(long, value_name = "COUNT")]
    calls: Option<usize>,
    /// Where zenoh listens [default: tcp/127.0.0.1:7447]
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<String>,
    /// Whom zenoh connects to
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,
    /// zenoh's own configuration, instead of --listen and --connect: routers, TLS, access lists
    #[arg(long, value_name = "FILE")]
    zenoh_config: Option<PathBuf>,
    /// This machine's name for others [default: that of the system]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Settings as TOML; flags come on top
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name under which the bridge tells of itself [default: wigwag-bridge]
    #[arg(long, value_name = "NAME")]
    status_name: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    check: bool,
}

impl Run {
    fn settings(self) -> anyhow::Result<(Settings, bool)> {
        let mut settings = self.config.as_deref().map_or_else(|| Ok(Settings::default()), Settings::read)?;
        let mut exports: Vec<_> = self.export.iter().map(ExportSettings::new).collect();
        let mut imports: Vec<_> = self.import.iter().map(|name| ImportSettings::new(name)).collect();
        match (self.other_name, exports.as_mut_slice(), imports.as_mut_slice()) {
            (None, ..) => {}
            (Some(name), [export], []) => export.public = Some(name),
            (Some(name), [], [import]) => import.local = Some(name),
            (Some(_), ..) => bail!("--as names one export or one import: several are written in a --config file"),
        }
        for (own_calls, own_capacity) in exports
            .iter_mut()
            .map(|export| (&mut export.calls, &mut export.capacity))
            .chain(imports.iter_mut().map(|import| (&mut import.calls, &mut import.capacity)))
        {
            *own_calls = self.calls.unwrap_or(*own_calls);
            *own_capacity = self.capacity.unwrap_or(*own_capacity);
        }
        settings.exports.append(&mut exports);
        settings.imports.append(&mut imports);
        settings.listen.extend(self.listen);
        settings.connect.extend(self.connect);
        settings.zenoh_config = self.zenoh_config.or(settings.zenoh_config);
        settings.host = self.host.unwrap_or(settings.host);
        settings.status_name = self.status_name.unwrap_or(settings.status_name);
        settings.check()?;
        Ok((settings, self.check))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wigwag-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Some(Command::Status(arguments)) => status(&arguments),
        Some(Command::Bench(arguments)) => bench::run(&arguments),
        None => {
            let (settings, is_check) = arguments.run.settings()?;
            if is_check {
                print!("{}", settings.plan());
                return Ok(ExitCode::SUCCESS);
            }
            gather_zenoh();
            // Two at least: a put that waits for zenoh must not keep the reactor.
            let workers = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8));
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
            runtime.block_on(bridge_until_told(settings))?;
            runtime.shutdown_timeout(Duration::from_secs(1));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// How zenoh's threads are to be: what arrives wakes the thread that handles it. By default the socket belongs to
/// another of zenoh's runtimes than the task that reads from it, so each message wakes two threads, one after the
/// other. Who sends has a thread of its own, as a put may wait for it.
const ZENOH_THREADS: &str =
    "(app: (worker_threads: 2), rx: (handover: app), acc: (handover: app), net: (handover: app))";

/// Has zenoh's threads arranged. zenoh reads that from the environment and nowhere else, and the environment of a
/// program is its starter's: so the program starts itself again, in place. Whoever has set it is not overruled.
fn gather_zenoh() {
    const VARIABLE: &str = "ZENOH_RUNTIME";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut words = std::env::args_os();
    let (Ok(program), Some(name)) = (std::env::current_exe(), words.next()) else { return };
    let error = std::process::Command::new(program).arg0(name).args(words).env(VARIABLE, ZENOH_THREADS).exec();
    eprintln!("wigwag-bridge: zenoh's threads stay as they are by default: {error}");
}

async fn bridge_until_told(settings: Settings) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("could not watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not watch for SIGINT")?;
    let mut bridge = Bridge::start(settings).await?;
    bridge.tell()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    eprintln!("wigwag-bridge: told to end: calls under way are answered first; a second signal ends it at once");
    tokio::select! {
        () = bridge.end() => Ok(()),
        _ = terminate.recv() => bail!("ended with calls under way"),
        _ = interrupt.recv() => bail!("ended with calls under way"),
    }
}

fn status(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let client = wigwag::Client::builder()
        .contract(bridge::status_contract())
        .timeout(Duration::from_secs(5))
        .connect(&arguments.status_name)
        .context("no bridge tells of itself; start one, or name it with --status-name")?;
    let reply = client.call_timeout(b"", Duration::from_secs(5))?;
    let status: Status = serde_json::from_slice(&reply).context("the bridge answered with something else")?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else if arguments.metrics {
        print!("{}", status.to_metrics());
    } else {
        print!("{}", status.to_lines());
    }
    Ok(ExitCode::SUCCESS)
}
