//! What another user does to a server, by hand: memory that is kept, and sockets that are slow to close or to wake.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Makes this process another user's, for good. Only root can.
pub fn become_user(user: u32) {
    if user == rustix::process::geteuid().as_raw() {
        return;
    }
    // SAFETY: no memory is involved but an empty list.
    let results = unsafe {
        [libc::setgroups(0, std::ptr::null()), libc::setresgid(user, user, user), libc::setresuid(user, user, user)]
    };
    assert_eq!(results, [0; 3]);
    // The change of user has taken this away: a process that is killed takes the ones that it started along.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
}

/// From now on this process cannot refuse descriptors, as on a kernel before 6.16.
pub fn as_on_an_older_kernel() {
    const SO_PASSRIGHTS: u32 = 83;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump =
        |k: u32, jf: u8| libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf, k };
    let load = |offset: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let give = |value: u32| statement(libc::BPF_RET | libc::BPF_K, value);
    let mut filter = [
        load(0), // the call's number
        jump(libc::SYS_setsockopt as u32, 3),
        load(32), // the low half of its third argument, on a little-endian machine
        jump(SO_PASSRIGHTS, 1),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOPROTOOPT as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live through the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// From now on the kernel refuses this process a system call, as in a sandbox that does not know it.
pub fn without_call(number: libc::c_long) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let is_it = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0), // the call's number
        libc::sock_filter { code: is_it, jt: 0, jf: 1, k: number as u32 },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live through the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// A socket whose last owner waits for an hour when it closes it, because what was written there does not go away; and
/// its other end, whose close ends that.
pub fn lingering() -> (OwnedFd, OwnedFd) {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 3600 };
    let len = size_of_val(&linger) as libc::socklen_t;
    // SAFETY: the pointer and length describe `linger`.
    let set = unsafe {
        libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len)
    };
    assert_eq!(set, 0);
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[0; 65_536]).is_ok() {}
    (ours.into(), theirs.into())
}

/// A mapping of a memory object's first page, whose descriptor need not stay open.
pub struct Mapped(*mut std::ffi::c_void);

impl Mapped {
    /// Maps it, to be read.
    pub fn new(memory: &OwnedFd) -> Mapped {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        Mapped(unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, memory, 0) }.unwrap())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, and nobody has a reference into it.
        unsafe { munmap(self.0, 4096) }.unwrap();
    }
}

/// Has a socket watched by `side` times `side` epolls, so that it takes whoever sends to it long to wake them. Returns
/// what to keep.
pub fn watch(socket: impl AsFd, side: usize) -> Vec<OwnedFd> {
    let copy = |_| socket.as_fd().try_clone_to_owned().unwrap();
    let copies: Vec<OwnedFd> = (0..side).map(copy).collect();
    let epolls: Vec<OwnedFd> = (0..side).map(|_| create(CreateFlags::CLOEXEC).unwrap()).collect();
    for epoll in &epolls {
        for copy in &copies {
            add(epoll, copy, EventData::new_u64(0), EventFlags::IN | EventFlags::ET).unwrap();
        }
    }
    copies.into_iter().chain(epolls).collect()
}
