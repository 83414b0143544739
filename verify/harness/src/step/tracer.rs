//! One thread of a victim, held by ptrace(2): stepped, run to an instruction, looked into, changed, let go.
//!
//! The victim marks the operation that is to be walked by breakpoint instructions ([`mark`]). Everything else it does
//! runs at full speed. The kernel kills a victim whose tracer ends, so nothing is left over.
//!
//! All of this is one architecture's: registers, breakpoints and the system call instruction are those of x86-64.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// In the victim: here the operation begins, or ends.
#[inline(never)]
pub fn mark() {
    // SAFETY: traps into the tracer, which lets the thread go on; without a tracer the process ends, harming nobody.
    unsafe { std::arch::asm!("int3", options(nomem, nostack)) };
}

/// In the victim, first of all: a mark that no tracer sees any more does nothing.
pub fn survive_marks() {
    extern "C" fn nothing(_: libc::c_int) {}
    let nothing = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler touches nothing.
    unsafe { sigaction(Signal::SIGTRAP, &nothing) }.expect("a handler for SIGTRAP");
}

/// Why a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It made one step, or reached the breakpoint.
    There,
    /// It reached a [`mark`].
    Mark,
    /// A signal is about to be delivered.
    Signal(Signal),
    /// It forked: the child's number.
    Forked(Pid),
    /// It sleeps, and its work is over: it will not come where it was sent.
    Missed,
    /// It ended.
    Ended,
}

/// Bytes of a session's control words that the harness knows: offset and length, for sessions of [`SLOTS`] slots.
pub const CONTROL: &[(u64, usize)] = &[(1024, 16), (1152, 16), (4096, 16), (4160, 16), (4224, 16)];
/// Slots of the sessions whose control words are watched.
pub const SLOTS: usize = 2;

/// Looks at a running thread before the looks are spread out.
const LOOKS_WITHOUT_PAUSE: u32 = 200;

/// A thread of a victim.
pub struct Tracee {
    /// The thread.
    pub thread: Pid,
    process: Pid,
    memory: File,
    /// Where the newest session's memory is mapped there.
    segment: Option<u64>,
}

impl Tracee {
    /// Takes hold of a thread, which goes on until it is stopped. The caller's thread is the only one that may use it.
    pub fn seize(process: u32, thread: u32) -> anyhow::Result<Tracee> {
        let (process, thread) = (Pid::from_raw(process as i32), Pid::from_raw(thread as i32));
        let options = ptrace::Options::PTRACE_O_EXITKILL
            | ptrace::Options::PTRACE_O_TRACESYSGOOD
            | ptrace::Options::PTRACE_O_TRACEFORK;
        ptrace::seize(thread, options).context("this machine does not allow tracing")?;
        let memory = File::options().read(true).write(true).open(format!("/proc/{process}/mem"))?;
        let mut tracee = Tracee { thread, process, memory, segment: None };
        tracee.find_segment()?;
        Ok(tracee)
    }

    /// Stops it wherever it is.
    pub fn interrupt(&self) -> anyhow::Result<Stop> {
        ptrace::interrupt(self.thread)?;
        self.wait()
    }

    /// Whether it has come to a stop meanwhile. Asked once for each stop.
    pub fn has_stopped(&self) -> anyhow::Result<bool> {
        let status = waitpid(self.thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        Ok(status.context("a victim cannot be waited for")? != WaitStatus::StillAlive)
    }

    fn wait(&self) -> anyhow::Result<Stop> {
        loop {
            let status = match waitpid(self.thread, Some(WaitPidFlag::__WALL)) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::ECHILD) => return Ok(Stop::Ended),
                status => status.context("a victim cannot be waited for")?,
            };
            return Ok(match status {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => Stop::Ended,
                WaitStatus::PtraceEvent(_, _, event) if event == ptrace::Event::PTRACE_EVENT_FORK as i32 => {
                    Stop::Forked(Pid::from_raw(ptrace::getevent(self.thread)? as i32))
                }
                WaitStatus::PtraceEvent(..) | WaitStatus::PtraceSyscall(_) => Stop::There,
                WaitStatus::Stopped(_, Signal::SIGTRAP) => self.which_trap()?,
                WaitStatus::Stopped(_, signal) => Stop::Signal(signal),
                other => bail!("an unexpected stop: {other:?}"),
            });
        }
    }

    /// Waits for a stop; once the thread sleeps and nothing is left for it to do, it is stopped there.
    fn wait_unless(&self, is_over: &impl Fn() -> bool) -> anyhow::Result<Stop> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED;
        for look in 0.. {
            let status = waitid(Id::Pid(self.thread), flags | WaitPidFlag::__WALL);
            if !matches!(status, Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR)) {
                break;
            }
            if look < LOOKS_WITHOUT_PAUSE {
                std::thread::yield_now();
                continue;
            }
            std::thread::sleep(Duration::from_micros(200));
            if is_over() && self.is_asleep() {
                return self.interrupt().map(|stop| if stop == Stop::There { Stop::Missed } else { stop });
            }
        }
        self.wait()
    }

    fn which_trap(&self) -> anyhow::Result<Stop> {
        let code = ptrace::getsiginfo(self.thread)?.si_code;
        Ok(if code == libc::SI_KERNEL { Stop::Mark } else { Stop::There })
    }

    /// One instruction, with all of a system call's work if it is one.
    pub fn step(&self) -> anyhow::Result<Stop> {
        match ptrace::step(self.thread, None) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => self.wait(),
            Err(error) => Err(error).context("a victim does not step"),
        }
    }

    /// Full speed, up to whatever stops it.
    pub fn go(&self, signal: Option<Signal>) -> anyhow::Result<Stop> {
        match ptrace::cont(self.thread, signal) {
            // Not stopped: it runs already, or is gone.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => self.wait(),
            Err(error) => Err(error).context("a victim does not go on"),
        }
    }

    /// As [`go`](Tracee::go), but gives up when it sleeps and this says that it may not.
    pub fn go_unless(&self, signal: Option<Signal>, is_over: impl Fn() -> bool) -> anyhow::Result<Stop> {
        ptrace::cont(self.thread, signal).context("a victim does not go on")?;
        self.wait_unless(&is_over)
    }

    /// Full speed, and nobody waits for it now.
    pub fn go_on(&self) -> anyhow::Result<()> {
        ptrace::cont(self.thread, None).context("a victim does not go on")
    }

    /// The thread runs at full speed; this waits until it comes to a [`mark`].
    pub fn wait_for_mark(&self) -> anyhow::Result<()> {
        let mut stop = self.wait()?;
        loop {
            stop = match stop {
                Stop::Mark => return Ok(()),
                Stop::There | Stop::Forked(_) | Stop::Missed => self.go(None)?,
                Stop::Signal(signal) => self.go(Some(signal))?,
                Stop::Ended => bail!("the victim ended before its mark"),
            }
        }
    }

    /// Full speed, up to the moment before the instruction at `address` is executed for the `occurrence`th time,
    /// counted from 0. Whatever else stops it is said instead.
    pub fn go_to(&self, address: u64, occurrence: usize, is_over: impl Fn() -> bool) -> anyhow::Result<Stop> {
        let mut left = occurrence;
        loop {
            if self.registers()?.rip != address {
                self.set_breakpoint(Some(address))?;
                ptrace::cont(self.thread, None)?;
                let stop = self.wait_unless(&is_over)?;
                if stop != Stop::Ended {
                    self.set_breakpoint(None)?;
                }
                if stop != Stop::There {
                    return Ok(stop);
                }
            }
            if left == 0 {
                return Ok(Stop::There);
            }
            left -= 1;
            let stop = self.step()?;
            if stop != Stop::There {
                return Ok(stop);
            }
        }
    }

    /// Debug register 0: "before the instruction at this address is executed".
    fn set_breakpoint(&self, address: Option<u64>) -> anyhow::Result<()> {
        let register = |index: usize| {
            (std::mem::offset_of!(libc::user, u_debugreg) + index * size_of::<u64>()) as *mut libc::c_void
        };
        ptrace::write_user(self.thread, register(7), 0)?;
        if let Some(address) = address {
            ptrace::write_user(self.thread, register(0), address as i64)?;
            ptrace::write_user(self.thread, register(7), 1)?;
        }
        Ok(())
    }

    /// The registers.
    pub fn registers(&self) -> anyhow::Result<libc::user_regs_struct> {
        ptrace::getregs(self.thread).context("a victim's registers cannot be read")
    }

    /// The number of the system call that the next instruction makes, if it makes one.
    pub fn next_call(&self, registers: &libc::user_regs_struct) -> Option<u64> {
        let mut bytes = [0; 2];
        self.memory.read_exact_at(&mut bytes, registers.rip).ok()?;
        (bytes == [0x0f, 0x05]).then_some(registers.rax)
    }

    /// Full speed, up to the entry of the next system call: its number. `None` at a mark, at the end, or when the
    /// thread sleeps and its work is over.
    pub fn go_to_call(&self, is_over: &impl Fn() -> bool) -> anyhow::Result<Option<u64>> {
        loop {
            match self.syscall(None, is_over)? {
                Stop::There => return Ok(Some(self.registers()?.orig_rax)),
                Stop::Forked(_) => {}
                Stop::Signal(_) | Stop::Mark | Stop::Missed | Stop::Ended => return Ok(None),
            }
        }
    }

    /// From the entry of a system call to its exit. `false` when it sleeps there, and its work is over.
    pub fn finish_call(&self, is_over: &impl Fn() -> bool) -> anyhow::Result<bool> {
        Ok(self.syscall(None, is_over)? != Stop::Missed)
    }

    /// At the entry of a system call: it is not made, and the thread is told this error.
    pub fn refuse_call(&self, error: i32) -> anyhow::Result<()> {
        let mut registers = self.registers()?;
        registers.orig_rax = u64::MAX;
        ptrace::setregs(self.thread, registers)?;
        self.syscall(None, &|| false)?;
        let mut registers = self.registers()?;
        registers.rax = -i64::from(error) as u64;
        ptrace::setregs(self.thread, registers).context("a victim's registers cannot be changed")
    }

    fn syscall(&self, signal: Option<Signal>, is_over: &impl Fn() -> bool) -> anyhow::Result<Stop> {
        match ptrace::syscall(self.thread, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => self.wait_unless(is_over),
            Err(error) => Err(error).context("a victim does not go on"),
        }
    }

    /// Makes the thread do a system call where it stands, and nothing else. Returns what the kernel said.
    pub fn call(&self, number: i64, arguments: [u64; 3]) -> anyhow::Result<i64> {
        let before = self.registers()?;
        let mut registers = before;
        registers.rip = self.system_call_instruction()?;
        registers.rax = number as u64;
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx] = arguments;
        ptrace::setregs(self.thread, registers)?;
        let mut stop = self.step()?;
        if let Stop::Forked(_) = stop {
            stop = self.step()?;
        }
        if stop != Stop::There {
            bail!("a system call put into a victim ended with {stop:?}");
        }
        let result = self.registers()?.rax as i64;
        ptrace::setregs(self.thread, before)?;
        Ok(result)
    }

    /// Where a system call instruction lies: in the vDSO, which everybody has.
    fn system_call_instruction(&self) -> anyhow::Result<u64> {
        let maps = self.maps()?;
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).context("a process without a vDSO")?;
        let (start, end) = range(line)?;
        let mut code = vec![0; (end - start) as usize];
        self.memory.read_exact_at(&mut code, start)?;
        let at = code.windows(2).position(|two| two == [0x0f, 0x05]).context("a vDSO without a system call")?;
        Ok(start + at as u64)
    }

    fn maps(&self) -> anyhow::Result<String> {
        let mut maps = String::new();
        File::open(format!("/proc/{}/maps", self.process))?.read_to_string(&mut maps)?;
        Ok(maps)
    }

    /// Looks for the newest session's memory.
    pub fn find_segment(&mut self) -> anyhow::Result<()> {
        let maps = self.maps()?;
        let lines = maps.lines().filter(|line| line.contains("memfd:wigwag"));
        // The one with the highest inode is the newest.
        let newest =
            lines.max_by_key(|line| line.split_whitespace().nth(4).and_then(|inode| inode.parse::<u64>().ok()));
        self.segment = newest.map(range).transpose()?.map(|(start, _)| start);
        Ok(())
    }

    /// The control words of the newest session; nothing while there is none.
    pub fn control_words(&self) -> Vec<u8> {
        let Some(segment) = self.segment else { return Vec::new() };
        let mut words = vec![0; CONTROL.iter().map(|(_, len)| len).sum()];
        let mut at = 0;
        for (offset, len) in CONTROL {
            if self.memory.read_exact_at(&mut words[at..at + len], segment + offset).is_err() {
                return Vec::new();
            }
            at += len;
        }
        words
    }

    /// Writes into the newest session's memory, as its other side could.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let segment = self.segment.context("there is no session to write to")?;
        self.memory.write_all_at(bytes, segment + offset).context("a session's memory cannot be written")
    }

    /// Whether the thread sleeps in a system call.
    pub fn is_asleep(&self) -> bool {
        is_asleep(self.process, self.thread)
    }

    /// It was killed: waits until it is gone. A thread that somebody traces keeps its process from being gone.
    pub fn bury(self) -> anyhow::Result<()> {
        if self.thread != self.process {
            while self.wait()? != Stop::Ended {}
        }
        Ok(())
    }

    /// Lets it go, whatever it does next.
    pub fn release(self) -> anyhow::Result<()> {
        let _ = self.set_breakpoint(None);
        match ptrace::detach(self.thread, None) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).context("a victim cannot be let go"),
        }
    }
}

/// Whether a thread sleeps in a system call.
pub fn is_asleep(process: Pid, thread: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

fn range(line: &str) -> anyhow::Result<(u64, u64)> {
    let (start, rest) = line.split_once('-').context("a line of maps without a range")?;
    let end = rest.split(' ').next().unwrap_or_default();
    Ok((u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?))
}
