//! Tables: aligned for a person at a terminal, separated by tabs for a program behind a pipe.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use crate::output;

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
