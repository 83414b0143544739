//! Other processes as `/proc` shows them (proc(5)), by their numbers: for people, and for observers, which check what
//! they find.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys::clock;

/// This process's number as `/proc` has it, which is what others who look there need.
pub fn own_number() -> Option<u32> {
    let link = readlinkat(CWD, "/proc/self", Vec::new()).ok()?;
    link.to_str().ok()?.parse().ok()
}

/// Whether a peer whose number the kernel has told is this process. It takes no descriptor, as the last may be in use.
pub fn is_this_process(number: i32) -> bool {
    rustix::process::getpid().as_raw_nonzero().get() == number
}

/// The inode of this process's time namespace; `None` without /proc, or on a kernel that has no such namespaces.
///
/// A look at /proc costs some microseconds, twice in a handshake. So it is taken again only when this process's clock
/// has moved against the wall's, which knows no namespaces: by entering one, alone (setns(2)) or as a child
/// (unshare(2)), or when somebody has set the wall's. Namespaces whose clocks differ by less than that are told apart
/// by nobody, and need not be.
pub fn time_namespace() -> Option<u64> {
    static LAST: TimeNamespace = TimeNamespace::unknown();
    let look = || statat(CWD, "/proc/self/ns/time", AtFlags::empty()).ok().map(|stat| stat.st_ino);
    LAST.at(clock::behind_wall_ns(), look)
}

/// The namespace that was seen last, and how far its clock was behind the wall's then.
struct TimeNamespace {
    /// 0: nothing was seen yet.
    inode: AtomicU64,
    behind_wall_ns: AtomicI64,
}

impl TimeNamespace {
    /// How far the distance may be off by being read in two steps, and the clocks of namespaces differ unnoticed.
    const UNNOTICED_NS: u64 = 1_000_000;

    const fn unknown() -> TimeNamespace {
        TimeNamespace { inode: AtomicU64::new(0), behind_wall_ns: AtomicI64::new(0) }
    }

    /// Relaxed: a process of more than one thread cannot change its namespace (EUSERS), so whatever mixture of two
    /// threads' writes is read is right.
    fn at(&self, behind_wall_ns: i64, look: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let inode = self.inode.load(Ordering::Relaxed);
        let is_near = self.behind_wall_ns.load(Ordering::Relaxed).abs_diff(behind_wall_ns) < Self::UNNOTICED_NS;
        if inode != 0 && is_near {
            return Some(inode);
        }
        let inode = look();
        self.behind_wall_ns.store(behind_wall_ns, Ordering::Relaxed);
        self.inode.store(inode.unwrap_or(0), Ordering::Relaxed);
        inode
    }
}

/// How far the clock that another process reads is ahead of this one's, in nanoseconds: they differ if one of the two
/// is in a time namespace. 0 if that cannot be told.
pub fn clock_ahead_ns(number: u32) -> i64 {
    let offset =
        |process: &str| monotonic_offset_ns(&std::fs::read_to_string(format!("/proc/{process}/timens_offsets")).ok()?);
    match (offset(&number.to_string()), offset("self")) {
        (Some(theirs), Some(ours)) => theirs.saturating_sub(ours),
        _ => 0,
    }
}

/// From a file `timens_offsets`: a line for each clock, with seconds and nanoseconds.
fn monotonic_offset_ns(offsets: &str) -> Option<i64> {
    let mut words = offsets
        .lines()
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next() == Some("monotonic")).then_some(words))?;
    let (seconds, nanoseconds): (i64, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The size above which this process may make no file: a process that exceeds it is ended by SIGXFSZ. `None`: there is
/// no limit, or it is not known.
pub fn file_size_limit() -> Option<u64> {
    // SAFETY: `limit` is to be written, and is as large as the call says.
    limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, limit) })
}

/// How many descriptors this process may have; `None` as above.
pub fn descriptor_limit() -> Option<u64> {
    // SAFETY: as above.
    limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit) })
}

/// Makes the kernel's table of this process's descriptors large enough for so many, as far as the limit allows.
///
/// It grows by itself, to twice its size each time. In a process of several threads the one that wants a descriptor
/// waits then until no processor can look into the old table (RCU), some milliseconds each time. What is made room for
/// here grows no more. A kernel that refuses has the table grow later.
pub fn make_room_for_descriptors(count: usize) {
    let limit = descriptor_limit().unwrap_or(u64::MAX);
    let highest = u64::try_from(count).unwrap_or(u64::MAX).min(limit).saturating_sub(1);
    let (Ok(highest), Ok(one)) = (highest.try_into(), eventfd(0, EventfdFlags::CLOEXEC)) else { return };
    drop(fcntl_dupfd_cloexec(&one, highest));
}

/// Not by rustix, which takes it for a call that cannot fail: a sandbox may refuse it.
fn limit(ask: impl FnOnce(&mut libc::rlimit) -> libc::c_int) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    (ask(&mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Whether the process of a pidfd has ended; waits for that up to a moment.
pub fn has_ended(pidfd: impl AsFd, until: Option<Instant>) -> bool {
    loop {
        let left = until.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = left.map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false, // it is not known to have ended
        }
    }
}

/// Whether a descriptor stands for a process, and will tell of its end.
pub fn is_pidfd(descriptor: impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    const NO_SIGNAL: libc::c_int = 0;
    // SAFETY: no memory is involved; the kernel takes no signal information from a null pointer.
    let result = unsafe {
        let fd = descriptor.as_fd().as_raw_fd();
        libc::syscall(libc::SYS_pidfd_send_signal, fd, NO_SIGNAL, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    // A process that has ended, or that this one may not signal, is one, too.
    result == 0 || matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ESRCH | libc::EPERM))
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

    /// Whether it has ended, or is just ending: its descriptors go some moments before its process does, and its locks
    /// after them. Waits until it has, for as long as its other threads may need to let go.
    pub fn is_ending(&self) -> bool {
        const TIMEOUT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
        match status_of(self.number) {
            Some(status) if status.is_exiting => {
                matches!(poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&TIMEOUT)), Ok(1..))
            }
            _ => !self.is_alive(),
        }
    }

    /// Opens the memory object called `name` that its descriptor `fd` is open on, to be read; `None` if that is
    /// something else. The kernel allows it to those who may look at the process: its own user, unless the process has
    /// forbidden it (PR_SET_DUMPABLE), and root.
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

    /// Its descriptors that are open on memory objects of that name; none if this user may not look.
    pub fn memories(&self, name: &str) -> Vec<u32> {
        let begin = format!("/memfd:{name}");
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", self.number)) else { return Vec::new() };
        let is_one = |path: &std::path::Path| {
            std::fs::read_link(path).is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(begin.as_bytes()))
        };
        let found = entries.flatten().filter(|entry| is_one(&entry.path()));
        found.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The user as whom it acts now.
    pub fn user(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.number)).ok()?;
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        users.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// What keeps it from running, if anything does.
    pub fn halt(&self) -> Option<Halt> {
        match status_of(self.number)?.state {
            'T' | 't' => Some(Halt::Stopped),
            'R' => None,
            _ => is_frozen(self.number).then_some(Halt::Frozen),
        }
    }
}

/// What keeps a process from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A signal or a debugger has stopped it.
    Stopped,
    /// Its control group is frozen.
    Frozen,
}

/// Whether the freezer of a control group has a process, of either version, where they are mounted as everywhere.
fn is_frozen(number: u32) -> bool {
    let Ok(groups) = std::fs::read_to_string(format!("/proc/{number}/cgroup")) else { return false };
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    groups.lines().any(|line| match line.splitn(3, ':').collect::<Vec<_>>()[..] {
        // The root cannot be frozen.
        [_, _, "/"] => false,
        [_, "", path] => read(format!("/sys/fs/cgroup{path}/cgroup.events")).lines().any(|line| line == "frozen 1"),
        [_, "freezer", path] => read(format!("/sys/fs/cgroup/freezer{path}/freezer.state")).trim() == "FROZEN",
        _ => false,
    })
}

/// Descriptors of one process that are looked at: a process with a million of them must not hold up others.
const DESCRIPTORS_MAX: usize = 1 << 14;

/// The memory objects called `name` that a process has open: inode and descriptor. None where the kernel does not let
/// us look.
pub fn memory_objects(number: u32, name: &str) -> HashMap<u64, u32> {
    let prefix = format!("/memfd:{name}");
    let Ok(directory) = std::fs::read_dir(format!("/proc/{number}/fd")) else { return HashMap::new() };
    let object = |entry: std::io::Result<std::fs::DirEntry>| {
        let fd: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let link = format!("/proc/{number}/fd/{fd}");
        let target = readlinkat(CWD, &link, Vec::new()).ok()?;
        target.to_bytes().starts_with(prefix.as_bytes()).then_some(())?;
        Some((statat(CWD, &link, AtFlags::empty()).ok()?.st_ino, fd))
    };
    directory.take(DESCRIPTORS_MAX).filter_map(object).collect()
}

/// Opens what a process has at a descriptor, to be read, if it is a file with this inode and size. Nothing is opened to
/// be used before it is known to be that, so nothing is woken, waited for or rewound.
pub fn open_object(number: u32, fd: u32, inode: u64, size: u64) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat(CWD, format!("/proc/{number}/fd/{fd}"), flags, Mode::empty()).ok()?;
    let stat = fstat(&found).ok()?;
    let is_it = stat.st_ino == inode
        && u64::try_from(stat.st_size) == Ok(size)
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_it.then_some(())?;
    let own = format!("/proc/self/fd/{}", found.as_raw_fd());
    openat(CWD, own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The numbers of all processes that are to be seen.
pub fn numbers() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What `/proc` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its program's name, at most 15 bytes; a thread may have changed it.
    pub name: String,
    /// As the kernel writes it: R runs, S sleeps, T is stopped ...
    pub state: char,
    /// Whether its first thread is ending, or has ended.
    pub is_exiting: bool,
    /// When it started, in nanoseconds since boot, to a hundredth of a second; the time of suspend counts.
    pub started_ns: u64,
}

/// Looks a process up; `None` if there is none, or it is not to be seen.
pub fn status_of(number: u32) -> Option<Status> {
    parse_status(&std::fs::read(format!("/proc/{number}/stat")).ok()?)
}

/// proc(5), "/proc/pid/stat": `pid (name) state ppid ...`; the name may have blanks and brackets in it.
fn parse_status(line: &[u8]) -> Option<Status> {
    /// Of the fields behind the name: the state is the first, the `flags` the seventh, `starttime` in ticks the
    /// twentieth.
    const FLAGS: usize = 6;
    const STARTTIME: usize = 19;
    /// Of the flags (PF_EXITING in `include/linux/sched.h`): the same since they are shown.
    const EXITING: u64 = 0x4;
    const NS_PER_TICK: u64 = 10_000_000; // USER_HZ is 100 on every architecture
    let (begin, end) = (line.iter().position(|&byte| byte == b'(')?, line.iter().rposition(|&byte| byte == b')')?);
    let name = String::from_utf8_lossy(line.get(begin + 1..end)?).into_owned();
    let rest = str::from_utf8(line.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let flags: u64 = fields.nth(FLAGS - 1)?.parse().ok()?;
    let ticks: u64 = fields.nth(STARTTIME - FLAGS - 1)?.parse().ok()?;
    Some(Status { name, state, is_exiting: flags & EXITING != 0, started_ns: ticks.saturating_mul(NS_PER_TICK) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_descriptors_as_the_limit_allows() {
        let room = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            line.trim().parse().unwrap()
        };
        let most = descriptor_limit().unwrap_or(u64::MAX);
        make_room_for_descriptors(700);
        assert!(room() >= most.min(700));
        make_room_for_descriptors(usize::try_from(most.min(3000)).unwrap() + 1);
        assert!(room() >= most.min(3000));
        make_room_for_descriptors(0);
    }

    #[test]
    fn names_may_have_anything_in_them() {
        let line = b"42 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 250 20\n";
        let status = parse_status(line).unwrap();
        let expected = Status { name: "a) R (b".into(), state: 'S', is_exiting: true, started_ns: 2_500_000_000 };
        assert_eq!(status, expected, "6 has PF_EXITING in it");
        for bad in [&b""[..], b"42", b"42 (a", b"42 )(", b"42 (a)", b"42 (a) S 1 2", b"42 (a) S \xff"] {
            assert_eq!(parse_status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_time_namespace_is_looked_at_again_when_the_clock_has_moved_against_the_walls() {
        let last = TimeNamespace::unknown();
        let seen = |behind_ns, inode| last.at(behind_ns, || inode);
        assert_eq!(seen(0, None), None, "nothing is kept of a look in vain");
        assert_eq!(seen(0, Some(1)), Some(1));
        assert_eq!(seen(999_999, Some(2)), Some(1), "two readings of one clock differ");
        assert_eq!(seen(-999_999, Some(2)), Some(1));
        assert_eq!(seen(1_000_000, Some(2)), Some(2), "one that was entered");
        assert_eq!(seen(1_999_999, Some(3)), Some(2), "it is compared with the last look");
        assert_eq!(seen(i64::MIN, Some(4)), Some(4));
        assert_eq!(seen(i64::MAX, Some(5)), Some(5));
        assert_eq!(time_namespace(), time_namespace());
    }

    #[test]
    fn this_process_is_there_and_one_that_ended_is_not() {
        let own = own_number().unwrap();
        assert_eq!(own, std::process::id());
        let process = Process::open(own).unwrap().unwrap();
        assert!(process.is_alive() && process.halt().is_none() && process.number() == own);
        assert!(status_of(own).unwrap().started_ns > 0);
        let number = |file: &OwnedFd| std::os::fd::AsRawFd::as_raw_fd(file) as u32;
        let memory = crate::sys::memory::create_sealed("looked-for", 4096).unwrap();
        let opened = process.open_memory(number(&memory), "looked-for").unwrap().unwrap();
        assert_eq!(rustix::fs::fstat(&opened).unwrap().st_ino, rustix::fs::fstat(&memory).unwrap().st_ino);
        assert!(process.open_memory(number(&memory), "another").unwrap().is_none());
        let inode = crate::sys::memory::inode(&memory);
        // It is open twice by now: either descriptor leads to it.
        assert_eq!(memory_objects(own, "looked-for").into_keys().collect::<Vec<_>>(), [inode]);
        let opened = open_object(own, number(&memory), inode, 4096).unwrap();
        assert!(rustix::io::pwrite(&opened, b"x", 0).is_err(), "to be read only");
        for (inode, size) in [(inode + 1, 4096), (inode, 4095)] {
            assert!(open_object(own, number(&memory), inode, size).is_none());
        }
        assert!(open_object(own, 1 << 20, inode, 4096).is_none());
        assert!(memory_objects(u32::MAX, "looked-for").is_empty());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(process.open_memory(number(&reader.into()), "looked-for").unwrap().is_none());
        assert!(process.open_memory(1 << 20, "looked-for").is_err());
        let mut child = wigwag_testing::start(&mut std::process::Command::new("true"));
        let ended = Process::open(child.id()).unwrap().unwrap();
        child.wait().unwrap();
        assert!(!ended.is_alive());
        for nobody in [0, u32::MAX] {
            assert!(Process::open(nobody).unwrap().is_none());
        }
        assert_eq!(status_of(u32::MAX), None);
    }
}
