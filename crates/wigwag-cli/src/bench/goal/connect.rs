//! P10: connecting, with all defaults, against the bare kernel calls that such a handshake needs.

use super::verdict::{Check, Verdict};
use super::{Attempt, Goal, wigwag};
use wigwag_bench::case::{Case, Contender, Load, WaitMode};
use wigwag_bench::placement::Pin;
use wigwag_bench::row::Row;

/// From no session to one on which a call could be made.
pub fn connecting(attempt: &Attempt) -> anyhow::Result<Verdict> {
    let bare = Case::new(Contender::Handshake, WaitMode::Park, 48);
    let cases = [bare, wigwag(WaitMode::Adaptive, 48)].map(|case| case.pinned(Pin::None).loaded(Load::Connect));
    let series = attempt.equal_series(&cases, 20)?;
    let ratio = series.ratio(1, 0, |report| report.percentile(50.0));
    let check = Check::at_most("connect until ready", ratio, 2.0, "x the bare kernel calls");
    let rows = vec![Row::new(&series, 0), Row::new(&series, 1).against(&series, 1, 0)];
    Ok(Verdict::new(Goal::P10, vec![check], rows))
}
