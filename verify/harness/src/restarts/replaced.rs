//! Planned restarts: servers are replaced under clients that follow and newcomers, while heirs and holders of the name
//! are killed and stopped on their way. Nobody is turned away but where a server that had the name was killed, or was
//! told to end; no call is told as maybe executed but where one was killed that served; and each is executed at most
//! once.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wigwag::Client;
use wigwag_testing::{Ground, Process};

use super::super::storm::dice::Dice;
use super::super::storm::scoreboard::now_ns;
use super::account::{Account, Fate, Span};
use super::company::{Executed, Followers, name};
use super::service;
use crate::role;
use crate::scale::Trial;

/// Threads of clients that come and go.
const NEWCOMERS: u64 = 2;
/// So long it may take until a plain client's call is answered.
const SOON: Duration = Duration::from_secs(20);
/// The client that only asks whether a call is answered.
const ASKING: u64 = (1 << 20) - 1;
/// The longest time from when an heir begins until something is done to it or to the holder, in microseconds.
const ON_ITS_WAY_US: u64 = 10_000;
/// The longest time for which a server is stopped, in microseconds.
const STOPPED_US: u64 = 200_000;

/// What is done while an heir takes the name over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Nothing,
    HeirKilled,
    HeirStopped,
    HolderKilled,
    HolderStopped,
    /// There are two heirs, and one of them is killed.
    OneOfTwoKilled,
    /// The holder is told to end.
    HolderEnds,
}

/// Of the servers of a stage, while one takes over from the other.
const HOLDER: usize = 0;
const HEIR: usize = 1;

const ROUNDS: [Round; 7] = [
    Round::Nothing,
    Round::HeirKilled,
    Round::HeirStopped,
    Round::HolderKilled,
    Round::HolderStopped,
    Round::OneOfTwoKilled,
    Round::HolderEnds,
];

/// What is said of a holder that ends without a reason.
const HASTY: &str = "the holder has ended for an heir that was killed before it had the name";

#[derive(Default)]
struct Sum {
    rounds: u64,
    /// Rounds in which the name passed from a server to its heir.
    replaced: u64,
    /// Servers that were killed when they had the name.
    killed: u64,
    calls: u64,
    moved: u64,
    told: u64,
    visits: u64,
    turned_away: u64,
    slowest: Duration,
}

/// Tries it: the figure; what is found is added.
pub fn run(trial: &Trial, findings: &mut Vec<String>) -> String {
    let mut sum = Sum::default();
    findings.extend(replace_and_compare(trial, &mut sum).err());
    format!(
        "{} planned restarts, {} of them through, {} servers killed meanwhile; {} calls: {} went on at a successor, {} \
         told as maybe executed; {} newcomers, {} turned away by a killed or an ended server; one server alone \
         answered after {} ms at most",
        sum.rounds,
        sum.replaced,
        sum.killed,
        sum.calls,
        sum.moved,
        sum.told,
        sum.visits,
        sum.turned_away,
        sum.slowest.as_millis()
    )
}

fn replace_and_compare(trial: &Trial, sum: &mut Sum) -> Result<(), String> {
    let mut stage = Stage::new();
    let (socket, ledger) = (stage.socket.clone(), stage.ledger.clone());
    let followers = Followers::start(&socket, trial.pick(2, 10, 20), trial.seed);
    let newcomers = start_newcomers(&stage, followers.count());
    let mut dice = Dice::new(trial.seed);
    for round in 0..trial.pick(5, 150, 2000) {
        let mut rounds = ROUNDS;
        (1..rounds.len()).for_each(|last| rounds.swap(last, dice.below(last as u64 + 1) as usize));
        for kind in rounds {
            sum.rounds += 1;
            stage.play(kind, &mut dice, sum).map_err(|why| format!("{kind:?} in turn {round}: {why}"))?;
        }
    }
    // It removes what those have left that were killed.
    stage.play(Round::Nothing, &mut dice, sum)?;
    stage.has_files(&["ledger", "server", "server.lock"])?;
    newcomers.tell("stop");
    let accounts = followers.stop()?;
    let visits = (0..NEWCOMERS).map(|_| Account::hear(&newcomers)).collect::<Result<Vec<_>, _>>()?;
    let executed = Executed::read(&ledger)?;
    for (index, account) in (0..).zip(accounts.iter().chain(&visits)) {
        executed.agrees_with(index, account)?;
        stage.allows(index, account)?;
    }
    sum.calls = accounts.iter().map(|account| account.end).sum();
    sum.moved = accounts.iter().map(|account| account.moved).sum();
    sum.told = accounts.iter().map(|account| account.failed.len() as u64).sum();
    sum.visits = visits.iter().map(|account| account.end).sum();
    let is_turned_away = |account: &Account| account.failed.iter().filter(|it| it.fate == Fate::TurnedAway).count();
    sum.turned_away = visits.iter().map(|account| is_turned_away(account) as u64).sum();
    sum.slowest = stage.slowest;
    followers.are_back()?;
    stage.end()
}

fn start_newcomers(stage: &Stage, first: u64) -> Process {
    let text = stage.socket.to_str().expect("a path of the test's own").to_owned();
    let numbers = [NEWCOMERS, first].map(|number| number.to_string());
    let mut newcomers = role::start("restarts_newcomer", std::iter::once(text).chain(numbers));
    newcomers.expect("ready");
    newcomers
}

/// A server, and what has become of it.
struct Service {
    process: Process,
    /// It has said that it has the name.
    is_ready: bool,
}

impl Service {
    /// Hears what it has said by now.
    fn listen(&mut self) -> Result<(), String> {
        while !self.is_ready && self.process.has_said_something(Duration::ZERO).unwrap_or(true) {
            match self.process.try_hear().as_deref() {
                Some("ready") => self.is_ready = true,
                Some("begins") => {}
                Some(why) => return Err(format!("an heir did not get the name: {why}")),
                None => return Ok(()), // it has ended: how, is seen elsewhere
            }
        }
        Ok(())
    }

    /// Whether it has ended, by itself and well.
    fn has_ended(&mut self) -> Result<bool, String> {
        match self.process.child.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(status)) if status.success() => Ok(true),
            other => Err(format!("a server ended with {other:?}")),
        }
    }
}

/// The servers, and when who was killed.
pub struct Stage {
    ground: Ground,
    /// Where they listen.
    pub socket: PathBuf,
    ledger: PathBuf,
    /// Those that were started and have not ended: between two rounds one, which has the name.
    services: Vec<Service>,
    /// When servers were killed that had the name.
    kills: Vec<Span>,
    /// When there may have been no server.
    outages: Vec<Span>,
    asked: u64,
    /// How long it took at most until one server was left and answered.
    pub slowest: Duration,
}

impl Stage {
    /// Starts a server.
    pub fn new() -> Stage {
        let ground = Ground::new();
        let (socket, ledger) = (ground.socket(), ground.path("ledger"));
        let services = vec![Service { process: service::start(&socket, &ledger), is_ready: true }];
        Stage {
            ground,
            socket,
            ledger,
            services,
            kills: Vec::new(),
            outages: Vec::new(),
            asked: 0,
            slowest: Duration::ZERO,
        }
    }

    fn play(&mut self, round: Round, dice: &mut Dice, sum: &mut Sum) -> Result<(), String> {
        let (holder, socket_before) = (self.services[HOLDER].process.id(), self.which_socket());
        self.start_heir()?;
        if round == Round::OneOfTwoKilled {
            self.start_heir()?;
        }
        let begin = now_ns();
        if round != Round::Nothing {
            std::thread::sleep(dice.of_any_size_us(ON_ITS_WAY_US));
        }
        let mut killed = None;
        match round {
            Round::Nothing => {}
            Round::HeirKilled => killed = Some(self.kill(HEIR)),
            Round::HolderKilled => killed = Some(self.kill(HOLDER)),
            Round::OneOfTwoKilled => killed = Some(self.kill(HEIR + dice.below(2) as usize)),
            Round::HeirStopped => self.stop(HEIR, dice.of_any_size_us(STOPPED_US)),
            Round::HolderStopped => self.stop(HOLDER, dice.of_any_size_us(STOPPED_US)),
            Round::HolderEnds => self.services[HOLDER].process.tell("end"),
        }
        // An heir that had not put its socket in the place of the holder's did not have the name.
        let had_name = round == Round::HolderKilled || self.which_socket() != socket_before;
        self.settle()?;
        if let Some(killed) = killed.filter(|_| had_name) {
            self.kills.push(killed);
            self.outages.push(Span::since(killed.since_ns));
            sum.killed += 1;
        }
        if round == Round::HolderEnds {
            self.outages.push(Span::since(begin));
        }
        let is_replaced = self.services[HOLDER].process.id() != holder;
        sum.replaced += u64::from(is_replaced);
        match round {
            Round::HeirKilled if is_replaced && !had_name => Err(HASTY.into()),
            Round::HeirKilled => Ok(()),
            _ if !is_replaced => Err("an heir has ended for the server that had the name before".into()),
            _ => Ok(()),
        }
    }

    /// An heir was killed, which may have served by then or cannot: whether the holder goes on, and the next heir gets
    /// all.
    pub fn comes_back(&mut self, may_serve: bool) -> Result<(), String> {
        let holder = self.services[HOLDER].process.id();
        if !may_serve {
            self.settle()?;
            if self.services[HOLDER].process.id() != holder {
                return Err(HASTY.into());
            }
        }
        self.start_heir()?;
        self.passes_on()
    }

    /// There is a holder, or has just been, and an heir: that one gets all.
    pub fn passes_on(&mut self) -> Result<(), String> {
        let heir = self.services[HEIR].process.id();
        self.settle()?;
        if self.services[HOLDER].process.id() != heir {
            return Err("an heir has ended for the server that had the name before".into());
        }
        self.has_files(&["ledger", "server", "server.lock"])?;
        self.end()
    }

    /// Kills the server that has the name, or had it.
    pub fn kill_holder(&mut self) {
        self.kill(HOLDER);
    }

    /// Starts one, and returns when it begins.
    pub fn start_heir(&mut self) -> Result<(), String> {
        let heir = service::start_heir(&self.socket, &self.ledger);
        let said = heir.try_hear();
        if said.as_deref() != Some("begins") {
            return Err(format!("an heir does not begin: {said:?}"));
        }
        self.services.push(Service { process: heir, is_ready: false });
        Ok(())
    }

    fn kill(&mut self, index: usize) -> Span {
        let since = now_ns();
        self.services.remove(index).process.kill();
        Span::since(since)
    }

    fn stop(&self, index: usize, time: Duration) {
        let process = &self.services[index].process;
        process.signal(Signal::STOP);
        std::thread::sleep(time);
        process.signal(Signal::CONT);
    }

    /// Which file the socket is: its inode alone may be used again.
    fn which_socket(&self) -> Option<(u64, u64, i64, i64)> {
        let data = std::fs::symlink_metadata(&self.socket).ok()?;
        Some((data.dev(), data.ino(), data.ctime(), data.ctime_nsec()))
    }

    /// Waits until one server is left, which says that it has the name, and a plain client's call is answered. If the
    /// one that was killed had the name, and the former one had ended for it, that takes another server.
    pub fn settle(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        let mut last_error = String::new();
        loop {
            let mut left = Vec::new();
            for mut service in self.services.drain(..) {
                service.listen()?;
                if !service.has_ended()? {
                    left.push(service);
                }
            }
            self.services = left;
            match &self.services[..] {
                [] => {
                    let process = service::start(&self.socket, &self.ledger);
                    self.services.push(Service { process, is_ready: true });
                }
                [service] if service.is_ready => match self.ask() {
                    Ok(()) => {
                        self.slowest = self.slowest.max(begin.elapsed());
                        return Ok(());
                    }
                    Err(error) => last_error = error.to_string(),
                },
                _ => {}
            }
            if begin.elapsed() > SOON {
                let ready: Vec<_> = self.services.iter().map(|service| service.is_ready).collect();
                return Err(format!(
                    "no call is answered by one server alone {SOON:?} later: {} are left, and have the name: \
                     {ready:?}; a client was told: {last_error}",
                    ready.len()
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A plain client's call.
    fn ask(&mut self) -> wigwag::Result<()> {
        self.asked += 1;
        Client::connect(&self.socket)?.call_timeout(&name(ASKING, self.asked).to_ne_bytes(), SOON).map(drop)
    }

    /// Whether each call that was not answered may have failed as it did when it did.
    fn allows(&self, index: u64, account: &Account) -> Result<(), String> {
        for failed in &account.failed {
            let spans = match failed.fate {
                Fate::Bereft | Fate::Maybe => &self.kills,
                Fate::TurnedAway => &self.outages,
                Fate::NotExecuted => continue,
            };
            if !spans.iter().any(|span| span.meets(&failed.span)) {
                let (number, fate, why) = (failed.number, failed.fate, &failed.why);
                return Err(format!(
                    "call {number} of client {index} was told as {fate:?}, and nobody was killed: {why}"
                ));
            }
        }
        Ok(())
    }

    fn has_files(&self, expected: &[&str]) -> Result<(), String> {
        let entries = std::fs::read_dir(self.ground.path("")).map_err(|error| error.to_string())?;
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        match names == expected {
            true => Ok(()),
            false => Err(format!("there are {names:?} in the directory, where {expected:?} should be")),
        }
    }

    /// The last server ends, as it is told: nothing is left of any.
    pub fn end(&mut self) -> Result<(), String> {
        self.services.iter().for_each(|service| service.process.tell("end"));
        self.have_ended("the last server")?;
        self.has_files(&["ledger"])
    }
    /// Waits until all have ended.
    fn have_ended(&mut self, who: &str) -> Result<(), String> {
        let begin = Instant::now();
        while !self.services.iter_mut().try_fold(true, |all, service| service.has_ended().map(|it| all && it))? {
            if begin.elapsed() > SOON {
                return Err(format!("{who} does not end within {SOON:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
