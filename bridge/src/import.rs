//! Names of this machine for services elsewhere.
//!
//! What each failure does:
//!
//! | what happens | what the local caller is told |
//! |---|---|
//! | there is no link | `NotRunning`: nothing was sent |
//! | the link is lost before a call's first byte was put | `NotRunning`: nothing was sent |
//! | the link is lost later, for whatever reason | `PeerDied`, may have been executed |
//! | the exporter refuses, or its server was not reached | the exporter's error, not executed |
//! | the far handler fails or panics | its text |
//! | the far server dies | what the exporter's client knows of this call |
//! | the caller's time is over | `TimedOut`, as of any call; the far side is told that nobody waits |
//! | an answer is lost while its link lives | `PeerDied`, may have been executed, after the exporter was asked twice |
//! | an answer comes for a call that is over | nobody is told; it is counted |
//! | messages of a broadcast are lost on the way | the next one says how many, as of any publisher |
//! | this process is killed | the local library's `PeerDied` |
//!
//! A call is put once. Which exporter: of those that are there, the one whose machine's name is first, then whose
//! number is; and that one stays until its link ends.

mod broadcast;
mod calls;
mod link;
mod messages;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use wigwag::{Contract, Encoding, ErrorKind, Form, ShutdownHandle};
use zenoh::Wait as _;
use zenoh::pubsub::Subscriber;
use zenoh::sample::{Locality, Sample, SampleKind};

use crate::engine::Engine;
use crate::export::lock;
use crate::fault::Fault;
use crate::import::broadcast::Broadcast;
use crate::import::link::Link;
use crate::import::messages::Messages;
use crate::keys::{self, Exporter};
use crate::log::{self, Seldom};
use crate::outlet::Outlet;
use crate::settings::ImportSettings;
use crate::status::{Counters, ImportStatus, count, short};
use crate::wire::{Message, Offer};

/// How long an exporter may take to answer a greeting.
const GREETING: Duration = Duration::from_secs(2);

/// A link that has lasted so long is no failed attempt.
const LASTING: Duration = Duration::from_secs(2);

/// The pauses between attempts.
const PAUSES_MS: [u64; 6] = [50, 100, 200, 500, 1000, 2000];

/// What an exporter answers: the link's number and what it serves.
type Greeted = Result<(u128, Offer), Fault>;

/// What comes from exporters, for all imports of this process.
#[derive(Default)]
pub struct Inbox {
    links: Mutex<HashMap<u128, Weak<Link>>>,
    greetings: Mutex<HashMap<u128, oneshot::Sender<Greeted>>>,
    seldom: Mutex<Seldom>,
}

impl Inbox {
    /// Declares it.
    ///
    /// # Errors
    /// zenoh's.
    pub async fn open(engine: &Engine) -> anyhow::Result<(Arc<Inbox>, Subscriber<()>)> {
        let inbox = Arc::new(Inbox::default());
        let weak = Arc::downgrade(&inbox);
        let taken = move |sample: Sample| {
            if let Some(inbox) = weak.upgrade() {
                inbox.take(&sample.payload().to_bytes());
            }
        };
        let subscriber = engine.session.declare_subscriber(keys::inbox(&engine.host, engine.bridge));
        let subscriber = subscriber.allowed_origin(Locality::Remote).callback(taken).await;
        Ok((inbox, subscriber.map_err(|error| anyhow!("zenoh does not let this bridge import: {error}"))?))
    }

    /// One message of an exporter, on a thread of zenoh's: nothing here waits.
    fn take(&self, bytes: &[u8]) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(malformed) => {
                match malformed.link.and_then(|link| self.link(link)) {
                    Some(link) => link.violated(malformed.why),
                    None => lock(&self.seldom).say(format_args!("an exporter sent {malformed}")),
                }
                return;
            }
        };
        match message {
            Message::Welcome { epoch, link, offer } => self.greeted(epoch, Ok((link, offer))),
            Message::Denied { epoch, fault } => self.greeted(epoch, Err(fault)),
            message => {
                if let Some(link) = message.link().and_then(|link| self.link(link)) {
                    link.take(message);
                }
            }
        }
    }

    fn link(&self, id: u128) -> Option<Arc<Link>> {
        lock(&self.links).get(&id)?.upgrade()
    }

    fn greeted(&self, epoch: u128, outcome: Greeted) {
        if let Some(waits) = lock(&self.greetings).remove(&epoch) {
            let _ = waits.send(outcome);
        }
    }

    /// Takes a link in, and the ones out that are gone.
    fn add(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        links.retain(|_, link| link.strong_count() > 0);
        links.insert(link.id, Arc::downgrade(link));
    }
}

/// A name of this machine for a service elsewhere.
pub struct Import {
    engine: Arc<Engine>,
    settings: ImportSettings,
    inbox: Arc<Inbox>,
    exporters: watch::Sender<BTreeSet<Exporter>>,
    /// Where new calls go.
    current: watch::Sender<Option<Arc<Link>>>,
    counters: Counters,
    state: Mutex<State>,
    /// The number of this import, which exporters of a queue know it by.
    stream: u128,
    messages: Messages,
    broadcast: Broadcast,
}

#[derive(Default)]
struct State {
    sentence: String,
    contract: Option<Contract>,
}

/// The local name while it is served.
struct Served {
    form: u8,
    contract: Contract,
    stop: ShutdownHandle,
    task: JoinHandle<()>,
}

impl Import {
    /// Serves until it is told to stop, and then answers what is under way, for as long as is allowed.
    ///
    /// # Errors
    /// zenoh's.
    pub async fn start(
        engine: Arc<Engine>,
        settings: ImportSettings,
        inbox: Arc<Inbox>,
        stop: watch::Receiver<Option<Instant>>,
    ) -> anyhow::Result<(Arc<Import>, JoinHandle<()>)> {
        let import = Arc::new(Import {
            inbox,
            exporters: watch::channel(BTreeSet::new()).0,
            current: watch::channel(None).0,
            counters: Counters::default(),
            state: Mutex::default(),
            stream: keys::draw()?,
            messages: Messages::default(),
            broadcast: Broadcast::default(),
            settings,
            engine,
        });
        import.say("no exporter is known yet");
        let weak = Arc::downgrade(&import);
        let seen = move |sample: Sample| {
            if let (Some(import), Some(exporter)) = (weak.upgrade(), keys::exporter_of(sample.key_expr().as_str())) {
                import.seen(exporter, sample.kind() == SampleKind::Put);
            }
        };
        let tokens = keys::exports(import.settings.host.as_deref(), &import.settings.name);
        let liveliness = import.engine.session.liveliness();
        let subscriber = liveliness.declare_subscriber(tokens).history(true).callback(seen);
        let subscriber = subscriber.await.map_err(|error| anyhow!("zenoh does not let this bridge look: {error}"))?;
        let task = tokio::spawn({
            let import = Arc::clone(&import);
            async move {
                import.run(stop).await;
                let _ = subscriber.undeclare().wait();
            }
        });
        Ok((import, task))
    }

    /// An exporter has come, or has gone: then its link is lost.
    fn seen(&self, exporter: Exporter, is_there: bool) {
        if exporter.bridge == self.engine.bridge {
            return; // a bridge does not call itself
        }
        self.exporters.send_if_modified(|exporters| match is_there {
            true => exporters.insert(exporter.clone()),
            false => exporters.remove(&exporter),
        });
        if !is_there {
            let links: Vec<_> = lock(&self.inbox.links).values().filter_map(Weak::upgrade).collect();
            for link in links.iter().filter(|link| link.exporter == exporter && link.is_of(self)) {
                link.lose("the exporting bridge is gone, or the network to it");
            }
        }
    }

    async fn run(self: Arc<Self>, mut stop: watch::Receiver<Option<Instant>>) {
        let mut served: Option<Served> = None;
        let mut failures = 0_usize;
        let mut exporters = self.exporters.subscribe();
        loop {
            let link = tokio::select! {
                biased;
                Ok(_) = stop.wait_for(Option::is_some) => break,
                link = self.make_link(&mut exporters, &mut served) => link,
            };
            if let Some(link) = link {
                let began = Instant::now();
                self.use_link(&link, &mut stop).await;
                if stop.borrow().is_some() {
                    break;
                }
                if began.elapsed() > LASTING {
                    failures = 0;
                    continue;
                }
            }
            let pause = Duration::from_millis(PAUSES_MS[failures.min(PAUSES_MS.len() - 1)]);
            failures += 1;
            tokio::select! {
                biased;
                Ok(_) = stop.wait_for(Option::is_some) => break,
                Ok(()) = exporters.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        let until = stop.borrow().unwrap_or_else(Instant::now);
        self.end(served, until).await;
    }

    /// A link to the first exporter that gives one. `None`: none does just now.
    async fn make_link(
        self: &Arc<Self>,
        exporters: &mut watch::Receiver<BTreeSet<Exporter>>,
        served: &mut Option<Served>,
    ) -> Option<Arc<Link>> {
        if exporters.borrow_and_update().is_empty() {
            if lock(&self.state).contract.is_some() {
                self.say("no exporter is there");
            }
            exporters.wait_for(|exporters| !exporters.is_empty()).await.ok()?;
        }
        let known: Vec<_> = exporters.borrow_and_update().iter().cloned().collect();
        for exporter in known {
            match self.greet(&exporter).await {
                Ok((id, offer, outlet)) => {
                    // It is there before anybody can call.
                    let link = Link::new(self, id, exporter, &offer, outlet);
                    self.inbox.add(&link);
                    self.current.send_replace(Some(Arc::clone(&link)));
                    match self.serve(&link, &offer, served).await {
                        Ok(()) => return Some(link),
                        Err(sentence) => {
                            self.say(&sentence);
                            self.current.send_replace(None);
                            link.leave(&sentence);
                        }
                    }
                }
                Err(fault) => {
                    let (host, bridge) = (&exporter.host, short(exporter.bridge));
                    self.say(&format!("bridge {bridge} on {host} gives no link: {}", fault.text));
                }
            }
        }
        None
    }

    /// Asks an exporter for a link.
    async fn greet(&self, exporter: &Exporter) -> Result<(u128, Offer, Outlet), Fault> {
        let lost = |error: &dyn std::fmt::Display| Fault::new(ErrorKind::NotRunning, error.to_string());
        let inlet = keys::inlet(exporter, &self.settings.name);
        let outlet = Outlet::new(&self.engine.session, &inlet).map_err(|error| lost(&error))?;
        let epoch = keys::draw().map_err(|error| lost(&error))?;
        let (waits, mut told) = oneshot::channel();
        lock(&self.inbox.greetings).insert(epoch, waits);
        let host = &self.engine.host;
        let inbox = keys::inbox(host, self.engine.bridge);
        let hello = Message::Hello { epoch, bridge: self.engine.bridge, stream: self.stream, inbox: &inbox, host };
        let outcome = tokio::time::timeout(GREETING, async {
            loop {
                outlet.control(&hello);
                // It may be lost as long as zenoh has not told everybody who subscribes.
                match tokio::time::timeout(Duration::from_millis(200), &mut told).await {
                    Ok(outcome) => return outcome.unwrap_or_else(|error| Err(lost(&error))),
                    Err(_) => continue,
                }
            }
        })
        .await;
        lock(&self.inbox.greetings).remove(&epoch);
        let (link, offer) = outcome.unwrap_or_else(|_| Err(lost(&"it does not answer")))?;
        Ok((link, offer, outlet))
    }

    /// Serves the local name with what was offered, unless it is served so already.
    async fn serve(self: &Arc<Self>, link: &Link, offer: &Offer, served: &mut Option<Served>) -> Result<(), String> {
        let contract = contract_of(offer)?;
        let local = self.settings.local();
        let capacity = (offer.capacity as usize).min(self.settings.capacity);
        let failed = |error| format!("it cannot be served as {local}: {error}");
        if served.as_ref().is_some_and(|served| {
            (served.form, &served.contract) == (offer.form, &contract) && !served.task.is_finished()
        }) {
            return Ok(());
        }
        if let Some(old) = served.take() {
            old.stop.shutdown();
            if old.form != 0 {
                old.task.abort(); // messages of another contract go back to their senders
            }
            let _ = old.task.await;
        }
        if offer.form == Form::Broadcast as u8 {
            self.broadcast.open(local, &contract, offer, capacity, link.id).map_err(failed)?;
            lock(&self.state).contract = Some(contract);
            return Ok(());
        }
        self.broadcast.close();
        let (stop, task) = if offer.form == 0 {
            let server = wigwag::Server::builder().contract(contract.clone()).capacity(capacity);
            let server = server.slots((offer.calls as usize).clamp(1, self.settings.calls));
            let server = server.bind_async(local).map_err(failed)?;
            (server.shutdown_handle(), tokio::spawn(calls::serve(Arc::clone(self), server)))
        } else {
            let receiver = wigwag::Receiver::builder().contract(contract.clone()).capacity(capacity);
            let receiver = receiver.bind_async(local).map_err(failed)?;
            (receiver.shutdown_handle(), tokio::spawn(messages::serve(Arc::clone(self), receiver)))
        };
        lock(&self.state).contract = Some(contract.clone());
        *served = Some(Served { form: offer.form, contract, stop, task });
        Ok(())
    }

    /// Sends new calls over a link until it is lost or takes no more.
    async fn use_link(self: &Arc<Self>, link: &Arc<Link>, stop: &mut watch::Receiver<Option<Instant>>) {
        count(&self.counters.links_made);
        let Exporter { host, bridge } = &link.exporter;
        self.say(&format!("linked to bridge {} on {host}", short(*bridge)));
        tokio::spawn(Arc::clone(link).watch());
        // Its token may have gone before the inbox knew the link.
        if !self.exporters.borrow().contains(&link.exporter) {
            link.lose("the exporting bridge is gone, or the network to it");
        }
        tokio::select! {
            Ok(_) = stop.wait_for(Option::is_some) => return,
            why = link.closed() => {
                self.say(&format!("the link to bridge {} on {host} has ended: {why}", short(*bridge)));
            }
        }
        self.current.send_replace(None);
    }

    /// Takes no new call, answers those under way, and gives the name up.
    async fn end(&self, served: Option<Served>, until: Instant) {
        if let Some(served) = served {
            served.stop.shutdown(); // what was passed by now is served, and answered
            let task = served.task.abort_handle();
            if tokio::time::timeout_at(until.into(), served.task).await.is_err() {
                task.abort();
            }
        }
        if let Some(link) = self.current.send_replace(None) {
            link.leave("the importing bridge ends");
        }
        self.broadcast.close();
    }

    /// Calls under way, of all its links.
    fn under_way(&self) -> usize {
        let links: Vec<_> = lock(&self.inbox.links).values().filter_map(Weak::upgrade).collect();
        links.iter().filter(|link| link.is_of(self)).map(|link| link.under_way()).sum()
    }

    /// Says what is new, once.
    fn say(&self, sentence: &str) {
        let mut state = lock(&self.state);
        if state.sentence != sentence {
            state.sentence = sentence.to_owned();
            log::say(format_args!("import {}: {sentence}", self.settings.local()));
        }
    }

    /// What is told of it.
    pub fn status(&self) -> ImportStatus {
        let link = self.current.borrow().clone();
        let state = lock(&self.state);
        let used = link.as_ref().map(|link| link.exporter.clone());
        let standby = self
            .exporters
            .borrow()
            .iter()
            .filter(|exporter| Some(*exporter) != used.as_ref())
            .map(|Exporter { host, bridge }| format!("{host} ({})", short(*bridge)))
            .collect();
        ImportStatus {
            public: self.settings.name.clone(),
            name: self.settings.local().to_owned(),
            state: state.sentence.clone(),
            contract: state.contract.as_ref().map(Contract::to_string),
            link: link.map(|link| link.status()),
            standby,
            counts: self.counters.read(),
        }
    }
}

/// The contract that is offered, as the local server has it: clients are compared with it as with the far server's.
fn contract_of(offer: &Offer) -> Result<Contract, String> {
    if ![Form::Exchange, Form::Queue, Form::Broadcast].map(|form| form as u8).contains(&offer.form) {
        return Err(format!("it is of a form (number {}) that this version does not import", offer.form));
    }
    let encoding = match offer.encoding {
        0 => Encoding::MessagePack,
        1 => Encoding::Postcard,
        other => return Err(format!("its values are encoded in a way (number {other}) that is not known")),
    };
    let contract = Contract::named(&offer.contract, offer.version).with_layout(offer.size, offer.align);
    Ok(contract.in_encoding(encoding))
}
