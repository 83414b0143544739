//! Publishers: blocking and for tasks. The steps are written once, as a future: a blocking publisher's is ready at its
//! first poll.

use std::time::Duration;

use wigwag::{ErrorKind, Overrun, Publisher, PublisherBuilder, PublisherStats, Result, SubscriberState};

use super::model::{MESSAGES_MAX, PUBLISHERS_MAX, message, note, note_counted};
use crate::history::act::{Actor, TIME_LIMIT, forked, poll_once, runtime, within};
use crate::history::plan::{Claim, Face, Home, How, Party, Role, Step};
use crate::history::stage::Word;

/// A publisher of one of the faces.
enum Outlet {
    Blocking(Publisher),
    Tasks(wigwag::tokio::Publisher),
}

impl Outlet {
    /// `None`: it was given up.
    async fn publish(&mut self, message: &[u8], how: How) -> Option<Result<u64>> {
        match self {
            Outlet::Blocking(publisher) => Some(match how {
                How::Forever => publisher.send(message),
                How::Try | How::PolledOnce => publisher.try_send(message),
                How::For(us) => publisher.send_timeout(message, Duration::from_micros(us)),
            }),
            Outlet::Tasks(publisher) if how == How::Try => Some(publisher.try_send(message)),
            Outlet::Tasks(publisher) => within(how, publisher.send(message)).await,
        }
    }

    /// Writes a message in place; `None`: it was not committed.
    async fn draft(&mut self, message: &[u8], is_committed: bool) -> Option<Result<u64>> {
        let draft = match self {
            Outlet::Blocking(publisher) => publisher.loan(message.len()),
            Outlet::Tasks(publisher) => publisher.loan(message.len()).await,
        };
        match draft {
            Ok(mut draft) => {
                draft.copy_from_slice(message);
                is_committed.then(|| draft.commit())
            }
            Err(error) => Some(Err(error)),
        }
    }

    async fn await_subscribers(&mut self, count: usize, limit: Duration) -> Option<Result<()>> {
        match self {
            Outlet::Blocking(publisher) => Some(publisher.wait_for_subscribers(count, limit)),
            Outlet::Tasks(publisher) => tokio::time::timeout(limit, publisher.wait_for_subscribers(count)).await.ok(),
        }
    }

    fn subscribers(&self) -> Vec<SubscriberState> {
        match self {
            Outlet::Blocking(publisher) => publisher.subscribers(),
            Outlet::Tasks(publisher) => publisher.subscribers(),
        }
    }

    fn stats(&self) -> PublisherStats {
        match self {
            Outlet::Blocking(publisher) => publisher.stats(),
            Outlet::Tasks(publisher) => publisher.stats(),
        }
    }

    /// What a forked child must be told.
    fn refuses_in_child(self) -> std::result::Result<(), String> {
        let outcome = match self {
            Outlet::Blocking(mut publisher) => publisher.try_send(&[]),
            Outlet::Tasks(mut publisher) => publisher.try_send(&[]),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
            other => Err(format!("try_send of a publisher in a forked child: {other:?}")),
        }
    }
}

fn builder(party: &Party, is_public: bool) -> PublisherBuilder {
    let overrun = match party.airing.patience_us {
        None => Overrun::DropOldest,
        Some(us) => Overrun::Wait(Duration::from_micros(us)),
    };
    let builder = Publisher::builder().history(party.slots).capacity(party.capacity).overrun(overrun);
    let builder = builder.max_holds(party.airing.max_holds).holds(party.airing.holds);
    let builder = if let Some(retain) = party.airing.retain { builder.retain(retain) } else { builder };
    let builder = if party.claim == Claim::Replacing { builder.replace(TIME_LIMIT) } else { builder };
    if is_public { builder.allow_everyone() } else { builder }
}

/// A publisher.
pub fn host(actor: &Actor) {
    assert!(actor.history.hosts().len() <= PUBLISHERS_MAX);
    let party = actor.party();
    let is_public = actor.history.parties.iter().any(|party| party.home == Home::OtherUser);
    actor.replaces();
    let publisher = match builder(party, is_public).bind(actor.stage.name()) {
        Ok(publisher) => publisher,
        Err(error) => return actor.complain(format!("bind: {error:?}")),
    };
    actor.stage.set(actor.me, Word::Bound, 1);
    let player = Player { actor, outlet: Outlet::Blocking(publisher), is_over: false };
    match party.face {
        Face::Blocking => blocking(player),
        face => in_tasks(player, 0, face),
    }
}

fn blocking(mut player: Player<'_>) {
    match poll_once(player.play(0)) {
        Some(Some(next)) => in_tasks(player, next, Face::Tasks),
        Some(None) => {}
        None => player.actor.complain("a blocking publisher waited for a reactor"),
    }
}

fn in_tasks(player: Player<'_>, from: usize, face: Face) {
    let Player { actor, outlet, is_over } = player;
    runtime(face).block_on(async {
        let outlet = match outlet {
            Outlet::Blocking(publisher) => wigwag::tokio::Publisher::from_blocking(publisher),
            Outlet::Tasks(publisher) => Ok(publisher),
        };
        match outlet {
            Ok(publisher) => {
                Player { actor, outlet: Outlet::Tasks(publisher), is_over }.play(from).await;
            }
            Err(error) => actor.complain(format!("from_blocking: {error:?}")),
        }
    });
}

struct Player<'a> {
    actor: &'a Actor,
    outlet: Outlet,
    /// Another one has its name.
    is_over: bool,
}

impl Player<'_> {
    /// Plays from a step on; from which one it goes on as a task.
    async fn play(&mut self, from: usize) -> Option<usize> {
        let Actor { stage, me, .. } = self.actor;
        for index in from..self.actor.party().steps.len() {
            match self.actor.begin(index) {
                Some(Step::BecomeTask) if matches!(self.outlet, Outlet::Blocking(_)) => return Some(index + 1),
                Some(step) if !self.is_over => self.step(step).await,
                _ => {}
            }
        }
        // From here on its subscribers may be told of the end.
        stage.set(*me, Word::ShutDownAt, stage.now());
        None
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish(len, how) => self.publish(len, how).await,
            Step::Draft(len, is_committed) => self.draft(len, is_committed).await,
            Step::Burst(count, len) => {
                for _ in 0..count {
                    self.publish(len, How::Forever).await;
                }
            }
            Step::AwaitSubscribers(count, us) => {
                match self.outlet.await_subscribers(count, Duration::from_micros(us)).await {
                    Some(Err(error)) if !matches!(error.kind(), ErrorKind::TimedOut { .. }) => self.failed(0, &error),
                    _ => {}
                }
            }
            Step::Count => self.count(),
            Step::Fork(fork) => forked(self.actor, fork, &self.outlet, Outlet::refuses_in_child),
            _ => {}
        }
    }

    /// The number of the next message, which may be published from now on.
    fn begin(&self, len: usize) -> Option<u64> {
        let number = self.actor.stage.read(self.actor.me, Word::Written) + 1;
        if self.is_over || number > MESSAGES_MAX {
            return None;
        }
        note(self.actor, number, len);
        Some(number)
    }

    async fn publish(&mut self, len: usize, how: How) {
        let Some(number) = self.begin(len) else { return };
        let message = message(self.actor.me, number, len);
        let outcome = self.outlet.publish(&message, how).await;
        self.end(number, len, outcome);
    }

    async fn draft(&mut self, len: usize, is_committed: bool) {
        let Some(number) = self.begin(len) else { return };
        let message = message(self.actor.me, number, len);
        let outcome = self.outlet.draft(&message, is_committed).await;
        self.end(number, len, outcome);
    }

    /// What came of publishing a message.
    fn end(&mut self, number: u64, len: usize, outcome: Option<Result<u64>>) {
        let Actor { stage, me, .. } = self.actor;
        match outcome {
            Some(Ok(told)) => {
                if told != number {
                    self.actor.complain(format!("message {number} was published under the number {told}"));
                }
                stage.set(*me, Word::Written, number);
                if self.actor.party().airing.patience_us.is_some() {
                    note_counted(self.actor, &self.outlet.subscribers(), number);
                }
                self.actor.progress();
            }
            Some(Err(error)) => {
                stage.set(*me, Word::MayHaveWritten, number - 1);
                self.failed(len, &error);
            }
            None => stage.set(*me, Word::MayHaveWritten, number - 1),
        }
        let counted = self.outlet.stats().published;
        let written = stage.read(*me, Word::Written);
        if counted != written {
            self.actor.complain(format!("{written} messages were published, and {counted} are counted"));
        }
    }

    fn failed(&mut self, len: usize, error: &wigwag::Error) {
        let party = self.actor.party();
        let waits = party.airing.patience_us.is_some();
        match error.kind() {
            ErrorKind::Full | ErrorKind::TimedOut { maybe_executed: false } if waits => {}
            ErrorKind::CapacityExceeded { .. } if len > party.capacity => {}
            ErrorKind::ServerClosed { .. } if self.actor.history.has_company() => {
                if self.actor.stage.read(self.actor.me, Word::ReplacedAt) == 0 {
                    self.actor.complain(format!("nobody has taken its name: {error:?}"));
                }
                self.is_over = true;
            }
            _ => self.actor.complain(format!("publishing {len} bytes: {error:?}")),
        }
    }

    /// Those who are over are no subscribers any more, however they ended.
    fn count(&mut self) {
        let Actor { stage, history, .. } = self.actor;
        let parties = || history.parties.iter().enumerate().filter(|(_, party)| party.role == Role::Guest);
        stage.wait_until(|| {
            let may_be = parties().filter(|(party, _)| stage.read(*party, Word::Over) == 0).count();
            // A party has a second session for a moment, when it comes again.
            self.outlet.stats().subscribers <= 2 * may_be
        });
    }
}
