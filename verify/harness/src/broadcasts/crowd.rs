//! A thousand subscribers in several processes, each with a message in hand, and all but one of them stopped.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use wigwag::{Message, Publisher, Subscriber};
use wigwag_testing::{Ground, LIMIT, Link, Process};

use super::reader::{Account, LONGEST, fault_of, message};
use crate::outcome;
use crate::role;
use crate::scale::Trial;

const PROCESSES: usize = 4;

pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let most = raise_descriptors();
    // A session takes five descriptors of the publisher, and seven of its subscriber.
    let wanted = trial.pick(200, 999, 999);
    let count = wanted.min(most.saturating_sub(200) as usize / 8);
    ensure!(count >= PROCESSES, outcome::Outcome::not_tried("too few descriptors").figure);
    let ground = Ground::new();
    let builder = Publisher::builder().history(8).capacity(LONGEST).max_holds(2 * (count + 1)).holds(2);
    let mut publisher = builder.bind(ground.socket())?;
    let mut alone = Subscriber::connect(ground.socket())?;
    let share = count.div_ceil(PROCESSES);
    let mut crowd: Vec<Process> = (0..PROCESSES)
        .map(|index| share.min(count - index * share))
        .map(|members| role::start("broadcast-crowd", [ground.socket().into_os_string(), members.to_string().into()]))
        .collect();
    crowd.iter_mut().for_each(|process| process.expect("connected"));
    publisher.wait_for_subscribers(count + 1, LIMIT)?;
    let mut account = Account::default();
    let mut publish = |publisher: &mut Publisher, messages: u64, findings: &mut Vec<String>| -> anyhow::Result<()> {
        for _ in 0..messages {
            let number = publisher.stats().published + 1;
            publisher.send(&message(number))?;
            while let Some(message) = alone.try_recv()? {
                findings.extend(account.add(message.sequence(), message.lost_before(), &message));
            }
        }
        Ok(())
    };
    // Until each of them holds one.
    for _ in 0..1000 {
        publish(&mut publisher, 4, findings)?;
        if publisher.subscribers().iter().filter(|it| it.holds > 0).count() == count {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let held = publisher.subscribers().iter().filter(|it| it.holds > 0).count();
    crowd.iter().for_each(Process::halt);
    publish(&mut publisher, trial.pick(5_000, 50_000, 2_000_000), findings)?;
    crowd.iter().for_each(|process| process.signal(Signal::CONT));
    for process in &mut crowd {
        process.tell("look");
        let line = process.hear();
        if line != "as they were" {
            findings.push(line);
        }
    }
    let published = publisher.stats().published;
    drop(crowd);
    wigwag_testing::eventually("the crowd is gone", || publisher.subscribers().len() == 1);
    publish(&mut publisher, 100, findings)?;
    Ok(format!("{count} of {} subscribers stopped, {held} with messages in hand, {published} messages", count + 1))
}

fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Subscribers, each of which takes a message that it can hold, and keeps it. Arguments: the socket, how many.
pub fn play(parent: &Link, arguments: &[&str]) {
    raise_descriptors();
    let count: usize = arguments[1].parse().expect("a number");
    let connect = |_| Subscriber::builder().timeout(LIMIT).connect(Path::new(arguments[0])).expect("a publisher");
    let mut subscribers: Vec<Subscriber> = (0..count).map(connect).collect();
    parent.tell("connected");
    let mut held: Vec<Option<Message>> = (0..count).map(|_| None).collect();
    while held.iter().any(Option::is_none) {
        for (subscriber, held) in subscribers.iter_mut().zip(&mut held).filter(|(_, held)| held.is_none()) {
            match subscriber.try_recv() {
                Ok(message) => *held = message.filter(Message::is_in_place),
                Err(error) => return parent.tell(format!("wrong: {error}")),
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    parent.hear_at_last();
    let wrong = held.iter().flatten().find_map(|message| fault_of(message.sequence(), message));
    parent.tell(wrong.unwrap_or_else(|| "as they were".to_owned()));
    parent.hear_at_last();
}
