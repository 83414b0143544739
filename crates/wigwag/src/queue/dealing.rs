//! How a blocking sender waits where several receivers share the name.

use std::hint;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::queue::event_loop::LoopDescriptor;
use crate::queue::group::{Awaited, Group};
use crate::queue::producer::{Producer, Room};
use crate::queue::sender::Sender;
use crate::stats::SenderStats;
use crate::wait::deadline::Deadline;
use crate::wait::policy::Wait;
use crate::wait::runtime_guard;
use crate::wait::waiter::{self, SPINS_BEFORE_CLOCK};

/// How long connecting waits for those who share the name besides the first: one that is stopped is not waited for.
const OTHERS_JOIN: Duration = Duration::from_millis(100);

impl Sender {
    /// If the receiver that was found shares its name, all others are found, too: now, or if there is no descriptor for
    /// that, when the receiver is looked after next. Until then it gets everything.
    #[cold]
    pub(super) fn join_all_in_time(&mut self) -> Result<()> {
        match self.join_all() {
            Err(error) if error.kind() == ErrorKind::Io => Ok(()),
            outcome => outcome,
        }
    }

    /// The same at once.
    #[cold]
    pub(super) fn join_all(&mut self) -> Result<()> {
        if self.group.is_some() || self.producer.member() == 0 {
            return Ok(());
        }
        let mut group = Group::new(&self.producer)?;
        group.tend(&mut self.producer)?;
        self.group = Some(Box::new(group));
        self.loop_descriptor.iter_mut().for_each(LoopDescriptor::has_changed);
        Ok(())
    }

    /// Waits for those who are there already, so that the first messages are not all for one of them.
    pub(super) fn await_others(&mut self) -> Result<()> {
        let Some(group) = self.group.as_deref_mut() else { return Ok(()) };
        let until = Instant::now() + OTHERS_JOIN;
        while group.is_joining() && Instant::now() < until {
            group.sleep(&mut self.producer, Awaited::Acknowledgements, Some(until))?;
        }
        Ok(())
    }

    /// Takes that session in hand which is to have the next message, and waits until there is one.
    #[cold]
    pub(super) fn make_room_in_group(&mut self, deadline: Deadline) -> Result<()> {
        let Some(group) = self.group.as_deref_mut() else { return Ok(()) };
        match group.choose(&mut self.producer)? {
            Room::There => return Ok(()),
            Room::Full | Room::Gone => group.begin_call(),
        }
        let mut was_last_look = false;
        loop {
            group.tend(&mut self.producer)?;
            let room = group.choose(&mut self.producer)?;
            let trouble = group.take_trouble();
            match (room, trouble) {
                (Room::There, _) => return Ok(()),
                (Room::Gone, Some(error)) => return Err(error),
                (Room::Full, _) if matches!(deadline, Deadline::Now) => return Err(self.why_group_is_full()),
                (Room::Gone, None) if matches!(deadline, Deadline::Now) => {
                    return Err(not_running(group.not_yet(&self.producer)));
                }
                (Room::Full, _) if was_last_look => return Err(self.group_timed_out(false)),
                (Room::Gone, None) if was_last_look => {
                    let error = group.not_yet(&self.producer).to_string();
                    return Err(Error::new(ErrorKind::TimedOut { maybe_executed: false }, error));
                }
                _ => {}
            }
            was_last_look = deadline.is_over();
            wait(group, &mut self.producer, Awaited::Room, deadline)?;
        }
    }

    /// Whether there is room, in the session that is then in hand, or all is acknowledged; an error if there is nobody.
    pub(super) fn is_there(&mut self, awaited: Awaited) -> Result<bool> {
        let Some(group) = self.group.as_deref_mut() else { return Ok(true) };
        let (is_there, needs_all) = match awaited {
            Awaited::Room => match group.choose(&mut self.producer)? {
                Room::There => (true, false),
                Room::Full => (false, false),
                Room::Gone => (false, true),
            },
            Awaited::Acknowledgements => (group.is_done(&mut self.producer)?, true),
        };
        match group.take_trouble().filter(|_| needs_all && !is_there) {
            Some(error) => Err(error),
            None => Ok(is_there),
        }
    }

    /// A task begins to wait.
    #[cfg(all(feature = "tokio", not(loom)))]
    pub(super) fn begin_group_call(&mut self) {
        self.group.iter_mut().for_each(|group| group.begin_call());
    }

    /// Does what is due.
    pub(super) fn tend_group(&mut self) -> Result<()> {
        let Some(group) = self.group.as_deref_mut() else { return Ok(()) };
        group.tend(&mut self.producer)
    }

    /// Asks for a ring; `false`: there is nothing to wait for.
    pub(super) fn ask_group(&mut self, awaited: Awaited) -> Result<bool> {
        let Some(group) = self.group.as_deref_mut() else { return Ok(false) };
        let is_watched = awaited != Awaited::Room || group.watch_for_more();
        Ok(is_watched && group.ask(&mut self.producer, awaited)?)
    }

    /// For an event loop: whether there is something to wait for, of which the group's poller tells.
    pub(super) fn arm_group(&mut self, awaited: Awaited) -> Result<bool> {
        loop {
            if self.is_there(awaited)? {
                return Ok(false);
            }
            if self.ask_group(awaited)? {
                return Ok(true);
            }
            // Somebody has come, or is looked out for only from now on: one more look.
            self.tend_group()?;
        }
    }

    /// Waits until all receivers have acknowledged all.
    pub(super) fn flush_group(&mut self, deadline: Deadline) -> Result<()> {
        let Some(group) = self.group.as_deref_mut() else { return Ok(()) };
        group.begin_call();
        let mut was_last_look = false;
        loop {
            group.tend(&mut self.producer)?;
            if group.is_done(&mut self.producer)? || self.is_lingering && !group.has_left_something(&mut self.producer)
            {
                return Ok(());
            }
            if let Some(error) = group.take_trouble() {
                return Err(error);
            }
            if was_last_look {
                return Err(self.group_timed_out(true));
            }
            was_last_look = deadline.is_over();
            wait(group, &mut self.producer, Awaited::Acknowledgements, deadline)?;
        }
    }

    /// Whether all that was sent is acknowledged, by one receiver or by all who share the name.
    pub(super) fn is_all_acknowledged(&mut self) -> Result<bool> {
        match self.group.as_deref_mut() {
            Some(group) => group.is_done(&mut self.producer),
            None => Ok(self.producer.newest_open()?.is_none()),
        }
    }

    /// How many messages no receiver has acknowledged.
    pub(super) fn open(&self) -> usize {
        self.producer.unacknowledged() + self.group.as_deref().map_or(0, Group::unacknowledged)
    }

    /// What all sessions have counted.
    pub(super) fn all_stats(&self) -> SenderStats {
        let stats = self.producer.stats();
        self.group.as_deref().map_or(stats, |group| stats.and(&group.stats()))
    }

    #[cold]
    pub(super) fn why_group_is_full(&self) -> Error {
        let receivers = self.group.as_deref().map_or(0, |group| group.len(&self.producer));
        Error::new(
            ErrorKind::Full,
            format!(
                "all {} places at each of the {receivers} receivers that share the name are taken by messages that \
                 are not acknowledged; acknowledge some, start more receivers, or connect with more places \
                 (SenderBuilder::slots)",
                self.slots()
            ),
        )
    }

    #[cold]
    fn group_timed_out(&self, maybe_executed: bool) -> Error {
        let receivers = self.group.as_deref().map_or(0, |group| group.len(&self.producer));
        let sentence = format!(
            "{} messages at {receivers} receivers that share the name were not acknowledged within the time allowed",
            self.open()
        );
        Error::new(ErrorKind::TimedOut { maybe_executed }, sentence)
    }
}

/// Waits a while for what is awaited: it may have come, or something else has.
fn wait(group: &mut Group, producer: &mut Producer, awaited: Awaited, deadline: Deadline) -> Result<()> {
    let policy = producer.options().wait;
    if policy != Wait::Park {
        group.expect(producer, awaited)?;
        for _ in 0..SPINS_BEFORE_CLOCK {
            if group.has_come(producer) {
                return Ok(());
            }
            hint::spin_loop();
        }
        if waiter::spin_for(SPIN, || Ok::<_, Error>(group.has_come(producer)))? {
            return Ok(());
        }
    }
    if policy == Wait::Spin {
        return Ok(()); // the caller looks at the rest, and comes back
    }
    if !group.ask(producer, awaited)? {
        return Ok(());
    }
    runtime_guard::is_about_to_sleep("waiting for a reply or a slot");
    group.sleep(producer, awaited, deadline.as_instant())
}

/// How long it is spun before a sleep: some two sleeps' worth of waking.
const SPIN: Duration = Duration::from_micros(20);

/// Who does not wait has not run out of time.
fn not_running(error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut { .. } => Error::new(ErrorKind::NotRunning, error.to_string()),
        _ => error,
    }
}
