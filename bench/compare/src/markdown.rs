//! The tables of ratios as Markdown, made from the same figures as the page.

use std::fmt::Write as _;

use wigwag_bench::case::{Load, WaitMode};
use wigwag_bench::output::duration;
use wigwag_bench::page::{Broadcast, Page, Point};
use wigwag_bench::placement::Pin;

const SIZES: [(usize, &str); 3] = [(48, "48 B"), (4 << 10, "4 KiB"), (1 << 20, "1 MiB")];

/// All tables.
pub fn of(page: &Page) -> String {
    let mut text = format!("# {}\n\n{}\n\n", page.title, page.lead);
    machine(page, &mut text);
    ratios(page, &mut text);
    killed(page, &mut text);
    silent(page, &mut text);
    broadcasts(page, &mut text);
    missing(page, &mut text);
    text
}

fn put(text: &mut String, line: impl AsRef<str>) {
    text.push_str(line.as_ref());
    text.push('\n');
}

fn machine(page: &Page, text: &mut String) {
    let machine = &page.machine;
    put(
        text,
        format!(
            "Made on {} with {} processors ({}), {}, clock governor {}, virtual machine: {}; load before: {}; {}.",
            machine.cpu,
            machine.processors,
            machine.kinship,
            machine.kernel,
            machine.governor,
            machine.virtual_machine,
            machine.load,
            machine.day
        ),
    );
    for command in &page.commands {
        put(text, format!("\n```console\n$ {command}\n```\n"));
    }
}

/// The rows of one kind of work, by contender and way of waiting.
fn find<'a>(page: &'a Page, name: &str, wait: WaitMode, is_wanted: impl Fn(&Point) -> bool) -> Option<&'a Point> {
    page.rows
        .iter()
        .find(|point| point.row.case.contender.name() == name && point.row.case.wait == wait && is_wanted(point))
}

fn closed(size: usize) -> impl Fn(&Point) -> bool {
    move |point| {
        let case = &point.row.case;
        case.load == Load::Closed && (case.pin, case.size, case.in_flight, case.sessions) == (Pin::Two, size, 1, 1)
    }
}

fn paced(point: &Point) -> bool {
    let case = &point.row.case;
    case.load == Load::Paced { rate: 1e3 } && case.pin == Pin::None
}

fn cpu_ns(point: &Point) -> f64 {
    point.row.client_cpu_ns_per_call + point.row.server_cpu_ns_per_call
}

fn ratios(page: &Page, text: &mut String) {
    if page.rows.is_empty() {
        return;
    }
    put(
        text,
        "Times the median round trip of Wigwag with its default waiting, in the same rounds; in brackets the time.\n",
    );
    put(text, "| contender | waiting | 48 B | 4 KiB | 1 MiB | 1,000 calls/s | its CPU |");
    put(text, "|---|---|---|---|---|---|---|");
    let ours = find(page, &page.ours, WaitMode::Adaptive, paced);
    for contender in page.contenders.iter().filter(|contender| contender.missing.is_none()) {
        for wait in [WaitMode::Adaptive, WaitMode::Spin, WaitMode::Park] {
            let found = |is_wanted: &dyn Fn(&Point) -> bool| find(page, &contender.name, wait, is_wanted);
            let mut cells: Vec<String> = SIZES.iter().map(|(size, _)| cell(found(&closed(*size)))).collect();
            let at_a_rate = found(&paced);
            cells.push(cell(at_a_rate));
            cells.push(match (at_a_rate, ours) {
                (Some(point), Some(ours)) => {
                    format!("{} ({})", times(cpu_ns(point) / cpu_ns(ours)), duration(cpu_ns(point)))
                }
                _ => "-".to_owned(),
            });
            if cells.iter().any(|cell| cell != "-") {
                put(text, format!("| {} | {} | {} |", contender.label, waiting(wait), cells.join(" | ")));
            }
        }
    }
}

fn waiting(wait: WaitMode) -> &'static str {
    match wait {
        WaitMode::Adaptive => "default",
        WaitMode::Spin => "polls",
        WaitMode::Park => "sleeps",
    }
}

fn cell(point: Option<&Point>) -> String {
    match point {
        Some(point) => format!("{} ({})", point.row.ratio.map_or("-".to_owned(), times), duration(point.row.p50_ns)),
        None => "-".to_owned(),
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        ratio if !ratio.is_finite() => "-".to_owned(),
        ratio if ratio >= 100.0 => format!("{ratio:.0}x"),
        ratio if ratio >= 10.0 => format!("{ratio:.1}x"),
        ratio => format!("{ratio:.2}x"),
    }
}

fn label<'a>(page: &'a Page, name: &'a str) -> &'a str {
    page.contenders.iter().find(|contender| contender.name == name).map_or(name, |contender| &contender.label)
}

fn killed(page: &Page, text: &mut String) {
    if page.crashes.is_empty() {
        return;
    }
    put(text, "\nAfter SIGKILL:\n");
    put(
        text,
        "| contender | the client of a killed server | left behind by both | after a killed client the next one gets |",
    );
    put(text, "|---|---|---|---|");
    for crash in &page.crashes {
        let knows = match crash.client_knows_after_ms {
            Some(after) => format!("an error after {}", duration(after * 1e6)),
            None => format!("hangs (given {:.1} s)", crash.patience_ms / 1e3),
        };
        let left = match crash.left_behind {
            0 => "nothing".to_owned(),
            count => format!("{count} ({})", bytes(crash.left_bytes as f64)),
        };
        put(text, format!("| {} | {knows} | {left} | {} |", label(page, &crash.contender), crash.next_client));
    }
}

fn silent(page: &Page, text: &mut String) {
    let Some(first) = page.idle.first() else { return };
    put(text, format!("\n{} silent clients of one server:\n", first.clients));
    put(text, "| contender | CPU of both sides | wake-ups | memory for each client |");
    put(text, "|---|---|---|---|");
    for idle in &page.idle {
        let memory = idle.bytes_per_client.map_or("-".to_owned(), bytes);
        let (cpu, switches) = (idle.cpu_us_per_second, idle.switches_per_second);
        put(text, format!("| {} | {cpu:.0} us/s | {switches:.0}/s | {memory} |", label(page, &idle.contender)));
    }
}

/// Rates of the slowest reader: a row for each contender and way of waiting, a column for each case.
fn broadcasts(page: &Page, text: &mut String) {
    let Some(first) = page.broadcasts.first() else { return };
    let mut cases: Vec<(usize, usize)> = page.broadcasts.iter().map(|it| (it.size, it.readers)).collect();
    cases.sort_unstable();
    cases.dedup();
    put(
        text,
        format!(
            "\nOne publisher and its readers, each a process of its own, messages a second that the slowest reader has \
             read whole: times those of Wigwag in the same rounds; in brackets the messages. Every byte is written, \
             read and checked. The median of {} rounds in which all take turns.\n",
            first.rounds
        ),
    );
    let heads: Vec<String> =
        cases.iter().map(|(size, readers)| format!("{} to {readers}", bytes(*size as f64))).collect();
    put(text, format!("| contender | waiting | {} |", heads.join(" | ")));
    put(text, format!("|---|---|{}", "---|".repeat(cases.len())));
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for one in &page.broadcasts {
        if !rows.contains(&(&one.label, &one.wait)) {
            rows.push((&one.label, &one.wait));
        }
    }
    for (label, wait) in rows {
        let cell = |(size, readers): &(usize, usize)| {
            let is_it =
                |it: &&Broadcast| (&*it.label, &*it.wait, it.size, it.readers) == (label, wait, *size, *readers);
            page.broadcasts.iter().find(is_it).map_or("-".to_owned(), rate_cell)
        };
        let cells: Vec<String> = cases.iter().map(cell).collect();
        put(text, format!("| {label} | {} | {} |", waiting_word(wait), cells.join(" | ")));
    }
}

fn rate_cell(row: &Broadcast) -> String {
    let lost = row.lost.map_or_else(String::new, |lost| format!(", {:.0} % lost", lost * 100.0));
    format!("{} ({}{lost})", row.ratio.map_or("-".to_owned(), share), rate(row.read_per_second))
}

/// A ratio that may be far below one, with two digits that mean something.
fn share(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 0.1 => times(ratio),
        ratio if ratio >= 0.01 => format!("{ratio:.3}x"),
        ratio => format!("{ratio:.4}x"),
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.1} M/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0} k/s", rate / 1e3),
        rate if rate >= 1e3 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{rate:.0}/s"),
    }
}

/// The word for a way of waiting, as it is stored.
fn waiting_word(stored: &str) -> &str {
    let all = [WaitMode::Adaptive, WaitMode::Spin, WaitMode::Park];
    all.into_iter().find(|wait| wait.to_string() == stored).map_or(stored, |wait| waiting(wait))
}

fn missing(page: &Page, text: &mut String) {
    for contender in &page.contenders {
        if let Some(why) = &contender.missing {
            // Writing into a string does not fail.
            let _ = writeln!(text, "\n{} was not measured: {why}.", contender.label);
        }
    }
}

fn bytes(count: f64) -> String {
    match count {
        count if count < 1024.0 => format!("{count:.0} B"),
        count if count < 1048576.0 => format!("{:.1} KiB", count / 1024.0),
        count => format!("{:.1} MiB", count / 1048576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_they_need() {
        assert_eq!([0.987, 12.34, 123.4, f64::NAN].map(times), ["0.99x", "12.3x", "123x", "-"]);
        assert_eq!([100.0, 2048.0, 3e6].map(bytes), ["100 B", "2.0 KiB", "2.9 MiB"]);
        assert_eq!([1.234, 0.0456, 0.00123].map(share), ["1.23x", "0.046x", "0.0012x"]);
        assert_eq!([12.0, 1234.0, 56_789.0, 1.25e7].map(rate), ["12/s", "1.2 k/s", "57 k/s", "12.5 M/s"]);
    }
}
