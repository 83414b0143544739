//! G19: the three models in every order of their steps, and each of their faults injected.

use super::explore::{self, Explored, Protocol};
use super::handshake::{self, Handshake};
use super::sleeping::{Seen, Sleeping};
use super::turns::{self, Turns};
use crate::outcome::Outcome;
use crate::scale::Trial;

/// Tries G19.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    let mut parts = Vec::new();
    let mut bugs = [0, 0];
    let mut models = |name: &str, explored: Vec<Explored>, injected: (usize, Vec<String>)| {
        let states: usize = explored.iter().map(|explored| explored.states).sum();
        let longest = explored.iter().map(|explored| explored.longest).max().unwrap_or(0);
        parts.push(format!("{name} {states} states in {} settings, runs of up to {longest} steps", explored.len()));
        findings.extend(explored.into_iter().flat_map(|explored| explored.findings));
        bugs[0] += injected.0;
        bugs[1] += injected.0 - injected.1.len();
        findings.extend(injected.1);
    };
    models(Handshake::NAME, handshakes(trial), explore::inject_all::<Handshake>());
    models(Turns::NAME, slots(trial), explore::inject_all::<Turns>());
    models(Sleeping::NAME, waiting(trial), explore::inject_all::<Sleeping>());
    Ok(Outcome::of(format!("{}; {} of {} injected bugs found", parts.join("; "), bugs[1], bugs[0]), findings))
}

fn handshakes(trial: &Trial) -> Vec<Explored> {
    use handshake::Liar;
    let lies = trial.pick(2, 4, 7);
    let liars = [Liar::Nobody, Liar::Client(lies), Liar::Server(lies)];
    liars
        .into_iter()
        .map(|liar| explore::explore(Handshake { with_kills: true, liar, bug: None }, &format!("liar: {liar:?}"), true))
        .collect()
}

fn slots(trial: &Trial) -> Vec<Explored> {
    use turns::Liar;
    let calls = trial.pick(2, 3, 5);
    let honest = Turns { calls, gives_up: 1, with_kills: false, liar: Liar::Nobody, begin_after: 0, bug: None };
    let lies = trial.pick(2, 3, 4);
    // The sequence wraps in the midst of it.
    let last = u64::MAX >> 8;
    let settings = [
        honest.clone(),
        Turns { begin_after: last - 1, ..honest.clone() },
        Turns { calls: calls.max(3) - 1, with_kills: true, ..honest.clone() },
        Turns { calls: 0, liar: Liar::Client(lies), ..honest.clone() },
        Turns { calls: 2, liar: Liar::Server(lies), ..honest },
    ];
    settings.into_iter().map(|model| explore::explore(model.clone(), &format!("{model:?}"), true)).collect()
}

fn waiting(trial: &Trial) -> Vec<Explored> {
    let with = |clients, calls, with_kills, with_forks| Sleeping {
        clients,
        calls,
        with_kills,
        with_forks,
        bug: None,
        seen: Seen::default(),
    };
    // Twenty million states are explored once: that every run ends is seen in the smaller settings.
    let settings: &[(usize, [u8; 2], bool, bool, bool)] = trial.pick(
        &[(1, [1, 0], true, true, true)][..],
        &[(1, [2, 0], true, true, true), (2, [1, 0], true, false, false), (2, [1, 1], false, false, false)],
        &[
            (1, [3, 0], true, true, true),
            (2, [1, 0], true, true, true),
            (2, [1, 1], false, false, true),
            (2, [2, 1], false, false, false),
            (2, [1, 1], true, false, false),
        ],
    );
    settings
        .iter()
        .map(|&(clients, calls, with_kills, with_forks, and_ends)| {
            let model = with(clients, calls, with_kills, with_forks);
            let what = format!("{clients} clients, calls {calls:?}, kills: {with_kills}, forks: {with_forks}");
            explore::explore(model, &what, and_ends)
        })
        .collect()
}
