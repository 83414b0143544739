//! The table of a run.

use crate::output::duration;
pub use crate::table::Table;
use wigwag_bench::row::Row;

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
