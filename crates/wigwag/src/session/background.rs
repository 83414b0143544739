//! What may take long and nobody waits for: closing what another user sent, waking one who made that expensive.
//!
//! A few threads do it, which come when there is something to do and go when there is not. They are nobody's who
//! serves, accepts or ends sessions, and give way to all others. Each job is one of a user: nobody knows how long it
//! takes, so one user's jobs leave threads to those of others, and one session has
//! [one job](crate::session::arrivals) at a time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::sync;
use crate::sys::cpu;
use crate::sys::fork::ForkGuard;
use crate::sys::socket::{self, MESSAGE_MAX, Received};

type Job = Box<dyn FnOnce() + Send>;

/// The background jobs of one server.
pub struct Background {
    state: Mutex<State>,
    work_came: Condvar,
    /// Whether the kernel cannot refuse descriptors: then whatever a peer has sent and nobody has read may have some.
    pub may_meet_descriptors: bool,
    fork: ForkGuard,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(u32, Job)>,
    /// How many jobs of each user are under way.
    running: HashMap<u32, usize>,
    threads: usize,
    /// Of these, those that wait for something to do.
    idle: usize,
}

/// Each may be held up by a peer; jobs that are more wait for their turn.
const THREADS_MAX: usize = 64;
/// So many jobs of one user are under way at a time, and while it has so many, no newcomer of that user gets a session.
const OF_USER: usize = 16;
/// From this many jobs on no new client is let in until some are done.
const MANY: usize = 64;
/// How long a thread waits for something to do before it ends.
const IDLE_MAX: Duration = Duration::from_millis(200);

impl Background {
    /// None to do.
    pub fn new(may_meet_descriptors: bool) -> Arc<Background> {
        Arc::new(Background {
            state: Mutex::default(),
            work_came: Condvar::new(),
            may_meet_descriptors,
            fork: ForkGuard::new(),
        })
    }

    /// Has something done, some time, that a user's process may have made slow.
    pub fn run(self: &Arc<Background>, user: u32, job: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.queue.push_back((user, Box::new(job)));
        // A thread that was woken for another job is still counted as idle, and may be held up by that one.
        if state.idle >= state.due() || state.threads >= THREADS_MAX {
            return self.work_came.notify_one();
        }
        let background = Arc::clone(self);
        // If there is no thread to be had, it waits for one that is had later.
        let thread = std::thread::Builder::new().name("wigwag-background".into()).spawn(move || background.work());
        state.threads += usize::from(thread.is_ok());
    }

    /// Whether this is a forked child, which has none of the threads, and in which another thread may have held the
    /// lock.
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Whether so many jobs wait or are under way that newcomers must wait as well. Where the kernel refuses
    /// descriptors, a user that is [beyond its share](Background::is_busy_with) makes no new job by being refused, and
    /// holds up no newcomer of others.
    pub fn are_many(&self) -> bool {
        let state = self.lock();
        if state.queue.len() + state.threads - state.idle < MANY {
            return false;
        }
        let most = if self.may_meet_descriptors { MANY } else { OF_USER };
        state.of_users().values().map(|jobs| (*jobs).min(most)).sum::<usize>() >= MANY
    }

    /// Whether so many jobs of a user wait or are under way that a newcomer of that user must wait as well.
    pub fn is_busy_with(&self, user: u32) -> bool {
        let state = self.lock();
        let waiting = state.queue.iter().filter(|(of, _)| *of == user).count();
        waiting + state.running.get(&user).copied().unwrap_or(0) >= OF_USER
    }

    fn work(&self) {
        cpu::be_unimportant();
        let mut state = self.lock();
        loop {
            if let Some((user, job)) = state.next() {
                drop(state);
                job();
                state = self.lock();
                state.is_done(user);
                continue;
            }
            state.idle += 1;
            let (again, _) = self.work_came.wait_timeout(state, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            // Those that wait for a job of the same user are taken by the thread that has that one.
            if state.due() == 0 {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        sync::lock(&self.state)
    }
}

impl State {
    /// How many jobs each user has, waiting or under way.
    fn of_users(&self) -> HashMap<u32, usize> {
        let mut jobs = self.running.clone();
        self.queue.iter().for_each(|(user, _)| *jobs.entry(*user).or_default() += 1);
        jobs
    }

    fn may_run(&self, user: u32) -> bool {
        self.running.get(&user).is_none_or(|running| *running < OF_USER)
    }

    /// How many jobs wait for nothing but a thread.
    fn due(&self) -> usize {
        self.queue.iter().filter(|(user, _)| self.may_run(*user)).count()
    }

    /// The next job, which is under way from now on.
    fn next(&mut self) -> Option<(u32, Job)> {
        let index = self.queue.iter().position(|(user, _)| self.may_run(*user))?;
        let (user, job) = self.queue.remove(index)?;
        *self.running.entry(user).or_default() += 1;
        Some((user, job))
    }

    /// A job of that user is no longer under way.
    fn is_done(&mut self, user: u32) {
        if let Some(running) = self.running.get_mut(&user) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&user);
            }
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Background").finish_non_exhaustive()
    }
}

/// The most messages that are thrown away of one peer: more than the kernel keeps for it.
const UNREAD_MAX: usize = 4096;

/// Segments above this size are given back by a thread of their own: it takes a second for 10 GiB.
const BURIAL_ALONE: usize = 64 << 20;

/// Lets go of something with a segment of `size` bytes in it. The last owner gives the memory back.
pub fn bury<T: Send + 'static>(size: usize, what: T) {
    if size <= BURIAL_ALONE {
        return;
    }
    // If there is no thread to be had, it goes with the closure: here and now.
    let _ = std::thread::Builder::new().name("wigwag-burial".into()).spawn(move || drop(what));
}

/// The socket of one peer. What the peer has sent and nobody has read is closed with it: a descriptor among that may be
/// a socket with SO_LINGER, whose last owner waits for as long as the peer chose. So where the kernel lets such
/// messages in, a socket that has any is closed by background job.
#[derive(Debug)]
pub struct PeerSocket {
    /// There until it is dropped.
    socket: Option<OwnedFd>,
    background: Option<Arc<Background>>,
    /// Whether descriptors may come with messages although the kernel could refuse them: that was agreed on.
    admits_descriptors: AtomicBool,
    /// Whether its peer is to be woken by a background job that has not begun.
    is_being_rung: AtomicBool,
}

impl PeerSocket {
    /// One that was accepted.
    pub fn accepted(socket: OwnedFd, background: &Arc<Background>) -> PeerSocket {
        PeerSocket {
            socket: Some(socket),
            background: Some(Arc::clone(background)),
            admits_descriptors: AtomicBool::new(false),
            is_being_rung: AtomicBool::new(false),
        }
    }

    /// From now on descriptors may come with messages. Whoever reads them reads with
    /// [`receive_with_descriptors`](PeerSocket::receive_with_descriptors).
    pub fn admit_descriptors(&self) -> rustix::io::Result<()> {
        socket::admit_descriptors(self)?;
        // Relaxed: one thread has the socket until the session is made, and is given on with it.
        self.admits_descriptors.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether what lies here unread may have descriptors with it.
    fn may_meet_descriptors(&self) -> bool {
        // Relaxed: as in `admit_descriptors`.
        let is_agreed = self.admits_descriptors.load(Ordering::Relaxed);
        self.background.as_ref().is_some_and(|background| is_agreed || background.may_meet_descriptors)
    }

    /// Throws away what lies here unread, with the descriptors that came with it, of a peer that was hung up: a socket
    /// that is kept nevertheless would keep them. By a background job, as it may take long.
    pub fn discard_unread(self: &Arc<PeerSocket>, user: u32) {
        let Some(background) = self.background.as_ref().filter(|_| self.may_meet_descriptors()) else { return };
        let kept = Arc::clone(self);
        background.run(user, move || {
            let mut buffer = [0; MESSAGE_MAX];
            for _ in 0..UNREAD_MAX {
                if !socket::has_unread(&*kept) || kept.receive_with_descriptors(&mut buffer).is_err() {
                    return;
                }
            }
        });
    }

    /// Receives one message without waiting, with the descriptors that have come with it.
    pub fn receive_with_descriptors(&self, buffer: &mut [u8]) -> rustix::io::Result<Received> {
        socket::receive_with_descriptors(self, buffer)
    }

    /// The next who waits to be accepted at a listener that was hung up. Where there is no descriptor for that one,
    /// `reserve` gives way.
    pub fn next_queued(
        listener: &OwnedFd,
        background: &Arc<Background>,
        reserve: &mut Option<OwnedFd>,
    ) -> Option<PeerSocket> {
        loop {
            match socket::accept(listener) {
                Ok(socket) => return Some(PeerSocket::accepted(socket, background)),
                Err(Errno::MFILE | Errno::NFILE) if reserve.take().is_some() => {}
                Err(Errno::CONNABORTED | Errno::INTR) => {} // that one is gone
                Err(_) => return None,
            }
        }
    }

    /// Receives one message without waiting; BADMSG, and the message stays there, for one that has descriptors which
    /// the kernel did not refuse.
    pub fn receive(&self, buffer: &mut [u8]) -> rustix::io::Result<Received> {
        match self.may_meet_descriptors() {
            true => socket::receive_bare(self, buffer),
            false => socket::receive(self, buffer),
        }
    }

    /// A background job that rings is to be made; `false` if one has not begun.
    pub fn is_ring_due(&self) -> bool {
        // AcqRel, partner: `ring_begins`. A thread that finds it set has passed its turn before that background job
        // rings.
        !self.is_being_rung.swap(true, Ordering::AcqRel)
    }

    /// The background job begins: a turn that is passed from now on makes another job.
    pub fn ring_begins(&self) {
        self.is_being_rung.swap(false, Ordering::AcqRel);
    }
}

/// One that this process connected: its peer is trusted as far as that goes.
impl From<OwnedFd> for PeerSocket {
    fn from(socket: OwnedFd) -> PeerSocket {
        PeerSocket {
            socket: Some(socket),
            background: None,
            admits_descriptors: AtomicBool::new(false),
            is_being_rung: AtomicBool::new(false),
        }
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("it is there until it is dropped").as_fd()
    }
}

impl Drop for PeerSocket {
    fn drop(&mut self) {
        let may_meet_descriptors = self.may_meet_descriptors();
        let (Some(socket), Some(background)) = (self.socket.take(), self.background.take()) else { return };
        // A child's copy is not the last.
        if !may_meet_descriptors || background.fork.is_forked() {
            return;
        }
        socket::hang_up(&socket); // nothing more comes
        if socket::has_unread(&socket) {
            let user = socket::credentials(&socket).map_or(u32::MAX, |peer| peer.uid);
            background.run(user, move || drop(socket));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use wigwag_testing::LIMIT;

    /// Jobs of a user that are held up until the sender is dropped.
    fn hold_up(background: &Arc<Background>, user: u32, jobs: usize) -> (Sender<()>, Receiver<()>) {
        let (release, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (done, all) = channel();
        for _ in 0..jobs {
            let (held, done) = (Arc::clone(&held), done.clone());
            background.run(user, move || {
                let _ = held.lock().unwrap().recv();
                done.send(()).unwrap();
            });
        }
        (release, all)
    }

    fn becomes_idle(background: &Background) {
        while background.lock().threads > 0 {
            std::thread::yield_now();
        }
        assert!(!background.are_many() && !background.is_busy_with(1) && background.lock().running.is_empty());
    }

    #[test]
    fn jobs_that_are_held_up_hold_up_none_who_has_them_run() {
        let background = Background::new(true);
        let (release, all) = hold_up(&background, 1, MANY + THREADS_MAX);
        assert!(background.are_many());
        drop(release);
        (0..MANY + THREADS_MAX).for_each(|_| all.recv().unwrap());
        becomes_idle(&background);
    }

    #[test]
    fn jobs_of_one_user_that_are_held_up_hold_up_no_job_and_no_newcomer_of_others() {
        let background = Background::new(false);
        let (release, all) = hold_up(&background, 1, 2 * MANY);
        assert!(background.is_busy_with(1) && !background.is_busy_with(2) && !background.are_many());
        for _ in 0..3 {
            let (done, is_done) = channel();
            background.run(2, move || done.send(()).unwrap());
            is_done.recv_timeout(LIMIT).expect("another user's job is done meanwhile");
        }
        drop(release);
        (0..2 * MANY).for_each(|_| all.recv().unwrap());
        becomes_idle(&background);
    }

    #[test]
    fn s1_what_lies_unread_is_seen_behind_a_reset_and_behind_an_empty_message() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let hung_up = |to_peer: &[&[u8]], from_peer: &[&[u8]]| {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            to_peer.iter().for_each(|bytes| socket::send(&ours, bytes, &[]).unwrap());
            from_peer.iter().for_each(|bytes| socket::send(&theirs, bytes, &[]).unwrap());
            drop(theirs); // what it has not read makes that a reset
            socket::hang_up(&ours);
            socket::has_unread(&ours)
        };
        assert!(hung_up(&[], &[b"more"]));
        assert!(hung_up(&[b"unread"], &[b"more"]), "the reset is told first");
        assert!(hung_up(&[], &[b"", b"more"]) && hung_up(&[], &[b""]), "an empty message is no end");
        assert!(!hung_up(&[], &[]) && !hung_up(&[b"unread"], &[]));
    }
}
