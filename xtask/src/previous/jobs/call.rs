//! Exchanges: `wigwag serve` and `wigwag call`.

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use super::bytes;
use crate::previous::scene::{Input, Running, Scene, Side, equal, same};

/// Lengths of requests: none, within a slot's line and beyond it, as large as can be.
const LENGTHS: [usize; 6] = [0, 1, 48, 49, 4096, 1 << 20];

/// Calls of one client, one after the other.
const CALLS: usize = 3000;

pub fn replies(scene: &Scene) -> anyhow::Result<()> {
    for wait in ["adaptive", "park", "spin"] {
        let server = scene.serve(scene.server, wait, &["--do", "invert", "--capacity", "1M", "--wait", wait])?;
        for request in LENGTHS.map(bytes) {
            let expected: Vec<u8> = request.iter().map(|byte| !byte).collect();
            scene.run_with(scene.client, &["call", wait, "--input", "-"], &request)?.printed_exactly(&expected)?;
        }
        let many = ["call", wait, "x", "--repeat", &CALLS.to_string(), "--json", "--output", "reply"];
        let summary: serde_json::Value = serde_json::from_slice(&scene.run(scene.client, &many)?.succeeded()?)?;
        equal("calls", summary["calls"].as_u64(), Some(CALLS as u64))?;
        same("the last reply", &std::fs::read(scene.path().join("reply"))?, &[!b'x'])?;
        let large = scene.run_with(scene.client, &["call", wait, "--input", "-"], &bytes((1 << 20) + 1))?.failed(1)?;
        scene.note(Side::Client, "a request that is too large", &large);
        ends_in_order(server, LENGTHS.len() + CALLS)?;
    }
    Ok(())
}

/// The server ends at a signal, with code 0, and has served so many calls.
fn ends_in_order(server: Running, served: usize) -> anyhow::Result<()> {
    server.signal(Signal::TERM)?;
    has_served(server, served)
}

fn has_served(server: Running, served: usize) -> anyhow::Result<()> {
    let printed = String::from_utf8(server.wait()?.succeeded()?)?;
    equal("the server's last line", printed.lines().last(), Some(format!("{{\"served\":{served}}}").as_str()))
}

pub fn commands(scene: &Scene) -> anyhow::Result<()> {
    // The two commands wait for each other: one thread alone would never answer. A session belongs to a thread. Version
    // 1 chooses it by the number of the connection, and a newer client takes two numbers: of the first four no two have
    // the same of five threads.
    let meet = "name=$(cat); : > \"$name\"; until [ -e one ] && [ -e two ]; do sleep 0.01; done; echo \"$name\" met";
    let server = scene.serve(scene.server, "meet", &["--exec", meet, "--threads", "5", "--slots", "2"])?;
    let names = ["one", "two"];
    let calls = names.map(|name| scene.start(scene.client, &["call", "meet", name], Input::Nothing));
    for (call, name) in calls.into_iter().zip(names) {
        call?.wait()?.printed_exactly(format!("{name} met\n").as_bytes())?;
    }
    ends_in_order(server, names.len())?;
    let server = scene.serve(scene.server, "count", &["--exec", "wc -c", "--threads", "2"])?;
    let calls = [0, 1, 48, 49, 100_000].map(|count| {
        let call = scene.start(scene.client, &["call", "count", "--input", "-"], Input::Bytes(bytes(count)));
        (call, count)
    });
    let many = calls.len();
    for (call, count) in calls {
        call?.wait()?.printed_exactly(format!("{count}\n").as_bytes())?;
    }
    ends_in_order(server, many)?;
    let _server = scene.serve(scene.server, "broken", &["--exec", "echo no luck today >&2; exit 7"])?;
    let said = scene.run(scene.client, &["call", "broken", "x"])?.failed(1)?;
    ensure!(said.contains("no luck today"), "the handler's own words are not told: {said:?}");
    scene.note(Side::Client, "a handler's error", &said);
    Ok(())
}

/// A server whose handler hangs until the gate is opened, for a request of that text only.
fn hanging(scene: &Scene) -> anyhow::Result<Running> {
    scene.pipe("gate")?;
    let work = "case $(cat) in slow) : > begun; cat gate; echo late;; *) echo quick;; esac";
    scene.serve(scene.server, "hangs", &["--exec", work])
}

/// A call that hangs in a handler.
fn slow_call(scene: &Scene) -> anyhow::Result<Running> {
    let call = scene.start(scene.client, &["call", "hangs", "slow"], Input::Nothing)?;
    scene.until_there("begun")?;
    Ok(call)
}

pub fn timeout(scene: &Scene) -> anyhow::Result<()> {
    let server = hanging(scene)?;
    let said = scene.run(scene.client, &["call", "hangs", "slow", "--timeout", "0.3"])?.failed(5)?;
    scene.until_there("begun")?;
    scene.note(Side::Client, "a call in a handler that is given up", &said);
    // The server hears of it, ends the command, and has its thread back.
    scene.run(scene.client, &["call", "hangs", "quick"])?.printed_exactly(b"quick\n")?;
    server.signal(Signal::TERM)?;
    server.wait()?.succeeded()?;
    Ok(())
}

pub fn server_killed(scene: &Scene) -> anyhow::Result<()> {
    let server = hanging(scene)?;
    let call = slow_call(scene)?;
    server.kill()?;
    scene.note(Side::Client, "the server is killed while a call waits", &call.wait()?.failed(5)?);
    let said = scene.run(scene.client, &["call", "hangs", "quick"])?.failed(3)?;
    scene.note(Side::Client, "a call to a name that a dead server left", &said);
    // What is left of the name is replaced by a server of the other version, and its clients may be of either.
    let _server = scene.serve(scene.client, "hangs", &["--do", "upper"])?;
    for who in [scene.server, scene.client] {
        scene.run(who, &["call", "hangs", "hello"])?.printed_exactly(b"HELLO")?;
    }
    Ok(())
}

pub fn client_killed(scene: &Scene) -> anyhow::Result<()> {
    let server = hanging(scene)?;
    slow_call(scene)?.kill()?;
    scene.run(scene.client, &["call", "hangs", "quick"])?.printed_exactly(b"quick\n")?;
    let seen = inspect(scene, "hangs")?;
    equal("violations", &seen["violations"], 0)?;
    server.signal(Signal::TERM)?;
    server.wait()?.succeeded()?;
    Ok(())
}

/// What the server's own version sees of it.
fn inspect(scene: &Scene, name: &str) -> anyhow::Result<serde_json::Value> {
    let seen = scene.run(scene.server, &["inspect", name, "--json"])?.succeeded()?;
    serde_json::from_slice(&seen).context("inspect prints no JSON")
}

pub fn shutdown(scene: &Scene) -> anyhow::Result<()> {
    let server = hanging(scene)?;
    let slow = slow_call(scene)?;
    let behind = scene.start(scene.client, &["call", "hangs", "quick"], Input::Nothing)?;
    scene.until("a call waits behind the first", || Ok(inspect(scene, "hangs")?["backlog"]["waiting"] == 1))?;
    server.signal(Signal::TERM)?;
    scene.until("the name is given back", || Ok(!scene.path().join("wigwag/hangs.sock").exists()))?;
    let said = scene.run(scene.client, &["call", "hangs", "quick"])?.failed(3)?;
    scene.note(Side::Client, "a call that comes after the shutdown", &said);
    scene.open_gate("gate")?;
    slow.wait()?.printed_exactly(b"late\n")?;
    behind.wait()?.printed_exactly(b"quick\n")?;
    has_served(server, 2)
}

pub fn shutdown_busy(scene: &Scene) -> anyhow::Result<()> {
    let server = scene.serve(scene.server, "busy", &["--do", "upper"])?;
    let call = scene.start(scene.client, &["call", "busy", "hello", "--repeat", "1000000000"], Input::Nothing)?;
    scene.until("calls are answered", || Ok(inspect(scene, "busy")?["counts"]["calls"].as_u64() > Some(100)))?;
    server.signal(Signal::TERM)?;
    server.wait()?.succeeded()?;
    // It may have been sent or not, but what was not answered was not executed.
    let said = call.wait()?.failed(5)?;
    let (what, request) = said.split_once("; ").context("nothing is said of the request")?;
    let is_known = ["the request was not sent.\n", "the request was not executed.\n"].contains(&request);
    ensure!(is_known, "it must be certain that the request was not executed: {said:?}");
    scene.note(Side::Client, "the server shuts down between two calls", what);
    Ok(())
}

pub fn names(scene: &Scene) -> anyhow::Result<()> {
    let said = scene.run(scene.client, &["call", "nobody", "x"])?.failed(3)?;
    scene.note(Side::Client, "a name that nobody has", &said);
    let _server = scene.serve(scene.server, "calls", &["--do", "echo"])?;
    for other in [&["serve", "calls", "--do", "upper"][..], &["queue", "recv", "calls"], &["stream", "listen", "calls"]]
    {
        let said = scene.run(scene.client, other)?.failed(6)?;
        scene.note(Side::Client, &format!("`{}` for a name that is taken", other[0]), &said);
    }
    for other in ["queue send calls", "stream connect calls"] {
        let words: Vec<&str> = other.split(' ').collect();
        let said = scene.run(scene.client, &words)?.failed(4)?;
        ensure!(said.contains("`wigwag call calls`"), "the cure is not told: {said:?}");
        scene.note(Side::Client, &format!("`{other}` to a server of calls"), &said);
    }
    scene.run(scene.client, &["call", "calls", "still here"])?.printed_exactly(b"still here")
}
