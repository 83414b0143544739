//! The first process of a PID namespace, as in a container: the kernel keeps signals from it whose action is the
//! default one, and gives it every orphan to wait for.
//!
//! So it does nothing else: the program itself runs in a child, to which signals are passed on, and whose end is its
//! own.

use std::process::ExitCode;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setpgid};

use crate::surroundings;

/// Set in the child of a first process.
static IS_CHILD: OnceLock<()> = OnceLock::new();

/// The number of the process that this program was started as: of the first one, where that stands by for this one.
pub fn number() -> i32 {
    if IS_CHILD.get().is_some() { 1 } else { getpid().as_raw() }
}

/// In the first process of a namespace: starts the program in a child and waits for its end; the code to end with.
/// `None` in that child, and in all other processes: they go on. For `main`, before anything else.
pub fn stand_by() -> Option<ExitCode> {
    if getpid().as_raw() != 1 {
        return None;
    }
    // Where children are not to be waited for, their end is told to nobody: this one would wait for it for ever.
    surroundings::put_right();
    let all = SigSet::all();
    all.thread_block().ok()?;
    let has_terminal = std::fs::File::open("/dev/tty").is_ok();
    // Without a child we do the work ourselves, as well as it goes.
    match surroundings::fork().ok()? {
        Some(child) => Some(ExitCode::from(attend(child, &all, has_terminal))),
        None => {
            let _ = IS_CHILD.set(());
            if !has_terminal {
                // So that a signal for the whole group comes once, from its parent. Where there is a terminal, it must
                // stay in the group that this one is typed to.
                let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            }
            None
        }
    }
}

/// Passes signals on and reaps processes until the child has ended; returns its code.
fn attend(child: Pid, signals: &SigSet, has_terminal: bool) -> u8 {
    loop {
        match surroundings::next_signal(signals) {
            Some((libc::SIGCHLD, _)) => {
                if let Some(code) = collect(child) {
                    return code;
                }
            }
            // Typed at the terminal: the child has it, too.
            Some((_, true)) if has_terminal => {}
            Some((number, _)) => {
                if let Ok(signal) = Signal::try_from(number) {
                    let _ = kill(child, signal); // it may have ended just now
                }
            }
            None => {}
        }
    }
}

/// Waits for all that have ended: orphans, and the child, whose code is told.
fn collect(child: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(process, status)) if process == child => {
                code = Some(u8::try_from(status).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(process, signal, _)) if process == child => {
                code = Some(128 + u8::try_from(signal as i32).unwrap_or_default());
            }
            // Stopped at the terminal, where no shell is that could let it go on.
            Ok(WaitStatus::Stopped(process, Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU)) => {
                let _ = kill(process, Signal::SIGCONT);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(_) => {}
        }
    }
}
