//! One link to an exporter: its signs of life, its end, and whose answer a message is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use wigwag::Form;

use crate::export::lock;
use crate::import::Import;
use crate::import::calls::Calls;
use crate::keys::Exporter;
use crate::outlet::Outlet;
use crate::status::{LinkStatus, count, short};
use crate::window::Share;
use crate::wire::{Message, Offer};

/// How often callers are looked after who may have given up.
const LOOK: Duration = Duration::from_millis(50);

/// How often a sign of life is asked for.
const PING: Duration = Duration::from_millis(500);

/// A link to an exporter.
pub struct Link {
    pub id: u128,
    pub exporter: Exporter,
    pub outlet: Outlet,
    pub share: Share,
    /// A permit for each call that the exporter takes at a time.
    pub credits: Arc<Semaphore>,
    pub calls: Calls,
    limit: Duration,
    /// Calls or messages that may be under way.
    pub most: usize,
    capacity: usize,
    is_broadcast: bool,
    /// Why it takes no new calls.
    closed: watch::Sender<Option<String>>,
    heard: Mutex<Heard>,
    quickest_us: AtomicU64,
    import: Weak<Import>,
}

struct Heard {
    at: Instant,
    nonce: u64,
    asked: Instant,
    is_answered: bool,
    round_trip: Option<Duration>,
}

impl Link {
    /// With what the exporter offers, within what this side allows.
    pub fn new(import: &Arc<Import>, id: u128, exporter: Exporter, offer: &Offer, outlet: Outlet) -> Arc<Link> {
        let most = (offer.calls as usize).clamp(1, import.settings.calls);
        let now = Instant::now();
        Arc::new(Link {
            id,
            outlet,
            share: import.engine.windows.share(exporter.bridge),
            exporter,
            credits: Arc::new(Semaphore::new(most)),
            calls: Calls::default(),
            limit: import.engine.settings.link_timeout,
            most,
            capacity: offer.capacity as usize,
            is_broadcast: offer.form == Form::Broadcast as u8,
            closed: watch::channel(None).0,
            heard: Mutex::new(Heard { at: now, nonce: 0, asked: now, is_answered: true, round_trip: None }),
            quickest_us: AtomicU64::new(u64::MAX),
            import: Arc::downgrade(import),
        })
    }

    /// Whether it is a link of this import.
    pub fn is_of(&self, import: &Import) -> bool {
        std::ptr::eq(self.import.as_ptr(), import)
    }

    /// The import, while there is one.
    pub fn import(&self) -> Option<Arc<Import>> {
        self.import.upgrade()
    }

    /// One message of the exporter.
    pub fn take(self: &Arc<Self>, message: Message<'_>) {
        lock(&self.heard).at = Instant::now();
        let outcome = match message {
            Message::Whole { number, payload, .. } => self.calls.reply(self, number, payload),
            Message::Several { .. } | Message::Ended { .. } | Message::Start { .. } | Message::Part { .. }
                if self.is_broadcast =>
            {
                self.publish(message)
            }
            Message::Start { number, len, piece, .. } => self.calls.start(self, number, len as usize, piece),
            Message::Part { number, offset, piece, .. } => self.calls.part(self, number, offset as usize, piece),
            Message::Failed { number, fault, .. } => {
                self.calls.failed(self, number, fault);
                Ok(())
            }
            Message::Ack { number, .. } => {
                if let Some(import) = self.import() {
                    import.messages.acknowledge(&import, number);
                }
                Ok(())
            }
            Message::Grant { bytes, .. } => {
                self.share.grant(bytes as usize);
                Ok(())
            }
            Message::Pong { nonce, .. } => {
                self.measure(nonce);
                Ok(())
            }
            Message::Bye { is_draining: true, text, .. } => {
                self.close(text);
                Ok(())
            }
            Message::Bye { text, .. } => {
                self.lose(text);
                Ok(())
            }
            _ => Err("only importers send it, or a link of another form has it"),
        };
        if let Err(why) = outcome {
            self.violated(why);
        }
    }

    /// Of a broadcast.
    fn publish(self: &Arc<Self>, message: Message<'_>) -> Result<(), &'static str> {
        let Some(import) = self.import() else { return Ok(()) };
        match message {
            Message::Several { messages, .. } => import.broadcast.several(self, messages),
            Message::Start { number, len, piece, .. } => import.broadcast.start(self, number, len as usize, piece),
            Message::Part { number, offset, piece, .. } => import.broadcast.part(self, number, offset as usize, piece),
            Message::Ended { number, is_in_order, .. } => {
                import.broadcast.ended(self, number, is_in_order)?;
                self.leave(match is_in_order {
                    true => "the publisher has ended the broadcast",
                    false => "the publisher is gone without a farewell",
                });
                Ok(())
            }
            _ => Err("it is not of a broadcast"),
        }
    }

    fn measure(&self, nonce: u64) {
        let mut heard = lock(&self.heard);
        if nonce == heard.nonce && !heard.is_answered {
            heard.is_answered = true;
            let round_trip = heard.asked.elapsed();
            heard.round_trip = Some(round_trip);
            self.quickest_us.fetch_min(round_trip.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// How long a message is on its way at least: half of the quickest round trip.
    pub fn way(&self) -> Duration {
        match self.quickest_us.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            quickest => Duration::from_micros(quickest / 2),
        }
    }

    /// The exporter sent what it must not: nothing of it is believed from here on.
    pub fn violated(self: &Arc<Self>, why: &str) {
        if let Some(import) = self.import() {
            count(&import.counters.violations);
        }
        let text = format!("the exporter broke the protocol: {why}");
        self.outlet.control(&Message::Bye { link: self.id, is_draining: false, text: &text });
        self.lose(&text);
    }

    /// It takes no new calls; those under way go on.
    fn close(&self, why: &str) -> bool {
        self.closed.send_if_modified(|closed| {
            let is_first = closed.is_none();
            closed.get_or_insert_with(|| why.to_owned());
            is_first
        })
    }

    /// It is lost: everything under way is told so.
    pub fn lose(self: &Arc<Self>, why: &str) {
        self.close(why);
        if self.calls.lose(self, why)
            && let Some(import) = self.import()
        {
            self.share.close();
            count(&import.counters.links_lost);
        }
    }

    /// This side ends it.
    pub fn leave(self: &Arc<Self>, why: &str) {
        self.outlet.control(&Message::Bye { link: self.id, is_draining: false, text: why });
        self.close(why);
        self.calls.lose(self, why);
        self.share.close();
    }

    /// Waits until it takes no new calls. Why.
    pub async fn closed(&self) -> String {
        let mut closed = self.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    /// Whether it takes no new calls.
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Calls under way.
    pub fn under_way(&self) -> usize {
        self.calls.under_way() + self.import().map_or(0, |import| import.messages.under_way(self.id))
    }

    /// Looks after it until it is lost, or closed with nothing under way.
    pub async fn watch(self: Arc<Self>) {
        loop {
            if self.calls.are_lost() {
                return;
            }
            if self.is_closed() && self.under_way() == 0 {
                return self.leave("no call is under way any more");
            }
            let now = Instant::now();
            let silence = now.duration_since(lock(&self.heard).at);
            if silence > self.limit {
                let why = format!("no sign of life for {:.1} s", silence.as_secs_f64());
                self.outlet.control(&Message::Bye { link: self.id, is_draining: false, text: &why });
                return self.lose(&why);
            }
            if let Some(nonce) = self.next_ping(now) {
                self.outlet.control(&Message::Ping { link: self.id, nonce });
            }
            self.calls.look_after(&self, self.limit);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The number of a ping that is due: after the pause, or, where the answer to the last one takes longer, before the
    /// exporter believes that nobody is here.
    fn next_ping(&self, now: Instant) -> Option<u64> {
        let mut heard = lock(&self.heard);
        let since = now.duration_since(heard.asked);
        if heard.nonce > 0 && since < if heard.is_answered { PING } else { self.limit / 4 } {
            return None;
        }
        (heard.nonce, heard.asked, heard.is_answered) = (heard.nonce + 1, now, false);
        Some(heard.nonce)
    }

    /// What is told of it.
    pub fn status(&self) -> LinkStatus {
        LinkStatus {
            host: self.exporter.host.clone(),
            bridge: short(self.exporter.bridge),
            under_way: self.under_way(),
            calls: self.most,
            capacity: self.capacity,
            round_trip_us: lock(&self.heard).round_trip.map(|time| time.as_micros() as u64),
        }
    }
}
