//! A tracer: follows two processes and all of their threads from system call to system call, and counts.
//!
//! The traced program marks what belongs to what by a signal that does nothing ([`mark`]): it says nothing to the
//! program itself, but a tracer sees it. Whatever is traced ends with the tracer. A tracer waits for any child of its
//! process, so it should be a process of its own.

use std::collections::HashSet;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// In the traced program: sets a mark.
pub fn mark() -> anyhow::Result<()> {
    raise(Signal::SIGURG).context("no mark can be set for the tracer")
}

/// Takes hold of all threads of a process, and of those that they will start.
pub fn seize(process: Pid) -> anyhow::Result<()> {
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_TRACECLONE
        | ptrace::Options::PTRACE_O_EXITKILL;
    let mut held = HashSet::new();
    loop {
        let mut found_more = false;
        for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let name = entry?.file_name();
            let thread = name.to_str().and_then(|name| name.parse().ok()).context("a thread's number is no number")?;
            if !held.insert(thread) {
                continue;
            }
            found_more = true;
            let thread = Pid::from_raw(thread);
            match ptrace::seize(thread, options) {
                Ok(()) => ptrace::interrupt(thread).context("a thread cannot be stopped for counting")?,
                // Already ours, by its parent thread.
                Err(Errno::EPERM) if held.len() > 1 => {}
                Err(error) => return Err(error).context("this machine does not allow tracing"),
            }
        }
        if !found_more {
            return Ok(());
        }
    }
}

/// Lets everybody go on from system call to system call until the client ends; the count at each of its marks.
pub fn follow(client: Pid) -> anyhow::Result<Vec<u64>> {
    let mut count = 0;
    let mut marks = Vec::new();
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => continue,
            status => status.context("the traced processes cannot be waited for")?,
        };
        let (thread, signal) = match status {
            WaitStatus::PtraceSyscall(thread) => {
                count += u64::from(enters(thread));
                (thread, None)
            }
            WaitStatus::Stopped(thread, Signal::SIGURG) => {
                marks.push(count);
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Exited(process, 0) if process == client => return Ok(marks),
            WaitStatus::Exited(process, _) | WaitStatus::Signaled(process, ..) if process == client => {
                bail!("the client ended with an error while it was counted")
            }
            _ => continue,
        };
        match ptrace::syscall(thread, signal) {
            // It ended in the meantime.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("a traced thread does not go on"),
        }
    }
}

/// Whether a thread stopped on its way into a system call, not on its way out.
#[cfg(target_env = "gnu")]
fn enters(thread: Pid) -> bool {
    ptrace::syscall_info(thread).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}

/// Without the kernel's word for it: each thread alternates.
#[cfg(not(target_env = "gnu"))]
fn enters(thread: Pid) -> bool {
    use std::cell::RefCell;
    thread_local!(static INSIDE: RefCell<HashSet<Pid>> = RefCell::default());
    INSIDE.with_borrow_mut(|inside| inside.insert(thread) || !inside.remove(&thread))
}
