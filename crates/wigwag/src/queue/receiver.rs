//! The blocking receiver of a queue: takes a name, and hands out what senders send there.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::observe;
use crate::options::ListenOptions;
use crate::queue::delivery::{Batch, Delivery};
use crate::queue::intake::MessageWorker;
use crate::service::handles::ShutdownHandle;
use crate::service::service::Service;
use crate::service::worker::{Next, Until};
use crate::stats::ReceiverStats;
use crate::sync;
use crate::wait::deadline::Deadline;

mod builder;

pub use crate::queue::receiver::builder::ReceiverBuilder;

/// The one receiver of a queue: owns the name, and takes messages of any number of [`Sender`](crate::Sender)s.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("jobs").path;
/// let receiver = wigwag::Receiver::bind(name)?;
/// # let thread = std::thread::spawn({ let name = name.clone(); move || {
/// #     let mut sender = wigwag::Sender::connect(name)?; sender.send(b"stop")?; sender.close() } });
/// for message in &receiver {
///     let message = message?;
///     if &message[..] == b"stop" { break; }
///     // ... do what it asks for; dropping it acknowledges it
/// }
/// # thread.join().unwrap()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
///
/// Messages of one sender come in order, senders take turns. A message stays in its sender's memory until it is
/// acknowledged, see [`Delivery`]: if this process dies, whoever takes the name next receives it again. Any number of
/// threads may receive at a time, through one shared reference.
///
/// Dropping it ends all sessions; what was not received stays with the senders that live. What a sender that is gone
/// had sent is lost then: [shut down](Receiver::shutdown_handle) and receive until
/// [`ServerClosed`](ErrorKind::ServerClosed) to have it all.
pub struct Receiver {
    service: Service,
    leadership: Mutex<Leadership>,
    /// Notified when the worker is back under the lock.
    returned: Condvar,
    /// Whether all sessions ring since the last look, for an event loop.
    is_armed: bool,
}

/// Room for this many messages is made when the first of a batch has come.
const BATCH_AT_FIRST: usize = 64;

/// What the receiving threads share. One of them at a time looks for messages.
struct Leadership {
    /// Taken along by a thread that waits, so that others can still ask for what is there.
    worker: Option<Box<MessageWorker>>,
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
    pub(crate) fn hand_out(&mut self, worker: &mut MessageWorker) -> Delivery {
        let delivery = Delivery::new(worker.take());
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
    /// As [`Server::bind`](crate::Server::bind): [`NameTaken`](ErrorKind::NameTaken) while another receiver, or
    /// anything else, has it.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
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
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::builder().slots(1024).capacity(4096).bind(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> ReceiverBuilder {
        ListenOptions::default().into()
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`ServerClosed`](ErrorKind::ServerClosed) after a [shutdown](Receiver::shutdown_handle), once everything that
    /// had been sent until then is received, and from then on always; [`Forked`](ErrorKind::Forked),
    /// [`Io`](ErrorKind::Io). No sender can make it fail.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// wigwag::Sender::connect(name)?.send(b"hello")?;     // dropped, and received all the same
    /// assert_eq!(&receiver.recv()?[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv(&self) -> Result<Delivery> {
        if let Some(delivery) = self.next_at_once()? {
            return Ok(delivery);
        }
        self.next_later(Deadline::Never)?.ok_or_else(closed)
    }

    /// The next message if one is there. While another thread waits for messages, none is.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.try_recv()?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<Option<Delivery>> {
        self.next(Deadline::Now)
    }

    /// The next message, or none within `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.recv_timeout(std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Delivery>> {
        self.next(Deadline::after(timeout))
    }

    /// Waits for a message, and takes up to `most` that are there; they are acknowledged together. What has been found
    /// is handed out, whatever stands in the way of one more: the next call tells that.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv); [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for a batch of none.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// # let mut sender = wigwag::Sender::connect(name)?; sender.send_batch(["one", "two"])?;
    /// for message in receiver.recv_batch(100)?.iter() {
    ///     println!("{} bytes", message.len());
    /// }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_batch(&self, most: usize) -> Result<Batch> {
        match self.next_batch(most, Deadline::Never)? {
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
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.try_recv_batch(10)?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv_batch(&self, most: usize) -> Result<Option<Batch>> {
        self.next_batch(most, Deadline::Now)
    }

    /// Up to `most` messages, or none within `timeout`. It waits for the first one only.
    ///
    /// # Errors
    /// As [`recv_batch`](Receiver::recv_batch).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// assert!(receiver.recv_batch_timeout(10, std::time::Duration::from_millis(1))?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_batch_timeout(&self, most: usize, timeout: Duration) -> Result<Option<Batch>> {
        self.next_batch(most, Deadline::after(timeout))
    }

    /// For an event loop: the next message if one is there. If none is, the receiver's
    /// [descriptor](Receiver::try_clone_descriptor) becomes readable once it is worth to call this again. It never
    /// waits, and no session is polled for longer than it takes to look.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// let mut receiver = wigwag::Receiver::bind(name)?;
    /// let mut sender = wigwag::Sender::connect(name)?;
    /// let descriptor = receiver.try_clone_descriptor()?;
    /// assert!(receiver.recv_or_arm()?.is_none());
    /// sender.send(b"hello")?;
    /// let message = loop {
    ///     if let Some(message) = receiver.recv_or_arm()? {
    ///         break message;
    ///     }
    ///     poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).unwrap(); // with whatever else is waited for
    /// };
    /// assert_eq!(&message[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_or_arm(&mut self) -> Result<Option<Delivery>> {
        let was_armed = std::mem::take(&mut self.is_armed);
        let (worker, received) = self.leadership()?;
        if was_armed {
            worker.listen()?; // what rang since the event loop was left to sleep
        }
        worker.cool(); // who is polled does not ring
        match worker.next(Until::Quiet)? {
            Next::Request => Ok(Some(received.hand_out(worker))),
            Next::Shutdown => Err(closed()),
            Next::Nothing => {
                self.is_armed = true;
                Ok(None)
            }
        }
    }

    /// The descriptor for an event loop to poll for reading, see [`recv_or_arm`](Receiver::recv_or_arm): a duplicate,
    /// which may be closed at any time. Reading from it or writing to it is not possible. From then on this receiver
    /// never spins for ever ([`Wait::Spin`](crate::Wait::Spin) is as [`Wait::Adaptive`](crate::Wait::Adaptive)),
    /// because the thread is the loop's.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) if there is no descriptor to be had; [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let mut receiver = wigwag::Receiver::bind(name)?;
    /// let descriptor: std::os::fd::OwnedFd = receiver.try_clone_descriptor()?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_clone_descriptor(&mut self) -> Result<OwnedFd> {
        self.leadership()?.0.for_reactor()
    }

    /// All messages from now on, until a [shutdown](Receiver::shutdown_handle): the same as `&receiver` in a `for`.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
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

    /// A handle that ends this receiver from another thread: no new sender, exactly what was sent until then can still
    /// be received, the name is removed. What is given back meanwhile comes again. What comes later, and what is left
    /// when the receiver is dropped, stays with its senders.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// let stop = receiver.shutdown_handle();
    /// std::thread::spawn(move || stop.shutdown());
    /// let error = receiver.recv().unwrap_err();
    /// assert_eq!(error.kind(), wigwag::ErrorKind::ServerClosed { maybe_executed: false });
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::of(Arc::clone(&self.service.shared))
    }

    /// What has happened so far; nothing, in a forked child.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// let receiver = wigwag::Receiver::bind(name)?;
    /// wigwag::Sender::connect(name)?.send(b"hello")?;
    /// receiver.recv()?.ack();
    /// assert_eq!((receiver.stats().received, receiver.stats().acknowledged), (1, 1));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> ReceiverStats {
        if self.service.is_forked() {
            return ReceiverStats::default();
        }
        let leadership = self.lock();
        let statistics = &self.service.shared.statistics;
        let (control, counts) = (statistics.tables().control, observe::counts_of(statistics));
        ReceiverStats {
            received: leadership.received.messages,
            redelivered: leadership.received.redelivered,
            acknowledged: counts.calls,
            returned: counts.returned,
            senders: control.sessions.value(),
            senders_accepted: control.accepted.value(),
            senders_refused: control.refused.value(),
            violations: control.violations.value(),
            sleeps: self.service.shared.mailboxes().iter().map(|mailbox| mailbox.record.sleeps.value()).sum(),
        }
    }

    /// Where the socket is.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("q").path;
    /// assert_eq!(wigwag::Receiver::bind(name)?.path(), name);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.service.path
    }

    fn next(&self, deadline: Deadline) -> Result<Option<Delivery>> {
        match self.next_at_once() {
            Ok(None) => self.next_later(deadline),
            found => found,
        }
    }

    /// A message that is there already. The way of every message: nothing is taken from under the lock, and the result
    /// stays in registers.
    #[inline(always)]
    fn next_at_once(&self) -> Result<Option<Delivery>> {
        if self.service.is_forked() {
            return Err(Error::forked());
        }
        let mut leadership = self.lock();
        let Leadership { worker: Some(worker), received, .. } = &mut *leadership else { return Ok(None) };
        match worker.glance()? {
            Next::Request => Ok(Some(received.hand_out(worker))),
            Next::Nothing => Ok(None),
            Next::Shutdown => Err(closed()),
        }
    }

    #[cold]
    fn next_later(&self, deadline: Deadline) -> Result<Option<Delivery>> {
        let mut found = None;
        self.look(deadline, |received, worker| {
            found = Some(received.hand_out(worker));
            false
        })?;
        Ok(found)
    }

    fn next_batch(&self, most: usize, deadline: Deadline) -> Result<Option<Batch>> {
        check_batch(most)?;
        let mut found = Vec::new();
        self.look(deadline, |received, worker| {
            if found.is_empty() {
                found.reserve(most.min(BATCH_AT_FIRST));
            }
            found.push(received.hand_out(worker));
            found.len() < most
        })?;
        if faults::is(Fault::LostBatch) && !found.is_empty() && found.len() < most && self.service.shared.is_complete()
        {
            let end = self.lock().worker.as_mut().map(|worker| worker.glance());
            if matches!(end, Some(Ok(Next::Shutdown))) {
                return Err(closed());
            }
        }
        Ok((!found.is_empty()).then(|| Batch::new(found)))
    }

    /// Looks for messages, and waits for the first one if need be. `take` takes each, and says whether it wants one
    /// more. An error means that none was taken: what stands in the way of one more is told at the next call.
    fn look(&self, deadline: Deadline, mut take: impl FnMut(&mut Received, &mut MessageWorker) -> bool) -> Result<()> {
        if self.service.is_forked() {
            return Err(Error::forked());
        }
        let Some(mut leadership) = self.become_leader(deadline) else { return Ok(()) };
        let (worker, _) = leadership.worker()?;
        let mut next = worker.glance()?;
        if next == Next::Nothing {
            if matches!(deadline, Deadline::Now) {
                next = worker.next(Until::Deadline(deadline))?;
            } else {
                // Others may come meanwhile, and go again if they do not want to wait.
                let mut away = leadership.wait_outside();
                let outcome =
                    away.worker.as_mut().map_or(Ok(Next::Nothing), |worker| worker.next(Until::Deadline(deadline)));
                leadership = away.come_back();
                next = outcome?;
            }
        }
        let (worker, received) = leadership.worker()?;
        match next {
            Next::Request => {
                while take(received, worker) && worker.more() {}
                Ok(())
            }
            Next::Nothing => Ok(()),
            Next::Shutdown => Err(closed()),
        }
    }

    /// Becomes the leader once the worker is under the lock. While another thread has it, waits for it as long as is
    /// wanted.
    fn become_leader(&self, deadline: Deadline) -> Option<LeaderGuard<'_>> {
        let mut leadership = self.lock();
        while leadership.worker.is_none() {
            let remaining = deadline.remaining(); // whoever waits there with none left finds nothing
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                return None;
            }
            leadership.waiting += 1;
            leadership = match remaining {
                Some(remaining) => {
                    self.returned.wait_timeout(leadership, remaining).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.returned.wait(leadership).unwrap_or_else(PoisonError::into_inner),
            };
            leadership.waiting -= 1;
        }
        Some(LeaderGuard { receiver: self, leadership: Some(leadership) })
    }

    /// For a task, or an event loop: the worker, and what counts. Nobody else can be the leader.
    pub(crate) fn leadership(&mut self) -> Result<(&mut MessageWorker, &mut Received)> {
        if self.service.is_forked() {
            return Err(Error::forked());
        }
        let leadership = sync::get_mut(&mut self.leadership);
        let worker = leadership.worker.as_deref_mut().expect("only a thread that waits takes it along");
        Ok((worker, &mut leadership.received))
    }

    /// For a task: what is there after the first message, which it has waited for.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(crate) fn fill_batch(&mut self, first: Delivery, most: usize) -> Batch {
        let mut found = vec![first];
        if let Ok((worker, received)) = self.leadership() {
            while found.len() < most && worker.more() {
                found.push(received.hand_out(worker));
            }
        }
        Batch::new(found)
    }

    fn lock(&self) -> MutexGuard<'_, Leadership> {
        // The numbers and the worker are whole at every moment.
        sync::lock(&self.leadership)
    }
}

/// The leader: a thread that has the lock, with the worker under it. Whatever happens to it there, also a panic, the
/// worker stays, and the next one of those who wait for it comes.
struct LeaderGuard<'r> {
    receiver: &'r Receiver,
    /// `None` once it has gone.
    leadership: Option<MutexGuard<'r, Leadership>>,
}

impl<'r> LeaderGuard<'r> {
    /// The worker, and what counts.
    fn worker(&mut self) -> Result<(&mut MessageWorker, &mut Received)> {
        match self.leadership.as_deref_mut() {
            Some(Leadership { worker: Some(worker), received, .. }) => Ok((worker, received)),
            _ => Err(Error::new(ErrorKind::Io, "the receiver has lost its worker; bind it anew")), // cannot be
        }
    }

    /// Takes the worker along, to wait with it elsewhere.
    fn wait_outside(mut self) -> LeaderWaiting<'r> {
        let worker = self.leadership.take().and_then(|mut leadership| leadership.worker.take());
        LeaderWaiting { receiver: self.receiver, worker }
    }
}

impl Drop for LeaderGuard<'_> {
    fn drop(&mut self) {
        let Some(leadership) = self.leadership.take() else { return };
        let is_awaited = leadership.worker.is_some() && leadership.waiting > 0;
        drop(leadership);
        if is_awaited {
            self.receiver.returned.notify_one();
        }
    }
}

/// A leader that waits with the worker, without the lock. If it panics, the worker goes back all the same.
struct LeaderWaiting<'r> {
    receiver: &'r Receiver,
    worker: Option<Box<MessageWorker>>,
}

impl<'r> LeaderWaiting<'r> {
    fn come_back(mut self) -> LeaderGuard<'r> {
        self.put_back()
    }

    fn put_back(&mut self) -> LeaderGuard<'r> {
        let mut leadership = self.receiver.lock();
        if let Some(worker) = self.worker.take() {
            leadership.worker = Some(worker);
        }
        LeaderGuard { receiver: self.receiver, leadership: Some(leadership) }
    }
}

impl Drop for LeaderWaiting<'_> {
    fn drop(&mut self) {
        if self.worker.is_some() {
            drop(self.put_back());
        }
    }
}

/// Whether a batch can have this many messages.
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
        if self.service.is_forked() {
            let leadership = sync::get_mut(&mut self.leadership);
            std::mem::forget(leadership.worker.take()); // what it holds is the parent's
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Receiver").field("path", &self.service.path).field("stats", &self.stats()).finish()
    }
}

#[cfg(all(test, not(loom), not(wigwag_faults)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use wigwag_testing::{Ground, LIMIT, eventually};

    use super::*;
    use crate::Sender;

    #[test]
    fn w8_a_thread_that_panics_at_the_desk_leaves_the_worker_there() {
        let ground = Ground::new();
        let receiver = Receiver::bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        for deadline in [Deadline::Never, Deadline::after(LIMIT), Deadline::Now] {
            sender.send(b"first").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let panics = |received: &mut Received, worker: &mut MessageWorker| {
                        let message = received.hand_out(worker);
                        panic!("with {message:?} in hand, which is given back")
                    };
                    let look = || while receiver.look(deadline, panics).is_ok() {};
                    catch_unwind(AssertUnwindSafe(look)).unwrap_err();
                });
                for _ in 0..2 {
                    let message = receiver.recv_timeout(LIMIT).unwrap().expect("the worker is lost");
                    let was_had = message.is_redelivered();
                    drop(message);
                    if was_had {
                        break;
                    }
                    sender.send(b"second").unwrap(); // the other thread has none yet
                }
            });
        }
    }

    #[test]
    fn d2_what_is_sent_after_a_shutdown_began_stays_with_its_sender() {
        let ground = Ground::new();
        let receiver = Receiver::builder().slots(4).bind(ground.socket()).unwrap();
        let mut sender = Sender::connect(ground.socket()).unwrap();
        for message in ["1", "2"] {
            sender.try_send(message.as_bytes()).unwrap();
        }
        receiver.shutdown_handle().shutdown();
        eventually("no session can come any more", || receiver.service.shared.is_complete());
        receiver.recv().unwrap().nack(); // from the first look on, the set is fixed
        sender.try_send(b"late").unwrap();
        let received: Vec<Vec<u8>> = receiver.iter().map(|message| message.unwrap().to_vec()).collect();
        assert_eq!(received, [b"1", b"2"]);
        assert!(receiver.recv().is_err() && receiver.try_recv().is_err() && receiver.try_recv_batch(9).is_err());
        let _ = sender.flush(Duration::from_millis(1));
        assert_eq!(sender.stats().acknowledged, 2);
    }
}
