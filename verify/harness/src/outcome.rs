//! What came of a goal.

use serde::{Deserialize, Serialize};

/// What came of a goal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Counts and measured values, in one line.
    pub figure: String,
    /// Whether it was reached.
    pub verdict: Verdict,
    /// What was found wrong, each with what is needed to see it again.
    pub findings: Vec<String>,
}

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Tried, and nothing was found.
    Met,
    /// Tried, and something was found.
    NotMet,
    /// It could not be tried on this machine, or there is nothing yet that it speaks of; the figure says why.
    NotTried,
}

impl Outcome {
    /// Met when nothing was found.
    pub fn of(figure: impl Into<String>, findings: Vec<String>) -> Outcome {
        let verdict = if findings.is_empty() { Verdict::Met } else { Verdict::NotMet };
        Outcome { figure: figure.into(), verdict, findings }
    }

    /// It could not be tried.
    pub fn not_tried(why: impl Into<String>) -> Outcome {
        Outcome { figure: why.into(), verdict: Verdict::NotTried, findings: Vec::new() }
    }
}
