//! What became of one client's calls, as the process of the client tells it to the one that compares.

use std::time::Duration;

use wigwag_testing::{Link, Process};

use super::super::storm::scoreboard::now_ns;

/// So long all may take to say what they have done.
const SOON: Duration = Duration::from_secs(60);

/// What became of one client's calls, which have the numbers from 0 to `end`. Those that are not in `failed` were
/// answered.
#[derive(Debug, Default)]
pub struct Account {
    pub end: u64,
    pub failed: Vec<Failed>,
    pub moved: u64,
    pub reconnects: u64,
}

/// A call that was not answered.
#[derive(Debug)]
pub struct Failed {
    pub number: u64,
    pub fate: Fate,
    /// From before it was made until the client was told.
    pub span: Span,
    /// What the client was told.
    pub why: String,
}

/// What is known of a call that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The client found no server: no call was made.
    TurnedAway,
    /// Its server ended in order, and has not executed it.
    NotExecuted,
    /// Its server died, and has not executed it.
    Bereft,
    /// It may have been executed.
    Maybe,
}

/// A while, on the clock that all processes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub since_ns: u64,
    pub until_ns: u64,
}

impl Span {
    /// From then until now.
    pub fn since(since_ns: u64) -> Span {
        Span { since_ns, until_ns: now_ns() }
    }

    /// Whether the two have a moment in common.
    pub fn meets(&self, other: &Span) -> bool {
        self.since_ns <= other.until_ns && other.since_ns <= self.until_ns
    }
}

impl Account {
    /// Tells what became of the calls, or what was found wrong.
    pub fn tell(account: Result<&Account, &String>, parent: &Link) {
        let Account { end, failed, moved, reconnects } = match account {
            Ok(account) => account,
            Err(why) => return parent.tell(format_args!("! {why}")),
        };
        parent.tell(format_args!("{end} {moved} {reconnects} {}", failed.len()));
        for Failed { number, fate, span: Span { since_ns, until_ns }, why } in failed {
            let why = why.replace('\n', " ");
            parent.tell(format_args!("{number} {} {since_ns} {until_ns} {why}", fate.letter()));
        }
    }

    /// Hears what [`tell`](Account::tell) tells.
    pub fn hear(process: &Process) -> Result<Account, String> {
        let line = hear_soon(process)?;
        if let Some(why) = line.strip_prefix("! ") {
            return Err(why.to_owned());
        }
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [end, moved, reconnects, count] = numbers[..] else { return Err(line) };
        let failed = (0..count).map(|_| hear_soon(process).and_then(|line| Failed::parse(&line).ok_or(line)));
        Ok(Account { end, failed: failed.collect::<Result<_, _>>()?, moved, reconnects })
    }
}

impl Failed {
    fn parse(line: &str) -> Option<Failed> {
        let mut words = line.splitn(5, ' ');
        let number = words.next()?.parse().ok()?;
        let fate = Fate::of_letter(words.next()?)?;
        let span = Span { since_ns: words.next()?.parse().ok()?, until_ns: words.next()?.parse().ok()? };
        Some(Failed { number, fate, span, why: words.next()?.to_owned() })
    }
}

impl Fate {
    const ALL: [Fate; 4] = [Fate::TurnedAway, Fate::NotExecuted, Fate::Bereft, Fate::Maybe];

    fn letter(self) -> &'static str {
        match self {
            Fate::TurnedAway => "t",
            Fate::NotExecuted => "n",
            Fate::Bereft => "b",
            Fate::Maybe => "m",
        }
    }

    fn of_letter(letter: &str) -> Option<Fate> {
        Fate::ALL.into_iter().find(|fate| fate.letter() == letter)
    }
}

fn hear_soon(process: &Process) -> Result<String, String> {
    match process.has_said_something(SOON) {
        Ok(false) => Err("a client does not come back from a call".into()),
        _ => process.try_hear().ok_or_else(|| "a process of clients is gone".into()),
    }
}
