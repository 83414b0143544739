//! The kernel says no (goal G15): each system call of each operation fails once, with each error that it may fail with.
//!
//! The call is not made; the thread is told the error instead. Whatever the operation does then, it must not panic,
//! hang, leave something behind, or take a peer for somebody else. SQLite's n-th failure tests are the model.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use wigwag::{Client, Wait};
use wigwag_testing::{Ground, Process, Snapshot};

use super::Counts;
use super::client_victim;
use super::server_victim;
use super::tracer::Tracee;
use super::victim::{CLIENT_OPERATIONS, SERVER_OPERATIONS, is_of_control_thread};
use super::world::World;
use crate::outcome::Outcome;
use crate::processors;
use crate::scale::Trial;

/// How long the thread that was told no may take.
const LIMIT: Duration = Duration::from_secs(15);

/// The errors that the calls of the operations may fail with; nothing for calls that cannot.
///
/// Two are left out that say something of the world which a call that was not made does not make true: EPIPE, that the
/// peer has hung up; and EAGAIN of a doorbell's write, that it has been rung already.
#[allow(non_upper_case_globals, reason = "the names of libc")]
fn errors_of(call: u64) -> &'static [i32] {
    use libc::*;
    match call as i64 {
        SYS_socket => &[EMFILE, ENFILE, ENOMEM, EACCES],
        SYS_connect => &[ECONNREFUSED, EAGAIN, EACCES, EINTR, ENOENT, EPROTOTYPE],
        SYS_accept4 => &[EMFILE, ENFILE, ENOMEM, ECONNABORTED, EAGAIN, EINTR],
        SYS_bind => &[EADDRINUSE, EACCES, EROFS, ENOSPC],
        SYS_listen => &[EADDRINUSE],
        SYS_sendmsg => &[EAGAIN, ECONNRESET, ENOBUFS, ENOMEM, EINTR, ETOOMANYREFS],
        SYS_recvmsg => &[EAGAIN, ECONNRESET, ENOMEM, EINTR],
        SYS_getsockopt => &[ENOPROTOOPT, ENOTCONN, ENODATA, EMFILE, EPERM],
        SYS_setsockopt => &[ENOPROTOOPT],
        SYS_pidfd_open => &[ENOSYS, ESRCH, EMFILE],
        SYS_poll | SYS_ppoll => &[EINTR, ENOMEM],
        SYS_memfd_create => &[ENOSYS, EMFILE, ENFILE, ENOMEM, EINVAL],
        SYS_ftruncate => &[ENOSPC, EINTR, EPERM],
        SYS_fcntl => &[EINVAL, EPERM, EBUSY],
        SYS_fstat | SYS_fstatfs | SYS_newfstatat | SYS_statx => &[EIO, ENOENT, EACCES],
        SYS_mmap => &[ENOMEM, EPERM, EAGAIN],
        SYS_madvise => &[EINVAL, ENOMEM, EFAULT, ENOSYS],
        SYS_eventfd2 => &[EMFILE, ENFILE, ENOMEM],
        SYS_epoll_create1 => &[EMFILE, ENOMEM],
        SYS_epoll_ctl => &[ENOMEM, ENOSPC],
        SYS_epoll_wait | SYS_epoll_pwait | SYS_epoll_pwait2 => &[EINTR],
        SYS_openat | SYS_open => &[EMFILE, EACCES, ENOENT, EINTR, ELOOP],
        SYS_mkdirat | SYS_unlinkat | SYS_fchmodat => &[EACCES, EROFS, EIO],
        SYS_flock => &[EWOULDBLOCK, EINTR, ENOLCK],
        SYS_getrandom => &[EINTR],
        SYS_clone | SYS_clone3 => &[EAGAIN, ENOMEM],
        SYS_sched_getaffinity | SYS_sched_setaffinity => &[EINVAL, EPERM],
        SYS_write => &[EINTR],
        SYS_prctl => &[EINVAL],
        SYS_pread64 => &[EIO, EINTR],
        _ => &[],
    }
}

/// The goal.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    processors::share_one()?;
    let mut counts = Counts::default();
    // At the smallest scale every fifth pair of a call and an error is tried.
    let stride = trial.pick(5, 1, 1);
    let mut sites = fail_clients(stride, &mut counts).context("a client that is told no")?;
    sites += fail_servers(stride, &mut counts).context("a server that is told no")?;
    let figure = format!("{} failures at {sites} system calls of 26 operations", counts.visits);
    Ok(Outcome::of(figure, counts.findings))
}

/// The numbers of the calls between here and the end, in order.
fn calls_of(tracee: &Tracee, is_over: impl Fn() -> bool) -> anyhow::Result<Vec<u64>> {
    let mut calls = Vec::new();
    while let Some(call) = tracee.go_to_call(&is_over)? {
        calls.push(call);
        if !tracee.finish_call(&is_over)? {
            break;
        }
    }
    Ok(calls)
}

/// What was refused.
#[derive(PartialEq)]
enum Refused {
    /// There are fewer calls this time, or another one has its place.
    Nothing,
    /// To learn who the peer is.
    Credentials,
    /// Anything else.
    Something,
}

/// Lets the `n`th call fail.
fn fail(tracee: &Tracee, n: usize, call: u64, error: i32, is_over: impl Fn() -> bool) -> anyhow::Result<Refused> {
    for _ in 0..n {
        if tracee.go_to_call(&is_over)?.is_none() || !tracee.finish_call(&is_over)? {
            return Ok(Refused::Nothing);
        }
    }
    if tracee.go_to_call(&is_over)? != Some(call) {
        return Ok(Refused::Nothing);
    }
    let option = tracee.registers()?.rdx;
    tracee.refuse_call(error)?;
    let is_about_peer = call as i64 == libc::SYS_getsockopt && option == libc::SO_PEERCRED as u64;
    Ok(if is_about_peer { Refused::Credentials } else { Refused::Something })
}

/// Returns the number of calls.
fn fail_clients(stride: usize, counts: &mut Counts) -> anyhow::Result<usize> {
    let mut world = World::new()?;
    let mut sites = 0;
    for (index, operation) in CLIENT_OPERATIONS.iter().enumerate().filter(|(_, operation)| super::is_wanted(operation))
    {
        let (mut victim, tracee) = client_victim::stage(&mut world, operation)?;
        let sleeper = client_victim::sleeper(&world, &victim, &tracee, operation);
        let calls = calls_of(&tracee, || false)?;
        tracee.release()?;
        client_victim::says_ok(&mut victim)?;
        drop(sleeper);
        client_victim::finish(&mut world, victim)?;
        sites += calls.len();
        let pairs =
            calls.iter().enumerate().flat_map(|(n, &call)| errors_of(call).iter().map(move |&error| (n, call, error)));
        for (n, call, error) in pairs.skip(index % stride).step_by(stride) {
            if counts.is_enough() {
                return Ok(sites);
            }
            counts.visits += 1;
            if let Err(finding) = fail_client(&mut world, operation, n, call, error) {
                counts.find(format!("client, {operation}, call {n} ({call}) fails with {}: {finding:#}", name(error)));
                world = World::new()?;
            }
        }
    }
    world.end()?;
    Ok(sites)
}

fn fail_client(world: &mut World, operation: &str, n: usize, call: u64, error: i32) -> anyhow::Result<()> {
    let (mut victim, tracee) = client_victim::stage(world, operation)?;
    let sleeper = client_victim::sleeper(world, &victim, &tracee, operation);
    fail(&tracee, n, call, error, || false)?;
    tracee.release()?;
    let said = client_victim::said_within(&mut victim, LIMIT)?;
    drop(sleeper);
    match said.as_deref() {
        Some(said) if said.starts_with("done") => {}
        Some(_) => bail!("it fell: {}", victim.child.wait()?),
        None => bail!("it hangs"),
    }
    world.others_work()?;
    client_victim::finish(world, victim)
}

/// Returns the number of calls.
fn fail_servers(stride: usize, counts: &mut Counts) -> anyhow::Result<usize> {
    let mut sites = 0;
    for (index, operation) in SERVER_OPERATIONS.iter().enumerate().filter(|(_, operation)| super::is_wanted(operation))
    {
        let mut scene = server_victim::stage(operation)?;
        let sleeper = scene.sleeper(operation);
        let is_over = scene.is_over();
        let calls = calls_of(scene.tracee()?, is_over)?;
        drop(sleeper);
        server_victim::goes_on(scene, operation)?;
        sites += calls.len();
        let pairs =
            calls.iter().enumerate().flat_map(|(n, &call)| errors_of(call).iter().map(move |&error| (n, call, error)));
        for (n, call, error) in pairs.skip(index % stride).step_by(stride) {
            if counts.is_enough() {
                return Ok(sites);
            }
            counts.visits += 1;
            if let Err(finding) = fail_server(operation, n, call, error) {
                counts.find(format!("server, {operation}, call {n} ({call}) fails with {}: {finding:#}", name(error)));
            }
        }
    }
    Ok(sites)
}

fn fail_server(operation: &'static str, n: usize, call: u64, error: i32) -> anyhow::Result<()> {
    let mut scene = server_victim::stage(operation)?;
    let sleeper = scene.sleeper(operation);
    let is_over = scene.is_over();
    let begin = Instant::now();
    let refused = fail(scene.tracee()?, n, call, error, || is_over() || begin.elapsed() > LIMIT)?;
    scene.release()?;
    let said = client_victim::said_within(&mut scene.server, LIMIT)?;
    drop(sleeper);
    match said.as_deref() {
        Some(said) if said.starts_with("done") => {}
        Some(_) => bail!("it fell: {}", scene.server.child.wait()?),
        None => bail!("it hangs"),
    }
    if refused == Refused::Credentials && operation == "accept" && scene.was_let_in()? {
        bail!("a peer whose credentials could not be read was let in");
    }
    if is_of_control_thread(operation) {
        // It may have turned somebody away; it lets the next one in, and serves the others.
        serves_on(&scene.ground, &scene.idle)?;
        segments_come_back(scene.server.id(), usize::from(scene.idle.is_some()))?;
    }
    if !scene.server.is_alive() {
        return Ok(()); // it told its error and ended
    }
    drop(scene.idle.take());
    stops(&mut scene.server)
}

/// What a client that was turned away had is given back.
fn segments_come_back(server: u32, wanted: usize) -> anyhow::Result<()> {
    let begin = Instant::now();
    // A control thread's operation that ended well has left one session, which nobody ends.
    while ![wanted, wanted + 1].contains(&Snapshot::of(server).segments) {
        if begin.elapsed() > LIMIT {
            bail!("the server keeps {} segments where {wanted} are in use", Snapshot::of(server).segments);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn serves_on(ground: &Ground, idle: &Option<Client>) -> anyhow::Result<()> {
    if let Some(idle) = idle {
        idle.call_timeout(&[1; 100], LIMIT).context("the idle client's call")?;
    }
    let client = Client::builder().wait(Wait::Park).connect(ground.socket()).context("the next client")?;
    client.call_timeout(&[1; 100], LIMIT).context("the next client's call")?;
    Ok(())
}

fn stops(server: &mut Process) -> anyhow::Result<()> {
    server.tell("stop");
    match client_victim::said_within(server, LIMIT)?.as_deref() {
        Some("stopped") => Ok(()),
        Some("") => Ok(()), // it had ended with its error
        other => bail!("told to stop it says {other:?}"),
    }
}

fn name(error: i32) -> String {
    nix::errno::Errno::from_raw(error).to_string()
}
