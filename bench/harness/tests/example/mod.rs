//! A page with every section, made of figures that nobody measured: they only have to be drawn.

use wigwag_bench::case::{Case, Contender, Load, WaitMode};
use wigwag_bench::machine::Machine;
use wigwag_bench::page::{Broadcast, Contestant, Crash, Idle, LeftOut, PERCENTILES, Page, Point};
use wigwag_bench::placement::Pin;
use wigwag_bench::row::Row;

const NAMES: [(&str, f64); 10] = [
    ("wigwag", 1.0),
    ("limit", 0.9),
    ("raw", 1.3),
    ("unix", 22.0),
    ("pipe", 17.0),
    ("a-library", 2.5),
    ("another", 4.2),
    ("a-third-one", 8.8),
    ("a-messaging-system", 60.0),
    ("a-remote-call", 140.0),
];

/// The page.
pub fn page() -> Page {
    let contestant = |(at, (name, _)): (usize, &(&str, f64))| Contestant {
        name: (*name).to_owned(),
        label: name.replace('-', " "),
        how: "In a configuration that takes a whole sentence to be said, as they do.".to_owned(),
        missing: (at == 8).then(|| "no compiler of its language was found".to_owned()),
    };
    Page {
        title: "An example that nobody measured".to_owned(),
        lead: "Every section is on this page, and none of its figures means anything.".to_owned(),
        ours: "wigwag".to_owned(),
        commands: vec![
            "wigwag bench --size 48,4KiB --html a-file-with-a-long-name.html --json another-file.json".to_owned(),
        ],
        machine: Machine::here(),
        contenders: NAMES.iter().enumerate().map(contestant).collect(),
        percentiles: PERCENTILES.to_vec(),
        rows: rows(),
        idle: NAMES[..5].iter().map(|(name, cost)| idle(name, *cost)).collect(),
        crashes: NAMES[..6].iter().map(|(name, cost)| crash(name, *cost)).collect(),
        broadcasts: NAMES[..4].iter().flat_map(|(name, cost)| [1, 4].map(|to| broadcast(name, *cost, to))).collect(),
        left_out: vec![LeftOut {
            contender: "limit".to_owned(),
            what: "64 clients of one server".to_owned(),
            why: "one line is for one client".to_owned(),
        }],
    }
}

fn broadcast(name: &str, cost: f64, readers: usize) -> Broadcast {
    Broadcast {
        contender: name.to_owned(),
        label: name.replace('-', " "),
        how: "One publisher.".to_owned(),
        wait: WaitMode::Park.to_string(),
        size: 4096,
        readers,
        rounds: 3,
        published_per_second: 2e6 / cost / readers as f64,
        read_per_second: 1.9e6 / cost / readers as f64,
        lost: (cost > 2.0).then_some(0.05),
        ratio: Some(1.0 / cost),
    }
}

fn rows() -> Vec<Point> {
    let mut points = Vec::new();
    for (name, cost) in NAMES {
        let waits: &[WaitMode] = match name {
            "wigwag" => &[WaitMode::Adaptive, WaitMode::Spin, WaitMode::Park],
            "limit" | "raw" => &[WaitMode::Spin],
            _ => &[WaitMode::Spin, WaitMode::Park],
        };
        for &wait in waits {
            let slow = if wait == WaitMode::Park { 15.0 } else { 1.0 };
            let mut push = |case: Case, ns: f64| points.push(point(case, ns * slow * cost, cost));
            let case = Case::new(contender(name), wait, 48);
            for size in [8, 48, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20] {
                push(Case { size, ..case }, 80.0 + size as f64 / 8.0);
                push(Case { size, ..case }.pinned(Pin::One), 900.0 + size as f64 / 16.0);
            }
            for rate in [100.0, 1e3, 1e4, 1e5] {
                for pin in [Pin::None, Pin::Two] {
                    push(case.pinned(pin).loaded(Load::Paced { rate }), 9_000.0 - 500.0 * rate.log10());
                }
            }
            push(case.loaded(Load::Bursts { burst: 64, pause_ns: 10_000_000 }).pinned(Pin::None), 300.0);
            push(case.loaded(Load::Start).pinned(Pin::None), 90_000.0);
            for count in [2, 4, 16, 64] {
                push(case.in_flight(count), 30.0);
                push(case.pinned(Pin::None).sessions(count, count), 100.0 * count as f64);
            }
            push(case.pinned(Pin::None), 95.0);
        }
    }
    points
}

fn contender(name: &'static str) -> Contender {
    Contender::ALL.into_iter().find(|own| own.name() == name).unwrap_or(Contender::Rival(name))
}

fn point(case: Case, ns: f64, ratio: f64) -> Point {
    let row = Row {
        case,
        rounds: 3,
        batch: 1,
        calls: 1000,
        seconds: 0.1,
        p50_ns: ns,
        p90_ns: ns * 1.2,
        p99_ns: ns * 3.0,
        p999_ns: ns * 9.0,
        max_ns: ns * 40.0,
        first_call_p50_ns: matches!(case.load, Load::Bursts { .. }).then_some(ns * 20.0),
        calls_per_second: 1e9 / ns * case.busy as f64,
        bytes_per_second: None,
        slowest_session_per_second: None,
        fastest_session_per_second: None,
        client_cpu_ns_per_call: ns * 0.9,
        server_cpu_ns_per_call: ns * 0.8,
        client_switches_per_call: 1.0,
        server_switches_per_call: 1.0,
        system_calls_per_call: None,
        baseline: Some(Contender::Wigwag),
        ratio: Some(ratio),
    };
    let curve = PERCENTILES.map(|percentile| ns * (1.0 + 4.0 / (100.01 - percentile)));
    Point { row, curve: curve.to_vec() }
}

fn idle(name: &str, cost: f64) -> Idle {
    Idle {
        contender: name.to_owned(),
        wait: "park".to_owned(),
        clients: 100,
        seconds: 5.0,
        cpu_us_per_second: cost - 1.0,
        switches_per_second: 10.0 * (cost - 1.0),
        bytes_per_client: Some(4096.0 * cost),
    }
}

fn crash(name: &str, cost: f64) -> Crash {
    Crash {
        contender: name.to_owned(),
        wait: "park".to_owned(),
        client_knows_after_ms: (cost < 20.0).then_some(cost * 0.4),
        patience_ms: 3000.0,
        left_behind: cost as usize / 2,
        left_bytes: (cost * 1e6) as u64,
        next_client: "its own reply".to_owned(),
    }
}
