//! Processes by fork: a process of one thread makes copies of itself that do something else, cheaply.
//!
//! They die with it, and it kills them by their ids, which are theirs until it has waited for them.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// A child that has not been waited for.
pub struct Child(Pid);

impl Child {
    /// Makes a copy of this process that does something and ends. The process must have one thread.
    pub fn fork(run: impl FnOnce()) -> Child {
        debug_assert_eq!(std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1), 1);
        let parent = rustix::process::getpid();
        // SAFETY: no other thread exists whose locks the child could find taken.
        match unsafe { libc::fork() } {
            -1 => panic!("could not fork: {}", std::io::Error::last_os_error()),
            0 => {
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                let group = rustix::process::setpgid(None, None);
                if rustix::process::getppid() != Some(parent) {
                    // SAFETY: the parent was gone before its death could be a signal; as below.
                    unsafe { libc::_exit(1) }
                }
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
                // SAFETY: ends the process without what its parent had registered for its own end.
                unsafe { libc::_exit(i32::from(outcome.is_err() || group.is_err())) }
            }
            child => {
                let child = Child(Pid::from_raw(child).expect("a child's id"));
                // Both sides do it, so it is done whoever is first: see `Holders`.
                let _ = rustix::process::setpgid(Some(child.0), Some(child.0));
                child
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.0, signal);
    }

    /// Tells of its end.
    pub fn pidfd(&self) -> OwnedFd {
        rustix::process::pidfd_open(self.0, PidfdFlags::empty()).expect("it has not been waited for")
    }

    /// SIGKILL, and waits. What it died of is said if it was something else.
    pub fn kill(self) -> Result<(), String> {
        self.signal(Signal::KILL);
        match wait(self.0) {
            Some(status) if status.terminating_signal() == Some(Signal::KILL.as_raw()) => Ok(()),
            status => Err(format!("ended by itself: {status:?}")),
        }
    }
}

fn wait(pid: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(waited) => return waited.map(|(_, status)| status),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// The forked children of victims: they hold copies of a dead process's descriptors for a while.
///
/// Their parents are killed, so they come to the process that made this, which waits for them. They are told from its
/// own children by the process group: it is the founder's own, which its children leave at their birth.
pub struct Holders(());

impl Holders {
    /// Makes the calling process the one that orphans come to.
    pub fn founder() -> Holders {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let _ = rustix::process::setpgid(None, None);
        Holders(())
    }

    /// Waits for those that have ended.
    pub fn reap(&self) -> usize {
        let mut reaped = 0;
        while let Ok(Some(_)) = rustix::process::waitpgid(rustix::process::getpgrp(), WaitOptions::NOHANG) {
            reaped += 1;
        }
        reaped
    }

    /// A child of the caller, itself a child of the founder: sleeps for a while with copies of all descriptors, and
    /// ends, whoever has died meanwhile. Returns its id.
    pub fn raise(for_us: u32) -> i32 {
        let founder = rustix::process::getppid();
        // SAFETY: the child makes three system calls and touches no memory of the parent's.
        match unsafe { libc::fork() } {
            0 => {
                let _ = rustix::process::setpgid(None, founder);
                // SAFETY: no memory is involved.
                unsafe { libc::usleep(for_us) };
                // SAFETY: as above.
                unsafe { libc::_exit(0) }
            }
            child => child,
        }
    }
}

/// Raises the caller, and all it starts from now on, above ordinary processes, so that what is measured is not how busy
/// the machine is. `false` where that is not allowed. Round robin: one that should sleep and spins does not stop the
/// others.
pub fn be_urgent() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters live for the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &parameters) == 0 }
}

/// A sleep ends when it should: without the 50 microseconds by which the kernel may be late to gather wake-ups.
pub fn wake_in_time() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}
