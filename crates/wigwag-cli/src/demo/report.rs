//! What the demo has to say in the end: one row for each service, and plain sentences around them.

use std::fmt::Write as _;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::Observed;
use super::viewers::Viewers;
use crate::output;
use crate::transport::Kind;

/// The longest exchange that is told apart from a longer one: a minute.
const LONGEST: u64 = 60_000_000_000;

/// Everything, in the form in which `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where the picture came from: `test card` or a file.
    pub picture: String,
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes of a frame: of each request and of each reply.
    pub bytes: usize,
    /// Processors that this program may use.
    pub processors: usize,
    /// The same work in one process, without any transport.
    pub alone: Row,
    /// Wigwag first.
    pub services: Vec<Row>,
    /// Four viewers of one publisher.
    pub viewers: Viewers,
    /// The picture as the client sent it.
    pub before: PathBuf,
    /// The picture as the server gave it back.
    pub after: PathBuf,
    /// What the whole demo took.
    pub seconds: f64,
}

/// One service.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its word in JSON and on command lines; `alone` for none.
    pub service: &'static str,
    #[serde(skip)]
    label: &'static str,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Frames sent and checked.
    pub frames: u64,
    /// Pixels that were not what the client's own computation says.
    pub wrong_pixels: u64,
    /// Half of the exchanges were faster.
    pub p50_ns: u64,
    /// 99 of 100 were faster.
    pub p99_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// Exchanges that fit into a second.
    pub frames_per_second: f64,
    /// What the way there and back adds to the work itself, at the median.
    pub transport_p50_ns: i64,
    /// System calls of both processes, counted by ptrace.
    pub system_calls_per_exchange: Option<f64>,
    /// Why the system calls were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<String>,
    /// Context switches of both processes, counted by the kernel.
    pub context_switches_per_exchange: Option<f64>,
}

/// What is gathered about one service, round after round.
pub struct Tally {
    /// `None` for the work alone.
    pub transport: Option<Kind>,
    histogram: Histogram<u64>,
    total_ns: u64,
    frames: u64,
    wrong_pixels: u64,
    switches: Option<u64>,
    /// The count of system calls, or why there is none.
    pub system_calls: Result<f64, String>,
    /// Why the service cannot be measured here.
    pub unavailable: Option<String>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(transport: Option<Kind>) -> anyhow::Result<Tally> {
        Ok(Tally {
            transport,
            histogram: Histogram::new_with_max(LONGEST, 3)?,
            total_ns: 0,
            frames: 0,
            wrong_pixels: 0,
            switches: Some(0),
            system_calls: Err("there was no time left".into()),
            unavailable: None,
        })
    }

    /// Adds a round.
    pub fn add(&mut self, observed: &Observed) {
        for &nanoseconds in &observed.nanoseconds {
            self.histogram.saturating_record(nanoseconds);
            self.total_ns += nanoseconds;
        }
        self.frames += observed.frames;
        self.wrong_pixels = self.wrong_pixels.saturating_add(observed.wrong_pixels);
        self.switches = self.switches.zip(observed.context_switches).map(|(sum, more)| sum + more);
    }

    /// Timed exchanges so far.
    pub fn timed(&self) -> u64 {
        self.histogram.len()
    }

    /// The row, beside the median of the work alone.
    pub fn row(&self, alone_p50_ns: u64) -> Row {
        let timed = self.timed().max(1) as f64;
        let mean_ns = self.total_ns as f64 / timed;
        let p50_ns = self.histogram.value_at_quantile(0.5);
        Row {
            service: self.transport.map_or("alone", Kind::name),
            label: self.transport.map_or("the work alone", Kind::label),
            unavailable: self.unavailable.clone(),
            frames: self.frames,
            wrong_pixels: self.wrong_pixels,
            p50_ns,
            p99_ns: self.histogram.value_at_quantile(0.99),
            mean_ns,
            frames_per_second: if mean_ns > 0.0 { 1e9 / mean_ns } else { 0.0 },
            transport_p50_ns: p50_ns.cast_signed() - alone_p50_ns.cast_signed(),
            system_calls_per_exchange: self.system_calls.clone().ok(),
            not_counted: self.system_calls.clone().err().filter(|_| self.unavailable.is_none()),
            context_switches_per_exchange: self.switches.map(|switches| switches as f64 / timed),
        }
    }

    /// The median so far.
    pub fn p50_ns(&self) -> u64 {
        self.histogram.value_at_quantile(0.5)
    }
}

impl Report {
    /// Pixels that were wrong, over all services.
    pub fn wrong_pixels(&self) -> u64 {
        let rows = self.services.iter().chain([&self.alone]);
        rows.fold(self.viewers.wrong_pixels(), |sum, row| sum.saturating_add(row.wrong_pixels))
    }

    /// The report as people read it.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} x {} pixels, {} bytes a frame ({}), {} processors.\n\
             Each frame goes to a server in another process, is turned upside down and cut to eight tones\n\
             where it lies there, and comes back to the client.\n\n",
            self.width,
            self.height,
            output::count(self.bytes as u64),
            self.picture,
            self.processors,
        );
        text.push_str(&self.table());
        text.push_str(&self.explanation());
        text
    }

    fn table(&self) -> String {
        let head = ["", "p50", "p99", "frames/s", "transport", "system calls", "context switches", "frames", "wrong"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        lines.extend(self.services.iter().chain([&self.alone]).map(Row::cells));
        let mut widths = [0; 9];
        for line in lines.iter().filter(|line| line.len() == head.len()) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.len());
            }
        }
        widths[0] = lines.iter().map(|line| line[0].len()).max().unwrap_or(0);
        let mut text = String::new();
        for line in lines {
            let _ = write!(text, "  {:<width$}", line[0], width = widths[0]);
            for (cell, width) in line[1..].iter().zip(&widths[1..]) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.push('\n');
        }
        text
    }

    fn explanation(&self) -> String {
        let mut text = String::from(
            "\np50 and p99 are the client's time of one exchange: write the frame, have it filtered, read the\n\
             reply whole. 'transport' is what the median has beyond that of the same work in one process (the\n\
             last row): what the way there and back costs. System calls and context switches are those of both\n\
             processes together, per exchange: the calls counted with ptrace in a run of their own, the\n\
             switches by the kernel while the times were taken.\n",
        );
        if self.services.iter().any(|row| row.service == "file" && row.system_calls_per_exchange.is_some()) {
            text.push_str(
                "A polled file makes more calls the longer it waits, and a tracer slows it: its count is a lower\n\
                 bound.\n",
            );
        }
        if self.services.iter().any(|row| row.service == "wigwag" && row.system_calls_per_exchange > Some(0.0)) {
            text.push_str(
                "Wigwag's calls here are sleeping and waking: while the other side works for milliseconds, a side\n\
                 sleeps instead of spinning. A closed loop of small calls makes none (`wigwag bench`).\n",
            );
        }
        for row in self.services.iter().filter(|row| row.unavailable.is_none()) {
            if let Some(reason) = &row.not_counted {
                let _ = writeln!(text, "System calls over {} were not counted: {reason}.", row.label);
            }
        }
        text.push('\n');
        if let Some(sentence) = self.comparison() {
            let _ = writeln!(text, "{sentence}");
        }
        let frames: u64 = self.services.iter().map(|row| row.frames).sum();
        let _ = match self.wrong_pixels() {
            0 => writeln!(text, "The client checked every pixel of {} frames: all are right.", output::count(frames)),
            wrong => writeln!(text, "The client found {} WRONG pixels.", output::count(wrong)),
        };
        let _ = write!(text, "Before: {}\nAfter:  {}\n", self.before.display(), self.after.display());
        let _ = writeln!(text, "\n{}", self.viewers.text());
        let _ = write!(text, "The whole demo took {:.1} seconds.", self.seconds);
        text
    }

    /// How Wigwag stands beside the quickest of the others.
    fn comparison(&self) -> Option<String> {
        let (wigwag, others) = self.services.split_first()?;
        let measured = others.iter().filter(|row| row.unavailable.is_none() && row.p50_ns > 0);
        let best = measured.min_by_key(|row| row.p50_ns)?;
        let mut sentences = format!(
            "Over Wigwag a frame is there and back in {}; the way costs {}.\n\
             Over the quickest other service here ({}) it takes {}; the way costs {}",
            output::duration(wigwag.p50_ns as f64),
            match wigwag.transport_p50_ns {
                cost if cost > 0 => format!("{} of that", output::duration(cost as f64)),
                _ => "less than this run can tell from noise".to_owned(),
            },
            best.label,
            output::duration(best.p50_ns as f64),
            output::duration(best.transport_p50_ns as f64),
        );
        if wigwag.transport_p50_ns > 0 && best.transport_p50_ns > 0 {
            let ratio = best.transport_p50_ns as f64 / wigwag.transport_p50_ns as f64;
            let _ = write!(sentences, ", {ratio:.1} times as much");
        }
        sentences.push('.');
        Some(sentences)
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        if let Some(reason) = &self.unavailable {
            return vec![self.label.to_owned(), format!("not available here: {reason}")];
        }
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        let alone = self.service == "alone";
        vec![
            self.label.to_owned(),
            output::duration(self.p50_ns as f64),
            output::duration(self.p99_ns as f64),
            format!("{:.0}", self.frames_per_second),
            if alone { "-".to_owned() } else { output::duration(self.transport_p50_ns as f64) },
            if alone { "-".to_owned() } else { optional(self.system_calls_per_exchange) },
            optional(self.context_switches_per_exchange),
            output::count(self.frames),
            output::count(self.wrong_pixels),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(unavailable: Option<&str>) -> Report {
        let mut wigwag = Tally::new(Some(Kind::Wigwag)).unwrap();
        let nanoseconds = vec![2_000_000; 10];
        wigwag.add(&Observed { nanoseconds, frames: 13, wrong_pixels: 0, context_switches: Some(25) });
        wigwag.system_calls = Ok(4.0);
        let mut mqueue = Tally::new(Some(Kind::Mqueue)).unwrap();
        mqueue.unavailable = unavailable.map(str::to_owned);
        let alone = Tally::new(None).unwrap().row(0);
        Report {
            picture: "test card".into(),
            width: 2,
            height: 1,
            bytes: 6,
            processors: 2,
            alone,
            services: vec![wigwag.row(500_000), mqueue.row(0)],
            viewers: Viewers::nothing(),
            before: "out/before.png".into(),
            after: "out/after.png".into(),
            seconds: 1.0,
        }
    }

    #[test]
    fn a_row_has_the_figures_of_its_rounds() {
        let row = &report(None).services[0];
        assert_eq!((row.frames, row.system_calls_per_exchange), (13, Some(4.0)));
        assert_eq!(row.context_switches_per_exchange, Some(2.5));
        assert!((row.frames_per_second - 500.0).abs() < 1.0);
        assert!((row.transport_p50_ns - 1_500_000).abs() < 5_000);
    }

    #[test]
    fn a_service_that_is_missing_says_why() {
        let text = report(Some("no such system call")).text();
        assert!(text.contains("POSIX message queue  not available here: no such system call"), "{text}");
        assert!(text.contains("sleeping and waking"), "{text}");
        assert!(text.contains("all are right") && text.contains("out/after.png"), "{text}");
    }

    #[test]
    fn the_columns_are_aligned() {
        let table = report(None).table();
        let ends: Vec<usize> = table.lines().map(str::len).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }
}
