//! The receiving face of a queue: takes a name, and gives out what senders send there.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::control::host::Host;
use crate::delivery::{Batch, Delivery};
use crate::error::{Error, ErrorKind, Result};
use crate::observe;
use crate::server::ShutdownHandle;
use crate::stats::ReceiverStats;
use crate::sys::clock;
use crate::worker::{Next, Until, Worker};

mod builder;

pub use builder::ReceiverBuilder;

/// The one receiver of a queue: owns the name, and takes messages of any number of [`Sender`](crate::Sender)s.
///
/// ```
/// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("jobs"); let name = &name;
/// let receiver = wigwag::Receiver::bind(name)?;
/// # let thread = std::thread::spawn({ let name = name.clone(); move || { let mut sender = wigwag::Sender::connect(name)?; sender.send(b"stop")?; sender.close() } });
/// for message in &receiver {
///     let message = message?;
///     if &message[..] == b"stop" { break; }
///     // ... do what it asks for; dropping it acknowledges it
/// }
/// # thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// Messages of one sender come in order, senders take turns. A message stays in its sender's memory until it is acknowledged,
/// see [`Delivery`]: if this process dies, whoever takes the name next receives it again. Any number of threads may receive
/// at a time, through one shared reference.
///
/// Dropping it ends all sessions; what was not received stays with the senders that live. What a sender that is gone had sent is
/// lost then: [shut down](Receiver::shutdown_handle) and receive until [`ServerClosed`](ErrorKind::ServerClosed) to have it all.
pub struct Receiver {
    host: Host,
    desk: Mutex<Desk>,
    /// Told when the worker is at the desk again.
    returned: Condvar,
}

/// Room for so many messages is made when the first of a batch has come.
const BATCH_AT_FIRST: usize = 64;

/// What the receiving threads share. One of them at a time looks for messages.
struct Desk {
    /// Taken along by a thread that waits, so that others can still ask for what is there.
    worker: Option<Box<Worker>>,
    /// Threads that wait for the worker.
    waiting: usize,
    received: Received,
}

/// What has been handed out.
#[derive(Default)]
pub(crate) struct Received {
    messages: u64,
    redelivered: u64,
}

impl Received {
    /// The message that the worker announced.
    #[inline(always)]
    pub(crate) fn hand_out(&mut self, worker: &mut Worker) -> Delivery {
        let delivery = Delivery::new(worker.take_message());
        self.messages += 1;
        if delivery.is_redelivered() {
            self.redelivered += 1;
        }
        delivery
    }
}

impl Receiver {
    /// Takes a name with the default policy (senders of the same user) and limits.
    ///
    /// # Errors
    /// As [`Server::bind`](crate::Server::bind): [`NameTaken`](ErrorKind::NameTaken) while another receiver, or anything else,
    /// has it.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert_eq!(wigwag::Receiver::bind(name).unwrap_err().kind(), wigwag::ErrorKind::NameTaken);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Receiver> {
        Receiver::builder().bind(name)
    }

    /// A receiver with a policy, limits or a contract of its own.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::builder().slots(1024).capacity(4096).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder::new()
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed) after a [shutdown](Receiver::shutdown_handle), once everything that had been
    /// sent is received; [`Forked`](ErrorKind::Forked), [`Io`](ErrorKind::Io). No sender can make it fail.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// wigwag::Sender::connect(name)?.send(b"hello")?;     // dropped, and received all the same
    /// assert_eq!(&receiver.recv()?[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv(&self) -> Result<Delivery> {
        if let Some(delivery) = self.next_at_once()? {
            return Ok(delivery);
        }
        self.next_later(Until::Forever)?.ok_or_else(closed)
    }

    /// The next message if one is there. While another thread waits for messages, none is.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<Option<Delivery>> {
        self.next(Until::Now)
    }

    /// The next message, or none within `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.recv_timeout(std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Delivery>> {
        self.next(clock::deadline_after(timeout).map_or(Until::Forever, Until::Deadline))
    }

    /// Waits for a message, and takes up to `most` that are there; they are acknowledged together.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a batch of none.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send_batch(["one", "two"])?;
    /// for message in receiver.recv_batch(100)?.iter() {
    ///     println!("{} bytes", message.len());
    /// }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_batch(&self, most: usize) -> Result<Batch> {
        match self.next_batch(most, Until::Forever)? {
            Some(batch) => Ok(batch),
            None => Err(closed()),
        }
    }

    /// Up to `most` messages if any is there.
    ///
    /// # Errors
    /// As [`recv_batch`](Receiver::recv_batch).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.try_recv_batch(10)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv_batch(&self, most: usize) -> Result<Option<Batch>> {
        self.next_batch(most, Until::Now)
    }

    /// Up to `most` messages, or none within `timeout`. It waits for the first one only.
    ///
    /// # Errors
    /// As [`recv_batch`](Receiver::recv_batch).
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.recv_batch_timeout(10, std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_batch_timeout(&self, most: usize, timeout: Duration) -> Result<Option<Batch>> {
        self.next_batch(most, clock::deadline_after(timeout).map_or(Until::Forever, Until::Deadline))
    }

    /// All messages from now on, until a [shutdown](Receiver::shutdown_handle): the same as `&receiver` in a `for`.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let stop = receiver.shutdown_handle();
    /// wigwag::Sender::connect(name)?.send(b"hello")?;
    /// for message in receiver.iter() {
    ///     assert_eq!(&message?[..], b"hello");
    ///     stop.shutdown();
    /// }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn iter(&self) -> Deliveries<'_> {
        Deliveries { receiver: self }
    }

    /// A handle that ends this receiver from another thread: no new sender, what was sent until then can still be received, the
    /// name is removed. What is left when the receiver is dropped stays with its senders.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let stop = receiver.shutdown_handle();
    /// std::thread::spawn(move || stop.shutdown());
    /// let error = receiver.recv().unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::ServerClosed { maybe_executed: false });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::of(Arc::clone(&self.host.core))
    }

    /// What has happened so far; nothing, in a forked child.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// wigwag::Sender::connect(name)?.send(b"hello")?;
    /// receiver.recv()?.ack();
    /// assert_eq!((receiver.stats().received, receiver.stats().acknowledged), (1, 1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ReceiverStats {
        if self.host.is_forked() {
            return ReceiverStats::default();
        }
        let desk = self.lock();
        let tables = self.host.core.statistics.tables();
        let (steward, counts) = (tables.steward, observe::counts_of(&tables));
        ReceiverStats {
            received: desk.received.messages,
            redelivered: desk.received.redelivered,
            acknowledged: counts.calls,
            returned: counts.returned,
            senders: steward.sessions.value(),
            senders_accepted: steward.accepted.value(),
            senders_refused: steward.refused.value(),
            violations: steward.violations.value(),
            sleeps: self.host.core.ports().iter().map(|port| port.record.sleeps.value()).sum(),
        }
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let directory = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir().unwrap(); let name = directory.path().join("q"); let name = &name;
    /// assert_eq!(wigwag::Receiver::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.host.path
    }

    fn next(&self, until: Until) -> Result<Option<Delivery>> {
        match self.next_at_once() {
            Ok(None) => self.next_later(until),
            found => found,
        }
    }

    /// A message that is there already. The way of every message: nothing is taken out of the desk, and the result stays in
    /// registers.
    #[inline(always)]
    fn next_at_once(&self) -> Result<Option<Delivery>> {
        if self.host.is_forked() {
            return Err(Error::forked());
        }
        let mut desk = self.lock();
        let Desk { worker: Some(worker), received, .. } = &mut *desk else { return Ok(None) };
        match worker.glance()? {
            Next::Request => Ok(Some(received.hand_out(worker))),
            Next::Nothing => Ok(None),
            Next::Shutdown => Err(closed()),
        }
    }

    #[cold]
    fn next_later(&self, until: Until) -> Result<Option<Delivery>> {
        let mut found = None;
        self.look(until, |received, worker| {
            found = Some(received.hand_out(worker));
            false
        })?;
        Ok(found)
    }

    fn next_batch(&self, most: usize, until: Until) -> Result<Option<Batch>> {
        check_batch(most)?;
        let mut found = Vec::new();
        self.look(until, |received, worker| {
            if found.is_empty() {
                found.reserve(most.min(BATCH_AT_FIRST));
            }
            found.push(received.hand_out(worker));
            found.len() < most
        })?;
        Ok((!found.is_empty()).then(|| Batch::new(found)))
    }

    /// Looks for messages, and waits for the first one if need be. `take` takes each, and says whether it wants one more.
    fn look(&self, until: Until, mut take: impl FnMut(&mut Received, &mut Worker) -> bool) -> Result<()> {
        if self.host.is_forked() {
            return Err(Error::forked());
        }
        let Some((mut desk, mut worker)) = self.go_to_desk(until) else { return Ok(()) };
        let mut outcome = worker.glance();
        if matches!(outcome, Ok(Next::Nothing)) {
            if !matches!(until, Until::Now) {
                drop(desk); // others may come meanwhile, and go again if they do not want to wait
                let mut away = Away { receiver: self, worker: Some(worker) };
                outcome = away.worker.as_mut().map_or(Ok(Next::Nothing), |worker| worker.next(until));
                (desk, worker) = away.come_back();
            } else {
                outcome = worker.next(until);
            }
        }
        while matches!(outcome, Ok(Next::Request)) {
            if !take(&mut desk.received, &mut worker) {
                break;
            }
            outcome = worker.glance();
        }
        self.leave_desk(desk, worker);
        match outcome {
            // A shutdown that ends a batch is told next time.
            Ok(Next::Shutdown) => Err(closed()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the worker. While another thread has it, waits for it as long as is wanted.
    fn go_to_desk(&self, until: Until) -> Option<(MutexGuard<'_, Desk>, Box<Worker>)> {
        let mut desk = self.lock();
        loop {
            if let Some(worker) = desk.worker.take() {
                return Some((desk, worker));
            }
            let remaining = match until {
                Until::Now => return None, // whoever waits there finds nothing
                Until::Deadline(at) => Some(at.saturating_duration_since(Instant::now())),
                _ => None,
            };
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                return None;
            }
            desk.waiting += 1;
            desk = match remaining {
                Some(remaining) => {
                    self.returned.wait_timeout(desk, remaining).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.returned.wait(desk).unwrap_or_else(PoisonError::into_inner),
            };
            desk.waiting -= 1;
        }
    }

    /// Puts the worker back, for the next one.
    fn leave_desk(&self, mut desk: MutexGuard<'_, Desk>, worker: Box<Worker>) {
        desk.worker = Some(worker);
        let is_awaited = desk.waiting > 0;
        drop(desk);
        if is_awaited {
            self.returned.notify_one();
        }
    }

    /// For a task: the worker, and what counts. Nobody else can be at the desk.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn desk(&mut self) -> Result<(&mut Worker, &mut Received)> {
        if self.host.is_forked() {
            return Err(Error::forked());
        }
        let desk = self.desk.get_mut().unwrap_or_else(PoisonError::into_inner);
        let worker = desk.worker.as_deref_mut().expect("only a thread that waits takes it along");
        Ok((worker, &mut desk.received))
    }

    /// For a task: what is there after the first message, which it has waited for.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn fill_batch(&mut self, first: Delivery, most: usize) -> Result<Batch> {
        let (worker, received) = self.desk()?;
        let mut found = vec![first];
        // A shutdown or an error that ends a batch is told next time.
        while found.len() < most && matches!(worker.glance(), Ok(Next::Request)) {
            found.push(received.hand_out(worker));
        }
        Ok(Batch::new(found))
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        // The numbers and the worker are whole at every moment.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that waits with the worker, away from the desk. If it panics, the worker goes back all the same.
struct Away<'r> {
    receiver: &'r Receiver,
    worker: Option<Box<Worker>>,
}

impl<'r> Away<'r> {
    fn come_back(mut self) -> (MutexGuard<'r, Desk>, Box<Worker>) {
        let worker = self.worker.take().expect("only this function takes it");
        (self.receiver.lock(), worker)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            self.receiver.leave_desk(self.receiver.lock(), worker);
        }
    }
}

/// Whether a batch of so many messages can be.
pub(crate) fn check_batch(most: usize) -> Result<()> {
    match most {
        0 => Err(Error::new(ErrorKind::InvalidConfiguration, "a batch of 0 messages is none: 1 is the least")),
        _ => Ok(()),
    }
}

#[cold]
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::ServerClosed { maybe_executed: false }, "the receiver is shut down")
}

/// All messages from now on; see [`Receiver::iter`].
///
/// ```no_run
/// let receiver = wigwag::Receiver::bind("jobs")?;
/// let lengths: Vec<usize> = receiver.iter().take(10).map(|message| message.map_or(0, |m| m.len())).collect();
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct Deliveries<'r> {
    receiver: &'r Receiver,
}

impl Iterator for Deliveries<'_> {
    type Item = Result<Delivery>;

    fn next(&mut self) -> Option<Result<Delivery>> {
        match self.receiver.recv() {
            Err(error) if matches!(error.kind(), ErrorKind::ServerClosed { .. }) => None,
            outcome => Some(outcome),
        }
    }
}

impl<'r> IntoIterator for &'r Receiver {
    type Item = Result<Delivery>;
    type IntoIter = Deliveries<'r>;

    fn into_iter(self) -> Deliveries<'r> {
        self.iter()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.host.is_forked() {
            let desk = self.desk.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(desk.worker.take()); // what it holds is the parent's
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Receiver").field("path", &self.host.path).field("stats", &self.stats()).finish()
    }
}
