//! The goals, in their order.

use crate::outcome::Outcome;
use crate::scale::Trial;
use crate::{
    audit, broadcasts, crowd, held, history, hostile, model, queues, restarts, step, storm, streams, surroundings,
};

/// A goal.
pub struct Goal {
    /// Its number, `G1` to `G31`.
    pub id: &'static str,
    /// Its name, which says more than a number: `killed-at-every-step`.
    pub name: &'static str,
    /// What is tried, in a few words.
    pub title: &'static str,
    /// Seconds after which the goal's process is taken to hang, by scale: test, CI, full.
    pub limit_s: [u64; 3],
    /// Tries it. An error means that the trial itself went wrong, which is as bad as a finding.
    pub run: fn(&Trial) -> anyhow::Result<Outcome>,
}

/// All goals, by number.
pub fn all() -> Vec<&'static Goal> {
    let parts = [
        storm::GOALS,
        step::GOALS,
        hostile::GOALS,
        crowd::GOALS,
        model::GOALS,
        audit::GOALS,
        streams::GOALS,
        queues::GOALS,
        history::GOALS,
        surroundings::GOALS,
        held::GOALS,
        restarts::GOALS,
        broadcasts::GOALS,
    ];
    let mut goals: Vec<&Goal> = parts.into_iter().flatten().collect();
    goals.sort_by_key(|goal| goal.id[1..].parse::<u32>().expect("a goal's number"));
    goals
}

/// A goal by its number, in any case, or by its name.
pub fn find(text: &str) -> Option<&'static Goal> {
    all().into_iter().find(|goal| goal.id.eq_ignore_ascii_case(text) || goal.name == text)
}
