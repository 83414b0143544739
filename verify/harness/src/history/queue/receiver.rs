//! Receivers: blocking, for tasks, and one that lies. The steps are written once, as a future: a blocking receiver's is
//! ready at its first poll.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag::{Batch, Delivery, ErrorKind, Keeper, Receiver, ReceiverBuilder, ShutdownHandle};
use wigwag_testing::{Offer, RawServer, wire};

use super::model::Hands;
use crate::history::act::{Actor, GUESTS_OVER, TIME_LIMIT, forked, poll_once, runtime, within};
use crate::history::plan::{Claim, Face, Fate, History, Home, How, Keeping, Party, Role, Step};
use crate::history::stage::{Stage, Word};

/// A receiver of one of the faces.
enum Intake {
    Blocking(Receiver),
    Tasks(wigwag::tokio::Receiver),
}

impl Intake {
    /// `None`: it insists on a keeper, and none comes any more.
    fn bind(actor: &Actor) -> wigwag::Result<Option<Intake>> {
        let (party, name) = (actor.party(), actor.stage.name());
        let mut builder = builder(actor, party.slots, party.capacity);
        if party.limit > 0 {
            builder = builder.max_sessions(party.limit);
        }
        builder = match party.claim {
            Claim::InTurn => builder,
            Claim::Shared => builder.shared(true),
            Claim::Replacing => builder.replace(TIME_LIMIT),
        };
        builder = match party.keeping {
            Keeping::None => builder,
            Keeping::Insists => builder.kept_by(&name),
            Keeping::Allows => builder.kept_by(&name).allow_unkept(true),
        };
        actor.replaces();
        loop {
            let bound = match party.face {
                Face::Blocking => builder.clone().bind(&name).map(Intake::Blocking),
                _ => builder.clone().bind_async(&name).map(Intake::Tasks),
            };
            match bound {
                Err(error) if error.kind() == ErrorKind::NotRunning && party.keeping == Keeping::Insists => {
                    if !may_be_kept(actor) {
                        return Ok(None);
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
                bound => return bound.map(Some),
            }
        }
    }

    fn shutdown_handle(&self) -> ShutdownHandle {
        match self {
            Intake::Blocking(receiver) => receiver.shutdown_handle(),
            Intake::Tasks(receiver) => receiver.shutdown_handle(),
        }
    }

    async fn take(&mut self, how: How) -> wigwag::Result<Option<Delivery>> {
        match self {
            Intake::Blocking(receiver) => match how {
                How::Forever => receiver.recv().map(Some),
                How::Try | How::PolledOnce => receiver.try_recv(),
                How::For(us) => receiver.recv_timeout(Duration::from_micros(us)),
            },
            Intake::Tasks(receiver) if how == How::Try => receiver.try_recv(),
            Intake::Tasks(receiver) => within(how, receiver.recv()).await.transpose(),
        }
    }

    async fn take_batch(&mut self, most: usize, how: How) -> wigwag::Result<Option<Batch>> {
        match self {
            Intake::Blocking(receiver) => match how {
                How::Forever => receiver.recv_batch(most).map(Some),
                How::Try | How::PolledOnce => receiver.try_recv_batch(most),
                How::For(us) => receiver.recv_batch_timeout(most, Duration::from_micros(us)),
            },
            Intake::Tasks(receiver) => within(how, receiver.recv_batch(most)).await.transpose(),
        }
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> Result<(), String> {
        let outcome = match self {
            Intake::Blocking(receiver) => receiver.try_recv(),
            Intake::Tasks(mut receiver) => receiver.try_recv(),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
            other => Err(format!("try_recv in a forked child: {other:?}")),
        }
    }
}

/// Whether there is a keeper, or one will be.
fn may_be_kept(actor: &Actor) -> bool {
    let (stage, mut parties) = (&actor.stage, actor.history.parties.iter().enumerate());
    parties.any(|(party, of)| of.role == Role::Keeper && stage.read(party, Word::Over) == 0)
}

fn builder(actor: &Actor, slots: usize, capacity: usize) -> ReceiverBuilder {
    let builder = Receiver::builder().slots(slots).capacity(capacity).contract(actor.history.dialect.contract());
    match actor.history.parties.iter().any(|party| party.home == Home::OtherUser) {
        true => builder.allow_everyone(),
        false => builder,
    }
}

/// A receiver.
pub fn host(actor: &Actor) {
    let party = actor.party();
    if let Some(Step::Lie(slots, capacity)) = party.steps.first() {
        return lie(actor, *slots, *capacity);
    }
    let play = async {
        match Intake::bind(actor) {
            Ok(None) => {}
            Ok(Some(intake)) => Host { actor, intake, held: Vec::new(), hands: Hands::new(actor, false) }.play().await,
            Err(error) => actor.complain(format!("bind: {error:?}")),
        }
    };
    match party.face {
        Face::Blocking => {
            if poll_once(play).is_none() {
                actor.complain("a blocking receiver waited for a reactor");
            }
        }
        face => runtime(face).block_on(play),
    }
}

/// A receiver that grants what it likes, to one sender, and is gone.
fn lie(actor: &Actor, slots: usize, capacity: usize) {
    let stage = &actor.stage;
    let name = stage.name();
    let _ = std::fs::remove_file(&name);
    let liar = RawServer::bind(&name);
    // A party that waits for the lie finds it from now on.
    actor.begin(0);
    let begin = Instant::now();
    while !liar.is_asked() {
        if stage.cell(GUESTS_OVER).load(Ordering::SeqCst) != 0 || begin.elapsed() > Duration::from_millis(300) {
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    if liar.is_asked() {
        let socket = liar.accept();
        let _ = wire::receive(&socket);
        let offer = Offer::in_form(slots, capacity as u64, QUEUE);
        if let Ok(raw) = offer.send(socket) {
            let _ = wire::receive(&raw.socket); // that it is ready, or its end
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let _ = std::fs::remove_file(&name);
}

/// The number of this form in what is said on the wire.
const QUEUE: u8 = 1;

/// After all receivers: takes what their senders still have, until these are done.
pub fn collect(stage: &Arc<Stage>, history: &Arc<History>) {
    for host in history.hosts() {
        stage.wait_until(|| stage.read(host, Word::Over) != 0);
    }
    let me = history.parties.len() - 1;
    let actor = Actor { stage: stage.clone(), history: history.clone(), me };
    let most = |of: fn(&Party) -> usize| history.parties.iter().map(of).max().unwrap_or(1);
    let builder = builder(&actor, most(|party| party.slots).max(1), most(|party| party.capacity));
    let receiver = match builder.bind(stage.name()) {
        Ok(receiver) => receiver,
        Err(error) => return stage.complain(format!("the last receiver: bind: {error:?}")),
    };
    let hands = Hands::new(&actor, false);
    loop {
        let is_last = stage.cell(GUESTS_OVER).load(Ordering::SeqCst) != 0;
        match receiver.recv_timeout(Duration::from_millis(if is_last { 0 } else { 1 })) {
            Ok(Some(delivery)) => {
                hands.look(&delivery);
                hands.release(&delivery);
            }
            Ok(None) if is_last && is_all_here(&actor, &receiver) => return,
            // What the dead left comes when the kernel tells of their ends.
            Ok(None) if is_last => std::thread::sleep(Duration::from_micros(200)),
            Ok(None) => {}
            Err(error) => return stage.complain(format!("the last receiver: {error:?}")),
        }
    }
}

/// Whether nothing is left with a keeper, nor with senders that are over.
fn is_all_here(actor: &Actor, receiver: &Receiver) -> bool {
    if !actor.history.has_keeper() {
        return true;
    }
    let has_none_left = match Keeper::stats_of(actor.stage.name(), Duration::from_secs(1)) {
        Ok(kept) => kept.left == 0 && kept.sessions == 0,
        Err(error) if error.kind() == ErrorKind::NotRunning => !may_be_kept(actor),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => false, // it is stopped
        Err(error) => {
            actor.complain(format!("a keeper does not say what it has: {error:?}"));
            true
        }
    };
    has_none_left && receiver.stats().senders == 0
}

struct Host<'a> {
    actor: &'a Actor,
    intake: Intake,
    held: Vec<Delivery>,
    hands: Hands<'a>,
}

impl Host<'_> {
    async fn play(mut self) {
        let Actor { stage, me, .. } = self.actor;
        stage.register(*me, self.intake.shutdown_handle());
        for index in 0..self.actor.party().steps.len() {
            if let Some(step) = self.actor.begin(index) {
                self.step(step).await;
            }
        }
        self.release();
        // From here on its senders may hand on what it has not received.
        stage.set(*me, Word::LeftAt, stage.now());
        stage.unregister(*me);
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Take(how, fate) => self.take(how, fate).await,
            Step::TakeBatch(most, how, fate) => self.take_batch(most, how, fate).await,
            Step::Release => self.release(),
            Step::ServeFor(us) => self.take(How::For(us), Fate::Done).await,
            Step::Serve(threads) => match &self.intake {
                Intake::Blocking(_) => self.serve(threads),
                Intake::Tasks(_) => self.drain(Fate::Done).await,
            },
            Step::Drain(fate) => self.drain(fate).await,
            Step::ShutDownSelf => drop(self.actor.stage.shut_down(self.actor.me)),
            Step::Fork(fork) => {
                forked(self.actor, fork, &self.intake, Intake::refuses_in_child);
                if let Some(delivery) = self.held.first() {
                    // Its bytes are not among what a child may touch.
                    forked(self.actor, fork, delivery, |delivery| {
                        delivery.nack();
                        Ok(())
                    });
                }
            }
            _ => {}
        }
    }

    /// Takes all there is until the end is told, and asks again.
    async fn drain(&mut self, fate: Fate) {
        self.release();
        let mut times = 0;
        while !self.hands.is_over() {
            times += 1;
            // What is given back comes again: now and then it is kept.
            let fate = if times % 3 == 0 { Fate::Done } else { fate };
            match times % 4 {
                0 => self.take_batch(3, How::Forever, fate).await,
                _ => self.take(How::Forever, fate).await,
            }
            self.release();
        }
        self.take(How::For(200), Fate::Done).await;
        // A task that polls once what is ready is told; it must not be in vain for ever.
        let how = if matches!(self.intake, Intake::Tasks(_)) { How::Forever } else { How::Try };
        self.take_batch(2, how, Fate::Done).await;
        self.take(How::Try, Fate::Done).await;
        self.take(How::Forever, Fate::Done).await;
    }

    /// Several threads receive at the same time, until the end.
    fn serve(&mut self, threads: usize) {
        self.release();
        let Intake::Blocking(receiver) = &self.intake else { return };
        let actor = self.actor;
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(move || {
                    let hands = Hands::new(actor, true);
                    for delivery in receiver {
                        match delivery {
                            Ok(delivery) => {
                                hands.look(&delivery);
                                hands.release(&delivery);
                            }
                            Err(error) => hands.told(&error),
                        }
                    }
                    match receiver.recv_timeout(Duration::from_micros(100)) {
                        Ok(Some(_)) => actor.complain("a message was handed out after the end had been told"),
                        Ok(None) => actor.complain("nothing was told after the end had been told"),
                        Err(error) => hands.told(&error),
                    }
                });
            }
        });
        self.hands.end();
    }

    fn release(&mut self) {
        for delivery in self.held.drain(..) {
            self.hands.release(&delivery);
        }
    }

    fn limited(&self, how: How) -> How {
        // A receiver that holds all of it would wait for more in vain.
        if how == How::Forever && !self.held.is_empty() { How::For(2000) } else { how }
    }

    async fn take(&mut self, how: How, fate: Fate) {
        match self.intake.take(self.limited(how)).await {
            Ok(Some(delivery)) => {
                self.hands.look(&delivery);
                self.hands.dispose(delivery, fate, &mut self.held);
            }
            Ok(None) => self.nothing(),
            Err(error) => self.hands.told(&error),
        }
    }

    async fn take_batch(&mut self, most: usize, how: How, fate: Fate) {
        match self.intake.take_batch(most.max(1), self.limited(how)).await {
            Ok(Some(batch)) => self.hands.dispose_batch(batch, fate, &mut self.held),
            Ok(None) => self.nothing(),
            Err(error) => self.hands.told(&error),
        }
    }

    /// A future that is polled once may not have got far; a thread that asks has.
    fn nothing(&self) {
        if matches!(self.intake, Intake::Blocking(_)) {
            self.hands.found_nothing();
        }
    }
}
