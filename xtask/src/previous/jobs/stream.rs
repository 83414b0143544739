//! Streams: `wigwag stream listen` and `wigwag stream connect`.

use std::fs::File;
use std::process::Stdio;

use anyhow::ensure;

use super::bytes;
use crate::previous::scene::{Input, Running, Scene, Side};

/// Bytes each way.
const BYTES: usize = 8 << 20;

fn listen(scene: &Scene, arguments: &[&str], input: Input) -> anyhow::Result<Running> {
    let running = scene.start(scene.server, &[&["stream", "listen", "name"], arguments].concat(), input)?;
    scene.until_it_listens("name")?;
    Ok(running)
}

fn connect(scene: &Scene, arguments: &[&str], input: Input) -> anyhow::Result<Running> {
    scene.start(scene.client, &[&["stream", "connect", "name"], arguments].concat(), input)
}

pub fn both_ways(scene: &Scene) -> anyhow::Result<()> {
    for (listening, connecting) in
        [(&[][..], &[][..]), (&["--ring", "8192"], &["--ring", "4096"]), (&["--wait", "park"], &["--wait", "spin"])]
    {
        let count = if listening.contains(&"--ring") { BYTES / 8 } else { BYTES };
        let (there, back) = (bytes(count), bytes(count + 1));
        let listener = listen(scene, listening, Input::Bytes(back.clone()))?;
        let connector = connect(scene, connecting, Input::Bytes(there.clone()))?;
        connector.wait()?.printed_exactly(&back)?;
        listener.wait()?.printed_exactly(&there)?;
    }
    Ok(())
}

/// Two ends, of which each has had what the other one has written.
fn met(scene: &Scene) -> anyhow::Result<(Running, Running)> {
    let mut listener = listen(scene, &[], Input::Open)?;
    let mut connector = connect(scene, &[], Input::Open)?;
    listener.write(b"from the listener")?;
    connector.write(b"from the connector")?;
    scene.until("both have heard each other", || {
        Ok(listener.printed() == b"from the connector" && connector.printed() == b"from the listener")
    })?;
    Ok((listener, connector))
}

pub fn killed(scene: &Scene) -> anyhow::Result<()> {
    let (listener, connector) = met(scene)?;
    connector.kill()?;
    scene.note(Side::Server, "the connecting end is killed", &listener.wait()?.failed(5)?);
    let (listener, connector) = met(scene)?;
    listener.kill()?;
    scene.note(Side::Client, "the listening end is killed", &connector.wait()?.failed(5)?);
    Ok(())
}

pub fn aborted(scene: &Scene) -> anyhow::Result<()> {
    for (failing, told) in [("listen", Side::Client), ("connect", Side::Server)] {
        aborted_by(scene, failing, told, "its output cannot be written to")?;
        aborted_by(scene, failing, told, "its input cannot be read")?;
    }
    Ok(())
}

/// One end reads a directory, or writes to a device that is full. The other one has said something, and could say more.
fn aborted_by(scene: &Scene, failing: &str, told: Side, what: &str) -> anyhow::Result<()> {
    let who = if told == Side::Client { scene.server } else { scene.client };
    let mut command = scene.command(&who.wigwag, &["stream", failing, "name"]);
    match what.contains("output") {
        // Its input is open: whoever has said its last before is not heard any more where the other one only sends.
        true => command.stdin(Stdio::piped()).stdout(File::options().write(true).open("/dev/full")?),
        false => command.stdin(File::open(scene.path())?).stdout(Stdio::null()),
    };
    let (failing, mut hearing) = if told == Side::Client {
        let failing = scene.spawn_as_it_is(command)?;
        scene.until_it_listens("name")?;
        (failing, connect(scene, &[], Input::Open)?)
    } else {
        let hearing = listen(scene, &[], Input::Open)?;
        (scene.spawn_as_it_is(command)?, hearing)
    };
    // It may be told before it has said anything.
    let _ = hearing.write(b"bytes");
    let said = hearing.wait()?.failed(5)?;
    ensure!(said.contains(what), "it is not told that of the other end {what}: {said:?}");
    scene.note(told, &format!("of the other end {what}"), &said);
    failing.wait()?.failed(1).map(drop)
}
