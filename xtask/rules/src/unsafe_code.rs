//! Unsafe code has an address, and a reason beside it.

use std::collections::BTreeMap;

use crate::source::{self, report};

/// Where unsafe code may stand, and why there.
const ADDRESSES: &[(&str, &str)] = &[
    ("crates/wigwag/src/sys/", "system calls"),
    ("crates/wigwag-python/src/", "buffers that another language counts the references of"),
    ("crates/wigwag/src/memory/segment.rs", "pointers into the mapping"),
    ("crates/wigwag/src/memory/board.rs", "pointers into the mapping of a publisher's memory"),
    ("crates/wigwag/src/memory/payload.rs", "payload bytes as slices"),
    ("crates/wigwag/src/exchange/lineage.rs", "sessions that outlive one another"),
    ("crates/wigwag/src/permits/file.rs", "pointers into the mapping of a semaphore"),
    ("crates/wigwag/src/statistics.rs", "pointers into the mapping of a server's statistics"),
    ("crates/wigwag/src/memory/prefetch.rs", "instructions that move cache lines"),
    ("crates/wigwag-ffi/src/given.rs", "what C hands in"),
    ("crates/wigwag-cli/src/surroundings.rs", "what a process is born with, before main and between fork and exec"),
    ("bench/harness/src/", "the raw loops that the library is compared with"),
    ("bench/compare/src/contenders/", "what the interfaces of other libraries ask for"),
    ("crates/wigwag-cli/src/bench/goal/permits.rs", "the semaphore that the library is compared with"),
];

/// The files that may make slices of payload bytes, and the invariant by which they have them: what `memory/payload.rs`
/// relies on (V1) and cannot check.
const PAYLOAD_OWNERS: &[(&str, &str)] = &[
    ("crates/wigwag/src/broadcast/message.rs", "H1"),
    ("crates/wigwag/src/broadcast/polled.rs", "H1"),
    ("crates/wigwag/src/broadcast/publication.rs", "H1"),
    ("crates/wigwag/src/exchange/owned_loan.rs", "L1"),
    ("crates/wigwag/src/exchange/passed_slot.rs", "L1"),
    ("crates/wigwag/src/exchange/request.rs", "Q1"),
    ("crates/wigwag/src/queue/loan.rs", "D1"),
    ("crates/wigwag/src/queue/message.rs", "R1"),
    ("crates/wigwag/src/stream/reader.rs", "B1"),
    ("crates/wigwag/src/stream/writer.rs", "B1"),
];

/// How many lines above an `unsafe` its reason may begin.
const REASON_DISTANCE: usize = 8;

#[test]
fn unsafe_code_stands_at_its_addresses() {
    let mut found = Vec::new();
    for source in source::sources("") {
        if source.is_test() || ADDRESSES.iter().any(|(address, _)| source.path.starts_with(address)) {
            continue;
        }
        for at in source::words(&source.product, "unsafe").filter(|&at| !is_exported_name(&source.product, at)) {
            found.push(format!("{}: put it behind a safe function at one of the addresses", source.place(at)));
        }
    }
    let addresses: Vec<_> = ADDRESSES.iter().map(|(address, what)| format!("  {address}: {what}")).collect();
    report(&format!("Unsafe code has these addresses:\n{}", addresses.join("\n")), found);
}

#[test]
fn the_addresses_are_all_needed() {
    let sources = source::sources("");
    let mut found = Vec::new();
    for (address, _) in ADDRESSES {
        let mut there = sources.iter().filter(|source| source.path.starts_with(address)).peekable();
        // A part of the repository that is not there yet needs no address taken away.
        if there.peek().is_some() && !there.any(|source| source::words(&source.product, "unsafe").next().is_some()) {
            found.push(format!("xtask/rules/src/unsafe_code.rs: {address} has no unsafe code any more: take it out"));
        }
    }
    report("No address stands open that nobody lives at.", found);
}

#[test]
fn payloads_are_lent_by_who_has_the_bytes() {
    let mut found = Vec::new();
    for source in source::sources("crates/wigwag/src/") {
        let uses = ["PayloadBytes", "PayloadBytesMut", "LineRef"];
        let at = uses.iter().find_map(|name| source::words(&source.product, name).next());
        let owner = PAYLOAD_OWNERS.iter().find(|(path, _)| source.path == *path);
        match (at, owner) {
            (Some(at), None) if !source.path.starts_with("crates/wigwag/src/memory/") => {
                found.push(format!("{}: it is not listed as an owner of payload bytes", source.place(at)));
            }
            (None, Some(_)) => found.push(format!("{} lends no payload bytes any more: take it out", source.path)),
            (Some(_), Some((path, invariant))) if !source.text.contains(invariant) => {
                found.push(format!("{path} does not say that it has the bytes by {invariant}"));
            }
            _ => {}
        }
    }
    report("Slices of payload bytes are made by their owners, each of which names its invariant.", found);
}

#[test]
fn every_unsafe_has_its_reason() {
    let mut found = Vec::new();
    for source in source::sources("") {
        let lines: Vec<&str> = source.text.lines().collect();
        for at in source::words(&source.code, "unsafe").filter(|&at| !is_exported_name(&source.code, at)) {
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

/// Whether it is the attribute of a function that others call by its name. That no two have one name, the interface's
/// list of symbols shows (`crates/wigwag-ffi/tests/symbols.rs`).
fn is_exported_name(code: &str, at: usize) -> bool {
    code[at..].starts_with("unsafe(no_mangle)")
}

/// Where invariants are stated.
const STATED_IN: [&str; 2] = ["crates/wigwag/src/", "crates/wigwag-ffi/src/"];

/// The numbers of invariants in a text: a capital and a digit that stand by themselves, such as `S1`.
fn invariants(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(|character| !source::is_of_a_name(character));
    parts.filter(|part| matches!(part.as_bytes(), [b'A'..=b'Z', b'0'..=b'9']))
}

/// The comments that say why something is sound, each from its keyword to its end.
fn reasons(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim_start) {
        let begins = line.starts_with(concat!("// SAFE", "TY:"));
        is_inside = begins || (is_inside && line.starts_with("//"));
        if begins {
            found.push(line.to_owned());
        } else if let (true, Some(reason)) = (is_inside, found.last_mut()) {
            reason.push_str(line);
        }
    }
    found
}

#[test]
fn every_invariant_is_stated_once_and_listed() {
    let document = source::read("ARCHITECTURE.md").unwrap_or_default();
    let table = document.split("\n## Invariants").nth(1).unwrap_or_default();
    let listed: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    let mut stated: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut found = Vec::new();
    for source in STATED_IN.into_iter().flat_map(source::sources) {
        for (at, mark) in source.text.match_indices("**Invariant ") {
            let number = invariants(&source.text[at + mark.len()..]).next().unwrap_or_default().to_owned();
            stated.entry(number).or_default().push(source.place(at));
        }
        for reason in reasons(&source.text) {
            let unknown = invariants(&reason).filter(|number| !listed.contains(number));
            found.extend(unknown.map(|number| format!("{}: a SAFETY comment cites {number}", source.path)));
        }
    }
    assert!(stated.len() > 10, "invariants are stated in another way than they are looked for");
    for (number, places) in &stated {
        if places.len() > 1 {
            found.push(format!("{number} is stated more than once: {}", places.join(", ")));
        }
        if !listed.contains(&number.as_str()) {
            found.push(format!("{}: ARCHITECTURE.md does not list {number}", places[0]));
        }
    }
    let rows = listed.iter().filter(|row| invariants(row).next().is_some());
    let gone = rows.filter(|row| !stated.contains_key(**row));
    found
        .extend(gone.map(|row| format!("ARCHITECTURE.md lists {row}, which nothing states as `**Invariant {row}.**`")));
    report("Each invariant is stated at one place, and ARCHITECTURE.md lists all that SAFETY comments cite.", found);
}
