//! Goal Z1: a bridged call of 48 bytes beside bare zenoh over the same link.
//!
//! Two machines as network namespaces with a cable between, or, where these cannot be made, the loopback network. Five
//! processes: a bridge on each machine, the server, the caller, and none that does two of these. The caller takes turns
//! between a bridged call, a put that is answered by a put, a query, and, where the feature `grpc` is on, a call of
//! gRPC over TCP, so that what disturbs one disturbs all; and then between messages of a bridged queue and bare puts
//! ([`rate`]). The verdict is about zenoh only: gRPC is what a reader knows the cost of.

#[cfg(feature = "grpc")]
mod grpc;
mod rate;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use zenoh::Wait as _;
use zenoh::qos::{CongestionControl, Priority};

use crate::bench::rate::Rates;
use crate::engine::configuration;
use crate::settings::Settings;

/// Bytes of a request and of its reply.
const LEN: usize = 48;

/// The most that a bridged call may take, as a multiple of the better of the two that are bare.
const GOAL: f64 = 1.3;

/// What the help says below the options.
const GRPC: &str = if cfg!(feature = "grpc") {
    "A call of gRPC (tonic) over TCP is measured in the same turns."
} else {
    "This program was built without the feature grpc, so the row of gRPC (tonic) over TCP is absent."
};

/// Where gRPC is served, beside zenoh's 7547 and 7548.
#[cfg(feature = "grpc")]
const GRPC_PORT: u16 = 7550;

/// What is measured.
#[derive(clap::Args)]
#[command(after_help = GRPC)]
pub struct Arguments {
    /// The goal
    #[arg(long, value_enum, default_value = "z1", ignore_case = true)]
    goal: Goal,
    /// Rounds, of 500 calls of each kind
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Use the loopback network, also where namespaces can be made
    #[arg(long)]
    loopback: bool,
    /// What this process is
    #[arg(long, value_enum, hide = true)]
    role: Option<Role>,
    /// Where the names are
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
    /// Where the bare peer listens
    #[arg(long, hide = true)]
    endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    /// A bridged call of 48 bytes beside bare zenoh
    Z1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Server,
    Answerer,
    Caller,
}

/// Measures, and says whether the goal is met.
///
/// # Errors
/// Those of zenoh, of the library and of the system.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Goal::Z1 = arguments.goal;
    let (directory, endpoint) = (arguments.directory.as_deref(), arguments.endpoint.as_deref());
    match (arguments.role, directory, endpoint) {
        (None, ..) => measure(arguments),
        (Some(Role::Server), Some(directory), _) => serve(directory),
        (Some(Role::Answerer), _, Some(endpoint)) => answer(endpoint),
        (Some(Role::Caller), Some(directory), Some(endpoint)) => call(directory, endpoint, arguments.rounds),
        _ => Err(anyhow!("a role lacks its directory or endpoint")),
    }
}

// ---- the parent -----------------------------------------------------------------------------------------------------

/// A process that ends with the measurement.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is removed at the end.
struct Ground {
    directory: PathBuf,
    namespaces: Option<[String; 2]>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        for namespace in self.namespaces.iter().flatten() {
            let _ = ip(&format!("netns del {namespace}"));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split_whitespace()).output().map_err(|error| error.to_string())?;
    let failed = || format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(failed)
}

fn namespaces() -> Result<[String; 2], String> {
    let of = |machine| format!("wigwag{}{machine}", std::process::id());
    let [a, b] = ["a", "b"].map(of);
    ip(&format!("netns add {a}"))?;
    let made = || {
        ip(&format!("netns add {b}"))?;
        ip(&format!("-n {a} link add eth type veth peer name eth netns {b}"))?;
        for (namespace, address) in [(&a, "10.78.0.1/24"), (&b, "10.78.0.2/24")] {
            ip(&format!("-n {namespace} addr add {address} dev eth"))?;
            ip(&format!("-n {namespace} link set eth up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        Ok(())
    };
    let outcome: Result<(), String> = made();
    outcome.inspect_err(|_| {
        let _ = ip(&format!("netns del {a}"));
        let _ = ip(&format!("netns del {b}"));
    })?;
    Ok([a, b])
}

fn start(namespace: Option<&String>, words: &[&str]) -> anyhow::Result<Started> {
    let program = std::env::current_exe()?;
    let mut command = match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program);
            command
        }
    };
    command.args(words).stdin(Stdio::null()).stderr(Stdio::null());
    Ok(Started(command.spawn().context("could not start a process of the measurement")?))
}

fn measure(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = std::env::temp_dir().join(format!("wigwag-bridge-bench-{}", std::process::id()));
    std::fs::create_dir(&directory).with_context(|| format!("could not make {}", directory.display()))?;
    let made = if arguments.loopback { Err("--loopback".to_owned()) } else { namespaces() };
    if let Err(why) = &made {
        println!("over the loopback network: {why}");
    }
    let ground = Ground { directory, namespaces: made.ok() };
    let (a, b) = match &ground.namespaces {
        Some([a, b]) => (Some(a), Some(b)),
        None => (None, None),
    };
    let address = if a.is_some() { "10.78.0.2" } else { "127.0.0.1" };
    let (bridged, bare) = (format!("tcp/{address}:7547"), format!("tcp/{address}:7548"));
    let path = |name: &str| ground.directory.join(name).to_string_lossy().into_owned();
    let directory = ground.directory.to_string_lossy().into_owned();
    let (far, near, tell_a, tell_b) = (path("far.sock"), path("near.sock"), path("a.sock"), path("b.sock"));
    let role =
        |role, rounds| ["bench", "--role", role, "--directory", &directory, "--endpoint", &bare, "--rounds", rounds];
    let rounds = arguments.rounds.to_string();
    let _server = start(None, &role("server", &rounds))?;
    let _answerer = start(b, &role("answerer", &rounds))?;
    let (queue_far, queue_near) = (path(rate::FAR), path(rate::NEAR));
    let names = |file: &str, table: &str, [calls, queue]: [(&str, &str); 2]| -> anyhow::Result<String> {
        let one = |(name, other): (&str, &str)| format!("[[{table}]]\nname = {name:?}\nas = {other:?}\n");
        std::fs::write(path(file), one(calls) + &one(queue))?;
        Ok(path(file))
    };
    let config = names("far.toml", "export", [(&far, "bench"), (&queue_far, "bench-queue")])?;
    let far = ["--config", &config, "--listen", &bridged, "--host", "b", "--status-name", &tell_b];
    let _far = start(b, &far)?;
    let own = if a.is_some() { "tcp/10.78.0.1:7547" } else { "tcp/127.0.0.1:7549" };
    let config = names("near.toml", "import", [("bench", &near), ("bench-queue", &queue_near)])?;
    let near = ["--config", &config, "--connect", &bridged, "--listen", own];
    let _near = start(a, &[&near[..], &["--host", "a", "--status-name", &tell_a]].concat())?;
    let mut caller = start(a, &role("caller", &rounds))?;
    let status = caller.0.wait()?;
    ensure!(status.success(), "the caller ended with {status}");
    Ok(ExitCode::SUCCESS)
}

// ---- the others -----------------------------------------------------------------------------------------------------

fn serve(directory: &Path) -> anyhow::Result<ExitCode> {
    let mut server = wigwag::Server::bind(directory.join("far.sock"))?;
    let messages = directory.to_owned();
    std::thread::spawn(move || {
        if let Err(error) = rate::receive(&messages) {
            eprintln!("the receiver has ended: {error}");
        }
    });
    server.serve(|request| request.iter_mut().for_each(|byte| *byte = !*byte))?;
    Ok(ExitCode::SUCCESS)
}

/// A session as a bridge has one.
fn session(settings: Settings) -> anyhow::Result<zenoh::Session> {
    zenoh::open(configuration(&settings)?).wait().map_err(|error| anyhow!("{error}"))
}

const THERE: &str = "wigwag-bench/there";
const BACK: &str = "wigwag-bench/back";
const QUERY: &str = "wigwag-bench/query";

fn changed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// The address of one of zenoh's endpoints, and the port of gRPC.
#[cfg(feature = "grpc")]
fn grpc_address(endpoint: &str) -> anyhow::Result<std::net::SocketAddr> {
    let address = endpoint.strip_prefix("tcp/").context("the endpoint is not of TCP")?;
    let mut address: std::net::SocketAddr = address.parse()?;
    address.set_port(GRPC_PORT);
    Ok(address)
}

fn answer(endpoint: &str) -> anyhow::Result<ExitCode> {
    let failed = |error| anyhow!("{error}");
    let session = session(Settings { listen: vec![endpoint.to_owned()], ..Settings::default() })?;
    let publisher = session
        .declare_publisher(BACK)
        .congestion_control(CongestionControl::Block)
        .priority(Priority::Data)
        .express(true)
        .wait()
        .map_err(failed)?;
    let answers = move |sample: zenoh::sample::Sample| {
        let _ = publisher.put(changed(&sample.payload().to_bytes())).wait();
    };
    let _subscriber = session.declare_subscriber(THERE).callback(answers).wait().map_err(failed)?;
    let replies = |query: zenoh::query::Query| {
        let payload = query.payload().map_or_else(Vec::new, |payload| changed(&payload.to_bytes()));
        let _ = query.reply(QUERY, payload).express(true).wait();
    };
    let _flooded = rate::take_puts(&session)?;
    #[cfg(feature = "grpc")]
    {
        let address = grpc_address(endpoint)?;
        std::thread::spawn(move || {
            if let Err(error) = grpc::serve(address) {
                eprintln!("gRPC is not served: {error}");
            }
        });
    }
    let _queryable = session.declare_queryable(QUERY).complete(true).callback(replies).wait().map_err(failed)?;
    loop {
        std::thread::park();
    }
}

fn call(directory: &Path, endpoint: &str, rounds: usize) -> anyhow::Result<ExitCode> {
    let failed = |error| anyhow!("{error}");
    let limit = Duration::from_secs(10);
    let client = wigwag::Client::builder().server_timeout(limit).connect(directory.join("near.sock"))?;
    // Any endpoint will do for listening: nobody connects here.
    let own = if endpoint.contains("127.0.0.1") { "tcp/127.0.0.1:0" } else { "tcp/10.78.0.1:0" };
    let settings = Settings { listen: vec![own.into()], connect: vec![endpoint.to_owned()], ..Settings::default() };
    let session = session(settings)?;
    let (came, comes) = mpsc::channel();
    let heard = move |sample: zenoh::sample::Sample| {
        let _ = came.send(sample.payload().to_bytes().into_owned());
    };
    let _subscriber = session.declare_subscriber(BACK).callback(heard).wait().map_err(failed)?;
    let publisher = session
        .declare_publisher(THERE)
        .congestion_control(CongestionControl::Block)
        .priority(Priority::Data)
        .express(true)
        .wait()
        .map_err(failed)?;

    let bridged =
        |request: &[u8; LEN]| -> anyhow::Result<Vec<u8>> { Ok(client.call_timeout(request, limit)?.to_vec()) };
    let put = |request: &[u8; LEN]| -> anyhow::Result<Vec<u8>> {
        publisher.put(&request[..]).wait().map_err(failed)?;
        Ok(comes.recv_timeout(limit)?)
    };
    let query = |request: &[u8; LEN]| -> anyhow::Result<Vec<u8>> {
        let replies = session.get(QUERY).payload(&request[..]).express(true).wait().map_err(failed)?;
        let reply = replies.recv().map_err(failed)?;
        let sample = reply.into_result().map_err(|error| anyhow!("{error:?}"))?;
        Ok(sample.payload().to_bytes().into_owned())
    };
    type Call<'a> = &'a dyn Fn(&[u8; LEN]) -> anyhow::Result<Vec<u8>>;
    // The verdict takes the first three.
    #[cfg_attr(not(feature = "grpc"), expect(unused_mut, reason = "gRPC is the fourth, where it is"))]
    let mut kinds: Vec<(&str, Call)> =
        vec![("bridged call", &bridged), ("zenoh: a put answered by a put", &put), ("zenoh: a query", &query)];
    #[cfg(feature = "grpc")]
    let grpc = grpc::Caller::connect(grpc_address(endpoint)?, limit)?;
    #[cfg(feature = "grpc")]
    let unary = |request: &[u8; LEN]| grpc.call(request);
    #[cfg(feature = "grpc")]
    kinds.push(("gRPC over TCP: a unary call", &unary));
    let mut rates = Rates::new(directory, &session)?;
    // zenoh tells its peers of subscribers in the background.
    std::thread::sleep(Duration::from_millis(500));
    let mut times = vec![Vec::<Duration>::new(); kinds.len()];
    let mut number = 0_u8;
    for round in 0..=rounds {
        for ((_, kind), times) in kinds.iter().zip(&mut times) {
            for _ in 0..500 {
                number = number.wrapping_add(1);
                let request = [number; LEN];
                let began = Instant::now();
                let reply = kind(&request)?;
                let took = began.elapsed();
                ensure!(reply == [!number; LEN], "a wrong reply");
                if round > 0 {
                    times.push(took); // the first round warms up
                }
            }
        }
    }
    (0..=rounds).try_for_each(|_| rates.round())?;
    times.iter_mut().for_each(|times| times.sort_unstable());
    let at =
        |times: &[Duration], share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3;
    println!("{:<32} {:>9} {:>9} {:>9}", "48 bytes there and back, in us", "p50", "p90", "p99");
    for ((name, _), times) in kinds.iter().zip(&times) {
        println!("{name:<32} {:>9.1} {:>9.1} {:>9.1}", at(times, 0.5), at(times, 0.9), at(times, 0.99));
    }
    rates.print();
    let bare = at(&times[1], 0.5).min(at(&times[2], 0.5));
    let ratio = at(&times[0], 0.5) / bare;
    let verdict = if ratio <= GOAL { "met" } else { "not met" };
    println!("Z1: {ratio:.2} times the better of the bare ones, goal at most {GOAL}: {verdict}");
    Ok(ExitCode::SUCCESS)
}
