//! Runs a history: its parties as threads and processes, a watch over them, and what must hold in the end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wigwag_testing::Link;

use super::act::{Actor, COLLECTED, GUESTS_OVER};
use super::plan::{Form, History, Home, Role};
use super::stage::{PARTIES_MAX, Stage, Word, write_down_panics};
use super::{exchange, queue, semaphore};
use crate::role;

/// What came of a history.
pub struct Told {
    /// What was not as it must be.
    pub findings: Vec<String>,
    /// Parties of it still run, or something of it is left: this process is of no use any more.
    pub is_stuck: bool,
}

/// The number of a user whom nobody is.
const OTHER_USER: u32 = 65_534;

/// Whether parties can be of other users here.
pub fn has_other_users() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a history; `hang` is how long nothing may happen.
pub fn run(history: &History, hang: Duration) -> Told {
    assert!(history.parties.len() <= PARTIES_MAX);
    let before = Held::now();
    let is_public = history.parties.iter().any(|party| party.home == Home::OtherUser);
    let stage = Arc::new(Stage::new(is_public));
    write_down_panics(stage.place());
    let history = Arc::new(history.clone());
    let outcome = perform(&stage, &history, hang);
    let is_stuck = outcome.is_err();
    if let Err(what) = outcome {
        stage.complain(what);
    } else {
        let has_kill = history.steps().any(|step| matches!(step, super::plan::Step::Kill(_)));
        let files = stage.files();
        if !has_kill && !files.is_empty() && history.form != Form::Semaphore {
            stage.complain(format!("files are left: {}", files.join(", ")));
        }
    }
    if !is_stuck && let Some(left) = left_cargo() {
        stage.complain(left);
        return Told { findings: stage.findings(), is_stuck: true };
    }
    let mut findings = stage.findings();
    drop(stage);
    if !is_stuck && let Some(more) = before.is_not_back() {
        findings.push(more);
    }
    Told { findings, is_stuck }
}

fn perform(stage: &Arc<Stage>, history: &Arc<History>, hang: Duration) -> Result<(), String> {
    let anchor = match history.form {
        Form::Semaphore => {
            let permits = history.parties.first().map_or(1, |party| party.slots);
            Some(wigwag::Semaphore::open(stage.name(), permits).map_err(|error| format!("open: {error:?}"))?)
        }
        _ => None,
    };
    let (tell, hear) = mpsc::channel();
    let mut waited = history.parties.len();
    for me in 0..waited {
        let actor = Actor { stage: Arc::clone(stage), history: Arc::clone(history), me };
        let tell = tell.clone();
        spawn(format!("party-{me}"), move || {
            match actor.party().home {
                Home::Thread => actor.act(),
                _ => in_process(&actor),
            }
            actor.stage.set(me, Word::Over, 1);
            drop(actor);
            let _ = tell.send(me);
        });
    }
    if history.form == Form::Queue {
        let (stage, history, tell) = (Arc::clone(stage), Arc::clone(history), tell.clone());
        waited += 1;
        spawn("collector".to_owned(), move || {
            queue::collect(&stage, &history);
            stage.cell(COLLECTED).store(1, Ordering::SeqCst);
            drop((stage, history));
            let _ = tell.send(usize::MAX);
        });
    }
    watch(stage, history, hang, waited, &hear)?;
    match (history.form, anchor) {
        (Form::Exchange, _) => exchange::judge(stage, history),
        (Form::Queue, _) => queue::judge(stage, history),
        (Form::Semaphore, Some(anchor)) => semaphore::judge(stage, history, &anchor),
        _ => {}
    }
    Ok(())
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name).spawn(run).expect("a thread for a party");
}

/// Waits until all parties are done; hosts are shut down when nobody else is left.
fn watch(
    stage: &Stage,
    history: &History,
    hang: Duration,
    mut left: usize,
    hear: &mpsc::Receiver<usize>,
) -> Result<(), String> {
    let (mut last, mut since) = (0, Instant::now());
    while left > 0 {
        let are_guests_over = history
            .parties
            .iter()
            .enumerate()
            .all(|(party, of)| matches!(of.role, Role::Host | Role::Keeper) || stage.read(party, Word::Over) != 0);
        if are_guests_over {
            stage.cell(GUESTS_OVER).store(1, Ordering::SeqCst);
            for host in history.hosts() {
                if stage.read(host, Word::Bound) != 0 && stage.read(host, Word::ShutDownAt) == 0 {
                    stage.shut_down(host);
                }
            }
        }
        if hear.recv_timeout(Duration::from_millis(if are_guests_over { 1 } else { 5 })).is_ok() {
            left -= 1;
        }
        let all = 0..history.parties.len();
        let done = all.map(|party| {
            stage.read(party, Word::Progress) + stage.read(party, Word::Begun) + stage.read(party, Word::Over)
        });
        let done = done.sum::<u64>() + left as u64;
        if done != last {
            (last, since) = (done, Instant::now());
        }
        if since.elapsed() > hang {
            let told = told_stuck(stage, history, hang);
            stop_processes(stage);
            return Err(told);
        }
    }
    Ok(())
}

fn told_stuck(stage: &Stage, history: &History, hang: Duration) -> String {
    let mut told = format!("nothing happens for {} s:", hang.as_secs());
    for (party, of) in history.parties.iter().enumerate() {
        if stage.read(party, Word::Over) != 0 {
            continue;
        }
        let begun = stage.read(party, Word::Progress) as usize;
        let step = begun.checked_sub(1).and_then(|index| of.steps.get(index));
        told += &format!(" party {party} ({:?}) is in step {begun} of {}, {step:?};", of.role, of.steps.len());
    }
    told + &threads_of_this_process()
}

/// What each thread of this process waits for, and whether it had a processor when it wanted one: tells who waits for
/// whom from who starves.
fn threads_of_this_process() -> String {
    let mut told = String::new();
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |what: &str| std::fs::read_to_string(thread.path().join(what)).unwrap_or_default();
        let (name, place) = (read("comm"), read("wchan"));
        let place = if place == "0" { "user space" } else { &*place };
        let schedule = read("schedstat");
        let ms: Vec<u64> = schedule.split(' ').flat_map(|ns| ns.parse::<u64>()).map(|ns| ns / 1_000_000).collect();
        if let [ran, wanted, ..] = ms[..] {
            told +=
                &format!(" thread {} is in {place}, ran {ran} ms and was kept waiting {wanted} ms;", name.trim_end());
        }
    }
    told
}

fn stop_processes(stage: &Stage) {
    let processes = std::mem::take(&mut *stage.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    for (party, process) in processes {
        stage.set(party, Word::Dying, 1);
        process.signal(Signal::KILL);
    }
}

/// A party that is a process of its own.
fn in_process(actor: &Actor) {
    let Actor { stage, history, me } = actor;
    let json = serde_json::to_string(&**history).expect("a history is plain data");
    let arguments = [stage.place().to_string_lossy().into_owned(), me.to_string(), json];
    let process = Arc::new(role::start("history-party", arguments));
    stage.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(*me, Arc::clone(&process));
    while process.hear_at_last().is_some() {}
    stage.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(me);
    // A party that signals it at this moment has a handle for that long.
    let mut process = process;
    let mut process = loop {
        match Arc::try_unwrap(process) {
            Ok(process) => break process,
            Err(shared) => process = shared,
        }
        std::thread::yield_now();
    };
    process.signal(Signal::CONT); // so that it can end
    match process.child.wait() {
        Ok(status) if !status.success() && stage.read(*me, Word::Dying) == 0 => {
            stage.complain(format!("the process of party {me} ended: {status}"));
        }
        _ => {}
    }
}

/// The process of a party.
pub fn play_party(link: &Link, arguments: &[&str]) {
    let [directory, me, json] = arguments else { panic!("{arguments:?}") };
    let history: History = serde_json::from_str(json).expect("a history");
    let stage = Arc::new(Stage::open(directory));
    write_down_panics(stage.place());
    let me: usize = me.parse().expect("a number");
    if history.parties[me].home == Home::OtherUser {
        nix::unistd::setresgid(OTHER_USER.into(), OTHER_USER.into(), OTHER_USER.into()).expect("root may be anybody");
        nix::unistd::setresuid(OTHER_USER.into(), OTHER_USER.into(), OTHER_USER.into()).expect("root may be anybody");
    }
    let actor = Actor { stage: Arc::clone(&stage), history: Arc::new(history), me };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Some(line) = link.hear_at_last() {
                if line == "shutdown" {
                    stage.shut_down(me);
                }
            }
            std::process::exit(1); // nobody wants it any more
        });
        actor.act();
        if let Some(left) = left_cargo() {
            stage.complain(format!("party {me}: {left}"));
        }
        // What it holds is dropped by now; the thread that listens is not waited for.
        std::process::exit(0);
    });
}

/// The name of files whose descriptors travel in a history.
pub const CARGO_NAME: &str = "history-cargo";
/// How long a descriptor may stay that a thread of its own closes.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// The descriptors that have travelled and are left in this process, after a while in which they may go.
fn left_cargo() -> Option<String> {
    let begin = Instant::now();
    loop {
        let all = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let targets = all.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let left = targets.filter(|target| target.to_string_lossy().contains(CARGO_NAME)).count();
        if left == 0 {
            return None;
        }
        if begin.elapsed() > CLOSED_WITHIN {
            return Some(format!("{left} descriptors are left that came with calls, or were attached to them"));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// What this process holds.
struct Held {
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn now() -> Held {
        let count = |directory| std::fs::read_dir(directory).map_or(0, Iterator::count);
        Held { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task") }
    }

    /// What there is more of than then, after a while in which it may go.
    fn is_not_back(&self) -> Option<String> {
        let begin = Instant::now();
        loop {
            let now = Held::now();
            if now.descriptors <= self.descriptors && now.threads <= self.threads {
                return None;
            }
            // The kernel alone may take more than ten seconds to close the watch on a name, on a machine that is very
            // busy.
            if begin.elapsed() > Duration::from_secs(60) {
                let (descriptors, threads) = (now.descriptors, now.threads);
                return Some(format!(
                    "this process holds {descriptors} descriptors and {threads} threads, and had {} and {}",
                    self.descriptors, self.threads
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
