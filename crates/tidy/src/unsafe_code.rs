//! Unsafe code has an address, and a reason beside it.

use crate::source::{self, report};

/// Where unsafe code may stand, and why there.
const ADDRESSES: &[(&str, &str)] = &[
    ("crates/wigwag/src/sys/", "system calls"),
    ("crates/wigwag/src/segment.rs", "pointers into the mapping"),
    ("crates/wigwag/src/permit_file.rs", "pointers into the mapping of a semaphore"),
    ("crates/wigwag/src/statistics.rs", "pointers into the mapping of a server's statistics"),
    ("crates/wigwag/src/request.rs", "the payload as the server lends it"),
    ("crates/wigwag/src/message.rs", "the payload as the receiver lends it"),
    ("crates/wigwag/src/loan.rs", "the payload as the client lends it"),
    ("crates/wigwag/src/sender/draft.rs", "the payload as the sender lends it"),
    ("crates/wigwag/src/loan/held.rs", "the same, for tasks"),
    ("crates/wigwag/src/stream/reader.rs", "bytes of a stream, lent to be read"),
    ("crates/wigwag/src/stream/writer.rs", "room of a stream, lent to be written to"),
    ("crates/wigwag/src/hint.rs", "instructions that move cache lines"),
    ("crates/bench/src/", "the raw loops that the library is compared with"),
    ("crates/wigwag-cli/src/bench/goal/permits.rs", "the semaphore that the library is compared with"),
];

/// How many lines above an `unsafe` its reason may begin.
const REASON_DISTANCE: usize = 8;

#[test]
fn unsafe_code_stands_at_its_addresses() {
    let mut found = Vec::new();
    for source in source::sources("crates/") {
        if source.is_test() || ADDRESSES.iter().any(|(address, _)| source.path.starts_with(address)) {
            continue;
        }
        for at in source::words(&source.product, "unsafe") {
            found.push(format!("{}: put it behind a safe function at one of the addresses", source.place(at)));
        }
    }
    let addresses: Vec<_> = ADDRESSES.iter().map(|(address, what)| format!("  {address}: {what}")).collect();
    report(&format!("Unsafe code has these addresses:\n{}", addresses.join("\n")), found);
}

#[test]
fn the_addresses_are_all_needed() {
    let sources = source::sources("crates/");
    let mut found = Vec::new();
    for (address, _) in ADDRESSES {
        let mut there = sources.iter().filter(|source| source.path.starts_with(address)).peekable();
        // A part of the repository that is not there yet needs no address taken away.
        if there.peek().is_some() && !there.any(|source| source::words(&source.product, "unsafe").next().is_some()) {
            found.push(format!("crates/tidy/src/unsafe_code.rs: {address} has no unsafe code any more: take it out"));
        }
    }
    report("No address stands open that nobody lives at.", found);
}

#[test]
fn every_unsafe_has_its_reason() {
    let mut found = Vec::new();
    for source in source::sources("crates/") {
        let lines: Vec<&str> = source.text.lines().collect();
        for at in source::words(&source.code, "unsafe") {
            let line = source.line_of(at) - 1;
            let is_function = source.code[at..].trim_start_matches("unsafe").trim_start().starts_with("fn");
            let reason = if is_function { "# Safety" } else { "SAFETY:" };
            let above = &lines[line.saturating_sub(REASON_DISTANCE)..=line];
            if !above.iter().any(|text| text.contains(reason)) {
                found.push(format!("{}: say why it is sound, with `{reason}` directly above", source.place(at)));
            }
        }
    }
    report("Every unsafe block, function and impl says why it is sound, citing an invariant by its number.", found);
}
