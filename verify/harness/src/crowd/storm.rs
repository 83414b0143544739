//! G11: clients that connect and leave, again and again. None fails, nothing stays behind, and a session costs little
//! more than its system calls.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use wigwag::Client;
use wigwag_testing::{Ground, Link, Process, Snapshot, check_inverted, fill};

use super::baseline::{comes_back, percentile};
use super::floor;
use super::server::CrowdServer;
use crate::outcome::Outcome;
use crate::role;
use crate::scale::{Scale, Trial};

/// Sessions in a row before it is the bare calls' turn: both meet the same disturbances.
const BLOCK: usize = 50;
/// Processes that come all at once.
const VISITORS: usize = 4;
/// The goal: a session costs that much, or [`RATIO`] times the bare calls.
const GOAL_US: u32 = 150;
const RATIO: u32 = 2;
/// Findings of one kind that are told.
const TOLD: usize = 5;

/// The goal. Half of the sessions come from one client, one after the other, and are measured; half from several at
/// once.
pub fn connect_storm(trial: &Trial) -> anyhow::Result<Outcome> {
    let half = trial.pick(150, 10_000, 1_000_000);
    let ground = Ground::new();
    let server = CrowdServer::start(&ground.socket(), &["slots=4", "capacity=65536"])?;
    let bare = ground.path("bare");
    let mut bare_server = role::start("crowd-floor", [&bare]);
    bare_server.expect("ready");
    let mut findings = Vec::new();
    visit(&server.socket, 0, &mut findings);
    let before = Snapshot::when_settled(server.proc_id, 0);

    let (mut times_us, mut floor_us) = (Vec::with_capacity(half), Vec::with_capacity(half));
    for number in 0..half {
        let begin = Instant::now();
        visit(&server.socket, number, &mut findings);
        if !number.is_multiple_of(16) {
            times_us.push(begin.elapsed().as_micros() as u32);
        }
        if number % BLOCK == BLOCK - 1 {
            for _ in 0..BLOCK {
                let begin = Instant::now();
                floor::visit(&bare).context("the bare calls")?;
                floor_us.push(begin.elapsed().as_micros() as u32);
            }
        }
    }
    drop(bare_server);
    findings.extend(comes_back(&before, server.proc_id, &format!("after {half} sessions one after the other")));
    storm(&server.socket, half / VISITORS, &mut findings)?;
    findings.extend(comes_back(&before, server.proc_id, &format!("after {half} sessions, {VISITORS} at a time")));

    let counts = server.counts()?;
    let expected = (1 + half + half / VISITORS * VISITORS) as u64;
    if (counts.accepted, counts.refused, counts.violations) != (expected, 0, 0) && findings.is_empty() {
        findings.push(format!("of {expected} sessions the server counted {counts:?}"));
    }
    let [median, p99] = [50, 99].map(|hundredths| percentile(&mut times_us, hundredths));
    let [floor, floor_p99] = [50, 99].map(|hundredths| percentile(&mut floor_us, hundredths));
    if trial.scale != Scale::Test && median > GOAL_US && median > RATIO * floor {
        findings.push(format!(
            "a session takes {median} us in the median: more than {GOAL_US} us and more than {RATIO} times the {floor} \
             us \
             of the bare calls"
        ));
    }
    findings.extend(server.stop());
    let figure = format!(
        "{expected} sessions, {} failed; median {median} us, p99 {p99} us; bare calls {floor} us, p99 {floor_p99} us; \
         ratio \
         {:.2} (goal 2), goal of {GOAL_US} us {}",
        findings.len(),
        f64::from(median) / f64::from(floor.max(1)),
        if median <= GOAL_US { "met" } else { "not met" },
    );
    Ok(Outcome::of(figure, findings))
}

/// Several processes at once.
fn storm(socket: &Path, each: usize, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let start = || role::start("crowd-visitor", [socket.as_os_str(), each.to_string().as_ref()]);
    let visitors: Vec<Process> = (0..VISITORS).map(|_| start()).collect();
    for visitor in visitors {
        loop {
            match visitor.try_hear().context("a visitor is gone")?.as_str() {
                "done" => break,
                "still there" => {}
                finding => findings.push(finding.to_owned()),
            }
        }
        visitor.join();
    }
    Ok(())
}

/// The role: connects and leaves, many times.
pub fn play_visitor(parent: &Link, arguments: &[&str]) {
    let mut findings = Vec::new();
    let mut told_at = Instant::now();
    for number in 0..arguments[1].parse().expect("a number") {
        visit(Path::new(arguments[0]), number, &mut findings);
        if told_at.elapsed().as_secs() >= 5 {
            parent.tell("still there");
            told_at = Instant::now();
        }
    }
    findings.iter().for_each(|finding| parent.tell(finding));
    parent.tell("done");
}

/// Connects, now and then calls, and leaves.
fn visit(socket: &Path, number: usize, findings: &mut Vec<String>) {
    let done = Client::connect(socket).and_then(|client| match number.is_multiple_of(16) {
        true => call(&client, number),
        false => Ok(()),
    });
    if let Err(error) = done
        && findings.len() < TOLD
    {
        findings.push(format!("session {number} failed: {error}"));
    }
}

/// A call, every byte of which is checked.
pub fn call(client: &Client, number: usize) -> wigwag::Result<()> {
    let len = number * 37 % 2000;
    let mut loan = client.loan(len)?;
    fill(&mut loan, number as u64);
    check_inverted(&loan.call()?, len, number as u64);
    Ok(())
}
