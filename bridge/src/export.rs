//! Services of this machine for bridges elsewhere.
//!
//! What each failure does:
//!
//! | what happens | what becomes of calls |
//! |---|---|
//! | the server behind it dies | each is answered with what the local client knows: not begun goes on at its successor, begun may have been executed |
//! | the importer is gone, or the network | the link ends after its time; its calls are given up, and no answer reaches anybody |
//! | a request comes twice | the second is counted and dropped: the first one's answer is the answer |
//! | a message cannot be read, or breaks a rule | its link ends, and no other |
//! | an importer asks for more than its credits | that call is refused, not executed |
//! | the publisher behind it ends or dies | importers are told, behind its last message; its successor has links of its own |
//! | a link is too slow for a publisher | the oldest messages that wait for it are let go of; its numbers tell |
//! | this process ends in order | new calls are refused, not executed; those under way are answered first |
//! | this process is killed | its key has nobody behind it any more; importers tell their callers "maybe" |

mod broadcast;
mod calls;
mod messages;

pub(crate) use calls::kind_may_be_executed;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use wigwag::observe::{Observer, Service};
use wigwag::{Contract, Encoding, ErrorKind, Form};
use zenoh::Wait as _;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Locality, Sample};

use crate::engine::Engine;
use crate::export::broadcast::Broadcast;
use crate::export::calls::Calls;
use crate::export::messages::{Messages, Stream, Streams};
use crate::fault::Fault;
use crate::keys::{self, Exporter};
use crate::log::{self, Seldom};
use crate::outlet::Outlet;
use crate::settings::ExportSettings;
use crate::status::{Counters, ExportStatus, LinkStatus, count, short};
use crate::window::Share;
use crate::wire::{Malformed, Message, Offer};

/// Links that are being made at a time.
const GREETINGS_MAX: usize = 32;

/// Sessions of a link with the local server: one for each of its threads, and no more than these.
const SESSIONS_MAX: usize = 16;

/// What is wrong with what is sent to a publisher.
const ONE_WAY: &str = "it is of calls or of a queue, and the link carries a broadcast, which goes one way";

/// How often links are looked at.
const SWEEP: Duration = Duration::from_millis(500);

/// A service of this machine for bridges elsewhere.
pub struct Export {
    engine: Arc<Engine>,
    settings: ExportSettings,
    links: Mutex<HashMap<u128, Arc<Link>>>,
    /// Attempts of importers that are under way, by their numbers.
    greetings: Mutex<HashSet<u128>>,
    /// What is known of each importer's messages, of a queue.
    streams: Streams,
    counters: Counters,
    is_draining: AtomicBool,
    seldom: Mutex<Seldom>,
    declared: Mutex<Option<Declared>>,
}

/// What other bridges see.
struct Declared {
    _subscriber: Subscriber<()>,
    token: LivelinessToken,
}

/// One importer's link.
pub struct Link {
    id: u128,
    epoch: u128,
    bridge: u128,
    host: String,
    offer: Offer,
    outlet: Outlet,
    share: Share,
    work: Work,
    heard: Mutex<Instant>,
    is_over: AtomicBool,
    /// A call ended with the server's end: its successor may serve something else.
    is_doubtful: AtomicBool,
    export: Weak<Export>,
}

/// What a link carries.
enum Work {
    /// Of an exchange.
    Calls(Calls),
    /// Of a queue.
    Messages(Messages),
    /// Of a publisher.
    Broadcast(Box<Broadcast>),
}

impl Work {
    fn under_way(&self) -> usize {
        match self {
            Work::Calls(calls) => calls.under_way(),
            Work::Messages(messages) => messages.under_way(),
            Work::Broadcast(broadcast) => broadcast.waiting(),
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Export {
    /// Declares it. The service need not run yet.
    ///
    /// # Errors
    /// zenoh's.
    pub async fn start(engine: Arc<Engine>, settings: ExportSettings) -> anyhow::Result<Arc<Export>> {
        let export = Arc::new(Export {
            settings,
            links: Mutex::default(),
            greetings: Mutex::default(),
            streams: Streams::default(),
            counters: Counters::default(),
            is_draining: AtomicBool::new(false),
            seldom: Mutex::default(),
            declared: Mutex::default(),
            engine,
        });
        let (engine, public) = (&export.engine, export.settings.public());
        let here = Exporter { host: engine.host.clone(), bridge: engine.bridge };
        let failed = |error| anyhow!("zenoh does not let this bridge export {public}: {error}");
        let weak = Arc::downgrade(&export);
        let taken = move |sample: Sample| {
            if let Some(export) = weak.upgrade() {
                export.take(&sample.payload().to_bytes());
            }
        };
        let subscriber = engine.session.declare_subscriber(keys::inlet(&here, public));
        let subscriber = subscriber.allowed_origin(Locality::Remote).callback(taken).await.map_err(failed)?;
        // The token comes last: who sees it finds the subscriber.
        let token = keys::export(&here.host, public, here.bridge);
        let token = engine.session.liveliness().declare_token(token).await.map_err(failed)?;
        *lock(&export.declared) = Some(Declared { _subscriber: subscriber, token });
        tokio::spawn(sweep(Arc::downgrade(&export)));
        log::say(format_args!("export {}: offered to other machines as {public}", export.settings.name));
        Ok(export)
    }

    /// One message of an importer, on a thread of zenoh's: nothing here waits.
    fn take(self: &Arc<Self>, bytes: &[u8]) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(malformed) => return self.violated(&malformed),
        };
        let Some(id) = message.link() else {
            return match message {
                Message::Hello { epoch, bridge, stream, inbox, host } => {
                    self.greet(epoch, (bridge, stream), inbox, host)
                }
                _ => self.violated(&Malformed { link: None, why: "only exporters send it" }),
            };
        };
        let Some(link) = lock(&self.links).get(&id).cloned() else { return count(&self.counters.strays) };
        *lock(&link.heard) = Instant::now();
        let outcome = match message {
            Message::Whole { number, left_us, payload, .. } => match &link.work {
                Work::Calls(calls) => calls.whole(&link, number, left_us, payload),
                Work::Messages(messages) => messages.whole(&link, number, left_us, payload),
                Work::Broadcast(_) => Err(ONE_WAY),
            },
            Message::Start { number, left_us, len, piece, .. } => match &link.work {
                Work::Calls(calls) => calls.start(&link, number, left_us, len as usize, piece),
                Work::Messages(messages) => messages.start(&link, number, left_us, len as usize, piece),
                Work::Broadcast(_) => Err(ONE_WAY),
            },
            Message::Part { number, offset, piece, .. } => match &link.work {
                Work::Calls(calls) => calls.part(&link, number, offset as usize, piece),
                Work::Messages(messages) => messages.part(&link, number, offset as usize, piece),
                Work::Broadcast(_) => Err(ONE_WAY),
            },
            Message::Cancel { number, .. } | Message::Ask { number, .. } => match (&link.work, &message) {
                (Work::Calls(calls), Message::Cancel { .. }) => {
                    calls.cancel(&link, number);
                    Ok(())
                }
                (Work::Calls(calls), _) => {
                    calls.ask(&link, number);
                    Ok(())
                }
                (Work::Messages(_), _) => Err("it is of calls, and the link carries messages"),
                (Work::Broadcast(_), _) => Err(ONE_WAY),
            },
            Message::Grant { bytes, .. } => {
                link.share.grant(bytes as usize);
                Ok(())
            }
            Message::Ping { nonce, .. } => {
                if let Work::Broadcast(broadcast) = &link.work {
                    broadcast.begin();
                }
                link.outlet.control(&Message::Pong { link: id, nonce });
                Ok(())
            }
            Message::Bye { text, .. } => {
                self.end(&link, &format!("the importer ended it: {text}"), false);
                Ok(())
            }
            _ => Err("only exporters send it"),
        };
        if let Err(why) = outcome {
            self.violated(&Malformed { link: Some(id), why });
        }
    }

    /// Ends the link that a message belongs to, if it names one.
    fn violated(&self, malformed: &Malformed) {
        count(&self.counters.violations);
        let link = malformed.link.and_then(|link| lock(&self.links).get(&link).cloned());
        match link {
            Some(link) => self.end(&link, &malformed.to_string(), true),
            None => lock(&self.seldom).say(format_args!("export {}: {malformed}", self.settings.name)),
        }
    }

    /// An importer asks for a link.
    fn greet(self: &Arc<Self>, epoch: u128, (bridge, stream): (u128, u128), inbox: &str, host: &str) {
        // Answers go to inboxes and nowhere else, whatever an importer names.
        if inbox != keys::inbox(host, bridge) {
            return self.violated(&Malformed { link: None, why: "the inbox that it names is not its sender's" });
        }
        let known = lock(&self.links).values().find(|link| link.bridge == bridge && link.epoch == epoch).cloned();
        if let Some(link) = known {
            return link.welcome(); // the first answer was lost
        }
        {
            let mut greetings = lock(&self.greetings);
            if greetings.len() >= GREETINGS_MAX || !greetings.insert(epoch) {
                return; // it asks again
            }
        }
        let (export, inbox, host) = (Arc::clone(self), inbox.to_owned(), host.to_owned());
        self.engine.runtime.spawn(async move {
            match export.link(epoch, (bridge, stream), &inbox, &host).await {
                Ok(link) => {
                    log::say(format_args!(
                        "export {}: linked to bridge {} on {host}: up to {} calls at a time, payloads up to {} bytes",
                        export.settings.name,
                        short(bridge),
                        link.offer.calls,
                        link.offer.capacity
                    ));
                    link.welcome();
                }
                Err(fault) => {
                    if let Ok(outlet) = Outlet::new(&export.engine.session, &inbox) {
                        outlet.control(&Message::Denied { epoch, fault });
                    }
                }
            }
            lock(&export.greetings).remove(&epoch);
        });
    }

    async fn link(
        self: &Arc<Self>,
        epoch: u128,
        (bridge, stream): (u128, u128),
        inbox: &str,
        host: &str,
    ) -> Result<Arc<Link>, Fault> {
        let name = self.settings.name.clone();
        if self.is_draining.load(Ordering::Acquire) {
            let kind = ErrorKind::ServerClosed { maybe_executed: false };
            return Err(Fault::new(kind, "the exporting bridge is about to end"));
        }
        self.check_room(&lock(&self.links), bridge)?;
        let not_running = |error: &dyn std::fmt::Display| Fault::new(ErrorKind::NotRunning, error.to_string());
        let looked = name.clone();
        let observed = tokio::task::spawn_blocking(move || Observer::open(&looked)).await;
        let observed = observed.map_err(|error| not_running(&error))?.map_err(|error| not_running(&error))?;
        let service = observed.service();
        let threads = observed.snapshot().map_or(1, |snapshot| snapshot.threads.len());
        let (work, offer) = match service.form {
            Form::Exchange => self.calls_of(&name, service, threads).await?,
            Form::Queue => self.messages_of(&name, service, stream).await?,
            Form::Broadcast => self.broadcast_of(&name, service).await?,
            form => {
                let sentence = format!("{name} is a {form:?}, which this version does not carry to another machine");
                return Err(Fault::new(ErrorKind::Refused, sentence));
            }
        };
        let outlet = Outlet::new(&self.engine.session, inbox).map_err(|error| not_running(&error))?;
        let link = Arc::new(Link {
            id: keys::draw().map_err(|error| not_running(&error))?,
            epoch,
            bridge,
            host: host.to_owned(),
            outlet,
            share: self.engine.windows.share(bridge),
            work,
            offer,
            heard: Mutex::new(Instant::now()),
            is_over: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
            export: Arc::downgrade(self),
        });
        {
            let mut links = lock(&self.links);
            self.check_room(&links, bridge)?; // others may have come meanwhile
            links.insert(link.id, Arc::clone(&link));
        }
        match &link.work {
            Work::Calls(_) => {}
            Work::Messages(messages) => messages.answer_on(&link),
            Work::Broadcast(broadcast) => broadcast.carry(&link),
        }
        count(&self.counters.links_made);
        Ok(link)
    }

    /// Sessions with the local server of an exchange.
    async fn calls_of(&self, name: &str, service: &Service, threads: usize) -> Result<(Work, Offer), Fault> {
        let contract = &service.contract;
        let capacity = (service.limits.capacity as usize).min(self.settings.capacity);
        let fitting = (service.limits.bytes_per_session as usize / 2 / capacity.max(1)).max(1);
        let slots = (service.limits.slots as usize).min(self.settings.calls).min(fitting).max(1);
        let mut clients = Vec::new();
        for _ in 0..threads.clamp(1, SESSIONS_MAX.min(self.settings.calls)) {
            let client = wigwag::Client::builder()
                .contract(contract.clone())
                .slots(slots)
                .capacity(capacity)
                .follow_restarts(self.engine.settings.server_timeout)
                .connect_async(name)
                .await;
            match client {
                Ok(client) => clients.push(client),
                Err(_) if !clients.is_empty() => break, // fewer will do
                Err(error) => return Err(Fault::of(&error)),
            }
        }
        let calls = clients.iter().map(wigwag::tokio::Client::slots).sum::<usize>().min(self.settings.calls);
        let capacity = clients.iter().map(wigwag::tokio::Client::capacity).min().unwrap_or(0);
        let offer = Offer { capacity: capacity as u32, calls: calls as u32, ..offered(contract) };
        Ok((Work::Calls(Calls::new(clients, calls, capacity)), offer))
    }

    /// The sender of an importer's messages, which outlives its links.
    async fn messages_of(
        self: &Arc<Self>,
        name: &str,
        service: &Service,
        stream: u128,
    ) -> Result<(Work, Offer), Fault> {
        let capacity = (service.limits.capacity as usize).min(self.settings.capacity);
        let stream = Stream::find_or_begin(self, name, &service.contract, stream, capacity).await?;
        let (capacity, calls) = (stream.capacity, self.settings.calls);
        let offer = Offer { form: 1, capacity: capacity as u32, calls: calls as u32, ..offered(&service.contract) };
        Ok((Work::Messages(Messages::new(stream, calls, capacity)), offer))
    }

    /// A subscriber of a publisher, for one link.
    async fn broadcast_of(&self, name: &str, service: &Service) -> Result<(Work, Offer), Fault> {
        let broadcast = Broadcast::subscribe(name, &service.contract, self.settings.capacity).await?;
        let offer = Offer {
            form: Form::Broadcast as u8,
            capacity: broadcast.capacity as u32,
            calls: 1,
            epoch: broadcast.epoch,
            first: broadcast.first,
            history: broadcast.history as u32,
            ..offered(&service.contract)
        };
        Ok((Work::Broadcast(Box::new(broadcast)), offer))
    }

    /// Whether a bridge may have one more link.
    fn check_room(&self, links: &HashMap<u128, Arc<Link>>, bridge: u128) -> Result<(), Fault> {
        let settings = &self.engine.settings;
        let full = |what: &str, limit: usize| {
            let text = format!("{} has {limit} links {what}, which is the limit of its bridge", self.settings.public());
            Err(Fault::new(ErrorKind::Full, text))
        };
        if links.values().filter(|link| link.bridge == bridge).count() >= settings.links_per_bridge {
            return full("of this importer", settings.links_per_bridge);
        }
        if links.len() >= settings.links { full("already", settings.links) } else { Ok(()) }
    }

    /// Ends a link, and gives its calls up.
    fn end(&self, link: &Arc<Link>, why: &str, is_lost: bool) {
        if lock(&self.links).remove(&link.id).is_none() {
            return;
        }
        link.is_over.store(true, Ordering::Release);
        link.share.close();
        match &link.work {
            Work::Calls(calls) => calls.give_up(),
            Work::Messages(_) => {} // of the stream, which goes on
            Work::Broadcast(broadcast) => broadcast.end(),
        }
        link.outlet.control(&Message::Bye { link: link.id, is_draining: false, text: why });
        if is_lost {
            count(&self.counters.links_lost);
        }
        log::say(format_args!(
            "export {}: the link to bridge {} on {} has ended: {why}",
            self.settings.name,
            short(link.bridge),
            link.host
        ));
    }

    /// Takes no new call from now on, and waits for those under way, for as long as is allowed.
    pub async fn drain(&self, until: Instant) {
        self.is_draining.store(true, Ordering::Release);
        let text = "the exporting bridge is about to end";
        for link in lock(&self.links).values() {
            link.outlet.control(&Message::Bye { link: link.id, is_draining: true, text });
        }
        while Instant::now() < until && lock(&self.links).values().any(|link| link.work.under_way() > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let links: Vec<_> = lock(&self.links).values().cloned().collect();
        links.iter().for_each(|link| self.end(link, text, false));
        let declared = lock(&self.declared).take();
        if let Some(declared) = declared {
            let _ = declared.token.undeclare().wait();
        }
    }

    /// What is told of it.
    pub fn status(&self) -> ExportStatus {
        let links = lock(&self.links);
        let link = |link: &Arc<Link>| LinkStatus {
            host: link.host.clone(),
            bridge: short(link.bridge),
            under_way: link.work.under_way(),
            calls: link.offer.calls as usize,
            capacity: link.offer.capacity as usize,
            round_trip_us: None,
        };
        ExportStatus {
            name: self.settings.name.clone(),
            public: self.settings.public().to_owned(),
            links: links.values().map(link).collect(),
            counts: self.counters.read(),
        }
    }
}

impl Link {
    fn welcome(&self) {
        self.outlet.control(&Message::Welcome { epoch: self.epoch, link: self.id, offer: self.offer.clone() });
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// A contract as it is offered.
fn offered(contract: &Contract) -> Offer {
    Offer {
        form: 0,
        contract: contract.name().to_owned(),
        version: contract.version(),
        size: contract.size(),
        align: contract.align(),
        encoding: u8::from(contract.encoding() == Encoding::Postcard),
        capacity: 0,
        calls: 0,
        epoch: 0,
        first: 0,
        history: 0,
    }
}

/// The contract of an offer alone.
fn offered_contract(offer: &Offer) -> Offer {
    Offer { form: 0, capacity: 0, calls: 0, epoch: 0, first: 0, history: 0, ..offer.clone() }
}

/// Ends links that gave no sign of life, or whose payloads stopped coming.
async fn sweep(export: Weak<Export>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(export) = export.upgrade() else { return };
        let limit = export.engine.settings.link_timeout;
        let links: Vec<_> = lock(&export.links).values().cloned().collect();
        for link in links {
            let silence = lock(&link.heard).elapsed();
            if silence > limit {
                let why = format!("no sign of life for {:.1} s", silence.as_secs_f64());
                export.end(&link, &why, true);
            } else if matches!(&link.work, Work::Calls(calls) if calls.has_stalled(limit)) {
                export.end(&link, "a payload stopped coming, so something of it was lost", true);
            } else if link.is_doubtful.swap(false, Ordering::AcqRel) {
                let name = export.settings.name.clone();
                let looked = tokio::task::spawn_blocking(move || Observer::open(&name)).await;
                if let Ok(Ok(observer)) = looked
                    && offered(&observer.service().contract) != offered_contract(&link.offer)
                {
                    export.end(&link, "the service is another one now, with another contract", false);
                }
            }
        }
    }
}
