//! Imports run downward only, and forms never import each other.
//!
//! A layer is a folder, or a file where a folder has more than one layer. Files of one layer may know each other,
//! because they are parts of one thing. Everything else looks down.

use std::collections::BTreeSet;

use crate::source::{self, Source, report};

/// The library's layers, the highest first; the list in lib.rs is the same.
const LAYERS: &[&[&str]] = &[
    &["tokio", "polled", "verify::fuzzing", "verify::models"],
    &["exchange", "queue", "stream", "broadcast", "semaphore", "runtime"],
    &["service"],
    &["observe"],
    &["session"],
    &["options"],
    &["wait"],
    &["permits"],
    &["memory", "statistics"],
    &["encoded", "typed_view", "array"],
    &["contract", "form", "stats"],
    &["sys"],
    &["error", "trace", "sync", "faults"],
    &["escape"],
];

/// The forms, and what stands beside them: none of these imports another.
const FORMS: &[&str] = &["exchange", "queue", "stream", "broadcast", "semaphore", "runtime"];

const SOURCE: &str = "crates/wigwag/src/";

/// The layer that a module belongs to, by its own name or the one of the folder that it is in.
fn layer_of(path: &[String]) -> Option<&'static str> {
    let layers = || LAYERS.iter().flat_map(|rung| rung.iter().copied());
    (1..=path.len()).rev().find_map(|length| {
        let module = path[..length].join("::");
        layers().find(|layer| *layer == module)
    })
}

fn rung_of(layer: &str) -> usize {
    LAYERS.iter().position(|rung| rung.contains(&layer)).expect("it is a layer")
}

/// The module that a file is, as a path below the crate; `None` for those that only declare others.
fn module_of(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix(SOURCE)?.strip_suffix(".rs")?;
    let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    (path != "lib" && parts != ["verify", "mod"]).then_some(parts)
}

/// The paths that begin with `crate::`, as (where, path below the crate).
fn paths(source: &Source) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for at in source::words(&source.product, "crate") {
        if let Some(rest) = source.product[at..].strip_prefix("crate::") {
            found.extend(expand(rest).into_iter().map(|path| (at, path)));
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

#[test]
fn imports_run_downward_only() {
    let mut found = Vec::new();
    for source in source::sources(SOURCE) {
        let Some(module) = module_of(&source.path) else { continue };
        let Some(own) = layer_of(&module) else {
            let module = module.join("::");
            found.push(format!("{}:1: `{module}` has no layer: put it into LAYERS and lib.rs's list", source.path));
            continue;
        };
        for (at, path) in paths(&source) {
            let Some(target) = layer_of(&path) else {
                let why = "is in no layer: import from the module itself, or put a new module into LAYERS and lib.rs";
                found.push(format!("{}: `crate::{}` {why}", source.place(at), path.join("::")));
                continue;
            };
            if target == own || rung_of(target) > rung_of(own) {
                continue;
            }
            if rung_of(target) == rung_of(own) && !(FORMS.contains(&own) && FORMS.contains(&target)) {
                continue;
            }
            found.push(format!(
                "{}: `{own}` imports `{target}`, which does not stand below it: move what both need down",
                source.place(at)
            ));
        }
    }
    report("Imports run downward only, and no form imports another (CONTRIBUTING.md, \"Layers\").", found);
}

/// The rungs of the list of modules in lib.rs: `client  loan`, `sys/`, `control/steward`, `control/{policy protocol}`,
/// and three spaces or more before what they are for.
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
    let modules = source::sources(SOURCE).into_iter().filter_map(|source| module_of(&source.path));
    let there: BTreeSet<&str> = modules.filter_map(|module| layer_of(&module)).collect();
    for module in LAYERS.iter().flat_map(|layer| layer.iter()).filter(|module| !there.contains(**module)) {
        found.push(format!("xtask/rules/src/layers.rs: there is no `{module}` any more: take it out of LAYERS"));
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
    let lib = "//! # The modules, top down\n//!\n//! ```text\n//! a  b/   what for\n//! c  control/{d \
        e}  control/f    text\n//! ```";
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
