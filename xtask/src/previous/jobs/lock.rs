//! Semaphores: `wigwag lock`.

use anyhow::{Context as _, ensure};

use crate::previous::programs::Programs;
use crate::previous::scene::{Input, Running, Scene, Side, equal};

/// Locks of each version that are taken at once.
const LOCKS: usize = 12;

/// A command that holds a permit until its gate is opened.
fn hold(scene: &Scene, who: &Programs, gate: &str, options: &[&str]) -> anyhow::Result<Running> {
    let command = format!("echo held; cat {gate}");
    let words = [&["lock", "job"], options, &["-c", &command]].concat();
    scene.start(who, &words, Input::Nothing)
}

fn until_held(scene: &Scene, holder: &Running) -> anyhow::Result<()> {
    scene.until("the permit is held", || Ok(holder.printed() == b"held\n"))
}

pub fn held(scene: &Scene) -> anyhow::Result<()> {
    scene.pipe("first")?;
    scene.pipe("second")?;
    let two = ["--permits", "2"];
    // One of each version holds, and a third is turned away.
    let first = hold(scene, scene.server, "first", &two)?;
    until_held(scene, &first)?;
    let second = hold(scene, scene.client, "second", &two)?;
    until_held(scene, &second)?;
    let said = scene.run(scene.client, &["lock", "job", "-n", "--permits", "2", "true"])?.failed(75)?;
    ensure!(said.contains("has 2 permits"), "it is not told how many permits there are: {said:?}");
    scene.note(Side::Client, "no permit is free", &said);
    let said = scene.run(scene.client, &["lock", "job", "--permits", "3", "true"])?.failed(4)?;
    scene.note(Side::Client, "another number of permits", &said);
    // Who waits gets the permit that the other version gives back.
    let waiting =
        scene.start(scene.client, &["lock", "job", "--permits", "2", "-q", "echo", "got it"], Input::Nothing)?;
    scene.until("it waits", || {
        let seen = scene.run(scene.server, &["inspect", "job", "--json"])?.succeeded()?;
        let seen: serde_json::Value = serde_json::from_slice(&seen)?;
        Ok(seen["waiting"].as_array().is_some_and(|waiting| waiting.len() == 1))
    })?;
    scene.open_gate("first")?;
    first.wait()?.printed_exactly(b"held\n")?;
    waiting.wait()?.printed_exactly(b"got it\n")?;
    scene.open_gate("second")?;
    second.wait()?.printed_exactly(b"held\n")?;
    one_at_a_time(scene)
}

/// All of both versions count in one file, which is right only if no two do so at the same time.
fn one_at_a_time(scene: &Scene) -> anyhow::Result<()> {
    let counter = scene.path().join("counter");
    std::fs::write(&counter, "0\n")?;
    let count = "read number < counter; sleep 0.002; echo $((number + 1)) > counter";
    let lock = |who| scene.start(who, &["lock", "count", "-q", "-c", count], Input::Nothing);
    let pairs = (0..LOCKS).map(|_| Ok([lock(scene.server)?, lock(scene.client)?]));
    let all = pairs.collect::<anyhow::Result<Vec<_>>>()?;
    for running in all.into_iter().flatten() {
        running.wait()?.printed_exactly(b"")?;
    }
    let counted = std::fs::read_to_string(counter)?;
    equal("how often it was counted", counted.trim().parse::<usize>().context("no number")?, 2 * LOCKS)
}

pub fn killed(scene: &Scene) -> anyhow::Result<()> {
    for (held_by, next) in [(scene.server, scene.client), (scene.client, scene.server)] {
        let side = if std::ptr::eq(next, scene.client) { Side::Client } else { Side::Server };
        // Without its command, which would keep the permit until its own end.
        let command = scene.command(&held_by.wigwag, &["lock", "job", "--close", "--", "cat", "-"]);
        let mut holder = scene.spawn(command, Input::Open)?;
        holder.write(b"held\n")?;
        until_held(scene, &holder)?;
        let print = "echo recovered: $WIGWAG_RECOVERED";
        let waiting = scene.start(next, &["lock", "job", "-q", "-c", print], Input::Nothing)?;
        scene.until("it waits", || {
            let seen = scene.run(next, &["inspect", "job", "--json"])?.succeeded()?;
            let seen: serde_json::Value = serde_json::from_slice(&seen)?;
            Ok(seen["waiting"].as_array().is_some_and(|waiting| waiting.len() == 1))
        })?;
        holder.kill()?;
        let ended = waiting.wait()?;
        equal("its exit code", ended.code, 0)?;
        equal("what its command is told", String::from_utf8_lossy(&ended.printed).trim(), "recovered: 1")?;
        ensure!(ended.complained.contains("died with its permit"), "it is not told: {:?}", ended.complained);
        scene.note(side, "the last holder died", &ended.complained);
        // Whoever comes after that is told nothing.
        scene.run(held_by, &["lock", "job", "-c", print])?.printed_exactly(b"recovered:\n")?;
    }
    Ok(())
}
