//! Queues: `wigwag queue send` and `wigwag queue recv`, and the example `queue`, which says what is marked.

use std::io::Read as _;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use super::bytes;
use crate::previous::programs::Programs;
use crate::previous::scene::{Ended, Input, Running, Scene, Side, equal, same};

/// Lines of each sender.
const LINES: usize = 20_000;

/// Messages that `wigwag queue recv` receives, prints and acknowledges at a time.
const BATCH: usize = 64;

/// The lines of a sender, each with the sender's name and a number.
fn lines(sender: &str, count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("{sender} {number}\n").into_bytes()).collect()
}

/// Starts `wigwag queue recv name ...`, and waits until it has the name.
fn receive(scene: &Scene, who: &Programs, arguments: &[&str]) -> anyhow::Result<Running> {
    let running = scene.start(who, &[&["queue", "recv", "name"], arguments].concat(), Input::Nothing)?;
    scene.until_it_listens("name")?;
    Ok(running)
}

/// How many messages of a queue are acknowledged, and how many received and not acknowledged.
fn counts(scene: &Scene, who: &Programs, name: &str) -> anyhow::Result<(Option<u64>, Option<u64>)> {
    let seen = scene.run(who, &["inspect", name, "--json"])?.succeeded()?;
    let seen: serde_json::Value = serde_json::from_slice(&seen)?;
    Ok((seen["counts"]["calls"].as_u64(), seen["backlog"]["in_flight"].as_u64()))
}

/// Two senders, one of each version, that send lines and end.
fn senders(scene: &Scene) -> anyhow::Result<[Running; 2]> {
    let send = |who, sender| {
        let input = Input::Bytes(lines(sender, LINES));
        scene.start(who, &["queue", "send", "name", "--timeout", "20"], input)
    };
    Ok([send(scene.server, "a")?, send(scene.client, "b")?])
}

/// Of each sender, every line has come, in order; those that came more than once, of both.
fn all_came(printed: &[u8]) -> anyhow::Result<usize> {
    let text = std::str::from_utf8(printed).context("lines of text were sent")?;
    let mut again = 0;
    for sender in ["a", "b"] {
        let mut next = 0;
        for line in text.lines().filter(|line| line.starts_with(sender)) {
            let number: usize = line.get(2..).and_then(|number| number.parse().ok()).context("a line is not whole")?;
            ensure!(number <= next, "of sender {sender}, line {number} came where {next} was due");
            again += usize::from(number < next);
            next = next.max(number + 1);
        }
        equal(&format!("lines of sender {sender}"), next, LINES)?;
    }
    Ok(again)
}

pub fn lines_and_a_message(scene: &Scene) -> anyhow::Result<()> {
    let receiver = receive(scene, scene.server, &["--count", &(2 * LINES).to_string()])?;
    for sender in senders(scene)? {
        sender.wait()?.printed_exactly(b"")?;
    }
    equal("lines that came twice", all_came(&receiver.wait()?.succeeded()?)?, 0)?;
    let whole = bytes(1_000_000);
    let receiver = receive(scene, scene.server, &["--raw", "--capacity", "1000000"])?;
    scene.run_with(scene.client, &["queue", "send", "name", "--whole"], &whole)?.printed_exactly(b"")?;
    receiver.wait()?.printed_exactly(&whole)
}

pub fn receiver_killed(scene: &Scene) -> anyhow::Result<()> {
    // Nobody reads what the receiver prints, so that it stops with a batch in its hands.
    let command = scene.command(&scene.server.wigwag, &["queue", "recv", "name", "--keep"]);
    let first = scene.spawn_unread(command, Input::Nothing)?;
    scene.until_it_listens("name")?;
    let senders = senders(scene)?;
    let mut before = None;
    scene.until("the receiver waits for somebody to read", || {
        let now = Some(counts(scene, scene.server, "name")?);
        let is_still = now == before && now.is_some_and(|(_, kept)| kept > Some(0));
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(is_still)
    })?;
    let mut printed = first.kill()?.printed;
    let cut = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    printed.truncate(cut);
    let successor = receive(scene, scene.client, &["--keep"])?;
    for sender in senders {
        sender.wait()?.printed_exactly(b"")?;
    }
    successor.signal(Signal::TERM)?;
    printed.extend(successor.wait()?.succeeded()?);
    let again = all_came(&printed)?;
    ensure!(again <= BATCH, "{again} lines came twice, and the killed receiver had {BATCH} at most");
    Ok(())
}

/// Orders of the example, of eight bytes each.
const ORDERS: usize = 2000;

/// The part `work` of the example: it writes each order to a file, and only then acknowledges it.
fn work(scene: &Scene, who: &Programs, done: &str) -> anyhow::Result<Running> {
    let socket = scene.path().join("orders");
    let command = scene.command(&who.queue, &["work", &socket.to_string_lossy(), done]);
    scene.spawn(command, Input::Nothing)
}

pub fn redelivered(scene: &Scene) -> anyhow::Result<()> {
    for sender in [scene.server, scene.client] {
        redelivered_of(scene, sender)?;
        std::fs::remove_file(scene.path().join("pipe"))?;
        std::fs::remove_file(scene.path().join("file"))?;
    }
    Ok(())
}

fn redelivered_of(scene: &Scene, sender: &Programs) -> anyhow::Result<()> {
    let orders: Vec<u8> = (0..ORDERS).flat_map(|number| format!("{number:08}").into_bytes()).collect();
    let input: Vec<u8> = orders.chunks(8).flat_map(|order| [order, b"\n"].concat()).collect();
    // The first worker writes into a pipe that nobody reads: it stops with an order that it has received, and not
    // acknowledged.
    scene.pipe("pipe")?;
    let mut pipe = std::fs::File::options().read(true).write(true).open(scene.path().join("pipe"))?;
    let room = rustix::pipe::fcntl_setpipe_size(&pipe, 4096)?;
    ensure!(room < orders.len(), "a pipe has room for all orders: {room} bytes");
    let first = work(scene, scene.server, "pipe")?;
    let socket = scene.path().join("orders");
    let socket = socket.to_string_lossy();
    // A worker that was killed leaves its socket, so that there is one says nothing.
    scene.until("there is a worker", || Ok(counts(scene, scene.server, &socket).is_ok()))?;
    let sending = scene.start(sender, &["queue", "send", &socket, "--timeout", "20"], Input::Bytes(input))?;
    scene.until("the worker has an order in its hands that it cannot write", || {
        let counts = counts(scene, scene.server, &socket)?;
        Ok(counts == (Some(room as u64 / 8), Some(1)))
    })?;
    equal("what the first worker says", first.kill()?.printed, b"")?;
    let mut done = vec![0; room];
    pipe.read_exact(&mut done)?;
    drop(pipe);
    same("the orders of the first worker", &done, &orders[..room])?;

    let successor = work(scene, scene.client, "file")?;
    sending.wait()?.printed_exactly(b"")?;
    let Ended { printed, complained, .. } = successor.kill()?;
    let order = u64::from_le_bytes(orders[room..room + 8].try_into()?);
    let expected = format!("order {order} may have been carried out before\n");
    same("what the successor says of its first order", &printed, expected.as_bytes())?;
    equal("its complaints", complained, "")?;
    same("the orders of the successor", &std::fs::read(scene.path().join("file"))?, &orders[room..])
}

pub fn receiver_replaced(scene: &Scene) -> anyhow::Result<()> {
    let first = receive(scene, scene.server, &["--keep"])?;
    let mut senders = Vec::new();
    for (who, name) in [(scene.server, "a"), (scene.client, "b")] {
        senders.push((scene.start(who, &["queue", "send", "name", "--timeout", "20"], Input::Open)?, name));
    }
    let mut receiver = first;
    for (round, next) in [Some(scene.client), Some(scene.server), None].into_iter().enumerate() {
        let text = |name: &str| format!("{name} {round}\n");
        for (sender, name) in &mut senders {
            sender.write(text(name).as_bytes())?;
        }
        scene.until("both lines came", || {
            let printed = String::from_utf8_lossy(&receiver.printed()).into_owned();
            Ok(["a", "b"].iter().all(|name| printed.contains(&text(name))))
        })?;
        let Some(next) = next else { break };
        receiver.signal(Signal::TERM)?;
        let printed = receiver.wait()?.succeeded()?;
        equal("lines of a receiver that ended in order", printed.split(|byte| *byte == b'\n').count(), 3)?;
        receiver = receive(scene, next, &["--keep"])?;
    }
    for (mut sender, _) in senders {
        sender.end_input();
        sender.wait()?.printed_exactly(b"")?;
    }
    receiver.signal(Signal::TERM)?;
    equal("lines of the last receiver", receiver.wait()?.succeeded()?.len(), 8)
}

pub fn lost(scene: &Scene) -> anyhow::Result<()> {
    let receiver = receive(scene, scene.server, &["--keep"])?;
    let sending = ["queue", "send", "name", "--timeout", "0.3"];
    let mut sender = scene.start(scene.client, &sending, Input::Open)?;
    sender.write(b"one\n")?;
    scene.until("the line came", || Ok(receiver.printed() == b"one\n"))?;
    receiver.kill()?;
    sender.write(b"two\n")?;
    // A receiver that is killed before it sleeps is not rung for: until its input ends the sender need not notice.
    sender.end_input();
    // Whether it knows how many depends on what it noticed first: the end of its input, or that of the receiver.
    let told = sender.wait()?.failed(3)?.replace("some messages", "N messages").replace("0 messages", "N messages");
    scene.note(Side::Client, "the receiver is killed and no other comes", &told);
    let said = scene.run(scene.client, &["queue", "send", "name"])?.failed(3)?;
    scene.note(Side::Client, "a sender that finds no receiver", &said);
    Ok(())
}
