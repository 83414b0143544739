//! Servers: blocking, typed, and for tasks. The steps are written once, as a future: a blocking server's is ready at
//! its first poll.

use std::cell::Cell;
use std::time::Duration;

use wigwag::{Error, ErrorKind, Request, Server, ShutdownHandle, StatsHandle, TypedRequest, TypedServer};

use super::model::{HEAD, PANIC, decide, execute, fail, or_panic};
use crate::history::act::{Actor, catch_planned, forked, planned, poll_once, runtime, within};
use crate::history::dialect::{Block, Dialect, Parcel};
use crate::history::plan::{Face, Fate, Fork, Home, How, Step};
use crate::history::stage::Word;

/// A server of one of the faces.
enum Service {
    Blocking(Server),
    Typed(Box<dyn Typed>),
    Tasks(wigwag::tokio::Server),
}

/// A typed server of any of the types.
trait Typed {
    fn serve(&mut self, actor: &Actor, several: usize) -> wigwag::Result<()>;
    fn take(&mut self, how: How) -> wigwag::Result<Option<Request>>;
    fn shutdown_handle(&self) -> ShutdownHandle;
}

impl<const N: usize> Typed for TypedServer<Block<N>> {
    fn serve(&mut self, actor: &Actor, several: usize) -> wigwag::Result<()> {
        let in_place = |block: &mut Block<N>| {
            let reply = or_panic(decide(actor, &block.bytes))?;
            block.bytes.copy_from_slice(&reply);
            Ok::<_, String>(())
        };
        let in_request = |request: &mut TypedRequest<Block<N>>| in_place(request);
        match several {
            0 | 1 => TypedServer::serve(self, in_place),
            2 => self.serve_on(2, in_place),
            3 => self.serve_requests(in_request),
            several => self.serve_requests_on(several, in_request),
        }
    }

    fn take(&mut self, how: How) -> wigwag::Result<Option<Request>> {
        let found = match how {
            How::Forever => self.recv().map(Some),
            How::Try | How::PolledOnce => self.try_recv(),
            How::For(us) => self.recv_timeout(Duration::from_micros(us)),
        };
        found.map(|found| found.map(TypedRequest::into_request))
    }

    fn shutdown_handle(&self) -> ShutdownHandle {
        TypedServer::shutdown_handle(self)
    }
}

/// A handler of encoded values.
fn encoded(actor: &Actor, parcel: Parcel) -> Result<Parcel, String> {
    or_panic(decide(actor, &parcel.into_bytes())).map(|reply| Parcel::of(&reply))
}

/// A handler of bytes.
fn handle(actor: &Actor, request: &mut Request) -> Result<(), String> {
    or_panic(execute(actor, request))
}

async fn handle_in_task(actor: &Actor, request: &mut Request) -> Result<(), String> {
    let outcome = execute(actor, request);
    if request.len() >= HEAD && request[1].is_multiple_of(2) {
        tokio::task::yield_now().await;
    }
    or_panic(outcome)
}

impl Service {
    fn bind(actor: &Actor) -> wigwag::Result<Service> {
        let (party, dialect, name) = (actor.party(), actor.history.dialect, actor.stage.name());
        let mut builder = Server::builder().slots(party.slots);
        if actor.history.parties.iter().any(|party| party.home == Home::OtherUser) {
            builder = builder.allow_everyone();
        }
        if party.limit > 0 {
            builder = builder.max_sessions(party.limit);
        }
        if party.descriptors > 0 {
            builder = builder.descriptors(true);
        }
        if let (Dialect::Typed(len), Face::Blocking) = (dialect, party.face) {
            return Ok(Service::Typed(match len {
                8 => Box::new(builder.bind_typed::<Block<8>>(name)?),
                48 => Box::new(builder.bind_typed::<Block<48>>(name)?),
                _ => Box::new(builder.bind_typed::<Block<300>>(name)?),
            }));
        }
        let builder = builder.contract(dialect.contract()).capacity(party.capacity);
        match party.face {
            Face::Blocking => Ok(Service::Blocking(builder.bind(name)?)),
            _ => Ok(Service::Tasks(builder.bind_async(name)?)),
        }
    }

    /// What it counts.
    fn statistics(&self) -> Option<StatsHandle> {
        match self {
            Service::Blocking(server) => Some(server.stats_handle()),
            Service::Typed(_) => None,
            Service::Tasks(server) => Some(server.stats_handle()),
        }
    }

    fn shutdown_handle(&self) -> ShutdownHandle {
        match self {
            Service::Blocking(server) => server.shutdown_handle(),
            Service::Typed(server) => server.shutdown_handle(),
            Service::Tasks(server) => server.shutdown_handle(),
        }
    }

    /// Serves until the shutdown: on so many threads, or with up to so many handlers at a time.
    async fn serve(&mut self, actor: &Actor, several: usize) -> wigwag::Result<()> {
        let is_encoded = actor.history.dialect.is_encoded();
        match self {
            Service::Typed(server) => server.serve(actor, several),
            Service::Blocking(server) if is_encoded => match several {
                0 | 1 => server.serve_with(|parcel| encoded(actor, parcel)),
                2 => server.serve_with_on(2, |parcel| encoded(actor, parcel)),
                3 => server.serve_with_request(|parcel, _: &Request| encoded(actor, parcel)),
                _ => server.serve(|request: &mut Request| handle(actor, request)),
            },
            Service::Blocking(server) => match several {
                0 | 1 => server.serve(|request: &mut Request| handle(actor, request)),
                _ => server.serve_on(several, |request: &mut Request| handle(actor, request)),
            },
            Service::Tasks(server) => match several {
                1 if is_encoded => server.serve_with(async |parcel: Parcel| encoded(actor, parcel)).await,
                2 if is_encoded => {
                    let handler = async |parcel: Parcel, _: &Request| {
                        tokio::task::yield_now().await;
                        encoded(actor, parcel)
                    };
                    server.serve_with_request(handler).await
                }
                // Before the future exists, and within it.
                several if several.is_multiple_of(2) => {
                    let handler = |request: &mut Request| {
                        let outcome = handle(actor, request);
                        async move { outcome }
                    };
                    server.serve_up_to(several.max(1), handler).await
                }
                several => {
                    let handler = async |request: &mut Request| handle_in_task(actor, request).await;
                    server.serve_up_to(several, handler).await
                }
            },
        }
    }

    /// Takes a request itself; `None`: there was none, or it was not waited for.
    async fn take(&mut self, how: How) -> wigwag::Result<Option<Request>> {
        match self {
            Service::Typed(server) => server.take(how),
            Service::Blocking(server) => match how {
                How::Forever => server.recv().map(Some),
                How::Try | How::PolledOnce => server.try_recv(),
                How::For(us) => server.recv_timeout(Duration::from_micros(us)),
            },
            Service::Tasks(server) => within(how, server.recv()).await.transpose(),
        }
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> Result<(), String> {
        let outcome = match self {
            Service::Blocking(mut server) => server.try_recv(),
            Service::Typed(mut server) => server.take(How::Try),
            Service::Tasks(_) => return Ok(()),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
            other => Err(format!("try_recv in a forked child: {other:?}")),
        }
    }
}

/// A server.
pub fn host(actor: &Actor) {
    let play = async {
        match Service::bind(actor) {
            Ok(service) => Host { actor, service, held: Vec::new(), is_over: Cell::new(false) }.play().await,
            Err(error) => actor.complain(format!("bind: {error:?}")),
        }
    };
    match actor.party().face {
        Face::Blocking => {
            if poll_once(play).is_none() {
                actor.complain("a blocking server waited for a reactor");
            }
        }
        face => runtime(face).block_on(play),
    }
}

struct Host<'a> {
    actor: &'a Actor,
    service: Service,
    held: Vec<Request>,
    is_over: Cell<bool>,
}

impl Host<'_> {
    async fn play(mut self) {
        let Actor { stage, me, .. } = self.actor;
        stage.register_statistics(*me, self.service.statistics());
        stage.register(*me, self.service.shutdown_handle());
        for index in 0..self.actor.party().steps.len() {
            if let Some(step) = self.actor.begin(index) {
                self.step(step).await;
            }
        }
        self.release();
        stage.unregister(*me);
        stage.set(*me, Word::LeftAt, stage.now());
    }

    async fn step(&mut self, step: Step) {
        let Actor { stage, me, .. } = self.actor;
        match step {
            Step::Serve(several) => {
                self.release();
                let outcome = self.service.serve(self.actor, several).await;
                self.actor.served(outcome, &self.is_over);
            }
            Step::ServeFor(us) => self.serve_for(us).await,
            Step::Take(how, fate) => self.take(how, fate).await,
            Step::TakeBatch(most, how, fate) => {
                for _ in 0..most {
                    self.take(how, fate).await;
                }
            }
            Step::Release => self.release(),
            Step::Drain(fate) => {
                self.release();
                while !self.is_over.get() {
                    self.take(How::Forever, fate).await;
                    self.release();
                }
                for how in [How::For(200), How::Try, How::PolledOnce, How::Forever] {
                    self.take(how, Fate::Done).await;
                }
            }
            Step::ShutDownSelf => drop(stage.shut_down(*me)),
            Step::Fork(fork) => {
                forked(self.actor, self.fork_of_child(fork), &self.service, Service::refuses_in_child);
                if let Some(request) = self.held.first() {
                    forked(self.actor, fork, request, refused_in_child);
                }
            }
            _ => {}
        }
    }

    /// A server for tasks has nothing that a child can call without a runtime.
    fn fork_of_child(&self, fork: Fork) -> Fork {
        match (&self.service, fork) {
            (Service::Tasks(_), Fork::Call) => Fork::Drop,
            _ => fork,
        }
    }

    /// Serves, and drops the future after a while.
    async fn serve_for(&mut self, us: u64) {
        let (actor, time) = (self.actor, Duration::from_micros(us));
        let Service::Tasks(server) = &mut self.service else { return self.take(How::For(us), Fate::Done).await };
        let handler = async |request: &mut Request| handle_in_task(actor, request).await;
        if let Ok(outcome) = tokio::time::timeout(time, server.serve(handler)).await {
            actor.served(outcome, &self.is_over);
        }
    }

    fn release(&mut self) {
        self.held.drain(..).for_each(Request::reply);
    }

    async fn take(&mut self, how: How, fate: Fate) {
        // A client with all slots under way can send no more.
        let how = if how == How::Forever && !self.held.is_empty() { How::For(2000) } else { how };
        match self.service.take(how).await {
            Ok(Some(request)) => self.answer(request, fate),
            Ok(None) if self.is_over.get() && !matches!(self.service, Service::Tasks(_)) => {
                self.actor.complain("nothing was told after the end had been told");
            }
            Ok(None) => {}
            Err(error) => self.told(&error),
        }
    }

    /// What a server does with a request that it has taken.
    fn answer(&mut self, mut request: Request, fate: Fate) {
        let outcome = execute(self.actor, &mut request);
        match (fate, outcome) {
            // What could not be written is told at once: held, its request would be answered with itself.
            (Fate::Held, Err(why)) if why != PANIC => fail(self.actor, request, &why),
            (Fate::Held, _) => self.held.push(request),
            (Fate::Dropped, _) => drop(request),
            (Fate::Back, _) => request.fail("planned: given back"),
            (Fate::Panicked, _) => catch_planned(move || {
                let _held = request;
                planned()
            }),
            (_, Err(why)) if why == PANIC => drop(request),
            (_, Err(why)) => fail(self.actor, request, &why),
            (Fate::Elsewhere, Ok(())) => {
                let thread = std::thread::spawn(move || request.reply());
                let _ = thread.join();
            }
            (Fate::Done, Ok(())) => request.reply(),
        }
    }

    /// The end was told, or something that must not be.
    fn told(&self, error: &Error) {
        let Actor { stage, me, .. } = self.actor;
        match error.kind() {
            ErrorKind::ServerClosed { .. } => {
                if stage.read(*me, Word::ShutDownAt) == 0 {
                    self.actor.complain("the end was told before the shutdown began");
                }
                self.is_over.set(true);
                stage.set(*me, Word::ToldEndAt, stage.now());
            }
            _ => self.actor.complain(format!("taking a request: {error:?}")),
        }
    }
}

/// What a forked child cannot do with a request.
fn refused_in_child(mut request: Request) -> Result<(), String> {
    let most = request.capacity();
    let (resized, replied) = (request.resize(most), request.set_reply(&vec![1; most]));
    match (&resized, &replied) {
        (Err(_), Err(_)) => Ok(()),
        _ => Err(format!("resize and set_reply in a forked child: {resized:?}, {replied:?}")),
    }
}
