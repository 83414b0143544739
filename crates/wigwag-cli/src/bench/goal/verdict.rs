//! A goal's figures, its limits, and whether they are kept.

use serde::Serialize;

use super::Goal;
use wigwag_bench::row::Row;

/// On which side of the limit a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sense {
    /// At or below it.
    AtMost,
    /// At or above it.
    AtLeast,
}

/// One figure and its limit.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was measured, in a few words.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// The limit.
    pub limit: f64,
    /// The side of it.
    pub sense: Sense,
    /// What figure and limit are numbers of, such as `x limit`.
    pub unit: String,
    /// Whether the figure is on the right side.
    pub met: bool,
}

impl Check {
    /// A figure that must not exceed its limit.
    pub fn at_most(what: impl Into<String>, value: f64, limit: f64, unit: impl Into<String>) -> Check {
        // A figure that is no number keeps no limit.
        let met = value <= limit;
        Check { what: what.into(), value, limit, sense: Sense::AtMost, unit: unit.into(), met }
    }

    /// A figure that must reach its limit.
    pub fn at_least(what: impl Into<String>, value: f64, limit: f64, unit: impl Into<String>) -> Check {
        let met = value >= limit;
        Check { what: what.into(), value, limit, sense: Sense::AtLeast, unit: unit.into(), met }
    }

    /// The figure as text.
    pub fn figure(&self) -> String {
        format!("{} {}", number(self.value), self.unit)
    }

    /// The limit as text.
    pub fn target(&self) -> String {
        let sign = if self.sense == Sense::AtMost { "<=" } else { ">=" };
        format!("{sign} {} {}", number(self.limit), self.unit)
    }

    /// How much of what is allowed is used: above 1 is too much.
    fn strain(&self) -> f64 {
        let strain = match self.sense {
            Sense::AtMost if self.limit > 0.0 => self.value / self.limit,
            Sense::AtMost => 1.0 + self.value,
            Sense::AtLeast => self.limit / self.value,
        };
        if strain.is_nan() { f64::INFINITY } else { strain }
    }
}

/// What became of a goal.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The goal.
    pub goal: Goal,
    /// The figure that is nearest to its limit, or farthest beyond it.
    pub figure: String,
    /// Its limit.
    pub target: String,
    /// Whether every figure is within its limit.
    pub met: bool,
    /// All figures.
    pub checks: Vec<Check>,
    /// What the figures were made of. In JSON they are objects of their own, before this one.
    #[serde(skip)]
    pub rows: Vec<Row>,
    /// What a reader should know about this run.
    pub notes: Vec<String>,
}

impl Verdict {
    /// The verdict on a goal with these figures.
    pub fn new(goal: Goal, checks: Vec<Check>, rows: Vec<Row>) -> Verdict {
        let worst = checks.iter().max_by(|one, other| one.strain().total_cmp(&other.strain()));
        let figure = match worst {
            Some(check) if checks.len() == 1 => check.figure(),
            Some(check) => format!("{} ({})", check.figure(), check.what),
            None => "nothing measured".to_owned(),
        };
        let target = worst.map_or("-".to_owned(), Check::target);
        let met = !checks.is_empty() && checks.iter().all(|check| check.met);
        Verdict { goal, figure, target, met, checks, rows, notes: Vec::new() }
    }

    /// The verdict on a goal that could not be measured: it is not met.
    pub fn unmeasured(goal: Goal, error: &anyhow::Error) -> Verdict {
        Verdict {
            goal,
            figure: format!("not measured: {}", format!("{error:#}").replace('\n', " ")),
            target: "-".to_owned(),
            met: false,
            checks: Vec::new(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// With a remark.
    pub fn noting(mut self, note: String) -> Verdict {
        self.notes.push(note);
        self
    }

    /// The one line that comes last.
    pub fn line(&self) -> String {
        format!("{}  {}  {}  {}", self.goal, self.figure, self.target, word(self.met))
    }
}

/// The verdict in a word.
pub fn word(met: bool) -> &'static str {
    if met { "MET" } else { "NOT MET" }
}

/// Three digits for what is small, none behind the point for what is large or whole.
fn number(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 && whole.abs() < 1e9 => format!("{whole:.0}"),
        large if large.abs() >= 100.0 => format!("{large:.0}"),
        small if small.abs() < 0.1 => format!("{small:.3}"),
        middle => format!("{middle:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_figure_that_is_farthest_from_good() {
        let good = Check::at_most("p50", 0.5, 0.8, "x unix");
        let bad = Check::at_most("p99", 1.2, 1.0, "x unix");
        let verdict = Verdict::new(Goal::P6, vec![good.clone(), bad], Vec::new());
        assert_eq!(verdict.line(), "P6  1.20 x unix (p99)  <= 1 x unix  NOT MET");
        let verdict = Verdict::new(Goal::P6, vec![good], Vec::new());
        assert_eq!(verdict.line(), "P6  0.50 x unix  <= 0.80 x unix  MET");
    }

    #[test]
    fn nothing_and_no_number_are_not_met() {
        assert!(!Verdict::new(Goal::P1, Vec::new(), Vec::new()).met);
        assert!(!Check::at_most("", f64::NAN, 1.0, "").met);
        assert!(!Check::at_least("", f64::NAN, 1.0, "").met);
        assert!(Check::at_most("", 0.0, 0.0, "").met);
        assert!(!Check::at_most("", 1.0, 0.0, "").met);
        assert_eq!(Check::at_least("", 0.4, 0.5, "x").strain(), 1.25);
    }
}
