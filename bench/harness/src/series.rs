//! Several cases in turn, round after round: A B A B, the order reversed in every other round.
//!
//! A machine's speed drifts with temperature, neighbours and luck. What is compared is therefore always measured in
//! the same round, and what is reported is the median over the rounds of each round's own ratio.

use std::time::{Duration, Instant};

use crate::case::Case;
use crate::meter::Extent;
use crate::phase::Stage;
use crate::progress::Progress;
use crate::report::{Report, median};

/// A case and how long each of its phases takes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The case.
    pub case: Case,
    /// Each phase's extent.
    pub extent: Extent,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Rounds at most.
    pub most: usize,
    /// No further round is started that would end after this.
    pub budget: Duration,
}

/// All reports of a run: for each case one per round. A case that failed has none.
pub struct Series {
    plans: Vec<Plan>,
    reports: Vec<Vec<Report>>,
    failures: Vec<Option<anyhow::Error>>,
}

impl Series {
    /// Runs all cases in rounds.
    pub fn run(stage: &Stage, plans: Vec<Plan>, rounds: Rounds, progress: &Progress) -> Series {
        let count = plans.len();
        let failures = (0..count).map(|_| None).collect();
        let mut series = Series { plans, reports: vec![Vec::new(); count], failures };
        let begin = Instant::now();
        for round in 0..rounds.most {
            let start = Instant::now();
            let order: Vec<usize> = if round % 2 == 0 { (0..count).collect() } else { (0..count).rev().collect() };
            for index in order {
                progress.show(&format!("round {} of at most {}: {}", round + 1, rounds.most, series.plans[index].case));
                series.phase(stage, index);
            }
            if begin.elapsed() + start.elapsed() > rounds.budget {
                break;
            }
        }
        progress.clear();
        series
    }

    fn phase(&mut self, stage: &Stage, index: usize) {
        if self.failures[index].is_some() {
            return;
        }
        let plan = self.plans[index];
        match stage.phase(&plan.case, plan.extent) {
            Ok(report) => self.reports[index].push(report),
            Err(error) => {
                // Its rounds would no longer be the others' rounds.
                self.reports[index].clear();
                self.failures[index] = Some(error);
            }
        }
    }

    /// This series, or the first thing that went wrong in it.
    pub fn whole(mut self) -> anyhow::Result<Series> {
        match self.failures.iter_mut().find_map(Option::take) {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// The case at an index.
    pub fn case(&self, index: usize) -> &Case {
        &self.plans[index].case
    }

    /// The indexes of all cases that ran.
    pub fn indexes(&self) -> impl Iterator<Item = usize> {
        (0..self.plans.len()).filter(|index| self.failures[*index].is_none())
    }

    /// What went wrong.
    pub fn failures(&self) -> impl Iterator<Item = &anyhow::Error> {
        self.failures.iter().flatten()
    }

    /// Why a case did not run.
    pub fn failure(&self, index: usize) -> Option<&anyhow::Error> {
        self.failures[index].as_ref()
    }

    /// The reports of a case, one per round.
    pub fn rounds(&self, index: usize) -> &[Report] {
        &self.reports[index]
    }

    /// All rounds of a case as one, each with the same weight.
    pub fn pooled(&self, index: usize) -> Report {
        Report::of_rounds(&self.reports[index])
    }

    /// The median over the rounds of one case's figure divided by another's in the same round.
    pub fn ratio(&self, index: usize, baseline: usize, figure: impl Fn(&Report) -> f64) -> f64 {
        let pairs = self.reports[index].iter().zip(&self.reports[baseline]);
        median(pairs.map(|(one, other)| figure(one) / figure(other)).collect())
    }
}
