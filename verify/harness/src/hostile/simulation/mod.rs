//! G21: a server, its clients and a session by hand in one thread that does what a seeded generator says, checked
//! against a plain model of what was promised.
//!
//! A seed decides every action: nothing depends on time or on the order in which the server finds requests, because the
//! server always takes all there are. What runs beside this thread is the server's control thread; each action that
//! needs it waits for its effect before the next one begins. So a seed does the same again, but for two things that it
//! does not decide: the order in which one round of receiving finds requests of several slots, and whether the waiting
//! policy finds them by looking or by a bell. Neither is promised, and the model does not depend on either.
//!
//! ```text
//! world   the actions of the world and of the server
//! sim_client    a client and the actions it can do
//! call    what the model knows of a call
//! ```

mod call;
mod sim_client;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use wigwag_testing::Ground;

use super::dice::{Dice, seed_of};
use crate::outcome::Outcome;
use crate::scale::Trial;

/// Deeds of one seed.
const ACTIONS: usize = 80;
/// Deeds that are printed of a seed that fails: the last ones say most.
const ACTIONS_PRINTED: usize = 120;

/// The goal.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let first = Ground::new();
    let mut ground = &first;
    let (mut findings, mut actions, mut calls) = (Vec::new(), 0, 0);
    let seeds = trial.pick(100, 10_000, 10_000_000);
    let mut tried = 0;
    for index in 0..seeds {
        let seed = seed_of(trial.seed, index);
        let mut world = world::World::new(ground, Dice::seeded(seed));
        let outcome = catch_unwind(AssertUnwindSafe(|| world.play(ACTIONS)));
        tried += 1;
        actions += world.log.len();
        calls += world.calls_made();
        let why = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                format!("panicked: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)"))
            }
        };
        let skipped = world.log.len().saturating_sub(ACTIONS_PRINTED);
        findings.push(format!(
            "{why}\nsee it again: cargo xtask prove --only G21 --seed {seed}\nits actions:\n{}",
            world.log[skipped..].join("\n")
        ));
        // What is in an unknown state is not cleaned up, and the next seed has a place of its own.
        std::mem::forget(world);
        ground = Box::leak(Box::new(Ground::new()));
        if findings.len() == 3 {
            break;
        }
    }
    let figure = format!(
        "{tried} seeds, {actions} actions, {calls} calls in {:.1} s; seed {}",
        begin.elapsed().as_secs_f64(),
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}
