//! P19: the waiting policy on recorded wake-ups of two machines, and on those of this one.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal};
use wigwag::models::replay::{Comparison, Machine};
use wigwag_bench::placement::Pin;
use wigwag_bench::wake_ups::WakeUps;

const TIME: f64 = 1.3;
const CPU: f64 = 2.0;
/// Wake-ups of this machine to replay, there and as many back: enough to show how much they vary.
const WAKE_UPS: usize = 500;

/// The recorded ones have verdicts, because they are the same in each run. This machine's are for information.
pub fn replayed(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let mut checks = Vec::new();
    for machine in Machine::recorded() {
        for Comparison { pause_us, time_ratio, cpu_ratio } in machine.compare() {
            let what = format!("wake-ups {}, a pause of {pause_us} us", machine.name);
            checks.push(Check::at_most(format!("time, {what}"), time_ratio, TIME, "x the quicker"));
            checks.push(Check::at_most(format!("CPU, {what}"), cpu_ratio, CPU, "x the cheaper"));
        }
    }
    let verdict = Verdict::new(Goal::P19, checks, Vec::new());
    let places = [(Pin::Two, "two processors"), (Pin::One, "one processor")];
    Ok(places.into_iter().fold(verdict, |verdict, (pin, place)| {
        let measured = attempt.stage.processors.of(pin).and_then(|of_each| WakeUps::measure(of_each, WAKE_UPS));
        verdict.noting(match measured {
            Ok(wake_ups) => format!("this machine, {place}: {}", on_this_machine(wake_ups)),
            Err(error) => format!("this machine, {place}: not measured: {error:#}"),
        })
    }))
}

fn on_this_machine(wake_ups: WakeUps) -> String {
    let mut sorted_ns = wake_ups.nanoseconds.clone();
    sorted_ns.sort_unstable();
    let median_us = sorted_ns.get(sorted_ns.len() / 2).copied().unwrap_or_default() as f64 / 1e3;
    let machine = Machine { name: "this", wake_ups_ns: wake_ups.nanoseconds, parked_cpu_ns: wake_ups.cpu_ns };
    let comparisons = machine.compare();
    let worst = |ratio: fn(&Comparison) -> f64| {
        let worst = comparisons.iter().max_by(|one, other| ratio(one).total_cmp(&ratio(other)));
        worst.map_or(String::new(), |at| format!("{:.2} x at a pause of {} us", ratio(at), at.pause_us))
    };
    let [time, cpu] = [worst(|at| at.time_ratio), worst(|at| at.cpu_ratio)];
    format!("a wake-up takes {median_us:.1} us; time at most {time}, processor time at most {cpu}")
}
