//! Counts the system calls of a call, of both processes and all their threads, by tracing them.
//!
//! A traced process is much slower, so nothing is timed here, and it must not be slowed in a way that changes what it
//! asks for. A tracer that stops a process on its way out of a system call, as `strace` does, lets the other side
//! answer meanwhile, and the sleep that would have followed never happens. Here a filter stops a process only on its
//! way in: a sleeper has announced its sleep by then. Two sides that need no system calls are not stopped at all and
//! stay as they are. Where a side polls the kernel the number would be a matter of speed, and is not counted.
//!
//! The client says through a word of shared memory when its calls begin and end. The tracer is a process of its own:
//! whatever it traces ends with it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use libc::{
    BPF_K, BPF_RET, SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_RET_TRACE, SECCOMP_SET_MODE_FILTER, sock_filter, sock_fprog,
};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::case::{Case, Contender, Load, WaitMode};
use crate::clock::{SECOND, SHORTEST_SLEEP};
use crate::memory::{self, Memory};
use crate::meter::Extent;
use crate::peer;
use crate::phase::Stage;
use crate::role::Orders;

/// How long the calls are counted, and how long both sides find their way before.
pub const EXTENT: Extent = Extent { calls: 2_000, nanos: SECOND / 5, warm_up: SECOND / 10 };

/// The size of the memory that holds the one word.
pub const MEMORY: usize = 4096;
const COUNTING: u64 = 1;
const DONE: u64 = 2;

/// Whether a case's number of system calls is a property of the case and not of the machine's speed.
pub fn is_countable(case: &Case) -> bool {
    let polls_the_kernel = match case.contender {
        Contender::File | Contender::Rival(_) | Contender::Tokio | Contender::TokioUnix => true,
        Contender::Unix | Contender::Tcp | Contender::Pipe | Contender::Mqueue => case.wait == WaitMode::Spin,
        _ => false,
    };
    !polls_the_kernel && case.busy == 1 && case.load != Load::Connect
}

/// The sleeps that a load makes between so many calls: they are the load's, not the calls'.
fn sleeps(load: Load, calls: u64) -> u64 {
    match load {
        Load::Paced { .. } => calls,
        Load::Bursts { burst, pause_ns } if pause_ns >= SHORTEST_SLEEP => calls / u64::from(burst),
        _ => 0,
    }
}

/// In the client: lets the tracer count what happens meanwhile.
pub fn counted(memory: &Memory, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    // Relaxed: every system call, on whose account alone the tracer looks at the word, is a barrier of its own.
    memory.word(0).store(COUNTING, Ordering::Relaxed);
    let result = work();
    memory.word(0).store(DONE, Ordering::Relaxed);
    result
}

/// In server and client: lets the tracer take hold, then has it asked before every system call.
pub fn submit_to_tracer() -> anyhow::Result<()> {
    std::io::stdin().read_line(&mut String::new()).context("the tracer cannot be heard")?;
    let mut everything = sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: SECCOMP_RET_TRACE };
    let program = sock_fprog { len: 1, filter: &mut everything };
    // SAFETY: the first call takes no memory; the second reads the program, which outlives it, and it has one
    // instruction, as it says. All threads come under the filter, those that are there and those to come.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program)
    };
    ensure!(result == 0, "system calls cannot be filtered: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The tracer's process: prints the system calls per call and ends.
pub fn trace(orders: &Orders) -> anyhow::Result<()> {
    let stage = Stage::of(orders)?;
    let descriptor = memory::create(MEMORY)?;
    let memory = Memory::map(&descriptor, MEMORY)?;
    let (mut scene, mut client) = stage.set_for_tracer(orders, &descriptor)?;
    let client_id = Pid::from_raw(client.process());
    seize(Pid::from_raw(scene.server.process()))?;
    seize(client_id)?;
    scene.server.tell("go")?;
    client.tell("go")?;
    let counted = follow(client_id, memory.word(0))?;
    let calls = client.report(Duration::from_secs(1))?.calls;
    ensure!(calls > 0, "the client made no calls");
    let own = counted.saturating_sub(sleeps(orders.case.load, calls));
    peer::say(&(own as f64 / calls as f64).to_string())?;
    // Everyone else is held by this process and ends with it: there is nobody to wait for.
    std::process::exit(0);
}

/// Takes hold of all threads of a process, and of those that they will start.
fn seize(process: Pid) -> anyhow::Result<()> {
    let options = Options::PTRACE_O_TRACESECCOMP | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    let mut held = HashSet::new();
    loop {
        let before = held.len();
        for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let name = entry?.file_name();
            let thread: i32 = name.to_str().and_then(|name| name.parse().ok()).context("no thread's number")?;
            if !held.insert(thread) {
                continue;
            }
            match ptrace::seize(Pid::from_raw(thread), options) {
                // The second: it is held already, because it was started by a thread that is.
                Ok(()) => {}
                Err(Errno::EPERM) if before > 0 => {}
                Err(error) => return Err(error).context("this machine does not allow tracing"),
            }
        }
        if held.len() == before {
            return Ok(());
        }
    }
}

/// Lets everybody go on at every stop until the client ends; counts while the client says so.
fn follow(client: Pid, word: &AtomicU64) -> anyhow::Result<u64> {
    let mut count = 0;
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => continue,
            status => status.context("the traced processes cannot be waited for")?,
        };
        let (thread, signal) = match status {
            WaitStatus::PtraceEvent(thread, _, event) => {
                let asked = event == libc::PTRACE_EVENT_SECCOMP && word.load(Ordering::Relaxed) == COUNTING;
                count += u64::from(asked);
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::Exited(process, _) | WaitStatus::Signaled(process, ..) if process == client => {
                return Ok(count);
            }
            _ => continue,
        };
        match ptrace::cont(thread, signal) {
            // It ended in the meantime.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("a traced thread does not go on"),
        }
    }
}
