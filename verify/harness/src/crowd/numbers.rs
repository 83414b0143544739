//! G17: the number of a dead process is used again. A client, or a server, dies and is waited for, and before anybody
//! can look, an unrelated process has its number; where it is worst, a forked child holds the dead one's socket as
//! well. The death is noticed all the same, and nothing is done to the bystander.
//!
//! All of it happens in a PID namespace of its own: there `ns_last_pid` says which number comes next, nobody else takes
//! it, and the machine's own numbers are left alone. The first process of the namespace conducts; when it ends, all
//! end.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use rustix::process::Signal;
use wigwag::Client;
use wigwag_testing::{Ground, Link, Process, Snapshot, wire};

use super::baseline::{TIME_LIMIT, comes_back, percentile};
use super::holder::{self, Holder};
use super::server::{CrowdServer, ORDER, hear_patiently};
use super::storm::call;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::Trial;

/// The goal.
pub fn reused_numbers(trial: &Trial) -> anyhow::Result<Outcome> {
    let rounds = trial.pick(5, 200, 10_000);
    let ground = Ground::new();
    let namespace = role::start("crowd-namespace", [ground.path("").as_os_str(), rounds.to_string().as_ref()]);
    let mut findings = Vec::new();
    loop {
        let line = namespace.try_hear().context("the namespace's first process ended before its time")?;
        match line.split_once(' ') {
            Some(("figure", figure)) => return Ok(Outcome::of(figure, findings)),
            Some(("impossible", why)) => return Ok(Outcome::not_tried(why)),
            Some(("finding", finding)) => findings.push(finding.to_owned()),
            _ => {} // a sign of life
        }
    }
}

/// The role: makes the namespace and starts its first process.
pub fn play_namespace(parent: &Link, arguments: &[&str]) {
    if let Err(why) = enter_namespace() {
        return parent.tell(format_args!("impossible no PID namespace to be had: {why}"));
    }
    let conductor = role::start("crowd-conductor", arguments.iter().copied());
    while let Some(line) = conductor.try_hear() {
        parent.tell(line);
    }
}

/// The children of this process will have a namespace of their own; without rights, in a user namespace of their own.
fn enter_namespace() -> anyhow::Result<()> {
    if unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        return Ok(());
    }
    let user = rustix::process::geteuid().as_raw();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)?;
    // only its root keeps the rights when it starts a program
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    Ok(())
}

/// What happens in a round.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// A client dies.
    Client,
    /// A client dies while a forked child of its holds the socket.
    ClientWithChild,
    /// So does one that the server has not even accepted.
    ClientInTheQueue,
    /// A server dies while its forked child holds all its sockets.
    Server,
}

const DEATHS: [Death; 5] =
    [Death::Client, Death::ClientWithChild, Death::ClientInTheQueue, Death::Server, Death::ClientWithChild];

/// The role: conducts all rounds.
pub fn play_conductor(parent: &Link, arguments: &[&str]) {
    let rounds: usize = arguments[1].parse().expect("a number");
    if let Err(why) = std::fs::write(NEXT_NUMBER, std::process::id().to_string()) {
        return parent.tell(format_args!("impossible cannot choose the next process's number ({NEXT_NUMBER}): {why}"));
    }
    match conduct(parent, Path::new(arguments[0]), rounds) {
        Ok(figure) => parent.tell(format_args!("figure {figure}")),
        Err(error) => {
            parent.tell(format_args!("finding {}", format!("the trial broke off: {error:#}").replace('\n', " ")));
            parent.tell("figure the trial broke off");
        }
    }
}

fn conduct(parent: &Link, ground: &Path, rounds: usize) -> anyhow::Result<String> {
    let server = CrowdServer::start(&ground.join("server"), &["slots=2"])?;
    call(&Client::connect(&server.socket)?, 1)?;
    let steady = Client::connect(&server.socket)?;
    call(&steady, 1)?;
    let before = Snapshot::when_settled(server.proc_id, 1);
    let (mut noticed_us, mut retries, mut tried) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        let death = DEATHS[round % DEATHS.len()];
        let outcome = match death {
            Death::Server => server_dies(ground, &mut retries),
            _ => client_dies(&server, death, &mut retries),
        };
        tried += 1;
        let wrong = match outcome {
            Ok(after) => {
                noticed_us.push(after.as_micros() as u32);
                call(&steady, round).err().map(|error| format!("a steady client's call failed: {error}"))
            }
            Err(error) => Some(format!("{error:#}")),
        };
        let wrong = wrong.or_else(|| comes_back(&before, server.proc_id, "after the round"));
        if let Some(wrong) = wrong {
            parent.tell(format_args!("finding round {round}, {death:?}: {}", wrong.replace('\n', " ")));
            break;
        }
        parent.tell("alive");
    }
    let [median, most] = [50, 100].map(|hundredths| percentile(&mut noticed_us, hundredths));
    Ok(format!(
        "{tried} numbers of the dead used again ({retries} second tries), each death noticed, median {median} us and \
         at most \
         {most} us after the survivor could look (a server is asked every 10 ms); no bystander was touched"
    ))
}

/// A client dies while the server stands still; when it goes on, another process has the number.
fn client_dies(server: &CrowdServer, death: Death, retries: &mut u32) -> anyhow::Result<Duration> {
    let mode = if matches!(death, Death::ClientInTheQueue) { "queue" } else { "call" };
    let counted = server.counts()?;
    if mode == "queue" {
        stop(&server.process)?;
    }
    let mut client = role::start("crowd-client", [server.socket.as_os_str(), mode.as_ref()]);
    client.expect("there");
    let holder = match death {
        Death::Client => None,
        _ => {
            client.tell("fork");
            Some(Holder::new(&client.hear())?)
        }
    };
    if mode != "queue" {
        stop(&server.process)?;
    }
    let number = client.id();
    client.kill();
    let bystander = Bystander::with_number(number, retries)?;
    server.process.signal(Signal::CONT);
    let begin = Instant::now();
    loop {
        let now = server.counts()?;
        if now.sessions == counted.sessions && now.accepted + now.refused > counted.accepted + counted.refused {
            break;
        }
        anyhow::ensure!(
            begin.elapsed() < TIME_LIMIT,
            "the death of process {number} was not noticed, whose number a bystander has: {now:?}, before it \
             {counted:?}"
        );
    }
    let after = begin.elapsed();
    bystander.is_unharmed()?;
    drop(holder);
    Ok(after)
}

/// A server dies with a call under way whose client stands still; when it goes on, another process has the number.
fn server_dies(ground: &Path, retries: &mut u32) -> anyhow::Result<Duration> {
    let mut server = CrowdServer::start(&ground.join("doomed"), &[])?;
    let client = role::start("crowd-client", [server.socket.as_os_str(), "hold".as_ref()]);
    anyhow::ensure!(client.try_hear().as_deref() == Some("there"), "no client");
    let begin = Instant::now();
    while server.counts()?.sessions != 1 && begin.elapsed() < TIME_LIMIT {}
    let holder = Holder::new(&server.ask("fork")?)?;
    std::thread::sleep(Duration::from_millis(2)); // mostly it sleeps by now
    stop(&client)?;
    let number = server.process.id();
    server.process.kill();
    let bystander = Bystander::with_number(number, retries)?;
    client.signal(Signal::CONT);
    let begin = Instant::now();
    let end = client.try_hear();
    anyhow::ensure!(
        end.as_deref() == Some("PeerDied { maybe_executed: true }"),
        "the client of a dead server got {end:?}"
    );
    let after = begin.elapsed();
    bystander.is_unharmed()?;
    client.join();
    drop(holder);
    Ok(after)
}

/// SIGSTOP, and waits until it stands still.
fn stop(process: &Process) -> anyhow::Result<()> {
    process.signal(Signal::STOP);
    let pid = nix::unistd::Pid::from_raw(process.id() as i32);
    let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    anyhow::ensure!(matches!(status, nix::sys::wait::WaitStatus::Stopped(..)), "{status:?}");
    Ok(())
}

/// The role: a client that dies here. It calls; or greets without waiting for an answer; or waits for one that never
/// comes.
pub fn play_client(parent: &Link, arguments: &[&str]) {
    let (socket, mode) = (Path::new(arguments[0]), arguments[1]);
    if mode == "queue" {
        let socket = wire::connect_to(socket);
        wire::send(&socket, &wire::hello(), &[]).expect("there is room in the queue");
        parent.tell("there");
        while hear_patiently().is_some() {
            // Ready is who has read the welcome: nobody can be it in advance.
            parent.tell(holder::fork_to_shake_hands(socket.as_fd(), wire::READY));
        }
        return;
    }
    let client = Client::connect(socket).expect("a session");
    if mode == "hold" {
        parent.tell("there");
        let error = client.call(format!("{ORDER}hold").as_bytes()).expect_err("it is never answered");
        return parent.tell(format_args!("{:?}", error.kind()));
    }
    call(&client, 7).expect("a call");
    parent.tell("there");
    while hear_patiently().is_some() {
        parent.tell(holder::fork());
    }
}

// ---- the bystander
// ------------------------------------------------------------------------------------------------------

/// The last number that was given in this namespace; the next process gets the one after it.
const NEXT_NUMBER: &str = "/proc/sys/kernel/ns_last_pid";

/// A process that has nothing to do with anybody.
struct Bystander(Process);

impl Bystander {
    /// Starts it with that number, which must be free.
    fn with_number(number: u32, retries: &mut u32) -> anyhow::Result<Bystander> {
        for _ in 0..50 {
            std::fs::write(NEXT_NUMBER, (number - 1).to_string())?;
            let process = role::start("crowd-bystander", [""]);
            if process.id() == number {
                anyhow::ensure!(process.try_hear().as_deref() == Some("here"), "the bystander is gone");
                return Ok(Bystander(process));
            }
            *retries += 1; // somebody else was quicker
        }
        anyhow::bail!("the number {number} is not to be had")
    }

    fn is_unharmed(&self) -> anyhow::Result<()> {
        self.0.tell("are you well?");
        let answer = self.0.try_hear();
        anyhow::ensure!(answer.as_deref() == Some("well"), "the bystander was touched: {answer:?}");
        Ok(())
    }
}

/// The role: says whether any signal has reached it.
pub fn play_bystander(parent: &Link, _: &[&str]) {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).expect("signals can be blocked");
    parent.tell("here");
    parent.hear();
    // SAFETY: an empty set is a valid one.
    let mut pending: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set, which is written.
    unsafe { libc::sigpending(&raw mut pending) };
    // SAFETY: the pointer is to a valid set, and these are signals.
    let received: Vec<i32> =
        (1..=64).filter(|&signal| unsafe { libc::sigismember(&raw const pending, signal) } == 1).collect();
    match received[..] {
        [] => parent.tell("well"),
        _ => parent.tell(format_args!("signals {received:?}")),
    }
    parent.hear();
}
