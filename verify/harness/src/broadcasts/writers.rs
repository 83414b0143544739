//! Publishers are killed at random moments, and started again. Who follows has read all that was published, or was told
//! that it is lost.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use wigwag::{Publisher, Start, Subscriber};
use wigwag_testing::{Ground, LIMIT, Link, word};

use super::reader::{Account, LONGEST, message};
use crate::role;
use crate::scale::Trial;

pub fn run(trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<String> {
    let kills = trial.kills.unwrap_or(trial.pick(40, 500, 10_000));
    let ground = Ground::new();
    let written = ground.path("written");
    let paths = [ground.socket().into_os_string(), written.clone().into_os_string()];
    let mut writer = role::start("broadcast-writer", paths.clone());
    writer.expect("bound");
    let mut follower = role::start("broadcast-follower", [ground.socket().into_os_string()]);
    follower.expect("connected");
    let (mut published, mut read) = (0, 0);
    for round in 0..kills {
        std::thread::sleep(Duration::from_micros(word(trial.seed, round) % 3000));
        writer.kill();
        let mut committed = [0; 8];
        let is_there = std::fs::File::open(&written).and_then(|mut file| file.read_exact(&mut committed)).is_ok();
        let committed = if is_there { u64::from_le_bytes(committed) } else { 0 };
        std::fs::remove_file(&written).ok();
        writer = role::start("broadcast-writer", paths.clone());
        writer.expect("bound");
        // It says what it had read or lost of the former one, once it has the first message of the next.
        let line = follower.hear();
        let Some(seen) = line.strip_prefix("to ").and_then(|number| number.parse::<u64>().ok()) else {
            findings.push(line);
            break;
        };
        if seen < committed {
            findings
                .push(format!("message {committed} was published before the kill, and {seen} was the last known of"));
        }
        (published, read) = (published + committed, read + seen);
        if findings.len() > 10 {
            break;
        }
    }
    Ok(format!("{kills} kills of publishers, {published} messages known as published, {read} read or told as lost"))
}

/// Publishes, and writes the number of each message behind it. Arguments: the socket, the file.
pub fn play_writer(parent: &Link, arguments: &[&str]) {
    let builder = Publisher::builder().history(64).capacity(LONGEST);
    let mut publisher = builder.bind(Path::new(arguments[0])).expect("the name is free");
    let options = OpenOptions::new().create(true).truncate(true).write(true).open(arguments[1]);
    let mut file = options.expect("a file can be made");
    parent.tell("bound");
    publisher.wait_for_subscribers(1, LIMIT).expect("somebody follows");
    loop {
        let number = publisher.stats().published + 1;
        publisher.send(&message(number)).expect("nobody keeps it waiting");
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&number.to_le_bytes())).expect("it can be written");
    }
}

/// Follows from one publisher to the next, and says of each what was known of it at last. Arguments: the socket.
pub fn play_follower(parent: &Link, arguments: &[&str]) {
    let builder = Subscriber::builder().start(Start::Oldest).reconnect(LIMIT);
    let mut subscriber = builder.connect(Path::new(arguments[0])).expect("a publisher is there");
    parent.tell("connected");
    let (mut account, mut last) = (Account::default(), 0);
    loop {
        let message = match subscriber.recv() {
            Ok(message) => message,
            Err(error) => return parent.tell(format!("the follower ended: {error}")),
        };
        if message.is_of_new_publisher() {
            // What was lost at the end of the former one has no message to be told with: the counts have it.
            let stats = subscriber.stats();
            let unsaid = stats.lost - account.lost - message.lost_before();
            parent.tell(format!("to {}", last + unsaid));
            (account, last) = (Account::after(stats.lost - message.lost_before()), 0);
        }
        if let Some(wrong) = account.add(message.sequence(), message.lost_before(), &message) {
            return parent.tell(format!("wrong: {wrong}"));
        }
        last = last.max(message.sequence());
    }
}
