//! What was and what is: the last looks at each service, and the order they are shown in.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::time::{Duration, Instant};

use wigwag::observe::{Counts, Durations, PermitSnapshot, Polling, ProcessState, Snapshot, ThreadState};
use wigwag::runtime::{Kind, State};

use crate::service_view;
use crate::services::{Look, Services};

/// Looks that are remembered: for the sparkline, and for what happened lately.
pub const REMEMBERED: usize = 120;
/// A call that runs for longer is worth being told.
const LONG_CALL: Duration = Duration::from_secs(1);

/// What the services can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Column {
    /// The name
    Name,
    /// How many sessions
    Sessions,
    /// Calls per second
    Calls,
    /// Bytes per second
    Bytes,
    /// How much of a processor handlers took
    Busy,
    /// Failed calls per second
    Errors,
    /// Calls that nobody has begun, messages that nobody has received
    Waiting,
}

impl Column {
    /// The column that a key sorts by.
    pub fn of_key(letter: char) -> Option<Column> {
        use Column::{Busy, Bytes, Calls, Errors, Name, Sessions, Waiting};
        [Name, Sessions, Calls, Bytes, Busy, Errors, Waiting].into_iter().find(|column| column.key() == letter)
    }

    /// The key that sorts by it: a letter of its title.
    pub fn key(self) -> char {
        match self {
            Column::Name => 'n',
            Column::Sessions => 's',
            Column::Calls => 'c',
            Column::Bytes => 'b',
            Column::Busy => 'u',
            Column::Errors => 'e',
            Column::Waiting => 'w',
        }
    }
}

/// What happened in each second, on the average between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub calls: f64,
    pub bytes: f64,
    /// Processors that handlers kept busy.
    pub busy: f64,
    pub errors: f64,
}

impl Rates {
    /// Between two looks. Counts that went back are those of another server, which has begun anew.
    fn between(before: &Counts, now: &Counts, elapsed: Duration) -> Rates {
        let seconds = elapsed.as_secs_f64().max(1e-6);
        let rate = |count: fn(&Counts) -> u64| count(now).saturating_sub(count(before)) as f64 / seconds;
        Rates {
            calls: rate(|counts| counts.calls),
            bytes: rate(|counts| counts.bytes_in.saturating_add(counts.bytes_out)),
            busy: now.busy.saturating_sub(before.busy).as_secs_f64() / seconds,
            errors: rate(|counts| counts.failed),
        }
    }
}

/// What a service does just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing, or nothing that was seen.
    Idle,
    /// A handler runs, or calls came since the last look.
    Active,
    /// It polls sessions.
    Hot,
    /// One call has run for so long.
    LongCall(Duration),
    /// The process is stopped.
    Stopped,
    /// Its control group is frozen.
    Frozen,
    /// It lives and cannot be looked at.
    Hidden,
    /// A semaphore with this many free permits and this many waiters.
    Permits { free: usize, waiting: usize },
}

/// A service as it is shown.
#[derive(Debug)]
pub struct Row {
    pub name: OsString,
    /// The form in a word.
    pub form: String,
    pub doing: Doing,
    pub sessions: usize,
    /// Calls that nobody has begun, messages that nobody has received.
    pub waiting: u64,
    pub rates: Rates,
    /// Calls per second at the last looks, the latest last.
    pub calls: VecDeque<f64>,
    /// Lines about it, or why it cannot be looked at.
    pub facts: Vec<(&'static str, String)>,
    /// A semaphore's: who holds how many of its permits.
    pub holders: Option<Vec<String>>,
    /// All counts of how long calls took.
    pub durations: Vec<u64>,
    /// The same, as they were at the last looks, the oldest first.
    earlier: VecDeque<Vec<u64>>,
    counts: Counts,
    seen: Instant,
    pid: u32,
}

impl Row {
    /// How many calls took how long since the first look that is remembered, or since the service was bound.
    pub fn durations(&self, lately: bool) -> Vec<u64> {
        let Some(first) = self.earlier.front().filter(|_| lately) else { return self.durations.clone() };
        self.durations.iter().zip(first).map(|(now, before)| now.saturating_sub(*before)).collect()
    }
}

/// All that is shown.
#[derive(Debug)]
pub struct Board {
    services: Services,
    pub rows: Vec<Row>,
    pub sort: Column,
    /// The other way than the column's own: names upward, numbers downward.
    pub is_reversed: bool,
    selected: Option<OsString>,
    /// Whether the histogram has what happened lately only.
    pub lately: bool,
    pub is_paused: bool,
}

impl Board {
    /// Nothing yet.
    pub fn new(sort: Column) -> Board {
        Board {
            services: Services::of_this_user(),
            rows: Vec::new(),
            sort,
            is_reversed: false,
            selected: None,
            lately: false,
            is_paused: false,
        }
    }

    /// Looks at all services.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let mut before: BTreeMap<OsString, Row> = self.rows.drain(..).map(|row| (row.name.clone(), row)).collect();
        let looks = self.services.look()?;
        let rows = looks.iter().map(|look| row(look, before.remove(look.name)));
        self.rows = rows.collect();
        drop(looks);
        self.rows.extend(self.services.semaphores.iter().map(|(name, seen)| semaphore(name, seen)));
        self.rows.extend(self.services.hidden.iter().map(|(name, why)| hidden(name, why)));
        self.arrange();
        Ok(())
    }

    /// Services, those included that cannot be looked at, and semaphores.
    pub fn counts(&self) -> (usize, usize) {
        let semaphores = self.rows.iter().filter(|row| row.holders.is_some()).count();
        (self.rows.len() - semaphores, semaphores)
    }

    /// Names that dead processes left.
    pub fn stale(&self) -> usize {
        self.services.count(Kind::Service, |state| state == State::Dead)
    }

    /// Sorts by a column; the one that it is sorted by already, the other way.
    pub fn sort_by(&mut self, column: Column) {
        self.is_reversed = column == self.sort && !self.is_reversed;
        self.sort = column;
        self.arrange();
    }

    /// Sorts the other way.
    pub fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
        self.arrange();
    }

    fn arrange(&mut self) {
        let number = |row: &Row| match self.sort {
            Column::Name => 0.0,
            Column::Sessions => row.sessions as f64,
            Column::Calls => row.rates.calls,
            Column::Bytes => row.rates.bytes,
            Column::Busy => row.rates.busy,
            Column::Errors => row.rates.errors,
            Column::Waiting => row.waiting as f64,
        };
        // Equal ones by name, so that they do not dance.
        self.rows.sort_by(|one, other| number(other).total_cmp(&number(one)).then_with(|| one.name.cmp(&other.name)));
        if self.is_reversed {
            self.rows.reverse();
        }
    }

    /// The selected service's place, if there is any: the first one unless another was chosen.
    pub fn selected(&self) -> Option<usize> {
        let chosen = self.rows.iter().position(|row| Some(&row.name) == self.selected.as_ref());
        chosen.or_else(|| (!self.rows.is_empty()).then_some(0))
    }

    /// Moves the selection down by that many rows.
    pub fn select(&mut self, by: isize) {
        let Some(now) = self.selected() else { return };
        let next = now.saturating_add_signed(by).min(self.rows.len() - 1);
        self.selected = Some(self.rows[next].name.clone());
    }
}

fn row(look: &Look<'_>, before: Option<Row>) -> Row {
    let (snapshot, now) = (&look.snapshot, Instant::now());
    // Another process with the name begins anew.
    let before = before.filter(|row| row.pid == look.service.pid);
    let rates = before
        .as_ref()
        .map_or_else(Rates::default, |row| Rates::between(&row.counts, &snapshot.counts, now - row.seen));
    let (mut calls, mut earlier) = (VecDeque::new(), VecDeque::new());
    if let Some(before) = before {
        (calls, earlier) = (before.calls, before.earlier);
        calls.push_back(rates.calls);
        earlier.push_back(before.durations);
    }
    calls.drain(..calls.len().saturating_sub(REMEMBERED));
    earlier.drain(..earlier.len().saturating_sub(REMEMBERED));
    Row {
        name: look.name.to_owned(),
        form: look.service.form.to_string(),
        doing: doing(snapshot, &rates),
        sessions: snapshot.sessions.len(),
        // Of a broadcast: of the subscriber that is farthest behind.
        waiting: snapshot.waiting().max(service_view::most_lag(snapshot)),
        rates,
        calls,
        facts: facts(look),
        holders: None,
        durations: snapshot.counts.durations.ranges().map(|(_, count)| count).collect(),
        earlier,
        counts: snapshot.counts.clone(),
        seen: now,
        pid: look.service.pid,
    }
}

fn hidden(name: &OsString, why: &str) -> Row {
    Row {
        name: name.clone(),
        form: String::new(),
        doing: Doing::Hidden,
        sessions: 0,
        waiting: 0,
        rates: Rates::default(),
        calls: VecDeque::new(),
        facts: vec![("hidden", why.to_owned())],
        holders: None,
        durations: Vec::new(),
        earlier: VecDeque::new(),
        counts: Counts::default(),
        seen: Instant::now(),
        pid: 0,
    }
}

fn semaphore(name: &OsString, seen: &PermitSnapshot) -> Row {
    let holders = service_view::holders(seen);
    let (free, waiting) = (seen.free(), seen.waiting.iter().filter(|one| one.is_alive).count());
    let line = |holder: &service_view::PermitHolder| {
        let program = match (&holder.program, holder.is_alive) {
            (Some(program), _) => program.as_str(),
            (None, true) => "a program",
            (None, false) => "a dead program",
        };
        let pid = holder.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        format!("{:>4}  {program} ({pid})", holder.permits)
    };
    Row {
        form: "permits".into(),
        doing: Doing::Permits { free, waiting },
        sessions: holders.len(),
        waiting: waiting as u64,
        facts: vec![("permits", format!("{}, {free} free", seen.permits.len())), ("waiting", waiting.to_string())],
        holders: Some(holders.iter().map(line).collect()),
        ..hidden(name, "")
    }
}

fn doing(snapshot: &Snapshot, rates: &Rates) -> Doing {
    let is_serving = |thread: &wigwag::observe::Thread| matches!(thread.state, ThreadState::Serving { .. });
    match snapshot.longest_now() {
        _ if snapshot.state == ProcessState::Stopped => Doing::Stopped,
        _ if snapshot.state == ProcessState::Frozen => Doing::Frozen,
        Some((_, at_most)) if at_most > LONG_CALL => Doing::LongCall(at_most),
        _ if snapshot.sessions.iter().any(|session| session.polling == Polling::Hot) => Doing::Hot,
        _ if rates.calls > 0.0 || snapshot.threads.iter().any(is_serving) => Doing::Active,
        _ => Doing::Idle,
    }
}

/// The work that waits: how much, for how long, and whether anybody waits for it. 18 columns are there.
fn waiting(snapshot: &Snapshot) -> String {
    use super::numbers::{ago, short};
    let blocked = match snapshot.blocked() {
        0 => String::new(),
        blocked => format!(", {blocked} wait"),
    };
    let hidden = match snapshot.hidden() {
        0 => String::new(),
        hidden => format!(", {hidden} hidden"),
    };
    let oldest = snapshot.oldest_waiting().map_or_else(String::new, |age| format!(", {}", ago(age)));
    format!("{}{oldest}{blocked}{hidden}", short(snapshot.waiting() as f64))
}

fn facts(look: &Look<'_>) -> Vec<(&'static str, String)> {
    use super::numbers::{ago, brief, short};
    let (service, snapshot) = (look.service, &look.snapshot);
    let counts = &snapshot.counts;
    let program = service.program.as_deref().unwrap_or("a program");
    let threads = match snapshot.threads.len() {
        0 => String::new(),
        1 => ", 1 thread".to_owned(),
        more => format!(", {more} threads"),
    };
    let woken = match counts.calls {
        0 => "-".to_owned(),
        calls => format!("for {:.0}% of calls", 100.0 * counts.doorbells_heard as f64 / calls as f64),
    };
    vec![
        ("program", format!("{program} ({})", service.pid)),
        ("up", format!("{}, {}", ago(service.age()), format!("{:?}", service.wait).to_lowercase())),
        ("calls", format!("{}{threads}", short(counts.calls as f64))),
        ("sessions", format!("most {}, refused {}", snapshot.sessions_max, snapshot.sessions_refused)),
        ("waiting", waiting(snapshot)),
        ("woken", woken),
        ("longest", brief(counts.longest)),
    ]
}

/// The bound below which that share lies, of counts by range.
pub fn quantile(counts: &[u64], share: f64) -> Option<Duration> {
    let total = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let wanted = (total as f64 * share).max(1.0);
    let mut sum = 0u64;
    let range = counts.iter().position(|count| {
        sum = sum.saturating_add(*count);
        sum as f64 >= wanted
    });
    range.filter(|_| total > 0).and_then(bound)
}

/// The upper bound of a range.
pub fn bound(range: usize) -> Option<Duration> {
    Durations::default().ranges().nth(range).map(|(bound, _)| bound)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A service with that many calls per second.
    pub fn service(name: &str, calls: f64) -> Row {
        let rates = Rates { calls, bytes: calls * 96.0, busy: calls / 1e6, errors: 0.0 };
        let mut durations = vec![0; 32];
        durations[9] = calls as u64;
        durations[20] = calls as u64 / 50;
        let facts = vec![("program", "test (1)".to_owned())];
        let row = hidden(&name.into(), "");
        let calls = (0..REMEMBERED).map(|look| calls * look as f64 / REMEMBERED as f64).collect();
        Row { form: "exchange".into(), doing: Doing::Hot, sessions: 3, rates, calls, durations, facts, ..row }
    }

    pub fn board(rows: Vec<Row>) -> Board {
        let mut board = Board::new(Column::Calls);
        board.rows = rows;
        board.arrange();
        board
    }

    fn names(board: &Board) -> Vec<&str> {
        board.rows.iter().map(|row| row.name.to_str().unwrap()).collect()
    }

    #[test]
    fn rates_are_differences_by_time_and_never_below_nothing() {
        let (mut before, mut now) = (Counts::default(), Counts::default());
        (before.calls, before.bytes_in, before.failed) = (100, 50, 7);
        (now.calls, now.bytes_in, now.bytes_out, now.busy) = (300, 70, 30, Duration::from_millis(500));
        let rates = Rates::between(&before, &now, Duration::from_secs(2));
        assert_eq!(rates, Rates { calls: 100.0, bytes: 25.0, busy: 0.25, errors: 0.0 });
        assert!(Rates::between(&before, &now, Duration::ZERO).calls.is_finite());
    }

    #[test]
    fn services_are_sorted_by_each_column_and_the_other_way() {
        let mut board = board(vec![service("b", 5.0), service("a", 5.0), service("c", 9.0)]);
        assert_eq!(names(&board), ["c", "a", "b"]);
        board.sort_by(Column::Calls);
        assert_eq!(names(&board), ["b", "a", "c"]);
        board.sort_by(Column::Name);
        assert_eq!(names(&board), ["a", "b", "c"]);
        board.rows[2].sessions = 1;
        board.sort_by(Column::Sessions);
        assert_eq!(names(&board), ["a", "b", "c"]);
        board.reverse();
        assert_eq!(names(&board), ["c", "b", "a"]);
        for letter in ['n', 's', 'c', 'b', 'u', 'e', 'w'] {
            assert_eq!(Column::of_key(letter).map(Column::key), Some(letter));
        }
    }

    #[test]
    fn the_selected_service_stays_selected_however_it_is_sorted() {
        let mut board = board(vec![service("a", 1.0), service("b", 2.0), service("c", 3.0)]);
        assert_eq!(board.selected(), Some(0));
        board.select(1);
        assert_eq!(board.rows[board.selected().unwrap()].name, "b");
        board.sort_by(Column::Name);
        board.select(-1);
        assert_eq!(board.rows[board.selected().unwrap()].name, "a");
        board.reverse();
        assert_eq!(board.selected(), Some(2));
        board.select(isize::MAX);
        assert_eq!(board.selected(), Some(2));
        board.select(isize::MIN);
        assert_eq!(board.selected(), Some(0));
        board.rows.clear();
        board.select(1);
        assert_eq!(board.selected(), None);
    }

    #[test]
    fn what_happened_lately_is_told_apart_from_all() {
        let mut row = service("a", 100.0);
        row.earlier.push_back(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 40]);
        row.durations.truncate(10);
        assert_eq!((row.durations(false)[9], row.durations(true)[9]), (100, 60));
        assert_eq!(quantile(&row.durations(true), 0.5), Some(Duration::from_nanos(512)));
        assert_eq!(quantile(&[0; 32], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
