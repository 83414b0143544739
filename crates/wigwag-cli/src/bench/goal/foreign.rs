//! C1: a call from C beside one from Rust, at the same server, in turns.
//!
//! The C program and the library for it are compiled when the preset runs, in the checkout that this program is run in:
//! an installed program has neither.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::others::median;
use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag_bench::case::{Case, Contender, WaitMode};
use wigwag_bench::peer::{self, PeerProcess};
use wigwag_bench::placement::{Pin, confine};
use wigwag_bench::transport::{Caller as _, private_directory};
use wigwag_bench::{exchange, work};

const SIZE: usize = 48;
const LIMIT: f64 = 1.1;
const ROUNDS: usize = 40;
/// What is alike in both programs: see `crates/wigwag-ffi/bench/closed_loop.c`.
const BATCH: usize = 200;
const WARM_UP: usize = 2000;

/// The interface for C, from the root of a checkout.
const INTERFACE: &str = "crates/wigwag-ffi";
const WAITS: [WaitMode; 2] = [WaitMode::Adaptive, WaitMode::Spin];
/// How the C program calls: in the shared memory by three functions, or by one that copies.
const WAYS: [&str; 2] = ["in-place", "copied"];

/// C1.
pub(super) fn calls(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let place = private_directory()?;
    let program = compile(&checkout()?, place.path())?;
    let rounds = attempt.rounds.unwrap_or(ROUNDS);
    let slice = Duration::from_secs_f64((attempt.seconds / (rounds * 3 * WAITS.len()) as f64).max(0.002));
    let (client, server) = attempt.stage.processors().of(Pin::Two)?;
    let (mut checks, mut verdict_notes) = (Vec::new(), Vec::new());
    for wait in WAITS {
        let directory = place.path().join(wait.to_string());
        std::fs::create_dir(&directory)?;
        let arguments = |part: &str, processor: Option<usize>| -> [OsString; 5] {
            let processor = processor.unwrap_or(0).to_string();
            ["foreign".into(), part.into(), wait.to_string().into(), processor.into(), (&directory).into()]
        };
        let _server = PeerProcess::start_ready(arguments("server", server))?;
        let mut rust = PeerProcess::start_ready(arguments("client", client))?;
        let processor = client.unwrap_or(0).to_string();
        let start = |way: &str| {
            let mut c = Command::new(&program);
            c.arg(exchange::path(&directory)).args([&SIZE.to_string(), &wait.to_string(), &processor, way]);
            let mut c = PeerProcess::run(&mut c)?;
            c.await_ready().context("the C program")?;
            anyhow::Ok(c)
        };
        let mut ways = [start(WAYS[0])?, start(WAYS[1])?];
        let mut times = Vec::new();
        for _ in 0..rounds {
            let base = ns_per_call(&mut rust, slice)?;
            times.push([base, ns_per_call(&mut ways[0], slice)?, ns_per_call(&mut ways[1], slice)?]);
        }
        let ns = |which: usize| median(times.iter().map(|round| round[which]).collect());
        for (at, way) in WAYS.into_iter().enumerate() {
            let ratio = median(times.iter().map(|round| round[at + 1] / round[0]).collect());
            checks.push(Check::at_most(format!("{SIZE} B {way}, {wait}"), ratio, LIMIT, "x Rust"));
            let (c, rust) = (ns(at + 1), ns(0));
            verdict_notes.push(format!("{way}, {wait}: C {c:.1} ns, Rust {rust:.1} ns, {ratio:.3} x"));
        }
    }
    Ok(verdict_notes.into_iter().fold(Verdict::new(Goal::C1, checks, Vec::new()), Verdict::noting))
}

fn ns_per_call(client: &mut PeerProcess, slice: Duration) -> anyhow::Result<f64> {
    client.tell(&slice.as_nanos().to_string())?;
    let line = client.line()?;
    line.parse().with_context(|| format!("a client said '{line}' where it should have said a number"))
}

/// The root of the checkout that this is run in, or that this program was built in.
fn checkout() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("there is no current directory")?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found =
        here.ancestors().chain(built.ancestors()).find(|root| root.join(INTERFACE).join("Cargo.toml").is_file());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "C1 compiles a C program with the library of a checkout of Wigwag, and there is none here: run it in a \
             directory that has {INTERFACE}"
        )
    })
}

/// Builds the library and the C program. Where the program is.
fn compile(root: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let compiler = compiler()?; // before the library, which takes a minute
    let interface = root.join(INTERFACE);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut library = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    library.args(["build", "--release", "--quiet", "--manifest-path"]).arg(interface.join("Cargo.toml"));
    run(library.arg("--target-dir").arg(&target), "build the library for C")?;
    let program = directory.join("closed_loop");
    let libraries = target.join("release");
    let mut search = OsString::from("-Wl,-rpath,");
    search.push(&libraries);
    let mut command = Command::new(compiler);
    command.args(["-std=c11", "-O2", "-o"]).arg(&program).arg(interface.join("bench/closed_loop.c"));
    command.arg("-I").arg(interface.join("include")).arg("-L").arg(&libraries).args(["-l:libwigwag.so"]);
    // The name by which the program looks for the library when it starts.
    let name = libraries.join("libwigwag.so.0");
    if std::fs::symlink_metadata(&name).is_err() {
        std::os::unix::fs::symlink("libwigwag.so", &name).context("the library cannot get its name")?;
    }
    run(command.arg(search), "compile the C program")?;
    Ok(program)
}

/// The C compiler: what `CC` names, or the first of the usual ones.
fn compiler() -> anyhow::Result<OsString> {
    let answers = |name: &OsStr| Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success());
    match std::env::var_os("CC") {
        Some(named) if answers(&named) => Ok(named),
        Some(named) => bail!("CC names {}, which is no compiler that can be run", named.display()),
        None => ["cc", "gcc", "clang"]
            .map(OsString::from)
            .into_iter()
            .find(|name| answers(name))
            .context("there is no C compiler (tried cc, gcc and clang): install one, or say in CC where it is"),
    }
}

fn run(command: &mut Command, doing: &str) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot {doing}: {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cannot {doing}: {}", said.trim_end());
    Ok(())
}

/// A second process: the server, or the client in Rust.
pub fn play(part: &str, wait: WaitMode, processor: usize, directory: &Path) -> anyhow::Result<()> {
    let case = Case::new(Contender::Wigwag, wait, SIZE);
    if part == "server" {
        let server = exchange::bind(directory, &case)?;
        let stop = server.shutdown_handle();
        peer::when_parent_leaves(move || stop.shutdown())?;
        confine(Some(processor))?; // this thread alone: the others have the processor where nobody spins
        peer::say_ready()?;
        return exchange::serve(server, &case);
    }
    confine(Some(processor))?;
    let mut client = exchange::Exchange(exchange::connect(directory, &case)?);
    peer::say_ready()?;
    let mut number = 0u64;
    let mut call = || -> anyhow::Result<()> {
        number += 1;
        let pattern = work::pattern(number);
        let mut sum = 0;
        client.exchange(SIZE, |bytes| work::fill(bytes, pattern), |reply| sum = work::read(reply))?;
        ensure!(sum == work::expected(SIZE, pattern), "a reply is wrong");
        Ok(())
    };
    for line in std::io::stdin().lines() {
        let slice = Duration::from_nanos(line?.parse()?);
        (0..WARM_UP).try_for_each(|_| call())?;
        let (until, mut begin, mut batches) = (Instant::now() + slice, Instant::now(), Vec::new());
        while batches.is_empty() || begin < until {
            (0..BATCH).try_for_each(|_| call())?;
            let end = Instant::now();
            batches.push((end - begin).as_nanos() as f64 / BATCH as f64);
            begin = end;
        }
        peer::say(&format!("{:.2}", median(batches)))?;
    }
    Ok(())
}
