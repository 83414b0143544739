//! Imports run downward only.
//!
//! Modules on one line may know each other, because they are two halves of one thing: a loan and the client it is from, a
//! session and the steward that ends it. Everything else looks down.

use std::collections::BTreeSet;

use crate::source::{self, Source, report};

/// The library's modules, the highest first; the list in lib.rs is the same.
const LAYERS: &[&[&str]] = &[
    &["fuzzing"],
    &["tokio"],
    &["typed", "encoded"],
    &[
        "client",
        "loan",
        "server",
        "semaphore",
        "stream",
        "stream_listener",
        "sender",
        "receiver",
        "delivery",
        "observe",
        "runtime",
    ],
    &["link"],
    &["connection"],
    &["worker"],
    &["request", "message"],
    &["control::host"],
    &["session", "control::core", "control::steward", "control::arrivals"],
    &["control::attach"],
    &[
        "control::rendezvous",
        "control::ledger",
        "control::policy",
        "control::settings",
        "control::protocol",
        "control::news",
    ],
    &["control::leftovers", "private_copy"],
    &["permit_file"],
    &["segment", "slot", "ring", "doorbell", "permit_table", "statistics"],
    &["wait", "attention", "free_slots", "outbox", "stats"],
    &["hint"],
    &["layout", "contract"],
    &["sys"],
    &["error", "event", "sync", "planted", "blocking"],
];

/// Imports that run upward all the same, each with its reason. An entry that is not needed any more is an error.
const UPWARD: &[(&str, &str, &str)] = &[];

const SOURCE: &str = "crates/wigwag/src/";

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module that a file is, in the words of [`LAYERS`]; `None` for those that only declare others. A directory is one
/// module, but for `control`.
fn module_of(path: &str) -> Option<String> {
    let path = path.strip_prefix(SOURCE)?.strip_suffix(".rs")?;
    match path.split_once('/') {
        None if path == "lib" => None,
        None => Some(path.to_owned()),
        Some(("control", "mod")) => None,
        Some(("control", inner)) => Some(format!("control::{inner}")),
        Some((directory, _)) => Some(directory.to_owned()),
    }
}

/// The paths that begin with `crate::` or, in `control`, with `super::`, as (where, path below the crate).
fn paths(source: &Source, module: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for at in source::words(&source.product, "crate") {
        if let Some(rest) = source.product[at..].strip_prefix("crate::") {
            found.extend(expand(rest).into_iter().map(|path| (at, path)));
        }
    }
    if module.starts_with("control::") {
        for at in source::words(&source.product, "super") {
            if let Some(rest) = source.product[at..].strip_prefix("super::") {
                let below = |path: Vec<String>| [vec!["control".to_owned()], path].concat();
                found.extend(expand(rest).into_iter().map(|path| (at, below(path))));
            }
        }
    }
    found
}

/// `a::{b, c::d}` is two paths.
fn expand(text: &str) -> Vec<Vec<String>> {
    if text.starts_with('{') {
        let inside = &text[1..source::end_of_bracket(text, 0) - 1];
        return split(inside).into_iter().flat_map(|part| expand(part.trim())).collect();
    }
    let name: String = text.chars().take_while(|&character| source::is_of_a_name(character)).collect();
    let rest = &text[name.len()..];
    if name.is_empty() {
        return Vec::new();
    }
    match rest.strip_prefix("::") {
        Some(rest) if rest.starts_with('{') || rest.starts_with(source::is_of_a_name) => {
            expand(rest).into_iter().map(|path| [vec![name.clone()], path].concat()).collect()
        }
        _ => vec![vec![name]],
    }
}

/// Splits at the commas that are in no inner braces.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// What is imported, in the words of [`LAYERS`]; `Err` with a cure when it is no module.
fn target(path: &[String]) -> Result<String, &'static str> {
    let target = match (path[0].as_str(), path.get(1)) {
        ("control", Some(inner)) => format!("control::{inner}"),
        (first, _) => first.to_owned(),
    };
    if layer_of(&target).is_some() {
        return Ok(target);
    }
    Err("is not in the list of layers: import from the module itself, or put a new module into LAYERS and lib.rs")
}

#[test]
fn imports_run_downward_only() {
    let (mut found, mut used) = (Vec::new(), BTreeSet::new());
    for source in source::sources(SOURCE) {
        let Some(module) = module_of(&source.path) else { continue };
        let Some(own) = layer_of(&module) else {
            found
                .push(format!("{}:1: `{module}` has no layer: put it into LAYERS and into lib.rs's list", source.path));
            continue;
        };
        for (at, path) in paths(&source, &module) {
            match target(&path) {
                Err(why) => found.push(format!("{}: `crate::{}` {why}", source.place(at), path.join("::"))),
                Ok(target) if layer_of(&target) >= Some(own) => {}
                Ok(target) => match UPWARD.iter().position(|&(from, to, _)| from == module && to == target) {
                    Some(exception) => {
                        used.insert(exception);
                    }
                    None => found.push(format!(
                        "{}: `{module}` imports `{target}`, which stands above it: move what both need down",
                        source.place(at)
                    )),
                },
            }
        }
    }
    for (index, (from, to, _)) in UPWARD.iter().enumerate() {
        if !used.contains(&index) {
            found.push(format!("crates/tidy/src/layers.rs: `{from}` no longer imports `{to}`: take it out of UPWARD"));
        }
    }
    report("Imports run downward only (CONTRIBUTING.md, \"Layers\").", found);
}

/// The rungs of the list of modules in lib.rs: `client  loan`, `sys/`, `control/steward`, `control/{policy protocol}`, and
/// three spaces or more before what they are for.
fn rungs_of(lib: &str) -> Vec<BTreeSet<String>> {
    let block = lib.split("# The modules").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap_or_default();
    let lines = block.lines().skip(1).map(|line| line.trim_start_matches("//!").trim()).filter(|line| !line.is_empty());
    lines.map(|line| names_of(line.split("   ").next().unwrap_or_default())).collect()
}

fn names_of(column: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut directory = None;
    for word in column.split_whitespace() {
        let (begin, name) = word.split_once('{').map_or((None, word), |(begin, name)| (Some(begin), name));
        directory = begin.or(directory);
        let path = format!("{}{}", directory.unwrap_or_default(), name.trim_matches(['{', '}', '/']));
        names.insert(path.replace('/', "::"));
        if name.ends_with('}') {
            directory = None;
        }
    }
    names
}

#[test]
fn lib_rs_lists_exactly_the_modules_there_are() {
    let mut found = Vec::new();
    let there: BTreeSet<String> = source::sources(SOURCE).iter().filter_map(|source| module_of(&source.path)).collect();
    for module in LAYERS.iter().flat_map(|layer| layer.iter()).filter(|module| !there.contains(**module)) {
        found.push(format!("crates/tidy/src/layers.rs: there is no `{module}` any more: take it out of LAYERS"));
    }
    let lib = source::read(&format!("{SOURCE}lib.rs")).expect("lib.rs is there");
    let listed = rungs_of(&lib);
    let expected: Vec<BTreeSet<String>> =
        LAYERS.iter().map(|layer| layer.iter().map(|module| (*module).to_owned()).collect()).collect();
    for rung in 0..listed.len().max(expected.len()) {
        let (listed, expected) = (listed.get(rung), expected.get(rung));
        if listed != expected {
            found.push(format!("{SOURCE}lib.rs: rung {} is {listed:?}, LAYERS has {expected:?}", rung + 1));
            break; // those below are shifted
        }
    }
    report("lib.rs is the table of contents: its list of modules is LAYERS, rung by rung.", found);
}

#[test]
fn rungs_are_read() {
    let lib = "//! # The modules, top down\n//!\n//! ```text\n//! a  b/   what for\n//! c  control/{d e}  control/f    text\n//! ```";
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(rungs_of(lib), [names(&["a", "b"]), names(&["c", "control::d", "control::e", "control::f"])]);
}

#[test]
fn paths_are_taken_apart() {
    let names = |text: &str| expand(text).into_iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(names("a::b::C;"), ["a::b::C"]);
    assert_eq!(names("{a, b::{c, d::e}, f};"), ["a", "b::c", "b::d::e", "f"]);
    assert_eq!(names("a::{self, B}"), ["a::self", "a::B"]);
    assert_eq!(names("hint::call(x)"), ["hint::call"]);
}
