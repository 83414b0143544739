//! Subscribers are killed and stopped at random moments. The publisher goes on, and so do all others.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use wigwag::{Publisher, Start, Subscriber};
use wigwag_testing::{Ground, Process, word};

use super::reader::{Account, LONGEST, message};
use crate::role;
use crate::scale::Trial;

/// Subscribers at a time.
const COMPANY: usize = 6;
/// A publish that takes longer waits for somebody: no time of a busy machine is so long.
const WAITED: Duration = Duration::from_secs(5);

pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let kills = trial.kills.unwrap_or(trial.pick(60, 600, 20_000));
    let ground = Ground::new();
    let builder = Publisher::builder().history(8).capacity(LONGEST).max_holds(2 * 3 * COMPANY).holds(3);
    let mut publisher = builder.bind(ground.socket())?;
    let mut witness = Subscriber::builder().start(Start::Oldest).connect(ground.socket())?;
    let mut account = Account::default();
    let start = |number: u64| {
        let way = if word(trial.seed, number).is_multiple_of(2) { "held" } else { "copies" };
        role::start("broadcast-reader", [ground.socket().into_os_string(), way.into()])
    };
    let mut company: Vec<Process> = (0..COMPANY as u64).map(start).collect();
    let mut slowest = Duration::ZERO;
    let (mut stops, mut next) = (0, COMPANY as u64);
    for round in 0..kills {
        let dice = |what: u64| word(trial.seed ^ what << 32, round);
        for _ in 0..dice(1) % 200 {
            let number = publisher.stats().published + 1;
            let bytes = message(number);
            let begin = Instant::now();
            publisher.send(&bytes)?;
            slowest = slowest.max(begin.elapsed());
        }
        while let Some(message) = witness.try_recv()? {
            findings.extend(account.add(message.sequence(), message.lost_before(), &message));
        }
        let victim = dice(2) as usize % COMPANY;
        match dice(3) % 4 {
            0 => {
                company[victim].signal(Signal::STOP);
                stops += 1;
            }
            1 => company[victim].signal(Signal::CONT),
            _ => {
                company[victim].kill();
                let told = std::iter::from_fn(|| company[victim].try_hear());
                findings.extend(told.filter(|line| line.starts_with("wrong")));
                company[victim] = start(next);
                next += 1;
            }
        }
        if findings.len() > 10 {
            break;
        }
    }
    if slowest > WAITED {
        findings.push(format!("a publish took {slowest:?}: it waited for somebody"));
    }
    let published = publisher.stats().published;
    company.iter().for_each(|process| process.signal(Signal::CONT));
    publisher.close();
    while let Ok(message) = witness.recv() {
        findings.extend(account.add(message.sequence(), message.lost_before(), &message));
    }
    if account.came + account.lost != published {
        findings.push(format!("{} came and {} were lost of {published}", account.came, account.lost));
    }
    for process in &mut company {
        // One that was started last may have found nobody any more.
        let lines: Vec<String> = std::iter::from_fn(|| process.hear_at_last()).collect();
        findings.extend(lines.into_iter().filter(|line| line.starts_with("wrong")));
    }
    let last = company.len();
    drop(company);
    let told = format!("{kills} kills and stops of subscribers ({stops} stops, {last} read to the end)");
    Ok(format!("{told}, {published} messages, the longest publish {:.1} ms", slowest.as_secs_f64() * 1e3))
}
