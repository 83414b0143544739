//! Clients: blocking, typed, and for tasks. The steps are written once, as a future: a blocking client's is ready at
//! its first poll.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wigwag::{Client, ClientBuilder, ErrorKind, Pending, Reply, TypedClient, TypedReply};
use wigwag_testing::Raw;

use super::model::{Asker, Call, HELD, HELD_UP, HOLD, is_over};
use crate::history::act::{Actor, TIME_LIMIT, forked, patience, poll_once, runtime, within};
use crate::history::dialect::{Block, Dialect, Parcel};
use crate::history::plan::{Face, HandlerAction, Home, How, Step};

/// A reply, and the descriptors that were taken out of it.
#[derive(Debug)]
struct Answered {
    bytes: Vec<u8>,
    came: Option<Vec<OwnedFd>>,
}

impl From<Vec<u8>> for Answered {
    fn from(bytes: Vec<u8>) -> Answered {
        Answered { bytes, came: None }
    }
}

/// What comes of a call.
type Answer = wigwag::Result<Answered>;

/// Reads a reply, whose descriptors may be wanted.
type Reader = fn(Reply<'_>, bool) -> Answer;

fn read_bytes(mut reply: Reply<'_>, takes: bool) -> Answer {
    let came = takes.then(|| reply.take_descriptors());
    Ok(Answered { bytes: reply.to_vec(), came })
}

fn read_of_task(mut reply: wigwag::tokio::Reply, takes: bool) -> Answered {
    let came = takes.then(|| reply.take_descriptors());
    Answered { bytes: reply.to_vec(), came }
}

/// A client of one of the faces.
enum Caller {
    Blocking(Box<Client>),
    Typed(Box<dyn Typed>),
    Tasks(wigwag::tokio::Client),
}

/// A typed client of any of the types.
trait Typed {
    fn client(&self) -> &Client;
    fn into_client(self: Box<Self>) -> Client;
    fn another(&self) -> wigwag::Result<Box<dyn Typed>>;
    fn call(&self, bytes: &[u8], how: How) -> Answer;
    fn pass(&self, bytes: &[u8], how: How) -> wigwag::Result<Pending<'_>>;
    fn reader(&self) -> Reader;
}

impl<const N: usize> Typed for TypedClient<Block<N>> {
    fn client(&self) -> &Client {
        self.as_client()
    }

    fn into_client(self: Box<Self>) -> Client {
        TypedClient::into_client(*self)
    }

    fn another(&self) -> wigwag::Result<Box<dyn Typed>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn call(&self, bytes: &[u8], how: How) -> Answer {
        let mut block = Block { bytes: [0; N] };
        block.bytes.copy_from_slice(bytes);
        let reply = match how {
            How::Forever => TypedClient::call(self, &block)?,
            How::For(us) => self.call_timeout(&block, Duration::from_micros(us))?,
            How::Try | How::PolledOnce => {
                let mut loan = self.try_loan()?;
                *loan = block;
                if how == How::Try { loan.call()? } else { loan.call_timeout(Duration::ZERO)? }
            }
        };
        Ok(reply.bytes.to_vec().into())
    }

    fn pass(&self, bytes: &[u8], how: How) -> wigwag::Result<Pending<'_>> {
        let mut loan = match how {
            How::Forever => self.loan()?,
            How::Try | How::PolledOnce => self.try_loan()?,
            How::For(us) => self.loan_timeout(Duration::from_micros(us))?,
        };
        loan.bytes.copy_from_slice(bytes);
        Ok(loan.send()?.into_pending())
    }

    fn reader(&self) -> Reader {
        |reply, _| Ok(TypedReply::<Block<N>>::new(reply)?.bytes.to_vec().into())
    }
}

/// A call that is under way.
enum Passed<'c> {
    Blocking(Pending<'c>, Reader),
    Tasks(wigwag::tokio::Pending),
}

impl Passed<'_> {
    /// What came of it; `None`: nothing yet, and it is given up.
    async fn collect(self, how: How, takes: bool) -> Option<Answer> {
        match self {
            Passed::Blocking(mut pending, read) => {
                let outcome = match how {
                    How::Forever => Some(pending.wait()),
                    How::Try | How::PolledOnce => pending.try_wait(),
                    How::For(us) => pending.wait_timeout(Duration::from_micros(us)),
                };
                outcome.map(|outcome| outcome.and_then(|reply| read(reply, takes)))
            }
            Passed::Tasks(pending) => {
                within(how, pending).await.map(|outcome| outcome.map(|reply| read_of_task(reply, takes)))
            }
        }
    }
}

impl Caller {
    fn builder(actor: &Actor) -> ClientBuilder {
        let party = actor.party();
        let builder = Client::builder().slots(party.slots).timeout(TIME_LIMIT).server_timeout(patience(party));
        let builder = builder.descriptors(party.descriptors > 0);
        if party.home == Home::OtherUser { builder.server_user(0) } else { builder }
    }

    /// Connects by a task: only bytes.
    async fn connect_task(actor: &Actor) -> wigwag::Result<Caller> {
        let builder = Caller::builder(actor).contract(actor.history.dialect.contract());
        Ok(Caller::Tasks(builder.capacity(actor.party().capacity).connect_async(actor.stage.name()).await?))
    }

    fn connect(actor: &Actor) -> wigwag::Result<Caller> {
        let (party, dialect, name) = (actor.party(), actor.history.dialect, actor.stage.name());
        let builder = Caller::builder(actor);
        match dialect {
            Dialect::Typed(len) if party.face == Face::Blocking => Ok(Caller::Typed(match len {
                8 => Box::new(builder.connect_typed::<Block<8>>(name)?),
                48 => Box::new(builder.connect_typed::<Block<48>>(name)?),
                _ => Box::new(builder.connect_typed::<Block<300>>(name)?),
            })),
            _ => {
                let builder = builder.contract(dialect.contract()).capacity(party.capacity);
                Ok(Caller::Blocking(Box::new(builder.connect(name)?)))
            }
        }
    }

    fn is_task(&self) -> bool {
        matches!(self, Caller::Tasks(_))
    }

    fn into_tasks(self) -> wigwag::Result<Caller> {
        Ok(Caller::Tasks(match self {
            Caller::Blocking(client) => wigwag::tokio::Client::from_blocking(*client)?,
            Caller::Typed(client) => wigwag::tokio::Client::from_blocking(client.into_client())?,
            Caller::Tasks(client) => client,
        }))
    }

    /// A session of its own; of tasks there is none.
    fn another(&self) -> wigwag::Result<Option<Caller>> {
        Ok(match self {
            Caller::Blocking(client) => Some(Caller::Blocking(Box::new(client.try_clone()?))),
            Caller::Typed(client) => Some(Caller::Typed(client.another()?)),
            Caller::Tasks(_) => None,
        })
    }

    fn slots_and_capacity(&self) -> (usize, usize) {
        match self {
            Caller::Blocking(client) => (client.slots(), client.capacity()),
            Caller::Typed(client) => (client.client().slots(), client.client().capacity()),
            Caller::Tasks(client) => (client.slots(), client.capacity()),
        }
    }

    /// Memory, dropped unsent.
    async fn loan(&self, len: usize, how: How) -> wigwag::Result<()> {
        match self {
            Caller::Blocking(client) => loan(client, len, how).map(drop),
            Caller::Typed(client) => loan(client.client(), len, how).map(drop),
            Caller::Tasks(client) => task_loan(client, len, how).await.map(drop),
        }
    }

    /// A call; `None`: it was given up. The loan of a task may be had in another way than the reply.
    async fn call(&self, asker: &Asker<'_>, call: Call, bytes: &[u8], how: How) -> Option<Answer> {
        match self {
            Caller::Blocking(client) => Some(blocking_call(client, asker, call, bytes, how)),
            Caller::Typed(client) => Some(client.call(bytes, how)),
            Caller::Tasks(client) => {
                let asking = async {
                    let mut loan = task_loan(client, bytes.len(), how).await?;
                    loan.copy_from_slice(bytes);
                    asker.load(call, |file| loan.attach(file));
                    let reply = match how {
                        How::For(us) => loan.call_timeout(Duration::from_micros(us)).await,
                        _ => loan.call().await,
                    };
                    reply.map(|reply| read_of_task(reply, call.cargo.is_taken_back))
                };
                if how == How::PolledOnce { poll_once(asking) } else { Some(asking.await) }
            }
        }
    }

    /// A call with an encoded value.
    async fn call_with(&self, bytes: &[u8], how: How) -> Option<Answer> {
        let parcel = Parcel::of(bytes);
        let outcome: wigwag::Result<Parcel> = match (self, how) {
            (Caller::Blocking(client), How::Forever | How::Try) => client.call_with(&parcel),
            (Caller::Blocking(client), how) => client.call_with_timeout(&parcel, us_of(how)),
            (Caller::Typed(_), _) => return None,
            (Caller::Tasks(client), How::For(us)) => client.call_with_timeout(&parcel, Duration::from_micros(us)).await,
            (Caller::Tasks(client), How::PolledOnce) => poll_once(client.call_with(&parcel))?,
            (Caller::Tasks(client), _) => client.call_with(&parcel).await,
        };
        Some(outcome.map(|parcel| parcel.into_bytes().into()))
    }

    /// Passes a request, and does not wait for its reply.
    async fn pass(&self, asker: &Asker<'_>, call: Call, bytes: &[u8], how: How) -> wigwag::Result<Passed<'_>> {
        match self {
            Caller::Blocking(client) => {
                let mut loan = loan(client, bytes.len(), how)?;
                loan.copy_from_slice(bytes);
                asker.load(call, |file| loan.attach(file));
                Ok(Passed::Blocking(loan.send()?, read_bytes))
            }
            Caller::Typed(client) => Ok(Passed::Blocking(client.pass(bytes, how)?, client.reader())),
            Caller::Tasks(client) => {
                let mut loan = task_loan(client, bytes.len(), how).await?;
                loan.copy_from_slice(bytes);
                asker.load(call, |file| loan.attach(file));
                Ok(Passed::Tasks(loan.send()?))
            }
        }
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> Result<(), String> {
        match self {
            Caller::Tasks(client) => match client.try_loan(0) {
                Err(error) if matches!(error.kind(), ErrorKind::Forked | ErrorKind::Full) => Ok(()),
                other => Err(format!("try_loan in a forked child: {other:?}")),
            },
            Caller::Typed(client) => match client.call(&vec![0; client.client().capacity()], How::Forever) {
                Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
                other => Err(format!("a typed call in a forked child: {other:?}")),
            },
            Caller::Blocking(client) => match client.call(&[]) {
                Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
                other => Err(format!("a call in a forked child: {other:?}")),
            },
        }
    }
}

fn us_of(how: How) -> Duration {
    if let How::For(us) = how { Duration::from_micros(us) } else { Duration::ZERO }
}

fn loan(client: &Client, len: usize, how: How) -> wigwag::Result<wigwag::Loan<'_>> {
    match how {
        How::Forever => client.loan(len),
        How::Try | How::PolledOnce => client.try_loan(len),
        How::For(us) => client.loan_timeout(len, Duration::from_micros(us)),
    }
}

fn blocking_call(client: &Client, asker: &Asker<'_>, call: Call, bytes: &[u8], how: How) -> Answer {
    let mut loan = loan(client, bytes.len(), how)?;
    loan.copy_from_slice(bytes);
    asker.load(call, |file| loan.attach(file));
    let reply = match how {
        How::Forever | How::Try => loan.call()?,
        How::PolledOnce | How::For(_) => loan.call_timeout(us_of(how))?,
    };
    read_bytes(reply, call.cargo.is_taken_back)
}

async fn task_loan(client: &wigwag::tokio::Client, len: usize, how: How) -> wigwag::Result<wigwag::tokio::Loan> {
    match how {
        How::Forever => client.loan(len).await,
        How::Try | How::PolledOnce => client.try_loan(len),
        How::For(us) => client.loan_timeout(len, Duration::from_micros(us)).await,
    }
}

/// A client.
pub fn guest(actor: &Actor) {
    let mut asker = Asker::new(actor);
    let mut from = 0;
    while from < actor.party().steps.len() {
        if actor.party().is_patient && actor.party().face != Face::Blocking {
            // A task connects by itself, in the reactor that it goes on in.
            let runtime = runtime(actor.party().face);
            let Some(caller) = actor.connect(|| runtime.block_on(Caller::connect_task(actor))) else { return };
            asker.capacity = caller.slots_and_capacity().1;
            from =
                runtime.block_on(Player { asker: &mut asker, caller: &caller, pending: VecDeque::new() }.play(from)).0;
            let _reactor = runtime.enter();
            drop(caller);
            continue;
        }
        let Some(caller) = actor.connect(|| Caller::connect(actor)) else { return };
        asker.capacity = caller.slots_and_capacity().1;
        from = match actor.party().face {
            Face::Blocking => sessions(&mut asker, caller, from),
            face => in_tasks(&mut asker, caller, from, face),
        };
    }
}

/// Why the steps of a session ended.
enum End {
    /// It is over, or all is done.
    Over,
    /// Another session is wanted.
    Clone,
    /// The same session for tasks is wanted.
    Task,
}

/// Plays with a blocking client and those that are made of it; the step that comes next.
fn sessions(asker: &mut Asker<'_>, mut caller: Caller, mut from: usize) -> usize {
    loop {
        let played = poll_once(Player { asker, caller: &caller, pending: VecDeque::new() }.play(from));
        let Some((next, end)) = played else {
            asker.actor.complain("a blocking client waited for a reactor");
            return usize::MAX;
        };
        from = next;
        match end {
            End::Over => return from,
            End::Task => return in_tasks(asker, caller, from, Face::Tasks),
            End::Clone => match caller.another() {
                Ok(Some(another)) => caller = another,
                _ => return from,
            },
        }
    }
}

fn in_tasks(asker: &mut Asker<'_>, caller: Caller, from: usize, face: Face) -> usize {
    runtime(face).block_on(async {
        match caller.into_tasks() {
            Ok(caller) => Player { asker, caller: &caller, pending: VecDeque::new() }.play(from).await.0,
            Err(error) => {
                asker.actor.complain(format!("from_blocking: {error:?}"));
                usize::MAX
            }
        }
    })
}

/// One session, and what is under way in it.
struct Player<'p, 'a> {
    asker: &'p mut Asker<'a>,
    caller: &'p Caller,
    pending: VecDeque<(Passed<'p>, Call)>,
}

impl Player<'_, '_> {
    /// Plays from a step on, until the session is over or another one is wanted.
    async fn play(mut self, from: usize) -> (usize, End) {
        let actor = self.asker.actor;
        for index in from..actor.party().steps.len() {
            let Some(step) = actor.begin(index) else { continue };
            match step {
                Step::Clone if self.caller.is_task() => return (index + 1, End::Over),
                Step::Clone => return (index + 1, End::Clone),
                Step::BecomeTask if !self.caller.is_task() => return (index + 1, End::Task),
                step => {
                    if self.step(step).await {
                        return (index + 1, End::Over);
                    }
                }
            }
        }
        self.collect_all().await;
        (actor.party().steps.len(), End::Over)
    }

    /// Does one step; whether the session is over.
    async fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Call(len, action, how) => self.call(len, action, self.possible(how)).await,
            Step::Loan(len, how) => self.caller.loan(len, self.possible(how)).await.is_err_and(|error| is_over(&error)),
            Step::Pass(len, action, how) => self.pass(len, action, self.possible(how)).await,
            Step::Collect(how) => match self.pending.pop_front() {
                Some((passed, call)) => self.collect(passed, call, how).await,
                None => false,
            },
            Step::Forget => {
                drop(self.pending.pop_front());
                false
            }
            Step::Volley(action) => self.volley(action).await,
            Step::Crowd(sessions, rounds) => {
                if let Caller::Blocking(client) = self.caller {
                    crowd(self.asker, client, sessions, rounds);
                }
                false
            }
            Step::Hurry(rounds) => match self.caller {
                Caller::Blocking(client) if self.pending.is_empty() => hurry(self.asker, client, rounds),
                _ => false,
            },
            Step::Fork(fork) => {
                forked(self.asker.actor, fork, self.caller, Caller::refuses_in_child);
                false
            }
            _ => false,
        }
    }

    /// Where those that are under way have all slots, no task would collect them; a blocking client is told so.
    fn possible(&self, how: How) -> How {
        let is_full = self.caller.is_task() && self.pending.len() >= self.caller.slots_and_capacity().0;
        if is_full { How::Try } else { how }
    }

    /// A request as the face makes one: a typed one has one length only.
    fn request(&mut self, len: usize, action: HandlerAction) -> Option<(Call, Vec<u8>)> {
        let only = self.asker.actor.history.dialect.block().filter(|_| matches!(self.caller, Caller::Typed(_)));
        self.asker.call(only.unwrap_or(len), action)
    }

    fn is_encoded(&self) -> bool {
        self.asker.actor.history.dialect.is_encoded()
    }

    async fn call(&mut self, len: usize, action: HandlerAction, how: How) -> bool {
        let Some((call, bytes)) = self.request(len, action) else { return false };
        let outcome = if self.is_encoded() {
            self.caller.call_with(&bytes, how).await
        } else {
            self.caller.call(self.asker, call, &bytes, how).await
        };
        outcome.is_some_and(|outcome| self.judge(call, outcome))
    }

    /// Checks what came of a call; whether its session is over.
    fn judge(&self, call: Call, outcome: Answer) -> bool {
        if let Ok(Answered { came: Some(came), .. }) = &outcome {
            self.asker.judge_cargo(call, came);
        }
        self.asker.judge(call, outcome.as_ref().map(|answered| &answered.bytes[..]))
    }

    async fn pass(&mut self, len: usize, action: HandlerAction, how: How) -> bool {
        if self.is_encoded() {
            // There is no such face: the value goes with a call.
            return self.call(len, action, How::For(1000)).await;
        }
        let Some((mut call, bytes)) = self.request(len, action) else { return false };
        match self.caller.pass(self.asker, call, &bytes, how).await {
            Ok(passed) => {
                call.passed_at = self.asker.actor.stage.now();
                self.pending.push_back((passed, call));
                false
            }
            Err(error) => self.asker.judge(call, Err(&error)),
        }
    }

    async fn collect(&self, passed: Passed<'_>, call: Call, how: How) -> bool {
        let outcome = passed.collect(how, call.cargo.is_taken_back).await;
        outcome.is_some_and(|outcome| self.judge(call, outcome))
    }

    async fn collect_all(&mut self) -> bool {
        let mut is_over = false;
        while let Some((passed, call)) = self.pending.pop_front() {
            is_over |= self.collect(passed, call, How::Forever).await;
        }
        is_over
    }

    /// As many as there is room for, at once.
    async fn volley(&mut self, action: HandlerAction) -> bool {
        let (slots, capacity) = self.caller.slots_and_capacity();
        let len = capacity.min(100);
        if self.is_encoded() {
            return self.encoded_volley(len / 3, action).await;
        }
        for _ in 0..slots {
            self.pass(len, action, How::Try).await;
        }
        self.collect_all().await
    }

    /// Tasks call at the same time; a blocking client has one call with a value at a time.
    async fn encoded_volley(&mut self, len: usize, action: HandlerAction) -> bool {
        let mut requests = (0..3).filter_map(|_| self.request(len, action)).collect::<Vec<_>>();
        let (Some(one), Some(two), Some(three)) = (requests.pop(), requests.pop(), requests.pop()) else {
            return false;
        };
        let call = |bytes| self.caller.call_with(bytes, How::Forever);
        let (first, second, third) = tokio::join!(call(&one.1), call(&two.1), call(&three.1));
        let outcomes = [(one.0, first), (two.0, second), (three.0, third)];
        let is_over = outcomes.map(|(call, outcome)| outcome.is_some_and(|outcome| self.judge(call, outcome)));
        is_over.contains(&true)
    }
}

/// Sleeps of a hurried client that nobody rang for: the handler may have lost its processor for a while, so that it
/// took long again, and a timer ended the sleep.
const UNRUNG_MAX: u64 = 24;
/// Calls after which a client knows how long its handler takes: eight are needed, and some may be odd.
const LESSONS: usize = 12;
/// Between two calls, so that each finds its server asleep: what is learned of one that sleeps is told apart.
const THINKING: Duration = Duration::from_micros(500);

/// A client that has learned that its handler takes long asks for what takes none. Whether the session is over.
///
/// Sleeping until shortly before a reply is due must not make it late: who sleeps is rung for. One who is not would
/// sleep to the end of its time, find its reply, and learn that it took that long, again and again. That is no hang,
/// and no time that could be asserted; but its sleeps are not as many as the server's rings.
fn hurry(asker: &mut Asker<'_>, client: &Client, rounds: usize) -> bool {
    for _ in 0..LESSONS {
        let Some((call, bytes)) = asker.call(client.capacity(), HandlerAction::InvertSteadily) else { return false };
        if asker.judge(call, client.call(&bytes).as_deref()) {
            return true;
        }
        std::thread::sleep(THINKING);
    }
    let Actor { stage, history, .. } = asker.actor;
    // Of a server in this process; a session that is over ends this before another one counts.
    let rings = || {
        let mut hosts = history.hosts().into_iter();
        hosts.find_map(|host| stage.statistics(host)).map(|statistics| statistics.doorbells_rung)
    };
    let (sleeps_before, rings_before) = (client.stats().sleeps, rings());
    for _ in 0..rounds {
        let Some((call, bytes)) = asker.anonymous(client.capacity()) else { return false };
        if asker.judge(call, client.call(&bytes).as_deref()) {
            return true;
        }
        asker.actor.progress();
        std::thread::sleep(THINKING);
    }
    let sleeps = client.stats().sleeps - sleeps_before;
    if let (Some(before), Some(after)) = (rings_before, rings())
        && let rings = after.saturating_sub(before)
        && sleeps > rings + UNRUNG_MAX
    {
        let what = format!("a client slept {sleeps} times in {rounds} quick calls, and was rung {rings} times");
        asker.actor.complain(what);
    }
    false
}

/// Many thin sessions that ask all at once.
fn crowd(asker: &Asker<'_>, first: &Client, sessions: usize, rounds: usize) {
    let actor = asker.actor;
    let clients: Vec<Client> = (0..sessions).map_while(|_| first.try_clone().ok()).collect();
    for _ in 0..rounds {
        actor.progress();
        let passed: Vec<_> = clients.iter().filter_map(|client| pass_short(asker, client)).collect();
        collect_short(asker, passed);
    }
    if let [first, .., last] = &clients[..] {
        ring_in_vain(asker, sessions, first, last);
    }
}

/// While a handler is held up, more sessions than one look hears of ring and have asked for nothing. The one that rings
/// last has.
fn ring_in_vain(asker: &Asker<'_>, sessions: usize, first: &Client, last: &Client) {
    let actor = asker.actor;
    let stage = &actor.stage;
    let silent: Vec<Raw> = (0..sessions).map(|_| Raw::connect(&stage.name())).collect();
    // The server has looked at all of them, and sleeps.
    stage.wait_until(|| silent.iter().all(|raw| raw.waiting().load(Ordering::Acquire) != 0));
    actor.progress();
    let held = stage.cell(HELD_UP);
    held.store(HOLD, Ordering::SeqCst);
    let mut passed: Vec<_> = pass_short(asker, first).into_iter().collect();
    if !passed.is_empty() {
        stage.wait_until(|| held.load(Ordering::SeqCst) == HELD);
        silent.iter().for_each(Raw::ring);
        passed.extend(pass_short(asker, last));
    }
    held.store(0, Ordering::SeqCst);
    collect_short(asker, passed);
}

fn pass_short<'a>(asker: &Asker<'_>, client: &'a Client) -> Option<(Pending<'a>, Call)> {
    let (call, bytes) = asker.anonymous(client.capacity())?;
    let mut loan = client.try_loan(bytes.len()).ok()?;
    loan.copy_from_slice(&bytes);
    Some((loan.send().ok()?, call))
}

fn collect_short(asker: &Asker<'_>, passed: Vec<(Pending<'_>, Call)>) {
    for (pending, call) in passed {
        asker.actor.progress();
        let outcome = pending.wait();
        asker.judge(call, outcome.as_deref());
    }
}
