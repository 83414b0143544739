//! What one version sees of the other: `wigwag ls`, `inspect` and `metrics`.

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::previous::programs::Programs;
use crate::previous::scene::{Input, Scene, Side, equal};

/// What `wigwag ... --json` prints.
fn json(scene: &Scene, who: &Programs, arguments: &[&str]) -> anyhow::Result<Value> {
    let printed = scene.run(who, arguments)?.succeeded()?;
    serde_json::from_slice(&printed).with_context(|| format!("`wigwag {}` prints no JSON", arguments.join(" ")))
}

/// A name in the list of the client's version.
fn listed(scene: &Scene, name: &str) -> anyhow::Result<Value> {
    let list = json(scene, scene.client, &["ls", "--json", "--over", "0"])?;
    let names = list["names"].as_array().context("a list has names")?;
    names.iter().find(|entry| entry["name"] == name).cloned().with_context(|| format!("{name} is not listed: {list}"))
}

/// A number of a name on the page of the client's version.
fn metric(scene: &Scene, metric: &str, labels: &str) -> anyhow::Result<f64> {
    let page = String::from_utf8(scene.run(scene.client, &["metrics"])?.succeeded()?)?;
    let begin = format!("{metric}{{{labels}}} ");
    let number = page.lines().find_map(|line| line.strip_prefix(&begin));
    number.and_then(|number| number.parse().ok()).with_context(|| format!("there is no `{begin}` in the metrics"))
}

/// Both versions see the same of a name at which nothing happens, but for its age and for what only one of them knows.
fn sees_the_same(scene: &Scene, name: &str) -> anyhow::Result<Value> {
    let look = |who| json(scene, who, &["inspect", name, "--json"]);
    let (own, other) = (look(scene.server)?, look(scene.client)?);
    let differing = differences("", &own, &other);
    ensure!(differing.is_empty(), "of {name}, the server's version and the client's see: {}", differing.join("; "));
    Ok(other)
}

/// Where two values differ. Ages differ between two looks, and a key that only one has is a later version's.
fn differences(path: &str, one: &Value, other: &Value) -> Vec<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let both = one.iter().filter_map(|(key, value)| Some((key, value, other.get(key)?)));
            let same = both.filter(|(key, ..)| !key.ends_with("_s"));
            same.flat_map(|(key, one, other)| differences(&format!("{path}/{key}"), one, other)).collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let both = one.iter().zip(other).enumerate();
            both.flat_map(|(at, (one, other))| differences(&format!("{path}/{at}"), one, other)).collect()
        }
        _ if one == other => Vec::new(),
        _ => vec![format!("{path}: {one} and {other}")],
    }
}

pub fn server(scene: &Scene) -> anyhow::Result<()> {
    scene.pipe("gate")?;
    let work = "case $(cat) in slow) : > begun; cat gate;; *) echo quick;; esac";
    let server = scene.serve(scene.server, "name", &["--exec", work, "--slots", "3", "--allow-user", "12345"])?;
    for _ in 0..5 {
        scene.run(scene.client, &["call", "name", "1234567"])?.printed_exactly(b"quick\n")?;
    }
    scene.until("all is counted", || Ok(listed(scene, "name")?["calls"] == 5))?;
    scene.until("nobody is left", || Ok(listed(scene, "name")?["sessions"] == 0))?;
    let seen = sees_the_same(scene, "name")?;
    equal("bytes of requests", &seen["counts"]["bytes_in"], 35)?;
    equal("bytes of replies", &seen["counts"]["bytes_out"], 30)?;
    equal("slots", &seen["limits"]["slots"], 3)?;
    equal("users who may come", &seen["policy"]["users"], &serde_json::json!([12345]))?;
    equal("the process", &seen["process"]["pid"], server.id())?;
    equal("calls in the metrics", metric(scene, "wigwag_calls_total", "name=\"name\"")?, 5.0)?;
    equal("bytes in the metrics", metric(scene, "wigwag_request_bytes_total", "name=\"name\"")?, 35.0)?;

    // A call hangs, another one waits behind it, and then the process is stopped.
    let call = |text| scene.start(scene.client, &["call", "name", text], Input::Nothing);
    let slow = call("slow")?;
    scene.until_there("begun")?;
    let behind = call("quick")?;
    scene.until("one call runs, and one waits", || {
        let seen = json(scene, scene.client, &["inspect", "name", "--json"])?;
        Ok((&seen["backlog"]["waiting"], &seen["backlog"]["in_flight"]) == (&1.into(), &1.into()))
    })?;
    server.signal(Signal::STOP)?;
    scene.until("it is seen to be stopped", || Ok(listed(scene, "name")?["state"] == "stopped"))?;
    let seen = sees_the_same(scene, "name")?;
    equal("its state", &seen["process"]["state"], "stopped")?;
    equal("sessions", seen["sessions"].as_array().map(Vec::len), Some(2))?;
    equal("what its thread does", &seen["threads"][0]["state"], "serving")?;
    equal("running, in the metrics", metric(scene, "wigwag_running", "name=\"name\"")?, 0.0)?;
    server.signal(Signal::CONT)?;
    scene.open_gate("gate")?;
    slow.wait()?.printed_exactly(b"")?;
    behind.wait()?.printed_exactly(b"quick\n")?;

    server.kill()?;
    equal("the state of a dead one", &listed(scene, "name")?["state"], "dead")?;
    let dead = metric(scene, "wigwag_names", "kind=\"service\",state=\"dead\"")?;
    equal("dead names in the metrics", dead, 1.0)?;
    let said = scene.run(scene.client, &["inspect", "name"])?.failed(3)?;
    scene.note(Side::Client, "a look at a dead server", &said);
    Ok(())
}

pub fn others(scene: &Scene) -> anyhow::Result<()> {
    // A queue: what is acknowledged is counted.
    let receiver = scene.start(scene.server, &["queue", "recv", "queue", "--keep"], Input::Nothing)?;
    scene.until_it_listens("queue")?;
    let hundred: Vec<u8> = (10..110).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    scene.run_with(scene.client, &["queue", "send", "queue"], &hundred)?.printed_exactly(b"")?;
    scene.until("all is counted", || Ok(listed(scene, "queue")?["calls"] == 100))?;
    scene.until("the sender is gone", || Ok(listed(scene, "queue")?["sessions"] == 0))?;
    let seen = sees_the_same(scene, "queue")?;
    equal("the form", &seen["form"], "queue")?;
    equal("bytes", &seen["counts"]["bytes_in"], 90 * 2 + 10 * 3)?;
    // A queue whose receiver is stopped: what waits is seen.
    let mut sender = scene.start(scene.client, &["queue", "send", "queue"], Input::Open)?;
    sender.write(b"first\n")?;
    scene.until("it is acknowledged", || Ok(listed(scene, "queue")?["calls"] == 101))?;
    receiver.signal(Signal::STOP)?;
    sender.write(&hundred)?;
    scene.until("all of them wait", || {
        Ok(json(scene, scene.client, &["inspect", "queue", "--json"])?["backlog"]["waiting"] == 100)
    })?;
    equal("the process's state", &sees_the_same(scene, "queue")?["process"]["state"], "stopped")?;
    equal("what waits, in the list", &listed(scene, "queue")?["waiting"], 100)?;
    receiver.signal(Signal::CONT)?;
    sender.end_input();
    sender.wait()?.printed_exactly(b"")?;

    // A stream with two ends that have nothing to say just now.
    let mut listener = scene.start(scene.server, &["stream", "listen", "stream", "--keep"], Input::Nothing)?;
    scene.until_it_listens("stream")?;
    let mut connector = scene.start(scene.client, &["stream", "connect", "stream"], Input::Open)?;
    connector.write(b"hello")?;
    scene.until("it came", || Ok(listener.printed() == b"hello"))?;
    scene.until("both ends are seen to wait", || {
        let [own, other] = [scene.server, scene.client].map(|who| json(scene, who, &["inspect", "stream", "--json"]));
        Ok(differences("", &own?, &other?).is_empty())
    })?;
    let seen = json(scene, scene.client, &["inspect", "stream", "--json"])?;
    equal("the form", &seen["form"], "stream")?;
    equal("sessions", seen["sessions"].as_array().map(Vec::len), Some(1))?;
    connector.end_input();
    connector.wait()?.printed_exactly(b"")?;
    listener.end_input();

    // A semaphore, held by the server's version.
    let mut holder =
        scene.spawn(scene.command(&scene.server.wigwag, &["lock", "permits", "--", "cat"]), Input::Open)?;
    holder.write(b"held")?;
    scene.until("it is held", || Ok(holder.printed() == b"held"))?;
    let seen = sees_the_same(scene, "permits")?;
    equal("free permits", &seen["free"], 0)?;
    equal("its holder", &seen["holders"][0]["pid"], holder.id())?;
    equal("permits in the list", &listed(scene, "permits")?["permits_held"], 1)?;
    equal("permits in the metrics", metric(scene, "wigwag_permits_free", "name=\"permits\"")?, 0.0)?;
    holder.end_input();
    holder.wait()?.printed_exactly(b"held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_versions_see_is_compared_but_for_ages_and_what_one_of_them_does_not_know() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let one = value(r#"{"a": {"b": [1, 2], "age_s": 1.0}, "only": 1}"#);
        assert!(differences("", &one, &value(r#"{"a": {"b": [1, 2], "age_s": 2.0, "more": 0}}"#)).is_empty());
        assert_eq!(differences("", &one, &value(r#"{"a": {"b": [1, 3]}}"#)), ["/a/b/1: 2 and 3"]);
        assert_eq!(differences("", &one, &value(r#"{"a": {"b": [1]}}"#)), ["/a/b: [1,2] and [1]"]);
    }
}
