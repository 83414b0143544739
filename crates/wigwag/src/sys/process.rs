//! Other processes as `/proc` shows them (proc(5)), by their numbers: for people, and for observers, which check what they find.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// This process's number as `/proc` has it, which is what others who look there need.
pub fn own_number() -> Option<u32> {
    let link = readlinkat(CWD, "/proc/self", Vec::new()).ok()?;
    link.to_str().ok()?.parse().ok()
}

/// A process, held so that its number cannot come to mean another one unnoticed.
#[derive(Debug)]
pub struct Process {
    number: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// The process that has this number now; `None` if none has.
    pub fn open(number: u32) -> rustix::io::Result<Option<Process>> {
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some(Process { number, pidfd })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether it runs, or is stopped, and has not ended.
    pub fn is_alive(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now)), Ok(0))
    }

    /// Opens the memory object called `name` that its descriptor `fd` is open on, to be read; `None` if that is something else.
    /// The kernel allows it to who may look at the process: its own user, unless the process has forbidden it
    /// (PR_SET_DUMPABLE), and root.
    pub fn open_memory(&self, fd: u32, name: &str) -> rustix::io::Result<Option<OwnedFd>> {
        let link = format!("/proc/{}/fd/{fd}", self.number);
        let is_it = |target: CString| target.to_bytes().starts_with(format!("/memfd:{name}").as_bytes());
        if !readlinkat(CWD, &link, Vec::new()).is_ok_and(is_it) {
            // Also where the kernel does not let us look: then opening says so.
            return openat(CWD, &link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map(|_| None);
        }
        // Should it be something else by now, opening must neither wait nor take a terminal.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        openat(CWD, &link, flags, Mode::empty()).map(Some)
    }

    /// Whether a signal or a debugger has stopped it.
    pub fn is_stopped(&self) -> bool {
        status_of(self.number).is_some_and(|status| matches!(status.state, 'T' | 't'))
    }
}

/// What `/proc` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its program's name, at most 15 bytes; a thread may have changed it.
    pub name: String,
    /// As the kernel writes it: R runs, S sleeps, T is stopped ...
    pub state: char,
    /// When it started, in nanoseconds since boot, to a hundredth of a second; the time of suspend counts.
    pub started_ns: u64,
}

/// Looks a process up; `None` if there is none, or it is not to be seen.
pub fn status_of(number: u32) -> Option<Status> {
    parse_status(&std::fs::read(format!("/proc/{number}/stat")).ok()?)
}

/// proc(5), "/proc/pid/stat": `pid (name) state ppid ...`; the name may have blanks and brackets in it.
fn parse_status(line: &[u8]) -> Option<Status> {
    /// Of the fields behind the name: the state is the first, `starttime` in ticks the twentieth.
    const STARTTIME: usize = 19;
    const NS_PER_TICK: u64 = 10_000_000; // USER_HZ is 100 on every architecture
    let (begin, end) = (line.iter().position(|&byte| byte == b'(')?, line.iter().rposition(|&byte| byte == b')')?);
    let name = String::from_utf8_lossy(line.get(begin + 1..end)?).into_owned();
    let rest = str::from_utf8(line.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ticks: u64 = fields.nth(STARTTIME - 1)?.parse().ok()?;
    Some(Status { name, state, started_ns: ticks.saturating_mul(NS_PER_TICK) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_anything_in_them() {
        let line = b"42 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 250 20\n";
        let status = parse_status(line).unwrap();
        assert_eq!(status, Status { name: "a) R (b".into(), state: 'S', started_ns: 2_500_000_000 });
        for bad in [&b""[..], b"42", b"42 (a", b"42 )(", b"42 (a)", b"42 (a) S 1 2", b"42 (a) S \xff"] {
            assert_eq!(parse_status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_process_is_there_and_one_that_ended_is_not() {
        let own = own_number().unwrap();
        assert_eq!(own, std::process::id());
        let process = Process::open(own).unwrap().unwrap();
        assert!(process.is_alive() && !process.is_stopped() && process.number() == own);
        assert!(status_of(own).unwrap().started_ns > 0);
        let number = |file: &OwnedFd| std::os::fd::AsRawFd::as_raw_fd(file) as u32;
        let memory = crate::sys::memory::create_sealed("looked-for", 4096).unwrap();
        let opened = process.open_memory(number(&memory), "looked-for").unwrap().unwrap();
        assert_eq!(rustix::fs::fstat(&opened).unwrap().st_ino, rustix::fs::fstat(&memory).unwrap().st_ino);
        assert!(process.open_memory(number(&memory), "another").unwrap().is_none());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(process.open_memory(number(&reader.into()), "looked-for").unwrap().is_none());
        assert!(process.open_memory(1 << 20, "looked-for").is_err());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = Process::open(child.id()).unwrap().unwrap();
        child.wait().unwrap();
        assert!(!ended.is_alive());
        for nobody in [0, u32::MAX] {
            assert!(Process::open(nobody).unwrap().is_none());
        }
        assert_eq!(status_of(u32::MAX), None);
    }
}
