//! Subscribers: blocking and for tasks. The steps are written once, as a future: a blocking subscriber's is ready at
//! its first poll.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wigwag::{ErrorKind, Message, Receipt, Result, Start, Subscriber, SubscriberStats};

use super::model::{Account, Came};
use crate::history::act::{Actor, TIME_LIMIT, catch_planned, forked, patience, planned, poll_once, runtime, within};
use crate::history::plan::{Face, Fate, Home, How, StartAt, Step};
use crate::history::stage::Word;

/// Bytes of a message that lies in its entry: a publisher of no longer ones has no bodies to be held.
const INLINE: usize = 48;

/// A subscriber of one of the faces.
enum Intake {
    Blocking(Subscriber),
    Tasks(wigwag::tokio::Subscriber),
}

impl Intake {
    async fn take(&mut self, how: How) -> Result<Option<Message>> {
        match self {
            Intake::Blocking(subscriber) => match how {
                How::Forever => subscriber.recv().map(Some),
                How::Try | How::PolledOnce => subscriber.try_recv(),
                How::For(us) => subscriber.recv_timeout(Duration::from_micros(us)).map(Some),
            },
            Intake::Tasks(subscriber) if how == How::Try => subscriber.try_recv(),
            Intake::Tasks(subscriber) => within(how, subscriber.recv()).await.transpose(),
        }
    }

    /// Copies a message; tasks take it and copy it then.
    async fn copy(&mut self, how: How, into: &mut Vec<u8>) -> Result<Option<Receipt>> {
        match self {
            Intake::Blocking(subscriber) if how == How::Forever => subscriber.recv_into(into).map(Some),
            Intake::Blocking(subscriber) => subscriber.try_recv_into(into),
            Intake::Tasks(_) => Ok(None),
        }
    }

    fn stats(&self) -> SubscriberStats {
        match self {
            Intake::Blocking(subscriber) => subscriber.stats(),
            Intake::Tasks(subscriber) => subscriber.stats(),
        }
    }

    fn into_tasks(self) -> Result<Intake> {
        match self {
            Intake::Blocking(subscriber) => Ok(Intake::Tasks(wigwag::tokio::Subscriber::from_blocking(subscriber)?)),
            tasks => Ok(tasks),
        }
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> std::result::Result<(), String> {
        let outcome = match self {
            Intake::Blocking(mut subscriber) => subscriber.try_recv(),
            Intake::Tasks(mut subscriber) => subscriber.try_recv(),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
            other => Err(format!("try_recv of a subscriber in a forked child: {other:?}")),
        }
    }
}

/// One session, and its account; `None`: there is no publisher any more.
fn connect(actor: &Actor, is_first: bool) -> Option<(Subscriber, Account<'_>)> {
    actor.stage.set(actor.me, Word::Process, std::process::id().into());
    let party = actor.party();
    let start = match party.airing.start {
        StartAt::Next => Start::Next,
        StartAt::Oldest => Start::Oldest,
        StartAt::Last => Start::Last,
    };
    let mut builder = Subscriber::builder().timeout(TIME_LIMIT).server_timeout(patience(party)).start(start);
    if party.airing.follows_us > 0 {
        builder = builder.reconnect(Duration::from_micros(party.airing.follows_us));
    }
    if party.home == Home::OtherUser {
        builder = builder.server_user(0);
    }
    let before = std::cell::RefCell::new(Vec::new());
    let subscriber = actor.connect(|| {
        *before.borrow_mut() = Account::before(actor);
        builder.clone().connect(actor.stage.name())
    })?;
    let account = Account::new(actor, before.into_inner(), is_first);
    Some((subscriber, account))
}

/// A subscriber.
pub fn guest(actor: &Actor) {
    let Some((subscriber, account)) = connect(actor, true) else { return };
    let mut player = Player { actor, intake: Some(Intake::Blocking(subscriber)), account, held: Vec::new() };
    match actor.party().face {
        Face::Blocking => match poll_once(player.play(0)) {
            Some(Some(next)) => in_tasks(player, next, Face::Tasks),
            Some(None) => {}
            None => actor.complain("a blocking subscriber waited for a reactor"),
        },
        face => in_tasks(player, 0, face),
    }
}

fn in_tasks(mut player: Player<'_>, from: usize, face: Face) {
    runtime(face).block_on(async {
        if player.become_task() {
            player.play(from).await;
        }
        drop(player);
    });
}

/// A message that is held, and what it was when it came.
struct Held {
    message: Message,
    bytes: Vec<u8>,
}

impl Held {
    fn check(&self, actor: &Actor) {
        if self.message[..] != self.bytes[..] {
            let number = self.message.sequence();
            actor.complain(format!("message {number} has changed while it was held"));
        }
    }
}

struct Player<'a> {
    actor: &'a Actor,
    /// `None`: there is no publisher any more.
    intake: Option<Intake>,
    account: Account<'a>,
    held: Vec<Held>,
}

impl Player<'_> {
    /// Plays from a step on; from which one it goes on as a task.
    async fn play(&mut self, from: usize) -> Option<usize> {
        for index in from..self.actor.party().steps.len() {
            match self.actor.begin(index) {
                Some(Step::BecomeTask) if matches!(self.intake, Some(Intake::Blocking(_))) => return Some(index + 1),
                Some(step) => self.step(step).await,
                None => {}
            }
        }
        self.release();
        None
    }

    fn become_task(&mut self) -> bool {
        match self.intake.take().map(Intake::into_tasks) {
            Some(Ok(intake)) => self.intake = Some(intake),
            Some(Err(error)) => {
                self.actor.complain(format!("from_blocking: {error:?}"));
                return false;
            }
            None => {}
        }
        true
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Take(how, fate) => self.take(how, fate).await,
            Step::Copy(how) => self.copy(how).await,
            Step::Release => self.release(),
            Step::Arm(us) => self.arm(us),
            Step::Clone => {
                self.release();
                self.intake = None;
                self.come_again();
            }
            Step::Outlive => {
                self.intake = None;
                std::thread::sleep(Duration::from_micros(50)); // the publisher may notice
                self.release();
                self.come_again();
            }
            Step::Regain => self.regain(),
            Step::ListenToEnd => self.listen_to_end().await,
            Step::Fork(fork) => {
                if let Some(intake) = &self.intake {
                    forked(self.actor, fork, intake, Intake::refuses_in_child);
                }
                if let Some(held) = self.held.first() {
                    // Its bytes are not among what a child may touch.
                    forked(self.actor, fork, &held.message, |message| {
                        drop(message);
                        Ok(())
                    });
                }
            }
            _ => {}
        }
    }

    /// A session of its own, in the place of one that is dropped.
    fn come_again(&mut self) {
        let is_task = tokio::runtime::Handle::try_current().is_ok();
        if let Some((subscriber, account)) = connect(self.actor, false) {
            (self.intake, self.account) = (Some(Intake::Blocking(subscriber)), account);
            if is_task {
                self.become_task();
            }
        }
    }

    /// Sessions, until one may hold: what those held that are dead now is given to others.
    fn regain(&mut self) {
        let Actor { stage, history, .. } = self.actor;
        let is_enough = |living: usize| {
            history.hosts().into_iter().map(|host| &history.parties[host]).all(|party| {
                let (holds, all) = (party.airing.holds, party.airing.max_holds);
                party.capacity > INLINE && holds > 0 && all >= living * holds
            })
        };
        let living = || history.guests().filter(|(guest, _)| stage.read(*guest, Word::Over) == 0).count();
        if self.actor.party().home == Home::OtherUser {
            return;
        }
        while is_enough(living()) && self.intake.as_ref().is_some_and(|intake| intake.stats().may_hold == 0) {
            self.release();
            self.intake = None;
            std::thread::sleep(Duration::from_millis(1));
            self.come_again();
        }
    }

    fn release(&mut self) {
        for held in self.held.drain(..) {
            held.check(self.actor);
        }
    }

    fn came(&mut self, came: Came, bytes: &[u8]) {
        let stats = self.intake.as_ref().map(Intake::stats).unwrap_or_default();
        self.account.add(came, bytes, stats);
    }

    fn told(&mut self, error: &wigwag::Error) {
        let stats = self.intake.as_ref().map(Intake::stats).unwrap_or_default();
        let held = self.held.iter().filter(|held| held.message.is_in_place()).count();
        self.account.told(error, stats, held);
        if error.kind() == ErrorKind::Full {
            self.release(); // or it would be so for ever
        }
    }

    async fn take(&mut self, how: How, fate: Fate) {
        let Some(intake) = &mut self.intake else { return };
        let was_over = self.account.is_over();
        match intake.take(how).await {
            Ok(Some(message)) => {
                let came = Came {
                    number: message.sequence(),
                    lost_before: message.lost_before(),
                    is_of_new_publisher: message.is_of_new_publisher(),
                };
                self.came(came, &message);
                self.dispose(message, fate);
            }
            Ok(None) => {
                let is_told = matches!(intake, Intake::Blocking(_)) && self.actor.party().airing.follows_us == 0;
                if was_over && is_told {
                    self.actor.complain("nothing was told after the end had been told");
                }
            }
            Err(_) if was_over => {}
            Err(error) => self.told(&error),
        }
    }

    async fn copy(&mut self, how: How) {
        if matches!(self.intake, Some(Intake::Tasks(_))) {
            return self.take(how, Fate::Done).await;
        }
        let Some(intake) = &mut self.intake else { return };
        let (was_over, mut bytes) = (self.account.is_over(), Vec::new());
        match intake.copy(how, &mut bytes).await {
            Ok(Some(Receipt { sequence, lost_before, is_of_new_publisher, .. })) => {
                self.came(Came { number: sequence, lost_before, is_of_new_publisher }, &bytes);
            }
            Ok(None) => {}
            Err(_) if was_over => {}
            Err(error) => self.told(&error),
        }
    }

    /// Does with a message what is planned for it.
    fn dispose(&mut self, message: Message, fate: Fate) {
        let bytes = message.to_vec();
        let held = Held { message, bytes };
        match fate {
            Fate::Held => self.held.push(held),
            Fate::Elsewhere => {
                let checked = std::thread::spawn(move || held.message[..] == held.bytes[..]).join();
                if !matches!(checked, Ok(true)) {
                    self.actor.complain("a message has changed on its way to another thread");
                }
            }
            Fate::Panicked => catch_planned(move || {
                let _held = held;
                planned()
            }),
            Fate::Done | Fate::Dropped | Fate::Back => held.check(self.actor),
        }
    }

    /// Sleeps at the descriptor, for a while.
    fn arm(&mut self, us: u64) {
        let Some(Intake::Blocking(subscriber)) = &mut self.intake else { return };
        match subscriber.arm() {
            Ok(true) => {
                let time = Duration::from_micros(us);
                let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
                let _ = poll(&mut [PollFd::new(&*subscriber, PollFlags::IN)], Some(&time));
            }
            Ok(false) => {}
            Err(error) => self.actor.complain(format!("arm: {error:?}")),
        }
    }

    /// Takes what comes until the end is told, one message in hand at a time, and asks again.
    async fn listen_to_end(&mut self) {
        self.release();
        while self.intake.is_some() && !self.account.is_over() {
            self.take(How::Forever, Fate::Held).await;
            while self.held.len() > 1 {
                self.held.remove(0).check(self.actor);
            }
            self.actor.progress();
        }
        self.take(How::Try, Fate::Done).await;
    }
}

impl Drop for Player<'_> {
    /// Messages outlive their subscriber.
    fn drop(&mut self) {
        self.intake = None;
        if !std::thread::panicking() {
            self.release();
        }
    }
}
