//! The page that shows a run: one HTML file that needs no network, with all figures in it.
//!
//! The charts are drawn by uPlot (`page/uPlot.*`, vendored from npm, its licence beside it); `page/page.js` turns the
//! rows into charts and tables, and draws only what a run has measured.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::machine::Machine;
use crate::report::Report;
use crate::row::Row;
use crate::series::Series;

/// The percentiles of a row's curve.
pub const PERCENTILES: [f64; 13] = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

/// All that a page shows. As JSON it is what the page has embedded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// The heading.
    pub title: String,
    /// A sentence below it.
    pub lead: String,
    /// The contender that others are compared with.
    pub ours: String,
    /// The commands that made the figures.
    pub commands: Vec<String>,
    /// What it was made on.
    pub machine: Machine,
    /// The contenders, in the order of the tables.
    pub contenders: Vec<Contestant>,
    /// The percentiles of the rows' curves.
    pub percentiles: Vec<f64>,
    /// The measured cases.
    pub rows: Vec<Point>,
    /// Connected and silent clients.
    pub idle: Vec<Idle>,
    /// What happens when a side is killed.
    pub crashes: Vec<Crash>,
    /// One publisher and several readers.
    #[serde(default)]
    pub broadcasts: Vec<Broadcast>,
    /// What was not measured, and why.
    pub left_out: Vec<LeftOut>,
}

/// A contender as the page names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contestant {
    /// Its name in the rows.
    pub name: String,
    /// What a person calls it.
    pub label: String,
    /// Its configuration.
    pub how: String,
    /// Why it could not take part.
    pub missing: Option<String>,
}

/// A row and its percentiles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The row.
    #[serde(flatten)]
    pub row: Row,
    /// Latency in nanoseconds at each of [`PERCENTILES`].
    pub curve: Vec<f64>,
}

/// What clients cost that are connected and silent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// The contender.
    pub contender: String,
    /// How both sides wait.
    pub wait: String,
    /// Clients.
    pub clients: usize,
    /// For how long they were watched.
    pub seconds: f64,
    /// Processor time of both sides, microseconds in each second.
    pub cpu_us_per_second: f64,
    /// Context switches of both sides in each second.
    pub switches_per_second: f64,
    /// Memory of both sides for each client, in bytes; pages that both have count once.
    pub bytes_per_client: Option<f64>,
}

/// What happens when one side is killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crash {
    /// The contender.
    pub contender: String,
    /// How both sides wait.
    pub wait: String,
    /// Milliseconds from the server's SIGKILL until the client's call fails; nothing where it hangs.
    pub client_knows_after_ms: Option<f64>,
    /// How long a hanging client was given.
    pub patience_ms: f64,
    /// Files, segments and queues that are left when both have been killed.
    pub left_behind: usize,
    /// Bytes in them.
    pub left_bytes: u64,
    /// What a new client gets from a server whose first client was killed in the middle of its calls.
    pub next_client: String,
}

/// One publisher and several readers, by one contender: messages a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Broadcast {
    /// The contender.
    pub contender: String,
    /// What a person calls it.
    pub label: String,
    /// Its configuration.
    pub how: String,
    /// How its readers wait.
    pub wait: String,
    /// Bytes of a message.
    pub size: usize,
    /// Readers.
    pub readers: usize,
    /// How often it was measured.
    pub rounds: usize,
    /// Messages that were published in a second, the median of the rounds.
    pub published_per_second: f64,
    /// Messages that the slowest reader has read whole.
    pub read_per_second: f64,
    /// The share of messages that the slowest reader has lost, where it is more than what was under way.
    pub lost: Option<f64>,
    /// The slowest reader's messages over ours, in the same rounds.
    pub ratio: Option<f64>,
}

impl Broadcast {
    /// Whether both are figures of the same.
    pub fn is_same_case(&self, other: &Broadcast) -> bool {
        let case = |it: &Broadcast| (it.contender.clone(), it.wait.clone(), it.size, it.readers);
        case(self) == case(other)
    }
}

/// A case that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The contender.
    pub contender: String,
    /// What was to be measured.
    pub what: String,
    /// Why it was not.
    pub why: String,
}

impl Point {
    /// A case of a series as a page shows it, with its row.
    pub fn new(row: Row, series: &Series, index: usize) -> Point {
        let report: Report = series.pooled(index);
        let latencies = report.latencies();
        let curve = PERCENTILES.map(|percentile| crate::report::nanoseconds(&latencies, percentile));
        Point { row, curve: curve.to_vec() }
    }
}

impl Page {
    /// The figures as JSON, four digits each: what nobody could measure is not stored.
    pub fn json(&self) -> anyhow::Result<String> {
        let mut value = serde_json::to_value(self)?;
        round(&mut value);
        Ok(serde_json::to_string(&value)?)
    }

    /// The page.
    pub fn html(&self) -> anyhow::Result<String> {
        // In a script element only `<` could be taken for something else than data.
        let data = self.json()?.replace('<', "\\u003c");
        let title = self.title.replace('&', "&amp;").replace('<', "&lt;");
        let parts = [
            ("@TITLE@", title.as_str()),
            ("@PAGE_CSS@", include_str!("../page/page.css")),
            ("@UPLOT_CSS@", include_str!("../page/uPlot.min.css")),
            ("@UPLOT_LICENCE@", include_str!("../page/uPlot.LICENSE")),
            ("@UPLOT@", include_str!("../page/uPlot.iife.min.js")),
            ("@PAGE@", include_str!("../page/page.js")),
            ("@DATA@", &data),
        ];
        // Piece by piece, so that nothing that was put in is searched for the next mark.
        let mut rest = include_str!("../page/page.html");
        let mut html = String::with_capacity(data.len() + (128 << 10));
        while let Some((at, mark, part)) =
            parts.iter().filter_map(|(mark, part)| Some((rest.find(mark)?, mark, part))).min_by_key(|found| found.0)
        {
            html += &rest[..at];
            html += part.trim_end();
            rest = &rest[at + mark.len()..];
        }
        Ok(html + rest)
    }
}

/// Rounds every number that is not whole to four digits.
fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let exact = number.as_f64().unwrap_or(0.0);
            let rounded = format!("{exact:.3e}").parse().unwrap_or(exact);
            let whole = rounded.fract() == 0.0 && rounded.abs() < 1e15;
            let number = if whole { Some(Number::from(rounded as i64)) } else { Number::from_f64(rounded) };
            *value = number.map_or(Value::Null, Value::Number);
        }
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lead: &str) -> Page {
        Page {
            title: "A <page> & more".to_owned(),
            lead: lead.to_owned(),
            ours: "wigwag".to_owned(),
            commands: Vec::new(),
            machine: Machine::here(),
            contenders: Vec::new(),
            percentiles: PERCENTILES.to_vec(),
            rows: Vec::new(),
            idle: Vec::new(),
            crashes: Vec::new(),
            broadcasts: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn nothing_in_the_data_ends_the_script_or_is_taken_for_a_mark() {
        let html = page("</script><b>@PAGE@ & co").html().unwrap();
        assert_eq!(html.matches("\\u003c/script>\\u003cb>@PAGE@ & co").count(), 1);
        assert!(html.contains("<title>A &lt;page> &amp; more</title>"));
        assert!(!html.contains("@DATA@"));
    }

    #[test]
    fn the_page_asks_nothing_of_the_network() {
        let html = page("").html().unwrap();
        for tag in ["<script src", "<link", "@import", "url(http", "fetch(", "XMLHttpRequest"] {
            assert!(!html.contains(tag), "{tag}");
        }
        assert!(html.contains("Permission is hereby granted"), "the licence of the charts is in the page");
    }

    #[test]
    fn numbers_keep_four_digits() {
        let mut value = serde_json::json!({ "a": [123.456_789, 0.000_012_345_6, 7], "b": 1_234_567.8 });
        round(&mut value);
        assert_eq!(value, serde_json::json!({ "a": [123.5, 0.00001235, 7], "b": 1_235_000 }));
    }
}
