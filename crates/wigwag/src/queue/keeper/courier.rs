//! Hands on what dead senders have left: a thread for each queue that has anything left, which is a sender of its own.
//!
//! It waits for whoever has the queue's name next, and follows one that dies with what it was handed, as every sender
//! does. The memory that it reads stays until the messages are acknowledged: should it have to give its own session up,
//! it begins anew from there.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::contract::Contract;
use crate::error::{Error, ErrorKind, Result};
use crate::faults::{self, Fault};
use crate::options::ConnectOptions;
use crate::queue::keeper::kept::Estate;
use crate::queue::keeper::ledger::{KeeperEvent, Ledger};
use crate::queue::producer::Producer;
use crate::queue::sender::Sender;
use crate::session::connect::ClientHandshake;
use crate::sync;
use crate::wait::deadline::Deadline;

/// How long a courier waits for anything without looking whether its keeper ends, or has more for it.
const SLICE: Duration = Duration::from_secs(1);
/// How long a queue is left alone whose receiver does not take what it should.
const PAUSE: Duration = Duration::from_secs(1);

/// How many estates are under way before their acknowledgements are waited for.
const UNDER_WAY_MAX: usize = 64;

/// A queue's socket and what its messages are.
type Address = (PathBuf, Contract);

/// All couriers of a keeper.
#[derive(Debug)]
pub struct Couriers {
    ledger: Arc<Ledger>,
    /// What each is still to hand on. One that is listed here has a thread, or had none to be had.
    open: Mutex<Vec<(Address, Open)>>,
}

#[derive(Debug, Default)]
struct Open {
    estates: VecDeque<Estate>,
    has_thread: bool,
}

impl Couriers {
    /// None.
    pub fn new(ledger: Arc<Ledger>) -> Arc<Couriers> {
        Arc::new(Couriers { ledger, open: Mutex::default() })
    }

    /// Hands an estate on, behind those of the same queue. `false`: there is no thread for it just now, and
    /// [`retry`](Couriers::retry) is due.
    pub fn hand_on(self: &Arc<Couriers>, estate: Estate) -> bool {
        let address = (estate.kept.queue.clone(), estate.kept.contract.clone());
        let mut open = sync::lock(&self.open);
        let index = open.iter().position(|(of, _)| *of == address).unwrap_or_else(|| {
            open.push((address, Open::default()));
            open.len() - 1
        });
        open[index].1.estates.push_back(estate);
        self.start(&mut open[index])
    }

    /// Tries again to begin what no thread was to be had for. Whether all is under way.
    pub fn retry(self: &Arc<Couriers>) -> bool {
        sync::lock(&self.open).iter_mut().all(|open| self.start(open))
    }

    fn start(self: &Arc<Couriers>, (address, open): &mut (Address, Open)) -> bool {
        if open.has_thread {
            return true;
        }
        let courier = Courier {
            couriers: Arc::clone(self),
            address: address.clone(),
            sender: None,
            under_way: Vec::new(),
            told: None,
        };
        let thread = std::thread::Builder::new().name("wigwag-courier".into()).spawn(move || courier.run());
        open.has_thread = thread.is_ok();
        open.has_thread
    }

    /// The next estate of a queue.
    fn next(&self, address: &Address) -> Option<Estate> {
        let mut open = sync::lock(&self.open);
        open.iter_mut().find(|(of, _)| of == address)?.1.estates.pop_front()
    }

    /// These come before all others.
    fn give_back(&self, address: &Address, estates: Vec<Estate>) {
        let mut open = sync::lock(&self.open);
        if let Some((_, open)) = open.iter_mut().find(|(of, _)| of == address) {
            estates.into_iter().rev().for_each(|estate| open.estates.push_front(estate));
        }
    }

    /// Whether nothing more has come, so that the courier ends.
    fn is_done(&self, address: &Address) -> bool {
        let mut open = sync::lock(&self.open);
        let index = open.iter().position(|(of, _)| of == address);
        match index {
            Some(index) if open[index].1.estates.is_empty() => {
                open.swap_remove(index);
                true
            }
            Some(_) => false,
            None => true,
        }
    }
}

/// What was passed and is not acknowledged yet.
struct UnderWay {
    estate: Estate,
    messages: u64,
    redelivered: u64,
}

/// The thread of one queue.
struct Courier {
    couriers: Arc<Couriers>,
    address: Address,
    sender: Option<Sender>,
    under_way: Vec<UnderWay>,
    /// What was told last of why nothing goes on.
    told: Option<String>,
}

impl Courier {
    fn run(mut self) {
        while !self.ledger().is_over() {
            let is_room = self.under_way.len() < UNDER_WAY_MAX;
            match is_room.then(|| self.couriers.next(&self.address)).flatten() {
                Some(estate) => self.carry(estate),
                None if !self.under_way.is_empty() => self.wait_for_acknowledgements(),
                None if self.couriers.is_done(&self.address) => break,
                None => {}
            }
        }
        if let Some(sender) = &mut self.sender {
            sender.producer.leave(); // what is left goes with the keeper
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.couriers.ledger
    }

    /// Passes all that an estate has.
    fn carry(&mut self, estate: Estate) {
        let contents = estate.kept.contents(estate.is_doubtful);
        let redelivered = contents.messages.iter().filter(|message| message.is_redelivered).count() as u64;
        let messages = contents.messages.len() as u64;
        let mut bytes = Vec::new();
        for message in &contents.messages {
            if !estate.kept.read(message, &mut bytes) {
                self.ledger().count(|counts| counts.unreadable += 1);
                continue;
            }
            if let Err(error) = self.pass(&bytes, message.is_redelivered, message.committed_ns) {
                // Whatever was passed may have been received: all of it goes again, marked.
                self.under_way.push(UnderWay { estate, messages: 0, redelivered: 0 });
                return self.begin_anew(&error);
            }
        }
        if faults::is(Fault::ForgetfulKeeper) {
            return self.ledger().count(|counts| counts.left = counts.left.saturating_sub(messages));
        }
        self.under_way.push(UnderWay { estate, messages, redelivered });
        self.settle();
    }

    /// Passes one message, however long that takes.
    ///
    /// # Errors
    /// The session is of no use any more, or the keeper ends.
    fn pass(&mut self, message: &[u8], is_redelivered: bool, committed_ns: u64) -> Result<()> {
        loop {
            if self.ledger().is_over() {
                return Err(ended());
            }
            let Some(mut sender) = self.sender.take() else {
                self.sender = self.connect()?;
                continue;
            };
            let made = sender.make_room(message.len(), Deadline::after(SLICE));
            if made.is_ok() {
                sender.producer.put_of_another(message, is_redelivered, committed_ns);
            }
            self.sender = Some(sender);
            match made {
                Ok(()) => {
                    self.told = None;
                    return Ok(());
                }
                Err(error) => self.bear(error)?,
            }
        }
    }

    /// An error that may pass is waited out.
    ///
    /// # Errors
    /// It does not: a receiver that broke the protocol, or does not let the session of its predecessor in.
    fn bear(&mut self, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::TimedOut { .. } | ErrorKind::Full | ErrorKind::NotRunning => Ok(()),
            ErrorKind::Busy | ErrorKind::Io => {
                self.delay(&error);
                Ok(())
            }
            ErrorKind::CapacityExceeded { .. } => {
                // A receiver that takes longer ones may come: its session is to be asked for anew.
                self.delay(&error);
                let sender = self.sender.take();
                self.sender = sender.filter(|sender| sender.unacknowledged() > 0);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Tells what is in the way, once, and leaves it alone for a while.
    fn delay(&mut self, error: &Error) {
        if self.ledger().is_over() {
            return;
        }
        let why = error.to_string();
        if self.told.as_deref() != Some(&why) {
            self.ledger().tell(&KeeperEvent::Delayed { queue: self.address.0.clone(), why: why.clone() });
            self.told = Some(why);
        }
        self.ledger().pause(PAUSE);
    }

    /// A session with whoever has the name; `None`: not yet.
    fn connect(&mut self) -> Result<Option<Sender>> {
        let (queue, contract) = &self.address;
        let options =
            ConnectOptions::default().contract(contract.clone()).server_timeout(Duration::MAX).linger(Duration::ZERO);
        let mut search = ClientHandshake::begin(queue.as_os_str(), options.clone())?;
        while !self.ledger().is_over() {
            match search.wait(Some(Instant::now() + SLICE)) {
                Ok(Some(established)) => {
                    let producer = Producer::of_nobody(queue.as_os_str(), options, established);
                    return Sender::new(producer).map(Some);
                }
                Ok(None) => {}
                Err(error) => {
                    self.delay(&error);
                    return Ok(None);
                }
            }
        }
        Err(ended())
    }

    /// Waits for what was passed, for as long as nothing else is to be done.
    fn wait_for_acknowledgements(&mut self) {
        let Some(sender) = &mut self.sender else { return self.settle() };
        match sender.flush_within(Deadline::after(SLICE)) {
            Ok(()) => {}
            Err(error) => {
                if let Err(error) = self.bear(error) {
                    return self.begin_anew(&error);
                }
            }
        }
        self.settle();
    }

    /// Lets go of what was passed, if all of it is acknowledged.
    fn settle(&mut self) {
        let is_open = |sender: &mut Sender| !matches!(sender.is_all_acknowledged(), Ok(true));
        if self.sender.as_mut().is_some_and(is_open) {
            return;
        }
        for UnderWay { estate, messages, redelivered } in std::mem::take(&mut self.under_way) {
            drop(estate); // who sees that nothing is left sees that the memory is gone
            self.ledger().count(|counts| {
                counts.carried += messages;
                counts.redelivered += redelivered;
                counts.left = counts.left.saturating_sub(messages);
            });
            let queue = self.address.0.clone();
            self.ledger().tell(&KeeperEvent::HandedOn { queue, messages, redelivered });
        }
    }

    /// The session is of no use: all that is not acknowledged goes anew, marked, to the next one.
    fn begin_anew(&mut self, error: &Error) {
        if let Some(mut sender) = self.sender.take() {
            sender.producer.leave();
        }
        let estates = std::mem::take(&mut self.under_way).into_iter();
        let doubtful = estates.map(|UnderWay { estate, .. }| Estate { is_doubtful: true, ..estate }).collect();
        self.couriers.give_back(&self.address, doubtful);
        self.delay(error);
    }
}

/// The keeper ends.
fn ended() -> Error {
    Error::new(ErrorKind::NotRunning, "the keeper ends")
}
