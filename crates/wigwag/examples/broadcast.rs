//! Prices to everybody who listens. The publisher is killed, and the next one takes its name: a subscriber that follows
//! reads all that the first had published, and knows exactly what it missed of the second.
//!
//! ```console
//! $ cargo run --example broadcast
//! ```

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use wigwag::{Publisher, Subscriber};

/// Messages that a publisher keeps.
const HISTORY: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(count)) = (arguments.next(), arguments.next()) {
        return publish(&name, count.parse()?);
    }
    let directory = std::env::temp_dir().join(format!("wigwag-example-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let name = directory.join("prices");
    let name = name.to_str().ok_or("the path is no text")?;

    // Two processes, one after the other: each says when it has published, and then waits to be killed.
    let start = |count: u32| -> Result<_, Box<dyn std::error::Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args([name, &count.to_string()]).stdout(Stdio::piped()).spawn()?;
        let mut lines = std::io::BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        lines.next().ok_or("the publisher has ended")??; // it has its name
        Ok((child, lines))
    };

    let (mut first, mut said) = start(3)?;
    let mut subscriber = Subscriber::builder().reconnect(Duration::from_secs(10)).connect(name)?;
    said.next(); // all is published
    first.kill()?;
    first.wait()?;
    let (mut second, mut said) = start(10)?;
    // Nobody listens to the second one until this subscriber looks for it: it keeps four messages of ten.
    said.next();

    let mut seen = Vec::new();
    for _ in 0..3 + HISTORY {
        let message = subscriber.recv()?;
        let from = if message.is_of_new_publisher() { ", the first of another publisher" } else { "" };
        println!(
            "message {}{from}: {}, {} lost before it",
            message.sequence(),
            String::from_utf8_lossy(&message),
            message.lost_before()
        );
        seen.push((message.sequence(), message.lost_before(), message.is_of_new_publisher()));
    }
    second.kill()?;
    second.wait()?;
    std::fs::remove_dir_all(&directory)?;

    let first = [(1, 0, false), (2, 0, false), (3, 0, false)];
    let second = [(7, 6, true), (8, 0, false), (9, 0, false), (10, 0, false)];
    assert_eq!(seen, [&first[..], &second].concat(), "everything that was kept came, and what was not is counted");
    Ok(())
}

/// Publishes so many prices, the first of them once somebody listens or a while has passed.
fn publish(name: &str, count: u32) -> Result<(), Box<dyn std::error::Error>> {
    let mut publisher = Publisher::builder().history(HISTORY).bind(name)?;
    println!("bound");
    let _ = publisher.wait_for_subscribers(1, Duration::from_millis(300));
    // A subscriber that has just come begins with what is published next: a moment, so that it is there.
    std::thread::sleep(Duration::from_millis(100));
    for number in 1..=count {
        publisher.send(format!("price {number}").as_bytes())?;
    }
    println!("published");
    loop {
        std::thread::sleep(Duration::from_secs(1)); // until it is killed
    }
}
