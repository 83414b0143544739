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
    /// Messages from one to many.
    Broadcast,
}

/// The forms of the first histories; such a history's seed modulo their number is its form.
pub const FIRST_FORMS: [Form; 4] = [Form::Exchange, Form::Queue, Form::Stream, Form::Semaphore];
/// The forms of later histories: of queues those with companies.
pub const LATER_FORMS: [Form; 2] = [Form::Queue, Form::Broadcast];
/// The first seed of a later history: those before, additions included, have 35 bits.
pub const FIRST_LATER_SEED: u64 = 1 << 35;

impl Form {
    /// The form of the history with that seed.
    pub fn of(seed: u64) -> Form {
        let forms = if seed < FIRST_LATER_SEED { &FIRST_FORMS[..] } else { &LATER_FORMS[..] };
        forms[(seed % forms.len() as u64) as usize]
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
    /// Of a host: how it takes the name.
    pub claim: Claim,
    /// Of a receiver: whether a keeper has its messages.
    pub keeping: Keeping,
    /// Of a sender: how long its drop waits.
    pub linger: Linger,
    /// Of a broadcast: what a publisher grants, or what a subscriber wishes.
    pub airing: Airing,
    /// What it does, in this order.
    pub steps: Vec<Step>,
}

/// What a party is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A server, receiver or listener: takes the name. If there are several, one comes after the other.
    Host,
    /// A client, sender, connector, subscriber, or one who wants permits.
    Guest,
    /// Keeps what the senders and receivers of a queue leave. If there are several, one comes after the other.
    Keeper,
    /// Kills, stops and shuts down others.
    Director,
}

/// How a host takes its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// When those before it are over.
    #[default]
    InTurn,
    /// A receiver: beside others that share it.
    Shared,
    /// From the one before it, which lives.
    Replacing,
}

/// Whether the messages of a receiver are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeping {
    /// They are not.
    #[default]
    None,
    /// Senders are let in if a keeper has room for them.
    Insists,
    /// Senders are let in although no keeper has them.
    Allows,
}

/// How long the drop of a sender waits for acknowledgements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Linger {
    /// For one of three short times, which follows from the seed.
    #[default]
    Short,
    /// For so many microseconds.
    For(u64),
    /// As the library does where nothing is said.
    AsEver,
}

/// What a publisher grants, or what a subscriber wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Airing {
    /// A publisher: for how many microseconds it waits for a subscriber; `None`: the oldest message is dropped.
    pub patience_us: Option<u64>,
    /// A publisher: how many messages it retains that all have taken, if not all of its history.
    pub retain: Option<usize>,
    /// A publisher: how many messages all subscribers together may hold.
    pub max_holds: usize,
    /// A publisher: how many of them each may hold.
    pub holds: usize,
    /// A subscriber: where it begins.
    pub start: StartAt,
    /// A subscriber: for how many microseconds it looks for the next publisher; 0: it follows none.
    pub follows_us: u64,
}

/// The message that a subscriber begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAt {
    /// The next one.
    #[default]
    Next,
    /// The oldest one that is kept.
    Oldest,
    /// The newest one.
    Last,
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
    /// A client, sender or subscriber: a session of its own, with which it goes on. The former one of a client or a
    /// subscriber is closed.
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

    /// A sender with a process of its own: makes no call until all that it has sent is in somebody's hands.
    Idle,

    /// A publisher: publishes a message of so many bytes.
    Publish(usize, How),
    /// A publisher: writes a message in place, and commits it or drops it.
    Draft(usize, bool),
    /// A publisher: publishes so many messages of so many bytes.
    Burst(usize, usize),
    /// A publisher: waits for so many subscribers, for so many microseconds.
    AwaitSubscribers(usize, u64),
    /// A publisher: waits until it has no more subscribers than there are parties that may be some.
    Count,
    /// A subscriber: takes a copy of the next message.
    Copy(How),
    /// A blocking subscriber: asks for a ring, and sleeps for so many microseconds until its descriptor has one.
    Arm(u64),
    /// A subscriber: is dropped before the messages that it holds, and comes again.
    Outlive,
    /// A subscriber: comes again and again, until it may hold messages in place, which the dead have held before.
    Regain,
    /// A subscriber: takes all there is until the end is told.
    ListenToEnd,

    /// Forks, and the child does that.
    Fork(Fork),
    /// Panics while it holds everything.
    PanicNow,
}

impl History {
    /// Whether a host turns guests away when it has enough of them.
    pub fn has_limits(&self) -> bool {
        self.parties.iter().any(|party| party.role == Role::Host && party.limit > 0)
    }

    /// Whether a keeper takes part.
    pub fn has_keeper(&self) -> bool {
        self.parties.iter().any(|party| party.role == Role::Keeper)
    }

    /// Whether hosts live beside each other.
    pub fn has_company(&self) -> bool {
        self.parties.iter().any(|party| party.claim != Claim::InTurn)
    }

    /// Whether all that this sender sends comes, whoever dies: a keeper, of another process, has it from the first to
    /// the last message.
    pub fn keeps_all_of(&self, sender: &Party) -> bool {
        let is_keeper = |party: usize| self.parties[party].role == Role::Keeper;
        let is_beside = |party: &Party| party.role == Role::Keeper && party.home == Home::Thread;
        let loses = |step: &Step| matches!(step, Step::Kill(party) if is_keeper(*party));
        let has_end = |party: &Party| party.limit > 0 || party.steps.contains(&Step::ShutDownSelf);
        let mut hosts = self.parties.iter().filter(|party| party.role == Role::Host);
        let is_beside_a_keeper = sender.home == Home::Thread && self.parties.iter().any(is_beside);
        let is_lost_on_the_way =
            self.steps().any(loses) || self.parties.iter().any(|party| party.role == Role::Keeper && has_end(party));
        self.has_keeper()
            && !is_beside_a_keeper
            && !is_lost_on_the_way
            && hosts.all(|party| party.keeping == Keeping::Insists)
    }
}

impl Party {
    /// What is not the same for most parties.
    fn particulars(&self) -> String {
        let Party { limit, descriptors, is_patient, is_of_version_1, delay_us, claim, keeping, linger, .. } = self;
        let Airing { patience_us, retain, max_holds, holds, start, follows_us } = self.airing;
        let mut told = String::new();
        for (is_so, what) in [
            (*limit > 0, format!(", {limit} sessions")),
            (*descriptors > 0, format!(", {descriptors} descriptors")),
            (*is_patient, ", patient".to_owned()),
            (*is_of_version_1, ", of version 1".to_owned()),
            (*delay_us > 0, format!(", comes after {delay_us} us")),
            (*claim != Claim::InTurn, format!(", {claim:?}")),
            (*keeping != Keeping::None, format!(", {keeping:?} of a keeper")),
            (*linger != Linger::Short, format!(", lingers {linger:?}")),
            (patience_us.is_some(), format!(", waits for {} us", patience_us.unwrap_or(0))),
            (retain.is_some(), format!(", retains {}", retain.unwrap_or(0))),
            (max_holds > 0, format!(", {holds} of {max_holds} holds")),
            (start != StartAt::Next, format!(", begins with {start:?}")),
            (follows_us > 0, format!(", follows for {follows_us} us")),
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
            if party.steps.is_empty() && !matches!(party.role, Role::Host | Role::Keeper) {
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
