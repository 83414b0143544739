//! G14: little memory. A client that is killed for want of it dies like any other; a server stays within what it
//! states, and refuses what is beyond before it makes it; a full tmpfs is nobody's end. Nobody gets SIGBUS.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wigwag::{Client, ErrorKind, Server};
use wigwag_testing::{Ground, Link, Process, Snapshot};

use super::baseline::{TIME_LIMIT, comes_back};
use super::cgroup::Cgroup;
use super::server::{CrowdServer, ORDER};
use super::storm::call;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::Trial;

const MIB: usize = 1 << 20;
/// What a client may have.
const CLIENT_LIMIT: usize = 16 * MIB;
/// What a server may have.
const SERVER_LIMIT: usize = 64 * MIB;
/// What the careful server states as the most for all sessions.
const QUOTA: usize = 32 * MIB;

/// The goal.
pub fn little_memory(trial: &Trial) -> anyhow::Result<Outcome> {
    if let Err(why) = Cgroup::new(CLIENT_LIMIT) {
        return Ok(Outcome::not_tried(format!("{why:#}")));
    }
    let rounds = trial.pick(1, 10, 200);
    let mut findings = Vec::new();
    let mut calls = 0;
    for _ in 0..rounds {
        calls += poor_clients(&mut findings).context("clients in a small cgroup")?;
    }
    let (refused, peak) = careful_server(rounds, &mut findings).context("a server in a small cgroup")?;
    for _ in 0..rounds {
        careless_server(&mut findings).context("a server without a quota")?;
    }
    let tmpfs = full_tmpfs(&mut findings)?;
    let figure = format!(
        "{rounds} clients killed for memory beside {calls} calls of others; {refused} handshakes beyond the quota \
         refused, \
         the server's peak {} of {} MiB; {rounds} servers without a quota killed for memory, their clients told; \
         {tmpfs}; 0 \
         SIGBUS",
        peak / MIB,
        SERVER_LIMIT / MIB,
    );
    Ok(Outcome::of(figure, findings))
}

// ---- a client
// ---------------------------------------------------------------------------------------------------------

/// A client in 16 MiB that writes to all of its 16 slots of 1 MiB is killed; one that writes to a few is not.
fn poor_clients(findings: &mut Vec<String>) -> anyhow::Result<u64> {
    let ground = Ground::new();
    let server = CrowdServer::start(&ground.socket(), &["slots=16"])?;
    call(&Client::connect(&server.socket)?, 1)?;
    let before = Snapshot::when_settled(server.proc_id, 0);
    let is_over = AtomicBool::new(false);
    let mut calls = 0;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let steady = scope.spawn(|| steady(&server.socket, &is_over));
        let outcome = (|| {
            let (_cgroup, modest) = eater(&server.socket, 4)?;
            modest.tell("eat");
            if modest.try_hear().as_deref() != Some("eaten") {
                findings.push("a client within its 16 MiB does not work".into());
            }
            let (_cgroup, mut greedy) = eater(&server.socket, 16)?;
            greedy.tell("eat");
            let said = greedy.try_hear();
            let status = greedy.child.wait()?;
            if said.is_some() || status.signal() != Some(libc::SIGKILL) {
                findings.push(format!("a client beyond its 16 MiB was not killed for memory, but {status} ({said:?})"));
            }
            Ok(())
        })();
        is_over.store(true, Ordering::Relaxed);
        match steady.join().expect("a steady client does not panic") {
            Ok(count) => calls = count,
            Err(error) => findings.push(format!("another client was hurt by a client's death for memory: {error}")),
        }
        outcome
    })?;
    findings.extend(comes_back(&before, server.proc_id, "after a client's death for memory"));
    findings.extend(server.stop());
    Ok(calls)
}

fn steady(socket: &Path, is_over: &AtomicBool) -> wigwag::Result<u64> {
    let client = Client::connect(socket)?;
    let mut calls = 0;
    while !is_over.load(Ordering::Relaxed) {
        call(&client, calls as usize)?;
        calls += 1;
        std::thread::sleep(Duration::from_micros(100)); // there are only so many processors
    }
    call(&client, 0)?;
    Ok(calls)
}

/// Starts a client that will write to so many slots, in a cgroup of 16 MiB.
fn eater(socket: &Path, slots: usize) -> anyhow::Result<(Cgroup, Process)> {
    let cgroup = Cgroup::new(CLIENT_LIMIT)?;
    let process = role::start("crowd-eater", [socket.as_os_str(), slots.to_string().as_ref()]);
    cgroup.take(process.id())?;
    Ok((cgroup, process)) // dropped in the other order: a cgroup is removed when it is empty
}

/// The role: a client that is given its cgroup first, and then writes to every byte of its slots.
pub fn play_eater(parent: &Link, arguments: &[&str]) {
    parent.hear();
    let slots: usize = arguments[1].parse().expect("a number");
    let client = Client::builder().slots(slots).capacity(MIB).connect(arguments[0]).expect("a session");
    let mut pending = Vec::new();
    for slot in 0..slots {
        let mut loan = client.loan(MIB).expect("a slot");
        loan.fill(slot as u8);
        pending.push(loan.send().expect("it is sent"));
    }
    for (slot, pending) in pending.into_iter().enumerate() {
        assert!(pending.wait().expect("a reply").iter().all(|&byte| byte == !(slot as u8)));
    }
    parent.tell("eaten");
    parent.hear();
}

// ---- a server
// ---------------------------------------------------------------------------------------------------------

/// Starts a server in a cgroup of 64 MiB.
fn poor_server(socket: &Path, options: &[&str]) -> anyhow::Result<(Cgroup, CrowdServer)> {
    let cgroup = Cgroup::new(SERVER_LIMIT)?;
    let server = CrowdServer::start(socket, options)?;
    cgroup.take(server.process.id())?;
    Ok((cgroup, server))
}

/// A server that states what it can give: what is beyond is refused before there is memory for it, and what it gave
/// comes back. Returns the handshakes refused and the most memory that it had.
fn careful_server(rounds: usize, findings: &mut Vec<String>) -> anyhow::Result<(usize, usize)> {
    const TRIES: usize = 25;
    let ground = Ground::new();
    let quota = format!("max_bytes_total={QUOTA}");
    let (cgroup, server) = poor_server(&ground.socket(), &["slots=4096", &quota])?;
    let wishes =
        |slots: usize, capacity: usize| Client::builder().slots(slots).capacity(capacity).connect(&server.socket);
    call(&wishes(1, 4096)?, 1)?;
    let before = Snapshot::when_settled(server.proc_id, 0);
    let mut refused = 0;
    for _ in 0..rounds {
        let client = as_soon_as_possible(|| wishes(16, MIB))?;
        let usage = cgroup.usage()?;
        for _ in 0..TRIES {
            // 16 MiB of bodies more; and 15 MiB of slots, whose lines the server would touch at once.
            for (slots, capacity) in [(16, MIB), (4096, 4096)] {
                match wishes(slots, capacity) {
                    Ok(_) => findings
                        .push(format!("a handshake for {slots} slots of {capacity} beyond the quota was welcomed")),
                    Err(error) if !error.to_string().contains("max_bytes_total") => {
                        findings.push(format!("a handshake beyond the quota was refused for another reason: {error}"));
                    }
                    Err(_) => refused += 1,
                }
            }
            if !findings.is_empty() {
                return Ok((refused, cgroup.peak()?));
            }
        }
        let grown = cgroup.usage()?.saturating_sub(usage);
        if grown > MIB {
            findings.push(format!("{} refused handshakes cost the server {} KiB", 2 * TRIES, grown >> 10));
        }
        // Replies that are longer than their requests: the server touches these pages first, and pays for them.
        if let Err(error) = reap(&client, 16) {
            findings.push(format!("a server within its quota fails: {error}"));
        }
    }
    findings.extend(comes_back(&before, server.proc_id, "after sessions within the quota"));
    let begin = Instant::now();
    while cgroup.usage()? > QUOTA / 2 && begin.elapsed() < TIME_LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (left, peak) = (cgroup.usage()?, cgroup.peak()?);
    if left > QUOTA / 2 {
        findings.push(format!("leak: with all sessions gone the server is charged {} MiB", left / MIB));
    }
    findings.extend(server.stop());
    Ok((refused, peak))
}

/// Connects as soon as the session before it has been given back.
fn as_soon_as_possible(connect: impl Fn() -> wigwag::Result<Client>) -> wigwag::Result<Client> {
    let begin = Instant::now();
    loop {
        match connect() {
            Err(error) if error.kind() == ErrorKind::Refused && begin.elapsed() < TIME_LIMIT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// Has the server write to every page of so many slots of 1 MiB.
fn reap(client: &Client, slots: usize) -> wigwag::Result<()> {
    let order = format!("{ORDER}reply {MIB}");
    let pending: Vec<_> = (0..slots)
        .map(|_| {
            let mut loan = client.loan(order.len())?;
            loan.copy_from_slice(order.as_bytes());
            loan.send()
        })
        .collect::<wigwag::Result<_>>()?;
    for pending in pending {
        let reply = pending.wait()?;
        assert!(reply.len() == MIB && reply.iter().all(|&byte| byte == 0x5a));
    }
    Ok(())
}

/// A server that states more than it has is killed by the kernel, as documented. Its clients are told, none is harmed,
/// and the next server has the name.
fn careless_server(findings: &mut Vec<String>) -> anyhow::Result<()> {
    let ground = Ground::new();
    let (cgroup, mut server) = poor_server(&ground.socket(), &["slots=16"])?;
    let bystander = Client::connect(&server.socket)?;
    call(&bystander, 1)?;
    let clients = (0..8).map(|_| Client::connect(&server.socket)).collect::<wigwag::Result<Vec<_>>>()?;
    let died = clients.iter().find_map(|client| reap(client, 16).err());
    match died {
        Some(error) if matches!(error.kind(), ErrorKind::PeerDied { maybe_executed: true }) => {}
        other => {
            findings.push(format!("a server that promised more than it has: its client got {other:?}"));
            return Ok(());
        }
    }
    let status = server.process.child.wait()?;
    if status.signal() != Some(libc::SIGKILL) {
        findings.push(format!("a server that promised more than it has ended by itself: {status}"));
    }
    if !call(&bystander, 2).is_err_and(|error| matches!(error.kind(), ErrorKind::PeerDied { .. })) {
        findings.push("a client of a server that was killed for memory was not told".into());
    }
    drop((clients, bystander));
    drop(cgroup);
    let next = CrowdServer::start(&ground.socket(), &[])?;
    call(&Client::connect(&next.socket)?, 3)?;
    findings.extend(next.stop());
    Ok(())
}

// ---- a tmpfs
// ------------------------------------------------------------------------------------------------------------

/// All of the machine's tmpfs is full, as far as a process sees it: in a mount namespace of its own.
fn full_tmpfs(findings: &mut Vec<String>) -> anyhow::Result<String> {
    let ground = Ground::new();
    let directory = ground.path("tiny");
    std::fs::create_dir(&directory)?;
    let mut process = role::start("crowd-tmpfs", [&directory]);
    while let Some(line) = process.try_hear() {
        match line.split_once(' ') {
            Some(("figure", figure)) => {
                process.join();
                return Ok(figure.to_owned());
            }
            _ => findings.push(line),
        }
    }
    findings.push(format!("with a full tmpfs a process ended: {}", process.child.wait()?));
    Ok("a full tmpfs ended it".into())
}

/// The role: fills every tmpfs that shared memory could be in, and uses a server and a client there.
pub fn play_tmpfs(parent: &Link, arguments: &[&str]) {
    let directory = Path::new(arguments[0]);
    if let Err(error) = mount_tiny(directory) {
        return parent.tell(format_args!("figure no tmpfs could be mounted ({error})"));
    }
    let mut server = Server::bind(directory.join("server")).expect("there is room yet");
    fill_up(directory);
    fill_up(Path::new("/dev/shm"));
    let stop = server.shutdown_handle();
    let socket = server.path().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            server.serve(|request| request.iter_mut().for_each(|byte| *byte = !*byte)).expect("it serves");
        });
        let done = (0..10).try_for_each(|number| {
            let client = Client::connect(&socket)?;
            let len = client.capacity();
            let mut loan = client.loan(len)?;
            wigwag_testing::fill(&mut loan, number);
            wigwag_testing::check_inverted(&loan.call()?, len, number);
            Ok::<(), wigwag::Error>(())
        });
        if let Err(error) = done {
            parent.tell(format_args!("with a full tmpfs: {error}"));
        }
        match Server::bind(directory.join("another")) {
            Ok(_) => parent.tell("a server took a name on a tmpfs without room for it"),
            Err(error) if error.kind() == ErrorKind::Io && error.to_string().contains("no space left in") => {}
            Err(error) => parent.tell(format_args!("no clean error for a full tmpfs, but {error:?}")),
        }
        stop.shutdown();
    });
    parent.tell("figure with every tmpfs full sessions work and a new name is refused in words");
}

fn mount_tiny(directory: &Path) -> nix::Result<()> {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for path in [directory, Path::new("/dev/shm")] {
        mount(Some("tiny"), path, Some("tmpfs"), MsFlags::empty(), Some("size=64k,nr_inodes=16,mode=700"))?;
    }
    Ok(())
}

/// Takes the last page and the last inode.
fn fill_up(directory: &Path) {
    for number in 0.. {
        let path = directory.join(format!("fill-{number}"));
        let Ok(mut file) = std::fs::File::create(path) else { return };
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    }
}
