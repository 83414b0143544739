//! A history as a value: who takes part, and what each of them does, step by step.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;

/// Which form of the library a history is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// Requests and replies.
    Exchange,
    /// Messages one way.
    Queue,
    /// Bytes both ways.
    Stream,
    /// Permits.
    Semaphore,
}

/// All forms; a history's seed modulo their number is its form.
pub const FORMS: [Form; 4] = [Form::Exchange, Form::Queue, Form::Stream, Form::Semaphore];

impl Form {
    /// The form of the history with that seed.
    pub fn of(seed: u64) -> Form {
        FORMS[(seed % FORMS.len() as u64) as usize]
    }
}

/// A history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// What it was generated from, and what replays it.
    pub seed: u64,
    /// What it is of.
    pub form: Form,
    /// What a payload is.
    pub dialect: Dialect,
    /// The parties. A party is known by its number, its place here, also when others before it are idle.
    pub parties: Vec<Party>,
}

/// One who takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Party {
    /// What it is there for.
    pub role: Role,
    /// Where it runs.
    pub home: Home,
    /// Which face of the library it uses.
    pub face: Face,
    /// What it asks for, or grants: slots, or permits, or nothing of a stream.
    pub slots: usize,
    /// What it asks for, or grants, in bytes: of a payload, or of a ring.
    pub capacity: usize,
    /// Of a host: the sessions that it has at most; 0: as many as come.
    pub limit: usize,
    /// Of an exchange: the descriptors that it lets travel with a call and its reply; 0: it does not ask for any.
    pub descriptors: usize,
    /// Of a guest: it waits for its host however long that takes, as one comes that stays.
    pub is_patient: bool,
    /// Of a client: it speaks protocol version 1, by hand.
    pub is_of_version_1: bool,
    /// Of a host: how many microseconds pass before it takes the name.
    pub delay_us: u64,
    /// What it does, in this order.
    pub steps: Vec<Step>,
}

/// What a party is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A server, receiver or listener: takes the name. If there are several, one comes after the other.
    Host,
    /// A client, sender, connector, or one who wants permits.
    Guest,
    /// Kills, stops and shuts down others.
    Director,
}

/// Where a party runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Home {
    /// A thread of the process that runs the history.
    Thread,
    /// A process of its own.
    Process,
    /// A process of another user.
    OtherUser,
}

/// Which face of the library a party uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Face {
    /// The blocking one.
    Blocking,
    /// Tasks, on a runtime of one thread.
    Tasks,
    /// Tasks, on a runtime of two threads.
    TasksOnThreads,
}

/// What a request asks its handler to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum HandlerAction {
    /// Every byte after the head inverted.
    Invert,
    /// The same, after a while.
    InvertLater,
    /// A reply of another length.
    Resize,
    /// An error.
    Fail,
    /// A panic; of a handler for tasks, before its future exists.
    Panic,
    /// A panic; of a handler for tasks, within its future.
    PanicLater,
    /// The error of a call that somebody else has answered, where the server takes requests itself; otherwise as
    /// `Fail`.
    FailAs,
    /// As `Invert`, after a while that is always the same for the same client, so that it learns how long that is.
    InvertSteadily,
}

/// All actions, by their numbers.
pub const HANDLER_ACTIONS: [HandlerAction; 8] = [
    HandlerAction::Invert,
    HandlerAction::InvertLater,
    HandlerAction::Resize,
    HandlerAction::Fail,
    HandlerAction::Panic,
    HandlerAction::PanicLater,
    HandlerAction::FailAs,
    HandlerAction::InvertSteadily,
];

/// How something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// As long as it takes.
    Forever,
    /// Not at all.
    Try,
    /// For so many microseconds.
    For(u64),
    /// Of a task: the future is polled once and dropped. Otherwise as `Try`.
    PolledOnce,
}

/// What becomes of what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Answered, or acknowledged.
    Done,
    /// Dropped: acknowledged, or unanswered.
    Dropped,
    /// Failed, or given back.
    Back,
    /// Kept, until [`Step::Release`].
    Held,
    /// Dropped in a panic: given back, or unanswered.
    Panicked,
    /// Done by another thread.
    Elsewhere,
}

/// How bytes are written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// One buffer.
    Plain,
    /// Several buffers at once.
    Vectored,
    /// In the ring itself: `write_buf` and `commit`, `fill_buf` and `consume`.
    InPlace,
    /// As much as it takes: `write_all`, `read_exact`.
    Whole,
    /// Of a task: waits until it is ready, then tries: `readable` and `try_read`, `writable` and `try_write`.
    WhenReady,
}

/// What a forked child does with what it has inherited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fork {
    /// Nothing: it ends.
    End,
    /// Drops it.
    Drop,
    /// Calls it, and must be told that it cannot.
    Call,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Sleeps for so many microseconds.
    Pause(u64),
    /// Waits until a party has begun its step with that number, or is done; not for long, as that one may wait for
    /// this.
    Await(usize, usize),
    /// The same, however long it takes.
    AwaitSurely(usize, usize),
    /// The director: SIGKILL.
    Kill(usize),
    /// The director: SIGSTOP.
    Stop(usize),
    /// The director: SIGCONT.
    Continue(usize),
    /// The director: an orderly shutdown of a host.
    ShutDown(usize),

    /// A server: serves until the shutdown, on so many threads, or with up to so many handlers at a time.
    Serve(usize),
    /// A server for tasks: serves, and drops the future after so many microseconds. Otherwise as `Take`.
    ServeFor(u64),
    /// A server or receiver: takes one.
    Take(How, Fate),
    /// A receiver: takes up to so many at once.
    TakeBatch(usize, How, Fate),
    /// A server or receiver: what is held is done with. One who keeps permits: gives them back.
    Release,
    /// A server or receiver: takes all there is until the end is told, and does with each of them so; then asks again.
    Drain(Fate),
    /// A receiver: none of ours, but one that grants so many slots of so many bytes whatever it is asked for, and ends.
    Lie(usize, usize),
    /// A host: begins its own shutdown.
    ShutDownSelf,

    /// A client: a call with so many bytes.
    Call(usize, HandlerAction, How),
    /// A client: memory, dropped unsent.
    Loan(usize, How),
    /// A client: passes a request and goes on.
    Pass(usize, HandlerAction, How),
    /// A client: the oldest call that is under way.
    Collect(How),
    /// A client: forgets the oldest call that is under way.
    Forget,
    /// A client: as many calls at once as there are slots, and waits for all.
    Volley(HandlerAction),
    /// A blocking client: so many calls that are answered at once, after others that took long.
    Hurry(usize),
    /// A client or sender: a session of its own, with which it goes on. Of a client the former one is closed.
    Clone,
    /// A blocking client, sender or stream becomes one for tasks.
    BecomeTask,

    /// A sender: a message of so many bytes.
    Send(usize, How),
    /// A sender: so many messages of so many bytes.
    SendBatch(usize, usize),
    /// A sender: writes a message in place, and commits it or drops it.
    MessageLoan(usize, bool),
    /// A sender: waits until everything is acknowledged.
    Flush(How),

    /// An end of a stream: writes so many bytes.
    Write(usize, Way),
    /// An end of a stream: reads so many bytes.
    Read(usize, Way),
    /// An end of a stream: shuts down its writing.
    EndWriting,
    /// An end of a stream: reads until the end.
    ReadToEnd,
    /// An end of a stream: splits, and writes and reads in two threads or tasks from now on: so many bytes.
    Both(usize),
    /// An end of a stream for tasks: splits, writes and reads so many bytes at the same time, for a moment, and puts
    /// the halves together.
    Reunite(usize),
    /// A listener: accepts when there are so many descriptors left.
    AcceptWith(u64),

    /// A client or sender: so many sessions at once, which all ask or send in each of so many rounds.
    Crowd(usize, usize),

    /// Takes so many permits, and keeps them for so many microseconds.
    Acquire(usize, How, u64),
    /// Takes so many owned permits, and keeps them until `Release`.
    Keep(usize, How),
    /// So many tasks want so many permits each at the same time, and most of them give up.
    Rush(usize, usize),
    /// Opens the semaphore anew.
    Reopen,

    /// Forks, and the child does that.
    Fork(Fork),
    /// Panics while it holds everything.
    PanicNow,
}

impl History {
    /// Whether a host turns guests away when it has enough of them.
    pub fn has_limits(&self) -> bool {
        self.parties.iter().any(|party| party.limit > 0)
    }
}

impl Party {
    /// What is not the same for most parties.
    fn particulars(&self) -> String {
        let Party { limit, descriptors, is_patient, is_of_version_1, delay_us, .. } = self;
        let mut told = String::new();
        for (is_so, what) in [
            (*limit > 0, format!(", {limit} sessions")),
            (*descriptors > 0, format!(", {descriptors} descriptors")),
            (*is_patient, ", patient".to_owned()),
            (*is_of_version_1, ", of version 1".to_owned()),
            (*delay_us > 0, format!(", comes after {delay_us} us")),
        ] {
            told += if is_so { &what } else { "" };
        }
        told
    }
}

impl fmt::Display for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:?}, {:?}, history {}:", self.form, self.dialect, self.seed)?;
        for (number, party) in self.parties.iter().enumerate() {
            if party.steps.is_empty() && party.role != Role::Host {
                continue;
            }
            let Party { role, home, face, slots, capacity, steps, .. } = party;
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
            match role {
                Role::Director => writeln!(out, "  {number} {role:?}: {}", steps.join(", "))?,
                _ => writeln!(
                    out,
                    "  {number} {role:?} ({face:?}, {home:?}, {slots} slots, {capacity} bytes{}): {}",
                    party.particulars(),
                    steps.join(", ")
                )?,
            }
        }
        Ok(())
    }
}

impl History {
    /// The numbers of the hosts.
    pub fn hosts(&self) -> Vec<usize> {
        let parties = self.parties.iter().enumerate();
        parties.filter(|(_, party)| party.role == Role::Host).map(|(number, _)| number).collect()
    }

    /// The guests, with their numbers.
    pub fn guests(&self) -> impl Iterator<Item = (usize, &Party)> {
        self.parties.iter().enumerate().filter(|(_, party)| party.role == Role::Guest)
    }

    /// All steps of all parties.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.parties.iter().flat_map(|party| &party.steps)
    }
}
