//! Tables: aligned for a person at a terminal, separated by tabs for a program behind a pipe.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use crate::output::{self, duration};
use wigwag_bench::row::Row;

/// A table that is written when it is complete.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
        Table { head: head.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// One more row.
    pub fn push(&mut self, row: impl Into<Vec<String>>) {
        let row = row.into();
        debug_assert_eq!(row.len(), self.head.len());
        self.rows.push(row);
    }

    /// Prints it in the form that suits standard output.
    pub fn print(&self) -> anyhow::Result<()> {
        let text = if std::io::stdout().is_terminal() { self.aligned() } else { self.plain() };
        output::bytes(text.as_bytes())
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.head).chain(&self.rows)
    }

    fn plain(&self) -> String {
        self.lines().map(|cells| cells.join("\t") + "\n").collect()
    }

    fn aligned(&self) -> String {
        let width = |column: usize| self.lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for (number, cells) in self.lines().enumerate() {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let numeric = cell.starts_with(|first: char| first.is_ascii_digit());
                let (left, right) =
                    if numeric || (number == 0 && !line.is_empty()) { (*width, 0) } else { (0, *width) };
                // Writing into a string does not fail.
                let _ = write!(line, "{cell:>left$}{:gap$}  ", "", gap = right.saturating_sub(cell.chars().count()));
            }
            let bold = if number == 0 { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            text += &format!("{}{}{}\n", bold.0, line.trim_end(), bold.1);
        }
        text
    }
}

/// The table of a run.
pub fn of_rows(rows: &[Row]) -> Table {
    let one_way = rows.iter().any(|row| row.bytes_per_second.is_some());
    let mut heads = vec![
        "contender",
        "wait",
        "pin",
        "bytes",
        "load",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "calls/s",
        "cpu/call",
        "switches",
        "syscalls",
        "ratio",
    ];
    heads.extend(one_way.then_some("GB/s"));
    let mut table = Table::new(heads);
    for row in rows {
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let mut cells = vec![
            row.case.contender.name().to_owned(),
            row.case.wait.to_string(),
            row.case.pin.to_string(),
            row.case.size.to_string(),
            load(row),
            duration(row.p50_ns),
            duration(row.p90_ns),
            duration(row.p99_ns),
            duration(row.p999_ns),
            duration(row.max_ns),
            format!("{:.0}", row.calls_per_second),
            duration(row.client_cpu_ns_per_call + row.server_cpu_ns_per_call),
            format!("{:.2}", row.client_switches_per_call + row.server_switches_per_call),
            optional(row.system_calls_per_call),
            match (row.ratio, row.baseline) {
                (Some(ratio), Some(baseline)) => format!("{ratio:.2} x {}", baseline.name()),
                _ => "-".to_owned(),
            },
        ];
        cells.extend(one_way.then(|| optional(row.bytes_per_second.map(|bytes| bytes / 1e9))));
        table.push(cells);
    }
    table
}

fn load(row: &Row) -> String {
    let mut text = row.case.load.to_string();
    if row.case.in_flight > 1 {
        text += &format!(", {} in flight", row.case.in_flight);
    }
    if row.case.sessions > 1 {
        text += &format!(", {} of {} busy", row.case.busy, row.case.sessions);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_tabs_and_aligned_is_columns() {
        let mut table = Table::new(["name", "value"]);
        table.push(["long name".to_owned(), "1".to_owned()]);
        assert_eq!(table.plain(), "name\tvalue\nlong name\t1\n");
        assert!(table.aligned().contains("long name      1\n"), "{}", table.aligned());
    }
}
