//! What this program is born with: which signals its parent ignored, which standard streams were closed, whether it is
//! the first process of a namespace; and how the commands that it starts get the same.
//!
//! The standard library changes some of it before `main`: it ignores SIGPIPE, and opens `/dev/null` in the place of
//! standard streams that are closed. So it is looked at before, by a function that the loader calls.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::signal::SigSet;

use crate::first_process;

/// How this program was found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// A bit for each signal that is ignored.
    ignored: u64,
    /// A bit for each standard stream that is closed.
    closed: u8,
}

static FOUND: OnceLock<Found> = OnceLock::new();

/// Signals that a program can ignore: the others are of real time, or of threads.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

// SAFETY: the loader calls each function in this section once, before `main`, on the only thread that there is. What
// `look` does needs nothing of the standard library's start.
#[used]
#[unsafe(link_section = ".init_array")]
#[expect(clippy::unnecessary_safety_comment, reason = "the attribute is unsafe, not the static")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut found = Found::default();
    for signal in SIGNALS {
        // SAFETY: zeroes are a valid `sigaction`, which the call fills; without a new one it changes nothing.
        let action = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(signal, std::ptr::null(), &mut action) == 0).then_some(action)
        };
        if action.is_some_and(|action| action.sa_sigaction == libc::SIG_IGN) {
            found.ignored |= 1 << signal;
        }
    }
    for descriptor in 0..3 {
        // SAFETY: asks for the flags of a descriptor, whether it is open or not; nothing changes.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            found.closed |= 1 << descriptor;
        }
    }
    let _ = FOUND.set(found);
}

fn found() -> Found {
    FOUND.get().copied().unwrap_or_default()
}

/// Whether a signal was ignored when this program began. Then it stays so, here and in the commands that are started:
/// `nohup` and the `&` of a shell without job control mean it.
pub fn was_ignored(signal: i32) -> bool {
    SIGNALS.contains(&signal) && found().ignored & (1 << signal) != 0
}

/// Whether a standard stream was closed when this program began.
pub fn was_closed(descriptor: i32) -> bool {
    (0..3).contains(&descriptor) && found().closed & (1 << descriptor) != 0
}

/// Puts right what no program of ours can work with: children that are not to be waited for, and signals that never
/// arrive.
pub fn put_right() {
    // SAFETY: no handler is installed: the default action of SIGCHLD is to do nothing and to keep what became of a
    // child.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // A mask that was inherited would keep the signals from us that end us, and threads inherit ours. It does not fail.
    let _ = SigSet::empty().thread_set_mask();
}

/// A descriptor that a service manager has left for this process.
#[derive(Debug)]
pub struct Inherited {
    /// What it is called there; empty where it has no name.
    pub name: String,
    pub descriptor: OwnedFd,
}

/// The first descriptor of those (sd_listen_fds(3)).
const FIRST_INHERITED: RawFd = 3;
/// More than anybody leaves.
const INHERITED_MAX: usize = 1024;

/// Takes the descriptors that a service manager has left for this process (LISTEN_FDS), once: no command gets them or
/// the variables. To be called while there is one thread, before anything is opened that stays open.
pub fn take_inherited() -> Vec<Inherited> {
    let variable = |name: &str| {
        let value = std::env::var(name).ok();
        // SAFETY: this is called before any other thread begins, so nobody else looks into the environment.
        unsafe { std::env::remove_var(name) };
        value
    };
    let [process, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(variable);
    if process.and_then(|process| process.parse().ok()) != Some(first_process::number()) {
        return Vec::new(); // they are for another process, or there are none
    }
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0).min(INHERITED_MAX);
    let names: Vec<&str> = names.iter().flat_map(|names| names.split(':')).collect();
    let take = |index: usize| {
        let number = FIRST_INHERITED + RawFd::try_from(index).ok()?;
        // SAFETY: it sets a flag of a descriptor, and fails where there is none.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            return None;
        }
        let name = names.get(index).copied().unwrap_or_default().to_owned();
        // SAFETY: the variables say that it was left for this process; they are gone, so that nobody takes it again.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        Some(Inherited { name, descriptor })
    };
    (0..count).filter_map(take).collect()
}

/// Lets a command begin as this program did: SIGPIPE is ignored if it was. The standard library sees to the rest: no
/// signal is blocked, and none has a handler.
pub fn pass_on(command: &mut Command) {
    if was_ignored(libc::SIGPIPE) {
        // SAFETY: between fork and exec one system call is made, that takes no lock and no memory.
        unsafe { command.pre_exec(ignore_sigpipe) };
    }
}

/// The same for a command that is nobody's at a terminal: it has a session, and so a process group, of its own. What is
/// typed at our terminal does not reach it, and it cannot wait for what is typed there.
///
/// If this process is killed, the command is killed, too. The kernel does that when the *thread* ends that started it,
/// so that one must stay until the command has ended.
pub fn pass_on_apart(command: &mut Command) {
    let parent = rustix::process::getpid();
    let stand_apart = move || {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have been killed before that.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(std::io::ErrorKind::NotConnected.into()), // of no allocation; nobody reads it
        }
    };
    // SAFETY: between fork and exec system calls are made, that take no lock and no memory.
    unsafe { command.pre_exec(stand_apart) };
    pass_on(command);
}

fn ignore_sigpipe() -> std::io::Result<()> {
    // SAFETY: no handler is installed.
    match unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits for one of these signals, which are blocked: its number, and whether the kernel sent it, as it does for what
/// is typed at a terminal. `None`: interrupted.
pub fn next_signal(signals: &SigSet) -> Option<(i32, bool)> {
    // SAFETY: zeroes are a valid `siginfo_t`, which the call fills.
    let (number, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::sigwaitinfo(signals.as_ref(), &mut info), info)
    };
    (number > 0).then_some((number, info.si_code == libc::SI_KERNEL))
}

/// Makes a copy of this process; its number, or `None` in the copy.
///
/// For `main` only, before anything else: a copy of a process with threads could do nothing with what they had locked.
pub fn fork() -> nix::Result<Option<nix::unistd::Pid>> {
    // SAFETY: this is the only thread, by what is said above, so the child is a whole process.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}
