//! Senders: blocking and for tasks. The steps are written once, as a future: a blocking sender's is ready at its first
//! poll.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag::{ErrorKind, Result, Sender};

use super::model::{MessageLog, NAMELESS_SENT, is_nobody_there};
use crate::history::act::{Actor, TIME_LIMIT, forked, patience, poll_once, runtime, within};
use crate::history::dialect::Parcel;
use crate::history::plan::{Face, Home, How, Linger, Step};
use crate::history::stage::Word;

/// A sender of one of the faces.
enum Outlet {
    Blocking(Sender),
    Tasks(wigwag::tokio::Sender),
}

impl Outlet {
    fn into_tasks(self) -> Result<Outlet> {
        match self {
            Outlet::Blocking(sender) => Ok(Outlet::Tasks(wigwag::tokio::Sender::from_blocking(sender)?)),
            tasks => Ok(tasks),
        }
    }

    fn sent(&self) -> u64 {
        match self {
            Outlet::Blocking(sender) => sender.stats().sent,
            Outlet::Tasks(sender) => sender.stats().sent,
        }
    }

    /// `None`: it was given up.
    async fn send(&mut self, message: &[u8], how: How) -> Option<Result<()>> {
        match self {
            Outlet::Blocking(sender) => Some(match how {
                How::Forever => sender.send(message),
                How::Try | How::PolledOnce => sender.try_send(message),
                How::For(us) => sender.send_timeout(message, Duration::from_micros(us)),
            }),
            Outlet::Tasks(sender) if how == How::Try => Some(sender.try_send(message)),
            Outlet::Tasks(sender) => within(how, sender.send(message)).await,
        }
    }

    /// As `send`, an encoded value.
    async fn send_with(&mut self, message: &[u8], how: How) -> Option<Result<()>> {
        let parcel = Parcel::of(message);
        match self {
            Outlet::Blocking(sender) => Some(match how {
                How::Forever => sender.send_with(&parcel),
                How::Try | How::PolledOnce => sender.try_send_with(&parcel),
                How::For(us) => sender.send_with_timeout(&parcel, Duration::from_micros(us)),
            }),
            Outlet::Tasks(sender) => within(how, sender.send_with(&parcel)).await,
        }
    }

    async fn send_batch(&mut self, messages: Vec<Vec<u8>>) -> Result<usize> {
        match self {
            Outlet::Blocking(sender) => sender.send_batch(messages),
            Outlet::Tasks(sender) => sender.send_batch(messages).await,
        }
    }

    /// Writes a message in place; `None`: it was not committed, or there was no room in time.
    async fn message_loan(&mut self, message: &[u8], is_committed: bool) -> Option<Result<()>> {
        const LIMIT: Duration = Duration::from_millis(3);
        let draft = match self {
            Outlet::Blocking(sender) => sender.loan_timeout(message.len(), LIMIT),
            Outlet::Tasks(sender) => tokio::time::timeout(LIMIT, sender.loan(message.len())).await.ok()?,
        };
        match draft {
            Ok(mut draft) => {
                draft.copy_from_slice(message);
                is_committed.then(|| draft.commit())
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// `None`: it was given up.
    async fn flush(&mut self, limit: Duration) -> Option<Result<()>> {
        match self {
            Outlet::Blocking(sender) => Some(sender.flush(limit)),
            Outlet::Tasks(sender) => tokio::time::timeout(limit, sender.flush()).await.ok(),
        }
    }

    async fn another(&self) -> Result<Outlet> {
        Ok(match self {
            Outlet::Blocking(sender) => Outlet::Blocking(sender.try_clone()?),
            Outlet::Tasks(sender) => Outlet::Tasks(sender.try_clone().await?),
        })
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> std::result::Result<(), String> {
        let outcome = match self {
            Outlet::Blocking(mut sender) => sender.try_send(&[]),
            Outlet::Tasks(mut sender) => sender.try_send(&[]),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
            other => Err(format!("try_send in a forked child: {other:?}")),
        }
    }
}

/// How long a sender that is dropped waits; `None`: as the library likes.
fn lingers(actor: &Actor) -> Option<Duration> {
    const TIMES_MS: [u64; 3] = [0, 3, 40];
    let which = actor.history.seed.wrapping_add(actor.party().steps.len() as u64) % TIMES_MS.len() as u64;
    match actor.party().linger {
        Linger::Short => Some(Duration::from_millis(TIMES_MS[which as usize])),
        Linger::For(us) => Some(Duration::from_micros(us)),
        Linger::AsEver => None,
    }
}

/// Less than a drop waits where there is no receiver.
const WITHOUT_RECEIVER: Duration = Duration::from_secs(4);

/// A sender.
pub fn guest(actor: &Actor) {
    let party = actor.party();
    let builder = Sender::builder().timeout(TIME_LIMIT).server_timeout(patience(party));
    let mut builder = builder.contract(actor.history.dialect.contract());
    if let Some(time) = lingers(actor) {
        builder = builder.linger(time);
    }
    // A wish that no receiver grants would be refused for ever.
    let hosts = || actor.history.hosts().into_iter().map(|host| &actor.history.parties[host]);
    if let (Some(slots), Some(capacity)) =
        (hosts().map(|host| host.slots).min(), hosts().map(|host| host.capacity).min())
    {
        builder = builder.slots(party.slots.min(slots)).capacity(party.capacity.min(capacity));
    }
    if party.home == Home::OtherUser {
        builder = builder.server_user(0);
    }
    let Some(sender) = actor.connect(|| builder.clone().connect(actor.stage.name())) else { return };
    let mut player =
        Player { message_log: MessageLog::new(actor, sender.capacity()), outlet: Outlet::Blocking(sender) };
    match party.face {
        Face::Blocking => match poll_once(player.play(0)) {
            Some(Some(next)) => in_tasks(player, next, Face::Tasks),
            Some(None) => player.leave(),
            None => actor.complain("a blocking sender waited for a reactor"),
        },
        face => in_tasks(player, 0, face),
    }
}

fn in_tasks(player: Player<'_>, from: usize, face: Face) {
    let Player { message_log, outlet } = player;
    runtime(face).block_on(async {
        match outlet.into_tasks() {
            Ok(outlet) => {
                Player { message_log, outlet }.play(from).await;
            }
            Err(error) => message_log.actor.complain(format!("from_blocking: {error:?}")),
        }
    });
}

struct Player<'a> {
    message_log: MessageLog<'a>,
    outlet: Outlet,
}

impl Player<'_> {
    /// Plays from a step on; from which one it goes on as a task.
    async fn play(&mut self, from: usize) -> Option<usize> {
        let actor = self.message_log.actor;
        let steps = &actor.party().steps;
        for index in from..steps.len() {
            match actor.begin(index) {
                Some(Step::BecomeTask) if matches!(self.outlet, Outlet::Blocking(_)) => return Some(index + 1),
                Some(step) => self.step(step).await,
                None => {}
            }
        }
        if steps.last() != Some(&Step::Release) && self.settle().await {
            actor.stage.set(actor.me, Word::EndedWell, 1);
        }
        None
    }

    /// It is dropped. Within its time that waits until everything is acknowledged, unless a receiver is of the same
    /// process, or turns it away.
    fn leave(self) {
        let Player { message_log, outlet } = self;
        let (actor, begin) = (message_log.actor, Instant::now());
        drop(outlet);
        let waited = begin.elapsed();
        let may_be_refused = actor.history.has_limits() || actor.history.has_keeper();
        let most = lingers(actor).map_or(WITHOUT_RECEIVER, |time| time.min(WITHOUT_RECEIVER));
        if actor.party().home == Home::Process && !may_be_refused && waited < most {
            message_log.left(waited);
        }
    }

    /// Makes no call until all that was sent has come, also what a receiver had that has ended. That is not so at a
    /// receiver of the same process, nor at one of another user.
    fn idle(&self) {
        let actor = self.message_log.actor;
        if actor.party().home == Home::Process {
            actor.stage.wait_until(|| self.message_log.is_received());
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Idle => self.idle(),
            Step::Send(len, how) => self.send(len, how).await,
            Step::SendBatch(count, len) if self.is_encoded() => {
                for _ in 0..count {
                    self.send(len, How::Forever).await;
                }
            }
            Step::SendBatch(count, len) => self.send_batch(count, len).await,
            Step::MessageLoan(len, _) if self.is_encoded() => self.send(len, How::For(3000)).await,
            Step::MessageLoan(len, is_committed) => self.message_loan(len, is_committed).await,
            Step::Flush(how) => {
                let limit = if let How::For(us) = how { us } else { 5000 };
                match self.outlet.flush(Duration::from_micros(limit)).await {
                    Some(Ok(())) => self.message_log.flushed(),
                    Some(Err(error)) => self.message_log.flush_failed(&error),
                    None => {}
                }
            }
            Step::Clone => self.replace().await,
            Step::Crowd(sessions, rounds) => {
                if let Outlet::Blocking(sender) = &self.outlet {
                    crowd(self.message_log.actor, sender, sessions, rounds);
                }
            }
            Step::Fork(fork) => forked(self.message_log.actor, fork, &self.outlet, Outlet::refuses_in_child),
            _ => {}
        }
    }

    fn is_encoded(&self) -> bool {
        self.message_log.actor.history.dialect.is_encoded()
    }

    async fn send(&mut self, len: usize, how: How) {
        let Some(number) = self.message_log.begin(len) else { return };
        let message = self.message_log.message(len, number);
        let outcome = match self.is_encoded() {
            true => self.outlet.send_with(&message, how).await,
            false => self.outlet.send(&message, how).await,
        };
        if let Some(outcome) = outcome {
            self.message_log.sent(len, number, outcome.as_ref().copied());
        }
    }

    async fn send_batch(&mut self, count: usize, len: usize) {
        let numbers: Vec<u64> = (0..count).map_while(|_| self.message_log.begin(len)).collect();
        let messages = numbers.iter().map(|&number| self.message_log.message(len, number)).collect();
        let before = self.outlet.sent();
        let outcome = self.outlet.send_batch(messages).await;
        let sent = self.outlet.sent() - before;
        if let Ok(count) = outcome
            && (count != numbers.len() || sent != count as u64)
        {
            let asked = numbers.len();
            self.message_log.actor.complain(format!("a batch of {asked} says {count}, and {sent} were counted"));
        }
        for (place, &number) in numbers.iter().enumerate() {
            match &outcome {
                Err(error) if place as u64 >= sent => self.message_log.sent(len, number, Err(error)),
                _ => self.message_log.sent(len, number, Ok(())),
            }
        }
    }

    async fn message_loan(&mut self, len: usize, is_committed: bool) {
        let Some(number) = self.message_log.begin(len) else { return };
        let message = self.message_log.message(len, number);
        match self.outlet.message_loan(&message, is_committed).await {
            Some(outcome) => self.message_log.sent(len, number, outcome.as_ref().copied()),
            None => self.message_log.gave_up(len, number),
        }
    }

    /// Goes on with a session of its own, once the first one has nothing left.
    async fn replace(&mut self) {
        self.settle().await;
        self.message_log.begin_session();
        match self.outlet.another().await {
            Ok(another) => self.outlet = another,
            Err(error) if is_nobody_there(&error, &self.message_log.actor.history) => {}
            Err(error) => self.message_log.actor.complain(format!("try_clone: {error:?}")),
        }
    }

    /// Waits until everything is acknowledged, whoever comes to do that.
    async fn settle(&mut self) -> bool {
        loop {
            match self.outlet.flush(Duration::from_millis(200)).await {
                Some(Ok(())) => {
                    self.message_log.flushed();
                    return true;
                }
                Some(Err(error)) => {
                    self.message_log.flush_failed(&error);
                    if error.kind() == ErrorKind::Violation {
                        return false;
                    }
                }
                None => {}
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Many senders that send all at once.
fn crowd(actor: &Actor, first: &Sender, sessions: usize, rounds: usize) {
    let mut senders: Vec<Sender> = (0..sessions).map_while(|_| first.try_clone().ok()).collect();
    for _ in 0..rounds {
        for sender in &mut senders {
            match sender.send(&[]) {
                Ok(()) => drop(actor.stage.cell(NAMELESS_SENT).fetch_add(1, Ordering::SeqCst)),
                Err(error) if error.kind() == ErrorKind::NotRunning => {}
                Err(error) => actor.complain(format!("one of many senders: {error:?}")),
            }
            actor.progress();
        }
        for sender in &mut senders {
            while let Err(error) = sender.flush(Duration::from_secs(1)) {
                match error.kind() {
                    ErrorKind::TimedOut { .. } | ErrorKind::NotRunning => {}
                    _ => actor.complain(format!("one of many senders: {error:?}")),
                }
            }
            actor.progress();
        }
    }
}
