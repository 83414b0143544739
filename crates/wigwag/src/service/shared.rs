//! What the control thread and the serving threads share: messages one way, commands the other, and counters.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::memory::head::Head;
use crate::options::{Limits, ListenOptions};
use crate::service::launch::Launch;
use crate::service::quota::Quota;
use crate::service::session::Session;
use crate::service::wake_flag::WakeFlag;
use crate::session::background::Background;
use crate::session::protocol::Reason;
use crate::statistics::{LISTED, Shape, Statistics, StatisticsHeader, THREADS_MAX, ThreadEntry, Word};
use crate::sync;
use crate::sys::eventfd::Bell;
use crate::sys::fork::ForkGuard;
use crate::sys::{clock, process};
use crate::wait::policy::Wait;

/// What the serving threads and the control thread share.
#[derive(Debug)]
pub struct ServiceShared {
    /// The serving threads.
    threads: Mutex<Vec<ServingThread>>,
    /// Set once, by a shutdown: the control thread makes no new session from then on.
    shutdown: AtomicBool,
    /// Set before `shutdown`, if another server has the name from then on or is to have it.
    is_moved: AtomicBool,
    /// Set once, by the control thread: there will be no new session, so the serving threads finish what they have.
    is_complete: AtomicBool,
    commands: Mutex<Vec<Command>>,
    /// Why the name could not be given back, until it is told.
    name_stays: Mutex<Option<Error>>,
    /// Wakes the control thread.
    pub bell: Arc<Bell>,
    /// What is counted, where observers can see it.
    pub statistics: Arc<Statistics>,
    /// Whether calls are counted.
    pub is_counting: bool,
    /// What the clients cost.
    pub quota: Arc<Quota>,
    /// What may take long and nobody waits for.
    pub background: Arc<Background>,
    /// A child inherits the locks as they were, held perhaps by a thread that it does not have: it must touch none.
    fork: ForkGuard,
}

/// What a serving thread asks of the control thread.
#[derive(Debug)]
pub enum Command {
    /// A session must end.
    EndSession {
        /// The session.
        id: u64,
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
    },
    /// A session that is over: let go of its memory, which may take long.
    Bury(Arc<Session>),
    /// Send FAREWELL to all clients; the control thread ends after that.
    EndAll,
    /// A handler waits for its caller to give up: the session's bell is to be watched for that.
    Watch(u64),
}

/// A serving thread, as the control thread sees it.
#[derive(Debug)]
struct ServingThread {
    mailbox: Arc<Mailbox>,
    /// The sessions that are assigned to it and whose clients are there.
    sessions: usize,
}

/// The message box of one serving thread.
#[derive(Debug)]
pub struct Mailbox {
    messages: Mutex<MessageQueue>,
    /// Set when there is a message, or the server shuts down; looked at between any two requests.
    pub wake_flag: WakeFlag,
    /// Rung when `wake_flag` is raised, for a thread that sleeps.
    pub bell: Bell,
    /// What the serving thread says of itself: written by it alone.
    pub record: ThreadEntry,
}

/// What lies in a mailbox.
#[derive(Debug, Default)]
struct MessageQueue {
    unread: Vec<WorkerMessage>,
    /// No thread reads it any more: its thread could not go on.
    is_closed: bool,
}

/// A message to a serving thread.
#[derive(Debug)]
pub enum WorkerMessage {
    /// A new session to serve.
    AddSession(Arc<Session>),
    /// A session is over.
    RemoveSession(u64),
    /// A sender is gone: what it committed is still to be received.
    Drain(u64),
    /// A message was given back: it is to be delivered again.
    Redeliver(Redelivery),
}

/// A message that a receiver had, did not acknowledge, and gave back. It lies where it lay.
#[derive(Debug)]
pub struct Redelivery {
    /// Where it came from.
    pub session: Arc<Session>,
    /// Where in its memory it lies.
    pub slot: usize,
    /// Its head as it was checked.
    pub head: Head,
}

impl Mailbox {
    fn new(record: ThreadEntry) -> Result<Arc<Mailbox>> {
        Ok(Arc::new(Mailbox { messages: Mutex::default(), wake_flag: WakeFlag::lowered(), bell: Bell::new()?, record }))
    }

    /// Puts a message in; gives it back if nobody would read it.
    fn post(&self, message: WorkerMessage) -> Option<WorkerMessage> {
        {
            let mut messages = sync::lock(&self.messages);
            if messages.is_closed {
                return Some(message);
            }
            messages.unread.push(message);
        }
        self.raise_flag();
        None
    }

    /// Makes the thread look.
    pub fn raise_flag(&self) {
        self.wake_flag.raise();
        self.bell.ring();
    }

    /// Takes all messages.
    pub fn take_messages(&self) -> Vec<WorkerMessage> {
        self.wake_flag.clear();
        std::mem::take(&mut sync::lock(&self.messages).unread)
    }

    /// Takes back the message that a session is to be adopted, if it has not been read.
    fn cancel(&self, id: u64) -> Option<WorkerMessage> {
        let unread = &mut sync::lock(&self.messages).unread;
        let found = unread
            .iter()
            .position(|message| matches!(message, WorkerMessage::AddSession(session) if session.id == id))?;
        Some(unread.remove(found))
    }
}

impl ServiceShared {
    /// The shared state of a server with these options, with one mailbox. From here on observers find its statistics.
    pub fn new(launch: &Launch) -> Result<Arc<ServiceShared>> {
        let bell = Arc::new(Bell::new()?);
        let statistics = statistics_of(launch)?;
        launch.claim.announce(statistics.memory());
        Ok(Arc::new(ServiceShared {
            threads: Mutex::new(vec![ServingThread { mailbox: Mailbox::new(statistics.thread(0))?, sessions: 0 }]),
            shutdown: AtomicBool::new(false),
            is_moved: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
            commands: Mutex::default(),
            name_stays: Mutex::default(),
            quota: Arc::new(Quota::new(Arc::clone(&bell))),
            background: Background::new(!launch.claim.refuses_descriptors()),
            bell,
            statistics,
            is_counting: launch.is_counting,
            fork: ForkGuard::new(),
        }))
    }

    /// The mailboxes of all serving threads.
    pub fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        sync::lock(&self.threads).iter().map(|thread| Arc::clone(&thread.mailbox)).collect()
    }

    /// Makes mailboxes for `count` serving threads in all; no session goes to the new ones before
    /// [`ServiceShared::open`].
    pub fn prepare(&self, count: usize) -> Result<Vec<Arc<Mailbox>>> {
        let mut mailboxes = self.mailboxes();
        while mailboxes.len() < count {
            mailboxes.push(Mailbox::new(self.statistics.thread(mailboxes.len()))?);
        }
        Ok(mailboxes)
    }

    /// Publishes the mailboxes, and assigns the sessions that no thread has taken yet.
    pub fn open(&self, mailboxes: Vec<Arc<Mailbox>>) {
        let mut threads = sync::lock(&self.threads);
        let there = threads.len(); // they are the first of `mailboxes`
        threads.extend(mailboxes.into_iter().skip(there).map(|mailbox| ServingThread { mailbox, sessions: 0 }));
        let waiting = std::mem::take(&mut sync::lock(&threads[0].mailbox.messages).unread);
        for (number, message) in waiting.into_iter().enumerate() {
            let index = match &message {
                WorkerMessage::AddSession(session) => {
                    let index = number % threads.len();
                    session.mailbox.store(index as u64, Ordering::Relaxed); // under the lock of the threads
                    threads[0].sessions -= 1;
                    threads[index].sessions += 1;
                    index
                }
                _ => 0,
            };
            let _ = threads[index].mailbox.post(message); // none of them is closed before it serves
        }
        if self.is_complete() {
            threads.iter().for_each(|thread| thread.mailbox.raise_flag()); // the new ones have not been told
        }
    }

    /// Assigns a session to the serving thread that has the fewest. The number of the session would not do: those that
    /// are turned away take numbers, too, such as every client that asks an older server in its own version first.
    pub fn deal(&self, session: &Arc<Session>) {
        let mut threads = sync::lock(&self.threads);
        let mut by_load: Vec<usize> = (0..threads.len()).collect();
        by_load.sort_by_key(|&index| threads[index].sessions);
        for (tried, index) in by_load.into_iter().enumerate() {
            session.mailbox.store(index as u64, Ordering::Relaxed); // under the lock of the threads
            let is_taken = threads[index].mailbox.post(WorkerMessage::AddSession(Arc::clone(session))).is_none();
            let is_last = tried + 1 == threads.len();
            if is_taken || is_last {
                threads[index].sessions += 1; // until `forget` or `orphan`, which also come if nobody took it
            }
            if is_taken {
                return;
            }
        }
        session.end(Reason::Shutdown, "no thread is left that serves".into());
    }

    /// The thread of this mailbox cannot go on. Returns the sessions that it has not taken yet; no other is assigned to
    /// it.
    pub fn close_mailbox(&self, mailbox: &Mailbox) -> Vec<Arc<Session>> {
        let unread = {
            let _threads = sync::lock(&self.threads); // so that nobody posts meanwhile
            let mut messages = sync::lock(&mailbox.messages);
            messages.is_closed = true;
            std::mem::take(&mut messages.unread)
        };
        let sessions = unread.into_iter().filter_map(|message| match message {
            WorkerMessage::AddSession(session) => Some(session),
            _ => None,
        });
        sessions.collect()
    }

    /// Tells the serving thread of a session that it is over; a message it has not read is taken back instead, so that
    /// clients who come and go while a handler runs leave nothing behind.
    pub fn forget(&self, session: &Session) {
        let unread = self.with_thread_of(session, |thread| {
            thread.sessions -= 1;
            let unread = thread.mailbox.cancel(session.id);
            if unread.is_none() {
                let _ = thread.mailbox.post(WorkerMessage::RemoveSession(session.id));
            }
            unread
        });
        drop(unread); // may be the last owner of the memory: not under the lock
    }

    /// Tells the serving thread of a session that its sender is gone.
    pub fn orphan(&self, session: &Session) {
        let unread = self.with_thread_of(session, |thread| {
            thread.sessions -= 1;
            thread.mailbox.post(WorkerMessage::Drain(session.id))
        });
        drop(unread); // not under the lock, as above
    }

    /// Does something with the serving thread of a session, which stays that of the session meanwhile.
    fn with_thread_of<R>(&self, session: &Session, with: impl FnOnce(&mut ServingThread) -> R) -> R {
        let mut threads = sync::lock(&self.threads);
        with(&mut threads[session.mailbox.load(Ordering::Relaxed) as usize]) // under the lock of the threads
    }

    /// Hands a message to the serving thread of its session once more.
    pub fn redeliver(&self, again: Redelivery) {
        let session = Arc::clone(&again.session);
        let unread = self.with_thread_of(&session, |thread| thread.mailbox.post(WorkerMessage::Redeliver(again)));
        drop(unread); // a message stays with its sender then; not under the lock, as above
    }

    /// Throws away what nobody will read any more.
    pub fn clear(&self) {
        let messages: Vec<WorkerMessage> =
            self.mailboxes().iter().flat_map(|mailbox| mailbox.take_messages()).collect();
        let commands = self.take_commands();
        drop((messages, commands)); // not under a lock
    }

    /// Asks the control thread for something.
    pub fn command(&self, command: Command) {
        sync::lock(&self.commands).push(command);
        self.bell.ring();
    }

    /// Takes all commands: the control thread.
    pub fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *sync::lock(&self.commands))
    }

    /// Begins the end; safe from any thread, any number of times. In a forked child it does nothing: the server is the
    /// parent's.
    pub fn shut_down(&self) {
        if self.fork.is_forked() {
            return;
        }
        // Release, partner: `is_shutting_down`.
        self.shutdown.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// The same for a server that has a successor, or is to have one: its clients are told so.
    pub fn hand_over(&self) {
        if self.fork.is_forked() {
            return;
        }
        // Relaxed: `shut_down` is a release, and whoever looks has seen that.
        self.is_moved.store(true, Ordering::Relaxed);
        self.shut_down();
    }

    /// Whether the end is that of a server with a successor.
    pub fn is_moved(&self) -> bool {
        self.is_moved.load(Ordering::Relaxed) // as above
    }

    /// Why the name could not be given back, if it could not: the control thread, before [`ServiceShared::complete`].
    pub fn name_stays(&self, error: Option<Error>) {
        *sync::lock(&self.name_stays) = error;
    }

    /// The result of serving to the end: whether the name is gone, too. An error is returned once.
    pub fn check_name(&self) -> Result<()> {
        sync::lock(&self.name_stays).take().map_or(Ok(()), Err)
    }

    /// All sessions that will ever be are assigned: called by the control thread, once it makes no more.
    pub fn complete(&self) {
        // Release, partner: `is_complete`.
        self.is_complete.store(true, Ordering::Release);
        for mailbox in self.mailboxes() {
            mailbox.raise_flag();
        }
    }

    /// Whether no session will come any more, so that what there is can be finished.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Whether the end has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }
}

/// Makes the statistics of a server and writes into them what never changes.
fn statistics_of(launch: &Launch) -> Result<Arc<Statistics>> {
    let options = &launch.options;
    let (device, inode) = launch.claim.lock_identity();
    Statistics::new(Shape::new(THREADS_MAX, options.limits.sessions), |head| {
        head.lock_device.set(device);
        head.lock_inode.set(inode);
        head.pid.set(process::own_number().unwrap_or(0).into());
        head.uid.set(rustix::process::geteuid().as_raw().into());
        head.began_ns.set(clock::now_ns());
        head.form.set(options.contract.form.number().into());
        head.wait.set(match options.wait {
            Wait::Adaptive => 0,
            Wait::Spin => 1,
            Wait::Park => 2,
        });
        head.contract_version.set(options.contract.version.into());
        head.contract_size.set(options.contract.size.into());
        head.contract_align.set(u64::from(options.contract.align) | u64::from(options.contract.encoding as u8) << 16);
        write_text(&head.contract_len, &head.contract, options.contract.name.as_bytes());
        write_text(&head.path_len, &head.path, launch.claim.path().as_os_str().as_bytes());
        describe_limits(head, options);
    })
}

fn describe_limits(head: &StatisticsHeader, options: &ListenOptions) {
    let Limits {
        sessions,
        sessions_per_user,
        sessions_per_other_user,
        slots: _,
        capacity: _,
        bytes_per_session,
        bytes_total,
        handshakes,
        handshake_timeout,
    } = options.limits;
    let form = options.contract.form;
    head.limits.sessions.set(sessions as u64);
    head.limits.sessions_per_user.set(sessions_per_user as u64);
    head.limits.sessions_per_other_user.set(sessions_per_other_user as u64);
    head.limits.slots.set(options.limits.slots_in(form) as u64);
    head.limits.capacity.set(options.limits.capacity_in(form) as u64);
    head.limits.bytes_per_session.set(bytes_per_session as u64);
    head.limits.bytes_total.set(bytes_total as u64);
    head.limits.handshakes.set(handshakes as u64);
    head.limits.handshake_timeout_ns.set(u64::try_from(handshake_timeout.as_nanos()).unwrap_or(u64::MAX));
    head.everyone.set(options.access.everyone.into());
    let list = |len: &Word, words: &[Word; LISTED], ids: &[u32]| {
        len.set(ids.len() as u64);
        words.iter().zip(ids).for_each(|(word, id)| word.set((*id).into()));
    };
    list(&head.users_len, &head.users, &options.access.users);
    list(&head.groups_len, &head.groups, &options.access.groups);
}

/// Writes a text as words; of one that is too long its beginning.
fn write_text(len: &Word, words: &[Word], text: &[u8]) {
    let text = &text[..text.len().min(words.len() * 8)];
    len.set(text.len() as u64);
    for (word, chunk) in words.iter().zip(text.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.set(u64::from_ne_bytes(bytes));
    }
}
