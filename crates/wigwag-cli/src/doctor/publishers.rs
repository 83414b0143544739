//! The publishers: who listens, what each has lost, and what it keeps from its publisher or from others.
//!
//! One finding for each publisher and each kind of trouble, however many subscribers have it: those that have most of
//! it are named.

use std::time::Duration;

use wigwag::observe::{Board, Observer, Service, Session, Snapshot, Subscription};

use super::finding::{Report, Section::Servers};
use super::servers::plural;
use crate::output::count;
use crate::service_view::{is_stopped, printable};

/// How many subscribers a finding names.
const NAMED: usize = 3;

/// What may be so for a moment only is told if it is so at each of so many looks.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// Of the memory that is allowed, the share from which on it is told.
const NEAR_LIMIT: f64 = 0.9;

/// Tells what is to be said of a publisher that runs. `shown`: its name, as a word of a shell.
pub fn tell(shown: &str, observer: &Observer, snapshot: Snapshot, report: &mut Report) {
    let seen = Seen::of(observer, snapshot);
    let publisher = Publisher { shown, seen: &seen, service: observer.service() };
    publisher.summary(report);
    publisher.losses(report);
    publisher.stopped(report);
    publisher.waits(report);
    publisher.holds(report);
    publisher.cut_off(report);
    publisher.memory(report);
}

/// What was seen, at the last look, and what was so at each.
struct Seen {
    snapshot: Snapshot,
    /// Whether the publisher stood for a subscriber all the time.
    has_stood: bool,
}

impl Seen {
    /// Looks again if there is something that may be over in a moment.
    fn of(observer: &Observer, first: Snapshot) -> Seen {
        let mut seen = Seen { has_stood: stands(&first), snapshot: first };
        for _ in 1..LOOKS {
            if !seen.has_stood && outlived(&seen.snapshot) == 0 {
                break;
            }
            std::thread::sleep(PAUSE);
            let Ok(mut next) = observer.snapshot() else { break };
            seen.has_stood &= stands(&next) && next.published == seen.snapshot.published;
            for session in &mut next.sessions {
                let before = seen.snapshot.sessions.iter().find(|before| before.id == session.id);
                let before = before.and_then(|before| before.subscription.as_ref()).map_or(0, |it| it.outlived_holds);
                if let Some(now) = &mut session.subscription {
                    now.outlived_holds = now.outlived_holds.min(before);
                }
            }
            seen.snapshot = next;
        }
        seen
    }
}

/// Whether a publisher that waits has no room for its next message.
fn stands(snapshot: &Snapshot) -> bool {
    let Some(board) = snapshot.board.as_ref().filter(|board| board.is_lossless) else { return false };
    snapshot.sessions.iter().any(|session| is_waited_for(session, board))
}

/// Whether a subscriber has not read what the next message would replace.
fn is_waited_for(session: &Session, board: &Board) -> bool {
    session.is_trusted && session.subscription.as_ref().is_some_and(|it| it.lag > board.history)
}

fn outlived(snapshot: &Snapshot) -> u64 {
    snapshot.sessions.iter().filter_map(|session| Some(session.subscription.as_ref()?.outlived_holds)).sum()
}

struct Publisher<'a> {
    shown: &'a str,
    seen: &'a Seen,
    service: &'a Service,
}

impl Publisher<'_> {
    fn snapshot(&self) -> &Snapshot {
        &self.seen.snapshot
    }

    fn board(&self) -> Option<&Board> {
        self.snapshot().board.as_ref()
    }

    /// The subscribers that have some of what is counted, those with most of it first.
    fn those(&self, figure: impl Fn(&Session, &Subscription) -> u64) -> Vec<(&Session, u64)> {
        let figure = |session: &'_ Session| session.subscription.as_ref().map_or(0, |it| figure(session, it));
        let sessions = self.snapshot().sessions.iter();
        let mut those: Vec<_> = sessions.map(|it| (it, figure(it))).filter(|(_, figure)| *figure > 0).collect();
        those.sort_by_key(|(session, figure)| (std::cmp::Reverse(*figure), session.id));
        those
    }

    fn summary(&self, report: &mut Report) {
        let snapshot = self.snapshot();
        let keeps = self.board().map_or_else(String::new, |board| {
            let overrun = if board.is_lossless { "waits for who has not read them" } else { "waits for nobody" };
            format!("; it keeps {}, and {overrun}", plural(board.history, "message"))
        });
        let hidden = match snapshot.hidden() {
            0 => String::new(),
            // Of those who left after its last message, a publisher learns with the next one.
            hidden => format!("; {} of them gone or not to be looked at", count(hidden as u64)),
        };
        report.ok(
            Servers,
            "publisher",
            format!(
                "{}: {} published, {}{keeps}{hidden}",
                self.shown,
                plural(snapshot.published, "message"),
                plural(snapshot.sessions.len() as u64, "subscriber")
            ),
        );
    }

    /// Lost already, or lost once it looks: the publisher keeps less than it is behind.
    fn losses(&self, report: &mut Report) {
        let history = self.board().map_or(u64::MAX, |board| board.history);
        let is_lossless = self.board().is_some_and(|board| board.is_lossless);
        let losers = self.those(|session, it| {
            let is_kept_for = is_lossless && session.is_trusted;
            let gone = if is_kept_for { 0 } else { it.lag.saturating_sub(history) };
            it.lost.saturating_add(gone)
        });
        if losers.is_empty() {
            return;
        }
        let keeps = self.board().map_or_else(String::new, |board| format!(", now {}", count(board.history)));
        let among = |of: &Session| {
            let taken = of.subscription.as_ref().map_or(0, |it| it.received);
            format!("and has taken {}", count(taken))
        };
        report.note(
            Servers,
            "subscriber-loses",
            format!(
                "{} of {} cannot keep up: {}",
                plural(losers.len() as u64, "subscriber"),
                self.shown,
                named(&losers, |session, lost| format!("has lost {}, {}", plural(lost, "message"), among(session)))
            ),
            format!(
                "let it read faster, or the publisher keep more (--history{keeps}), or wait for it (--patience); each \
                 is told its losses with the next message"
            ),
        );
    }

    fn stopped(&self, report: &mut Report) {
        let stopped = self.those(|session, _| u64::from(is_stopped(session.peer.pid)));
        if stopped.is_empty() {
            return;
        }
        let cost = match self.board() {
            Some(board) if board.is_lossless => "its publisher waits for it for as long as its patience lasts",
            _ => "its publisher goes on, and it will lose what is published meanwhile",
        };
        let numbers: Vec<String> = stopped.iter().take(NAMED).map(|(it, _)| it.peer.pid.to_string()).collect();
        report.note(
            Servers,
            "subscriber-stopped",
            format!(
                "{} of {} stopped by a signal or a debugger: {}; {cost}",
                plural(stopped.len() as u64, "subscriber"),
                if stopped.len() == 1 { format!("{} is", self.shown) } else { format!("{} are", self.shown) },
                named(&stopped, |session, _| {
                    let lag = session.subscription.as_ref().map_or(0, |it| it.lag);
                    format!("is {} behind", plural(lag, "message"))
                })
            ),
            format!("kill -CONT {} lets it go on, unless a debugger holds it", numbers.join(" ")),
        );
    }

    fn waits(&self, report: &mut Report) {
        let Some(board) = self.board().filter(|_| self.seen.has_stood) else { return };
        let awaited = self.those(|session, it| if is_waited_for(session, board) { it.lag } else { 0 });
        report.note(
            Servers,
            "publisher-waits",
            format!(
                "{} does not publish: {} not read what its next message would replace: {}",
                self.shown,
                if awaited.len() == 1 { "1 subscriber has" } else { "some subscribers have" },
                named(&awaited, |_, lag| format!("is {} behind", plural(lag, "message")))
            ),
            format!(
                "let it read faster, or bind the publisher with more history (--history, now {}), or with less \
                 patience (--patience), after which it is cut off",
                count(board.history)
            ),
        );
    }

    fn holds(&self, report: &mut Report) {
        let holders = self.those(|_, it| it.outlived_holds);
        if !holders.is_empty() {
            report.note(
                Servers,
                "subscriber-holds",
                format!(
                    "{} of {} for longer than they are kept: {}; that is room in its pool, and who holds as many as it \
                     may gets no more",
                    if holders.len() == 1 { "1 subscriber holds messages" } else { "some subscribers hold messages" },
                    self.shown,
                    named(&holders, |_, held| format!("holds {}", count(held)))
                ),
                "drop each message once it is read, or copy it (Subscriber::recv_into)",
            );
        }
        // What all may hold is less than the pool's rest: that many seats are certainly not all there.
        let Some(board) = self.board() else { return };
        let rest = board.bodies.saturating_sub(board.history + 2);
        let own = self.snapshot().sessions.iter().filter(|session| session.is_trusted);
        let wanted = own.fold(0_u64, |sum, session| sum.saturating_add(session.slots));
        if board.bodies > 0 && wanted > rest {
            report.note(
                Servers,
                "subscribers-copy",
                format!(
                    "the pool of {} has room for fewer than {} messages that are held, and its subscribers may ask for \
                     {}: those that came last copy each message",
                    self.shown,
                    count(rest + 1),
                    count(wanted)
                ),
                "bind it with more holds in all (PublisherBuilder::max_holds), or fewer for each (holds)",
            );
        }
    }

    fn cut_off(&self, report: &mut Report) {
        if self.snapshot().cut_off == 0 {
            return;
        }
        report.note(
            Servers,
            "subscriber-cut-off",
            format!(
                "{} has cut off {} since it began: each kept it waiting for longer than its patience",
                self.shown,
                plural(self.snapshot().cut_off, "subscriber")
            ),
            "let them read faster, or bind it with more patience (--patience) or more history (--history); each was \
             told by an error",
        );
    }

    /// How much of the memory is in use that is allowed in all.
    fn memory(&self, report: &mut Report) {
        let Some(board) = self.board() else { return };
        let limit = self.service.limits.bytes_total;
        let sessions = self.snapshot().sessions.iter().fold(0_u64, |sum, it| sum.saturating_add(it.segment_bytes));
        let used = board.bytes.saturating_add(sessions);
        if (used as f64) < limit as f64 * NEAR_LIMIT {
            return;
        }
        report.note(
            Servers,
            "publisher-memory",
            format!(
                "{} may use {} bytes, and its pool of {} with its sessions of {} make {}: at the limit further \
                 subscribers are refused",
                self.shown,
                count(limit),
                count(board.bytes),
                count(sessions),
                count(used)
            ),
            format!(
                "keep fewer messages (--history, now {}) or shorter ones (--capacity, now {}), or raise the limit \
                 (PublisherBuilder::max_bytes_total)",
                count(board.history),
                count(board.capacity)
            ),
        );
    }
}

/// The first of them, by program and process, with what is to be said of each.
fn named(those: &[(&Session, u64)], what: impl Fn(&Session, u64) -> String) -> String {
    let one = |(session, figure): &(&Session, u64)| {
        let program = session.program().map_or_else(|| "process".to_owned(), |program| printable(&program));
        format!("{program} {} {}", session.peer.pid, what(session, *figure))
    };
    let mut texts: Vec<String> = those.iter().take(NAMED).map(one).collect();
    if those.len() > NAMED {
        texts.push(format!("and {} more", count((those.len() - NAMED) as u64)));
    }
    texts.join(", ")
}
