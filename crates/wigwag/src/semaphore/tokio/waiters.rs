//! The tasks of this process that wait at one semaphore, and the thread that sleeps for them.
//!
//! A task that finds no permit lines up in the wait queue by itself, and leaves it by itself: when it has its permit,
//! or when its future is dropped. So other processes see each task in its place, and nothing of one that is gone. What
//! a task cannot do is to sleep on its word: a word is rung by a futex, which no reactor can watch. So one thread does,
//! for all tasks that wait at the semaphore. It begins with the first task that has to wait, and sleeps without a limit
//! while none does.
//!
//! **One word is enough.** Whoever gives a permit back calls waiters in the order of their tickets. So of the tasks of
//! a process that have not been called, the one with the lowest ticket is called first, and the thread sleeps on the
//! word of that one. When it wakes, it wakes all tasks that were called, and goes on to the next.
//!
//! **The thread is moved** by a change of the word that it sleeps on, or is about to: so it cannot be missed.
//!
//! - A task that was called and got nothing announces itself anew. If its ticket is lower than that of the word on
//!   which the thread sleeps, it calls that word falsely ([`PermitTable::call_falsely`]). The thread takes the false
//!   call back as a waiter would: it announces, and looks whether it is this task's turn.
//! - A task that leaves while the thread sleeps on its word marks it, so that nobody counts it any more
//!   ([`PermitTable::give_up`]). The thread leaves the slot: before that it must not be another waiter's, whose ring
//!   the thread would take.
//!
//! The thread also does for all what a blocking waiter does between two sleeps: it looks after the dead, after those
//! that were called and did not come, and after the name.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::faults::{self, Fault};
use crate::permits::table::{PermitTable, Waiter};
use crate::semaphore::semaphore::{FAIR_AFTER, SLICE, SOON, Semaphore};
use crate::sync;
use crate::sys::futex;

/// How many tasks of this process stand in the wait queue at a time. Its slots are few and for all processes; those
/// beyond stand in a queue of this process, in the order in which they came.
const LINED_UP_MAX: usize = 128;
/// How often a task that found no free waiter slot looks for one.
const SLOT_PAUSE: Duration = Duration::from_millis(1);

/// All tasks that wait at a semaphore through one handle and its clones.
pub(super) struct Waiters {
    semaphore: Arc<Semaphore>,
    gate: tokio::sync::Semaphore,
    /// The longest sleep of the thread before it looks itself.
    slice: Duration,
    state: Mutex<State>,
    /// The thread waits here while there is no word to sleep on.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By their tickets.
    tasks: BTreeMap<u64, Task>,
    /// Those that found no waiter slot, by numbers.
    without_slot: BTreeMap<u64, Waker>,
    last_number: u64,
    /// The ticket of the task on whose word the thread sleeps, or is about to.
    asleep_on: Option<u64>,
    /// Its waiter, if it is gone: the thread leaves its slot.
    given_up: Option<Waiter>,
    is_parked: bool,
    is_over: bool,
    thread: Option<JoinHandle<()>>,
}

struct Task {
    waiter: Waiter,
    began: Instant,
    waker: Option<Waker>,
    /// It was woken, and has not been polled since: the thread has nothing to sleep for.
    is_woken: bool,
    is_called_falsely: bool,
}

/// What the thread does next.
enum Step {
    /// Wakes these tasks, and calls whoever is next if it left a slot.
    Wake(Vec<Waker>, bool),
    /// Sleeps on the word of the task with this ticket.
    Sleep(u64, Duration),
    /// Has no word to sleep on; `None`: and nobody waits.
    Park(Option<Duration>),
}

impl Waiters {
    pub fn new(semaphore: Arc<Semaphore>) -> Arc<Waiters> {
        Waiters::with_slice(semaphore, SLICE)
    }

    fn with_slice(semaphore: Arc<Semaphore>, slice: Duration) -> Arc<Waiters> {
        let gate = tokio::sync::Semaphore::new(LINED_UP_MAX);
        Arc::new(Waiters { semaphore, gate, slice, state: Mutex::default(), changed: Condvar::new() })
    }

    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// Waits until `take` has taken what was needed. A future that is dropped has taken nothing and waits no more.
    pub async fn wait(self: &Arc<Self>, need: u32, take: &mut (dyn FnMut() -> bool + Send)) -> Result<()> {
        let _place_in_process = self.gate.acquire().await.ok(); // it is never closed
        let mut place = Place { waiters: self, need, standing: Standing::Nowhere };
        std::future::poll_fn(|context| place.poll_take(context, take)).await
    }

    /// Ends the thread, and waits until it has let the semaphore go. Nobody waits any more.
    pub fn end(&self) {
        if self.semaphore.is_forked() {
            return; // the thread is the parent's, and the lock may have been held by another of its threads
        }
        let mut state = self.lock();
        state.is_over = true;
        let thread = state.thread.take();
        state.move_thread(self.table(), |_| true); // a future that was forgotten may have left it on its word
        self.unpark(&state);
        drop(state);
        // The last task may have been dropped by the thread, with its waker.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }

    fn table(&self) -> PermitTable<'_> {
        self.semaphore.table()
    }

    /// Nothing panics while it is held, and no waker is dropped: that could drop another task, which would lock it.
    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    fn unpark(&self, state: &State) {
        if state.is_parked {
            self.changed.notify_one();
        }
    }

    /// Begins the thread, if it does not run.
    fn begin(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if state.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        let waiters = Arc::clone(self);
        let thread = thread::Builder::new().name("wigwag-permits".into()).spawn(move || waiters.run());
        state.thread =
            Some(thread.map_err(|error: io::Error| Error::io("start the thread that waits for permits", error))?);
        Ok(())
    }

    /// Takes a waiter out of the queue. The caller goes on with `call_next`, without the lock.
    fn leave(&self, state: &mut State, waiter: Waiter) {
        let table = self.table();
        if state.asleep_on == Some(waiter.ticket()) {
            table.give_up(&waiter);
            futex::ring(table.call_of(&waiter));
            state.given_up = Some(waiter);
        } else {
            table.leave(waiter);
        }
    }

    // ---- the thread -------------------------------------------------------------------------------------------------

    fn run(&self) {
        loop {
            let mut state = self.lock();
            state.asleep_on = None;
            if state.is_over && state.given_up.is_none() {
                return;
            }
            match self.next_step(&mut state) {
                Step::Wake(wakers, has_left) => {
                    drop(state);
                    if has_left {
                        self.semaphore.call_next();
                    }
                    wakers.into_iter().for_each(Waker::wake);
                }
                Step::Sleep(ticket, limit) => {
                    let word = self.table().call_of(&state.tasks[&ticket].waiter);
                    state.asleep_on = Some(ticket);
                    drop(state);
                    if futex::sleep(word, 0, limit) {
                        self.look_after();
                    }
                }
                Step::Park(limit) => {
                    state.is_parked = true;
                    let (mut state, has_timed_out) = match limit {
                        Some(limit) => {
                            let waited = self.changed.wait_timeout(state, limit);
                            let (state, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
                            (state, timeout.timed_out())
                        }
                        None => (self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner), false),
                    };
                    state.is_parked = false;
                    drop(state);
                    if has_timed_out {
                        self.look_after();
                    }
                }
            }
        }
    }

    fn next_step(&self, state: &mut State) -> Step {
        let table = self.table();
        let left = state.given_up.take();
        let has_left = left.is_some();
        left.into_iter().for_each(|waiter| table.leave(waiter));
        let mut wakers = Vec::new();
        for task in state.tasks.values_mut() {
            let mut is_called = table.is_called(&task.waiter);
            if mem::take(&mut task.is_called_falsely) {
                table.announce(&task.waiter);
                is_called = table.is_next(&task.waiter);
            }
            if is_called && !task.is_woken {
                task.is_woken = true;
                wakers.extend(task.waker.take());
            }
        }
        if has_left || !wakers.is_empty() {
            return Step::Wake(wakers, has_left);
        }
        let longest = if state.without_slot.is_empty() { self.slice } else { SLOT_PAUSE };
        let Some((ticket, task)) = state.tasks.iter().find(|(_, task)| !task.is_woken) else {
            let is_idle = state.tasks.is_empty() && state.without_slot.is_empty();
            return Step::Park((!is_idle).then_some(longest));
        };
        // As a blocking waiter: the first sleep is no longer than until barging may be forbidden.
        let until_fair = FAIR_AFTER.saturating_sub(task.began.elapsed());
        if !until_fair.is_zero() {
            return Step::Sleep(*ticket, until_fair.min(longest));
        }
        table.close();
        let is_soon = table.is_behind_called(&task.waiter) && !table.is_next(&task.waiter);
        Step::Sleep(*ticket, if is_soon { SOON.min(longest) } else { longest })
    }

    /// Between two sleeps: looks after the dead, the late and the name, and gives those without a slot another look.
    fn look_after(&self) {
        let has_name = self.semaphore.look_after_others().is_ok();
        let mut state = self.lock();
        let mut wakers: Vec<Waker> = mem::take(&mut state.without_slot).into_values().collect();
        if !has_name {
            for task in state.tasks.values_mut() {
                task.is_woken = true;
                wakers.extend(task.waker.take()); // each finds that out by itself
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Takes the thread from the word on which it sleeps, if that is not the right one any more.
    fn move_thread(&mut self, table: PermitTable<'_>, is_wrong: impl FnOnce(u64) -> bool) {
        let Some(asleep_on) = self.asleep_on.filter(|ticket| is_wrong(*ticket)) else { return };
        // If it is not there, it is gone, and the thread has been told.
        if let Some(task) = self.tasks.get_mut(&asleep_on)
            && table.call_falsely(&task.waiter)
        {
            task.is_called_falsely = true;
            futex::ring(table.call_of(&task.waiter));
        }
    }
}

/// Where one task stands. Dropping it leaves the queue.
struct Place<'a> {
    waiters: &'a Arc<Waiters>,
    need: u32,
    standing: Standing,
}

enum Standing {
    Nowhere,
    /// It found no waiter slot; its number.
    WithoutSlot(u64),
    /// Its ticket.
    InLine(u64),
}

impl Place<'_> {
    /// Looks, and says before that it will sleep: as a blocking waiter does before each sleep.
    fn poll_take(&mut self, context: &mut Context<'_>, take: &mut (dyn FnMut() -> bool + Send)) -> Poll<Result<()>> {
        let semaphore = self.waiters.semaphore();
        if semaphore.is_forked() {
            return Poll::Ready(Err(Error::forked()));
        }
        let waker = context.waker().clone();
        if !matches!(self.standing, Standing::InLine(_)) && !self.line_up(&waker)? {
            return Poll::Pending;
        }
        let Standing::InLine(ticket) = self.standing else { return Poll::Pending };
        let table = semaphore.table();
        let mut state = self.waiters.lock();
        let Some(task) = state.tasks.get_mut(&ticket) else { return Poll::Pending };
        table.announce(&task.waiter);
        if table.is_next(&task.waiter) && take() {
            return Poll::Ready(Ok(())); // it leaves when it is dropped, at once
        }
        let old = task.waker.replace(waker);
        task.is_woken = false;
        let lowest = state.tasks.iter().find(|(_, task)| !task.is_woken).map(|(ticket, _)| *ticket);
        state.move_thread(table, |asleep_on| lowest.is_some_and(|lowest| lowest < asleep_on));
        self.waiters.unpark(&state);
        drop(state);
        drop(old);
        semaphore.look_at_name()?;
        Poll::Pending
    }

    /// Takes a waiter slot. If none is free, it is woken after a pause.
    fn line_up(&mut self, waker: &Waker) -> Result<bool> {
        let semaphore = self.waiters.semaphore();
        let mut state = self.waiters.lock();
        self.waiters.begin(&mut state)?;
        let Some(waiter) = semaphore.line_up_now(self.need) else {
            let number = match self.standing {
                Standing::WithoutSlot(number) => number,
                _ => state.last_number + 1,
            };
            state.last_number = state.last_number.max(number);
            self.standing = Standing::WithoutSlot(number);
            let old = state.without_slot.insert(number, waker.clone());
            // The thread sleeps for too long, if it sleeps.
            state.move_thread(semaphore.table(), |_| true);
            self.waiters.unpark(&state);
            drop(state);
            drop(old);
            return Ok(false);
        };
        let old = match self.standing {
            Standing::WithoutSlot(number) => state.without_slot.remove(&number),
            _ => None,
        };
        let ticket = waiter.ticket();
        self.standing = Standing::InLine(ticket);
        // Until it has announced itself and looked, there is nothing to wake it for.
        let task = Task { waiter, began: Instant::now(), waker: None, is_woken: true, is_called_falsely: false };
        state.tasks.insert(ticket, task);
        drop(state);
        drop(old);
        semaphore.pass_over_the_late(); // from here on it is known since when a call stands unanswered
        Ok(true)
    }

    fn leave(&mut self) {
        let mut state = self.waiters.lock();
        match mem::replace(&mut self.standing, Standing::Nowhere) {
            Standing::Nowhere => {}
            Standing::WithoutSlot(number) => {
                let waker = state.without_slot.remove(&number);
                drop(state);
                drop(waker);
            }
            Standing::InLine(ticket) => {
                let Some(Task { waiter, waker, .. }) = state.tasks.remove(&ticket) else { return };
                let semaphore = self.waiters.semaphore();
                if faults::is(Fault::CancelledPermit) && semaphore.table().is_called(&waiter) {
                    let _ = semaphore.table().take(semaphore.me());
                }
                self.waiters.leave(&mut state, waiter);
                drop(state);
                semaphore.call_next(); // it may have been called in the last moment
                drop(waker);
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // In a forked child all of it is the parent's, also the lock.
        if !matches!(self.standing, Standing::Nowhere) && !self.waiters.semaphore().is_forked() {
            self.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use wigwag_testing::{LIMIT, eventually, temporary_name, word};

    use super::*;
    use crate::permits::table::Taken;

    /// Longer than any test: whatever is lost is lost for good.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn open(name: &Path) -> Arc<Waiters> {
        Waiters::with_slice(Arc::new(Semaphore::open(name, 1).unwrap()), FOR_EVER)
    }

    /// Has a permit, and gives it back.
    async fn pass_through(waiters: &Arc<Waiters>) -> Result<()> {
        let semaphore = waiters.semaphore();
        let mut taken = semaphore.try_take()?;
        if taken.is_none() {
            waiters
                .wait(1, &mut || {
                    taken = semaphore.table().take(semaphore.me());
                    taken.is_some()
                })
                .await?;
        }
        let permit = semaphore.permit(taken.unwrap())?;
        tokio::task::yield_now().await;
        drop(permit);
        Ok(())
    }

    #[test]
    fn a_task_that_was_called_in_vain_is_woken_again_although_the_thread_sleeps_for_a_later_one() {
        let name = temporary_name("permits");
        let waiters = open(&name.path);
        let semaphore = waiters.semaphore();
        let other = Semaphore::open(&name.path, 1).unwrap();
        let permit = other.acquire().unwrap();
        let wakers: [Arc<Counting>; 2] = Default::default();
        let woken = |index: usize| wakers[index].0.load(Ordering::SeqCst);
        let mut taken = [None, None];
        let [one, two] = &mut taken;
        let mut first = || {
            *one = semaphore.table().take(semaphore.me());
            one.is_some()
        };
        let mut second = || {
            *two = semaphore.table().take(semaphore.me());
            two.is_some()
        };
        let mut tasks =
            [pin!(waiters.wait(1, &mut first)) as Pin<&mut dyn Future<Output = _>>, pin!(waiters.wait(1, &mut second))];
        let mut poll = |index: usize| {
            let waker = Waker::from(Arc::clone(&wakers[index]));
            tasks[index].as_mut().poll(&mut Context::from_waker(&waker))
        };
        assert!(poll(0).is_pending() && poll(1).is_pending());
        let tickets: Vec<u64> = waiters.lock().tasks.keys().copied().collect();
        let sleeps_for = |ticket| {
            let state = waiters.lock();
            state.asleep_on == Some(ticket) && state.tasks[&ticket].began.elapsed() > 4 * FAIR_AFTER
        };
        eventually("the thread sleeps for the first", || sleeps_for(tickets[0]));
        thread::sleep(10 * FAIR_AFTER); // it has closed the door, and sleeps for ever
        drop(permit);
        // Somebody passes, as one may who does not see the closed door yet: so the second is not called as well.
        let barged = other.table().take(other.me()).unwrap();
        eventually("the first was called, and the thread sleeps for the second", || {
            woken(0) == 1 && sleeps_for(tickets[1])
        });
        thread::sleep(10 * FAIR_AFTER); // that is for ever, now
        assert!(poll(0).is_pending());
        eventually("the thread sleeps for the first again", || sleeps_for(tickets[0]));
        other.give_back(barged);
        eventually("the first is called again", || woken(0) == 2);
        assert!(poll(0).is_ready());
        semaphore.give_back(Taken { index: 0, recovered: false });
    }

    #[test]
    fn nothing_is_lost_where_futures_are_dropped_at_any_point_and_no_slice_makes_up_for_it() {
        let name = temporary_name("permits");
        let openings = [open(&name.path), open(&name.path)];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let tasks = (0..12).map(|task| {
            let waiters = Arc::clone(&openings[task % 2]);
            runtime.spawn(async move {
                for round in 0..300 {
                    let random = word(task as u64, round);
                    let passing = pass_through(&waiters);
                    match random % 3 {
                        0 => passing.await.unwrap(),
                        _ => {
                            let limit = Duration::from_micros(random / 4 % 200);
                            let _ = tokio::time::timeout(limit, passing).await;
                        }
                    }
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        runtime.block_on(async {
            for task in tasks {
                tokio::time::timeout(LIMIT, task).await.expect("a wake-up was lost").unwrap();
            }
        });
        eventually("all is as in the beginning", || {
            let semaphore = openings[0].semaphore();
            semaphore.try_acquire().is_ok() && semaphore.table().is_quiet()
        });
        openings.iter().for_each(|waiters| waiters.end());
    }
}
