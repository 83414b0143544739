//! The subscribing side for programs that may wait: connects, and takes what a publisher has published.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

pub use crate::broadcast::input::Start;
use crate::broadcast::input::{Input, Wants};
use crate::broadcast::message::Message;
use crate::broadcast::reception::Reception;
use crate::error::{Error, ErrorKind, Result};
use crate::options::ConnectOptions;
use crate::session::close_reason::CloseReason;
#[cfg(not(loom))]
use crate::session::connect::Progress;
use crate::session::connect::{ClientHandshake, Established};
use crate::session::peer::Peer;
use crate::session::protocol::Reason;
use crate::sync::Ordering;
use crate::sys::epoll::Events;
#[cfg(not(loom))]
use crate::sys::epoll::{Interest, Poller};
use crate::sys::{clock, cpu};
use crate::wait::deadline::Deadline;
use crate::wait::placement::SLEEPS_PER_AFFINITY;
use crate::wait::policy::{SpinBudget, Wait};
use crate::wait::runtime_guard;
use crate::wait::waiter::{self, SPINS_BEFORE_CLOCK};
use crate::wait::wake_latency::WakeLatency;

mod builder;

pub use crate::broadcast::subscriber::builder::SubscriberBuilder;

/// Takes the messages of a [`Publisher`](crate::Publisher): all of them in order, or with the number of those that it
/// was too slow for.
///
/// It reads where the publisher wrote. The memory is mapped to be read only, and the kernel lets it become nothing
/// else. Where it reads is its own affair: a subscriber that is stopped or killed costs the publisher nothing, unless
/// that one is patient ([`Overrun::Wait`](crate::Overrun::Wait)).
///
/// ```
/// # let name = &wigwag_testing::temporary_name("prices").path;
/// # let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::Subscriber::connect(name)?;
/// # publisher.send(b"1.07")?;
/// # drop(publisher);
/// for message in subscriber.messages() {
///     let message = message?;
///     println!("{} lost, then {:?}", message.lost_before(), &message[..]);
/// }
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Subscriber {
    name: OsString,
    options: ConnectOptions,
    input: Input,
    /// The look for the next publisher, once this one has ended and is read out.
    search: Option<Box<ClientHandshake>>,
    events: Events,
    waiting: WaitState,
    totals: SubscriberStats,
}

/// What is known of waiting.
struct WaitState {
    spin_budget: SpinBudget,
    wake_latency: WakeLatency,
    sleeps: u32,
    may_spin: bool,
    polls: u32,
    /// How often nothing was there, and whether messages come faster than one by one.
    idles: u32,
    is_streaming: bool,
}

/// Times that nothing is there, of which one is used to find out whether messages come fast.
const IDLES_PER_PROBE: u32 = 256;
/// So many messages come in a pause if they come fast, at least of a publisher that keeps as many.
const STREAM: u64 = 4;
/// Looks that a pause is as long as: about a microsecond.
const PAUSE_LOOKS: u32 = 24;

/// Looks in vain of someone who polls, between two looks whether the publisher lives.
const POLLS_PER_LIFE_SIGN: u32 = 256;

impl WaitState {
    /// Where messages come fast, a subscriber that looks at each line that the publisher is about to write makes both
    /// of them wait for that line. It looks away for a moment, and finds several. Whether it did.
    fn pause(&mut self, input: &Input) -> bool {
        self.idles = self.idles.wrapping_add(1);
        let is_probe = self.idles.is_multiple_of(IDLES_PER_PROBE);
        if !self.is_streaming && !is_probe || (input.reception().geometry().entries as u64) <= 2 * STREAM {
            return false;
        }
        (0..PAUSE_LOOKS).for_each(|_| std::hint::spin_loop());
        self.is_streaming = input.are_there(STREAM);
        self.is_streaming
    }
}

/// What a copied message was: see [`Subscriber::recv_into`].
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let mut publisher = wigwag::Publisher::bind(name)?;
/// # let mut subscriber = wigwag::Subscriber::connect(name)?;
/// publisher.send(b"first")?;
/// let mut bytes = Vec::new();
/// let receipt = subscriber.recv_into(&mut bytes)?;
/// assert_eq!((receipt.sequence, receipt.lost_before, &bytes[..]), (1, 0, &b"first"[..]));
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// As [`Message::sequence`].
    pub sequence: u64,
    /// As [`Message::lost_before`].
    pub lost_before: u64,
    /// As [`Message::is_of_new_publisher`].
    pub is_of_new_publisher: bool,
}

impl Receipt {
    pub(super) fn of(message: &Message) -> Receipt {
        Receipt {
            sequence: message.sequence(),
            lost_before: message.lost_before(),
            is_of_new_publisher: message.is_of_new_publisher(),
        }
    }
}

impl Subscriber {
    /// Connects to a publisher of the same user; the first message is the next one that is published.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn connect(name: impl AsRef<OsStr>) -> Result<Subscriber> {
        Subscriber::builder().connect(name)
    }

    /// A subscriber with wishes of its own.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::builder().start(wigwag::Start::Oldest).connect(name)?;
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn builder() -> SubscriberBuilder {
        ConnectOptions::default().into()
    }

    fn new(name: OsString, options: ConnectOptions, start: Start, established: Established) -> Result<Subscriber> {
        let input = Input::new(Reception::new(established, &options)?, start, false);
        let mut subscriber = Subscriber {
            name,
            options,
            input,
            search: None,
            events: Events::with_capacity(4),
            waiting: WaitState {
                spin_budget: SpinBudget::default(),
                wake_latency: WakeLatency::default(),
                sleeps: 0,
                may_spin: true,
                polls: 0,
                idles: 0,
                is_streaming: false,
            },
            totals: SubscriberStats::default(),
        };
        subscriber.refresh_affinity();
        Ok(subscriber)
    }

    /// Takes the next message, and waits until it is there.
    ///
    /// # Errors
    /// [`Ended`](ErrorKind::Ended): the publisher has ended the broadcast, and all is read.
    /// [`PeerDied`](ErrorKind::PeerDied): its process is gone, and all that it had published is read. Either way, a
    /// subscriber that [reconnects](SubscriberBuilder::reconnect) waits for the next publisher instead.
    /// [`Refused`](ErrorKind::Refused): this subscriber was cut off, with the reason. [`Full`](ErrorKind::Full): it
    /// holds as many messages as it may; the message is not lost. [`Forked`](ErrorKind::Forked).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// # publisher.send(b"1.07")?;
    /// let message = subscriber.recv()?;
    /// assert_eq!(&message[..], b"1.07");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Result<Message> {
        match self.input.take(&mut Wants::InPlace)? {
            Some(message) => Ok(message),
            None => self.wait_and_take(&mut Wants::InPlace, Deadline::Never),
        }
    }

    /// Takes the next message if it is there. `None`: not now.
    ///
    /// # Errors
    /// As [`recv`](Subscriber::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// assert!(subscriber.try_recv()?.is_none(), "nothing has been published");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message>> {
        match self.input.take(&mut Wants::InPlace)? {
            Some(message) => Ok(Some(message)),
            None => self.look_and_take(&mut Wants::InPlace),
        }
    }

    /// As [`recv`](Subscriber::recv), and waits no longer than that.
    ///
    /// # Errors
    /// As [`recv`](Subscriber::recv); [`TimedOut`](ErrorKind::TimedOut), with what the publisher has published last.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// let error = subscriber.recv_timeout(std::time::Duration::from_millis(1)).unwrap_err();
    /// assert!(error.to_string().contains("has published nothing yet"));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message> {
        match self.input.take(&mut Wants::InPlace)? {
            Some(message) => Ok(message),
            None => self.wait_and_take(&mut Wants::InPlace, Deadline::after(timeout)),
        }
    }

    /// As [`recv`](Subscriber::recv), and copies the message into `bytes`, in the place of what was there. Nothing is
    /// held, so that even a copy of a message that takes long keeps nothing from the publisher.
    ///
    /// # Errors
    /// As [`recv`](Subscriber::recv), but for [`Full`](ErrorKind::Full).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// # publisher.send(b"1.07")?;
    /// let mut bytes = Vec::new();
    /// subscriber.recv_into(&mut bytes)?;
    /// assert_eq!(bytes, b"1.07");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Receipt> {
        match self.input.take(&mut Wants::Copy(bytes))? {
            Some(message) => Ok(Receipt::of(&message)),
            None => self.wait_and_take(&mut Wants::Copy(bytes), Deadline::Never).map(|message| Receipt::of(&message)),
        }
    }

    /// As [`try_recv`](Subscriber::try_recv), and copies.
    ///
    /// # Errors
    /// As [`recv_into`](Subscriber::recv_into).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// assert!(subscriber.try_recv_into(&mut Vec::new())?.is_none());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn try_recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Receipt>> {
        let taken = match self.input.take(&mut Wants::Copy(bytes))? {
            Some(message) => Some(message),
            None => self.look_and_take(&mut Wants::Copy(bytes))?,
        };
        Ok(taken.as_ref().map(Receipt::of))
    }

    /// All messages, one after another, until the publisher ends the broadcast; an error is the last one, too.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// (0..3_u8).try_for_each(|number| publisher.send(&[number]).map(drop))?;
    /// publisher.close();
    /// let numbers: Result<Vec<u8>, wigwag::Error> = subscriber.messages().map(|message| Ok(message?[0])).collect();
    /// assert_eq!(numbers?, [0, 1, 2]);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn messages(&mut self) -> Messages<'_> {
        Messages { subscriber: self, is_over: false }
    }

    /// For an event loop: from now on this subscriber's descriptor ([`AsFd`]) becomes readable when there is something
    /// to take, or the publisher's end. `false`: there is something now. Nothing is to be read from the descriptor;
    /// once it is readable, take messages until there are none, and arm again.
    ///
    /// # Errors
    /// As [`try_recv`](Subscriber::try_recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// assert!(subscriber.arm()?);
    /// publisher.send(b"something")?;
    /// assert!(!subscriber.arm()?);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn arm(&mut self) -> Result<bool> {
        self.check_process()?;
        self.input.look(&mut self.events)?;
        Ok(self.input.announce())
    }

    /// For an event loop: the next message if one is there. If none is, the subscriber's descriptor ([`AsFd`]) becomes
    /// readable once it is worth to call this again. It never waits.
    ///
    /// While a subscriber that [reconnects](SubscriberBuilder::reconnect) finds no publisher, no descriptor tells of
    /// the next one: call this from time to time. That publisher comes with another descriptor.
    ///
    /// # Errors
    /// As [`recv`](Subscriber::recv).
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// assert!(subscriber.recv_or_arm()?.is_none());
    /// publisher.send(b"hello")?;
    /// let message = loop {
    ///     if let Some(message) = subscriber.recv_or_arm()? {
    ///         break message;
    ///     }
    ///     poll(&mut [PollFd::new(&subscriber, PollFlags::IN)], None).unwrap(); // with whatever else is waited for
    /// };
    /// assert_eq!(&message[..], b"hello");
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn recv_or_arm(&mut self) -> Result<Option<Message>> {
        loop {
            // Whoever has read out an ended publisher and finds no other one cannot arm: there is nothing to be told.
            let message = self.try_recv()?;
            if message.is_some() || self.is_read_out() || self.arm()? {
                return Ok(message);
            }
        }
    }

    /// How many messages were published and not taken yet.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// let mut subscriber = wigwag::Subscriber::connect(name)?;
    /// publisher.send(b"first")?;
    /// assert_eq!(subscriber.lag(), 1);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn lag(&self) -> u64 {
        if self.input.reception().is_forked() {
            return 0;
        }
        (self.input.reception().newest() + 1).saturating_sub(self.input.next())
    }

    /// Who publishes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::connect(name)?;
    /// assert_eq!(subscriber.publisher().pid, std::process::id() as i32);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn publisher(&self) -> Peer {
        Peer::of(self.input.reception().peer)
    }

    /// Which publisher of the name it is: another one has another number. It is the time of its `bind`, in nanoseconds
    /// of the system's monotonic clock.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// let publisher = wigwag::Publisher::bind(name)?;
    /// let [first, second] = [wigwag::Subscriber::connect(name)?, wigwag::Subscriber::connect(name)?];
    /// assert_eq!(first.epoch(), second.epoch());
    /// drop(publisher);
    /// let publisher = wigwag::Publisher::bind(name)?;
    /// assert_ne!(wigwag::Subscriber::connect(name)?.epoch(), first.epoch());
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn epoch(&self) -> u64 {
        self.input.reception().epoch
    }

    /// The number of the message that is taken next, if it is not lost before.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let mut publisher = wigwag::Publisher::bind(name)?;
    /// publisher.send(b"first")?;
    /// assert_eq!(wigwag::Subscriber::connect(name)?.next_number(), 2);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn next_number(&self) -> u64 {
        self.input.next()
    }

    /// The longest message in bytes.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// assert_eq!(wigwag::Subscriber::connect(name)?.capacity(), 64 << 10);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.input.reception().geometry().capacity
    }

    /// How many messages the publisher keeps.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// assert_eq!(wigwag::Subscriber::connect(name)?.history(), 64);
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn history(&self) -> usize {
        self.input.reception().geometry().entries - 1
    }

    /// What this subscriber has counted since it connected.
    ///
    /// ```
    /// # let name = &wigwag_testing::temporary_name("p").path;
    /// # let publisher = wigwag::Publisher::bind(name)?;
    /// let subscriber = wigwag::Subscriber::connect(name)?;
    /// assert_eq!((subscriber.stats().received, subscriber.stats().lost), (0, 0));
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn stats(&self) -> SubscriberStats {
        let (received, lost) = self.input.counts();
        let mut stats = self.totals;
        stats.received += received;
        stats.lost = stats.lost.saturating_add(lost); // another user's publishers may each have told of any number
        stats.may_hold = self.input.reception().holds();
        stats.held = self.input.reception().in_use();
        stats
    }

    /// Nothing is there to be taken just now: looks for the end, or for the next publisher.
    fn look_and_take(&mut self, wants: &mut Wants<'_>) -> Result<Option<Message>> {
        self.waiting.polls = self.waiting.polls.wrapping_add(1);
        if self.input.ended().is_none() && !self.waiting.polls.is_multiple_of(POLLS_PER_LIFE_SIGN) {
            return Ok(None);
        }
        if self.input.ended().is_none() {
            self.input.look(&mut self.events)?;
        }
        if self.input.ended().is_none() {
            return Ok(None);
        }
        if self.is_read_out() {
            // What was there when the end was noticed is read; an entry that was being written stays unwritten.
            if !self.follow(Some(Instant::now()))? {
                return Ok(None);
            }
        }
        self.input.take(wants)
    }

    #[cold]
    fn wait_and_take(&mut self, wants: &mut Wants<'_>, deadline: Deadline) -> Result<Message> {
        let mut was_last_look = false;
        loop {
            if self.is_read_out() {
                if !self.follow(deadline.as_instant())? {
                    return Err(self.timed_out());
                }
            } else if self.spin(deadline)? {
                if let Some(message) = self.input.take(wants)? {
                    return Ok(message);
                }
                // It is replaced again and again before it is read. That ends with the time, and with the publisher.
                if !self.is_read_out() {
                    if deadline.is_over() {
                        return Err(self.timed_out());
                    }
                    self.input.look(&mut self.events)?;
                }
                continue;
            } else {
                if was_last_look {
                    return Err(self.timed_out());
                }
                // Even without time left there is one look, so that who polls learns of the end.
                was_last_look = deadline.is_over();
                self.sleep(deadline)?;
            }
            if let Some(message) = self.input.take(wants)? {
                return Ok(message);
            }
        }
    }

    /// Spins for as long as the policy says. `false`: time to sleep.
    fn spin(&mut self, deadline: Deadline) -> Result<bool> {
        let Subscriber { input, events, waiting, options, .. } = self;
        if input.ended().is_some() {
            return Ok(true);
        }
        if options.wait != Wait::Park && waiting.may_spin && waiting.pause(input) {
            return Ok(true);
        }
        if options.wait == Wait::Spin {
            let look = std::cell::RefCell::new(input);
            return waiter::spin_forever(
                deadline,
                || Ok(look.borrow().is_there()),
                || {
                    let mut input = look.borrow_mut();
                    input.look(events)?;
                    Ok(input.ended().is_some().then_some(true))
                },
            );
        }
        if options.wait == Wait::Park || !waiting.may_spin {
            return Ok(input.is_there());
        }
        for _ in 0..SPINS_BEFORE_CLOCK {
            if input.is_there() {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        let budget = waiting.spin_budget.next(&waiting.wake_latency);
        let has_come = !budget.is_zero() && waiter::spin_for(budget, || Ok::<_, Error>(input.is_there()))?;
        match has_come {
            true => {
                waiting.spin_budget.paid();
                waiting.wake_latency.waited();
            }
            false if !budget.is_zero() => waiting.spin_budget.failed(),
            false => {}
        }
        Ok(has_come)
    }

    fn sleep(&mut self, deadline: Deadline) -> Result<()> {
        self.check_process()?;
        if !self.input.announce() {
            return Ok(());
        }
        if self.waiting.sleeps.is_multiple_of(SLEEPS_PER_AFFINITY) {
            self.refresh_affinity();
        }
        self.waiting.sleeps = self.waiting.sleeps.wrapping_add(1);
        self.totals.sleeps += 1;
        runtime_guard::is_about_to_sleep("waiting for a message of a publisher");
        let slept_ns = self.waiting.wake_latency.wants_sample().then(clock::now_ns);
        let reception = self.input.reception();
        let heard = reception.poller.wait(&mut self.events, deadline.as_instant());
        if let Some(slept_ns) = slept_ns.filter(|_| reception.is_trusted() && reception.agreement.has_ring_times()) {
            let rang_ns = reception.segment.server_line().rang_ns.load(Ordering::Relaxed); // any number will do
            self.waiting.wake_latency.woken(slept_ns, rang_ns, clock::now_ns());
        }
        self.input.withdraw();
        heard?;
        self.input.take_in(&self.events);
        Ok(())
    }

    /// Whether spinning can pay: not on the one processor that the publisher's thread is pinned to, too.
    fn refresh_affinity(&mut self) {
        let theirs = self.input.reception().board.publisher_line().only_processor.load(Ordering::Relaxed); // a hint
        self.waiting.may_spin = !cpu::share_one_processor(cpu::only_processor(), theirs);
    }

    /// The publisher has ended, and is read out: the error that says so, or another publisher. `false`: not until then.
    #[cold]
    fn follow(&mut self, until: Option<Instant>) -> Result<bool> {
        let found = self.search()?.wait(until);
        self.found(found)
    }

    /// The search for the next publisher.
    fn search(&mut self) -> Result<&mut ClientHandshake> {
        self.check_process()?;
        if !self.options.restarts.are_outlived() || !may_be_followed(self.input.ended()) {
            return Err(self.input.fate());
        }
        Ok(match &mut self.search {
            Some(search) => search,
            none => none.insert(Box::new(ClientHandshake::for_successor(&self.name, &self.options)?)),
        })
    }

    /// What a step of the search came to. Whether it has another publisher now.
    fn found(&mut self, outcome: Result<Option<Established>>) -> Result<bool> {
        let established = match outcome {
            Ok(Some(established)) => established,
            Ok(None) => return Ok(false),
            Err(error) => {
                self.search = None; // the next call begins anew
                return Err(error);
            }
        };
        self.search = None;
        self.attach(established)?;
        Ok(true)
    }

    /// Goes on at the publisher of that session.
    pub(super) fn attach(&mut self, established: Established) -> Result<()> {
        let reception = Reception::new(established, &self.options)?;
        let next = match reception.epoch == self.input.reception().epoch {
            true => Input::resumed(reception, &self.input),
            false => Input::new(reception, Start::Oldest, true),
        };
        self.search = None; // of a task it is another one that has found this
        let before = std::mem::replace(&mut self.input, next);
        let (received, lost) = before.counts();
        self.totals.received += received;
        self.totals.lost = self.totals.lost.saturating_add(lost);
        self.totals.publishers += 1;
        self.refresh_affinity();
        Ok(())
    }

    #[cold]
    fn timed_out(&self) -> Error {
        let newest = self.input.reception().newest();
        let what = match (self.input.ended(), newest) {
            (Some(_), _) => "the publisher has ended, and none has taken its place".to_owned(),
            (None, 0) => "the publisher has published nothing yet".to_owned(),
            (None, newest) => format!("the last one was number {newest}"),
        };
        Error::new(
            ErrorKind::TimedOut { maybe_executed: false },
            format!("no message came within the time allowed: {what}"),
        )
    }

    /// The next message, if it is there: for who looks for the end by [`arm`](Subscriber::arm).
    #[cfg(not(loom))]
    pub(super) fn take_now(&mut self, wants: &mut Wants<'_>) -> Result<Option<Message>> {
        self.input.take(wants)
    }

    /// Whether something is there to be taken, in so many looks.
    #[cfg(not(loom))]
    pub(super) fn glance(&self, looks: u32) -> bool {
        !self.input.reception().is_forked()
            && (0..looks).any(|_| {
                std::hint::spin_loop();
                self.input.is_there()
            })
    }

    /// Spins for a while, whatever the policy. Whether something is there, or the end.
    #[cfg(not(loom))]
    pub(super) fn spin_once(&mut self) -> Result<bool> {
        self.check_process()?;
        if self.options.wait != Wait::Spin || self.input.ended().is_some() {
            return self.spin(Deadline::Never);
        }
        let budget = self.waiting.wake_latency.spin_budget();
        waiter::spin_for(budget, || Ok::<_, Error>(self.input.is_there()))
    }

    /// That poller tells of the search for the next publisher, if there is one, or else of the session.
    #[cfg(not(loom))]
    pub(super) fn watch_in(&self, poller: &Poller, key: u64) -> Result<()> {
        // It may be there already: a search's poller becomes its session's, and what it tells is to be told anew.
        match &self.search {
            Some(search) => {
                search.leave(poller);
                search.watch_in(poller, key, Interest::Bell)
            }
            None => {
                let own = &self.input.reception().poller;
                poller.remove(own);
                poller.add(own, key, Interest::Bell)
            }
        }
    }

    /// The publisher has ended, and is read out: goes on with the search for the next as far as it can without waiting.
    /// `false`: its poller tells when to go on, of moments, too.
    ///
    /// # Errors
    /// None is looked for: why the session is over. None has come.
    #[cfg(not(loom))]
    pub(super) fn go_on_searching(&mut self) -> Result<bool> {
        let search = self.search()?;
        let found = search.tell_moments().and_then(|()| search.step_and_tell());
        self.found(found.map(|progress| match progress {
            Progress::Attached(established) => Some(*established),
            Progress::Wait(_) => None,
        }))
    }

    /// [`Forked`](ErrorKind::Forked) in a child that inherited the subscriber.
    pub(super) fn check_process(&self) -> Result<()> {
        if self.input.reception().is_forked() { Err(Error::forked()) } else { Ok(()) }
    }

    /// Whether the publisher has ended, and everything was read.
    pub(super) fn is_read_out(&self) -> bool {
        self.input.ended().is_some() && (self.input.is_drained() || !self.input.is_there())
    }

    /// By what the next publisher is looked for.
    ///
    /// # Errors
    /// It is not: why the session is over.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(super) fn successor(&self) -> Result<(&OsStr, &ConnectOptions)> {
        match self.options.restarts.are_outlived() && may_be_followed(self.input.ended()) {
            true => Ok((&self.name, &self.options)),
            false => Err(self.input.fate()),
        }
    }
}

/// A session that ended for what this subscriber did is not made again.
fn may_be_followed(how: Option<&CloseReason>) -> bool {
    match how {
        Some(CloseReason::Died | CloseReason::Farewell(Reason::Shutdown | Reason::Moved | Reason::Later, _)) => true,
        Some(CloseReason::Farewell(..)) | None => false,
    }
}

/// Readable once there is something to take, after [`Subscriber::arm`].
impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.reception().poller.as_fd()
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Subscriber").field("publisher", &self.publisher()).field("stats", &self.stats()).finish()
    }
}

/// The messages of a [`Subscriber`], one after another: see [`Subscriber::messages`].
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// let mut publisher = wigwag::Publisher::bind(name)?;
/// let mut subscriber = wigwag::Subscriber::connect(name)?;
/// publisher.send(b"one")?;
/// let first = subscriber.messages().next().unwrap()?;
/// assert_eq!(&first[..], b"one");
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Debug)]
pub struct Messages<'s> {
    subscriber: &'s mut Subscriber,
    is_over: bool,
}

impl Iterator for Messages<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        if self.is_over {
            return None;
        }
        match self.subscriber.recv() {
            Ok(message) => Some(Ok(message)),
            Err(error) => {
                self.is_over = true;
                (error.kind() != ErrorKind::Ended).then_some(Err(error))
            }
        }
    }
}

/// What a [`Subscriber`] has counted since it connected.
///
/// ```
/// # let name = &wigwag_testing::temporary_name("p").path;
/// # let publisher = wigwag::Publisher::bind(name)?;
/// let subscriber = wigwag::Subscriber::connect(name)?;
/// assert_eq!(subscriber.stats().publishers, 0);
/// # Ok::<(), wigwag::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberStats {
    /// Messages taken.
    pub received: u64,
    /// Messages lost, all of which were told with a message or will be with the next.
    pub lost: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Publishers after the first, because that one had ended.
    pub publishers: u64,
    /// How many messages it may hold at a time; 0: it copies.
    pub may_hold: usize,
    /// How many it holds.
    pub held: usize,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_was_cut_off_does_not_come_back_by_itself() {
        let farewell = |reason| CloseReason::Farewell(reason, String::new());
        for (how, is_followed) in [
            (Some(CloseReason::Died), true),
            (Some(farewell(Reason::Shutdown)), true),
            (Some(farewell(Reason::Moved)), true),
            (Some(farewell(Reason::Refused)), false),
            (Some(farewell(Reason::Violation)), false),
            (None, false),
        ] {
            assert_eq!(may_be_followed(how.as_ref()), is_followed, "{how:?}");
        }
    }
}
