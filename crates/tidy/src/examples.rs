//! Every public item of the library shows how it is used.

use std::ops::Range;

use crate::source::{self, Source, report};

/// The modules of the public face, each with the files it may have.
const FACE: &[&str] = &[
    "client",
    "server",
    "loan",
    "request",
    "typed",
    "contract",
    "wait",
    "stats",
    "error",
    "semaphore",
    "stream",
    "stream_listener",
    "sender",
    "receiver",
    "delivery",
    "observe",
    "runtime",
];

/// Public modules that have a face of their own, each with its files.
const MODULES: &[(&str, &[&str])] =
    &[("tokio", &["client", "loan", "server", "stream", "stream_halves", "stream_listener", "tower"])];

/// Macros that give a public type some of its methods.
const MACROS: &[&str] = &["crates/wigwag/src/control/settings.rs"];

/// Items that show nothing by themselves: name and reason.
const WITHOUT: &[(&str, &str)] = &[("Result", "an alias, shown by every function that returns one")];

#[test]
fn every_public_item_has_an_example() {
    let read = |path: String| source::read(&path).unwrap_or_else(|| panic!("{path} is there"));
    let mut found = Vec::new();
    // Each module of the face, with the text that exports it.
    let lib = read("crates/wigwag/src/lib.rs".to_owned());
    let mut face: Vec<(String, Vec<String>)> =
        FACE.iter().map(|module| ((*module).to_owned(), exports(&lib, module))).collect();
    for (outer, modules) in MODULES {
        let text = read(format!("crates/wigwag/src/{outer}/mod.rs"));
        face.extend(modules.iter().map(|module| (format!("{outer}/{module}"), exports(&text, module))));
    }
    let exported: Vec<String> = face.iter().flat_map(|(_, names)| names.clone()).collect();
    let is_of_face = |path: &str| {
        let module = path.trim_start_matches("crates/wigwag/src/").trim_end_matches(".rs");
        face.iter()
            .any(|(face, _)| module == face || module.strip_prefix(face).is_some_and(|rest| rest.starts_with('/')))
    };
    let is_open = |module: &str| lib.contains(&format!("\npub mod {module};"));
    for (module, _) in face.iter().filter(|(module, names)| names.is_empty() && !is_open(module)) {
        found
            .push(format!("crates/tidy/src/examples.rs: nothing is exported from `{module}`: correct FACE or MODULES"));
    }
    for source in source::sources("crates/wigwag/src/").into_iter().filter(|source| is_of_face(&source.path)) {
        // Of a public module, everything that is public is reached.
        let of_open_module = is_open(source.path.trim_start_matches("crates/wigwag/src/").trim_end_matches(".rs"));
        for (at, name) in public_items(&source, (!of_open_module).then_some(&exported)) {
            if !WITHOUT.iter().any(|(without, _)| *without == name) && !documentation(&source, at).contains("```") {
                found.push(format!("{}: `{name}` needs an example in its documentation", source.place(at)));
            }
        }
    }
    for path in MACROS {
        let source = source::sources(path).pop().unwrap_or_else(|| panic!("{path} is there"));
        let items = public_items(&source, None);
        assert!(!items.is_empty(), "{path} has public items");
        for (at, name) in items.iter().filter(|(at, _)| !documentation(&source, *at).contains("```")) {
            found.push(format!("{}: `{name}` needs an example in its documentation", source.place(*at)));
        }
    }
    report("Every public item of the library has an example that is compiled.", found);
}

/// The names that lib.rs re-exports from a module, or that a public module has.
fn exports(lib: &str, module: &str) -> Vec<String> {
    if lib.contains(&format!("\npub mod {module};")) {
        let text = source::read(&format!("crates/wigwag/src/{module}.rs")).expect("a public module has a file");
        let names = |line: &str| -> Vec<String> {
            let words = line.split(|character: char| !source::is_of_a_name(character)).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        return text.lines().filter(|line| line.starts_with("pub ")).flat_map(names).collect();
    }
    let begin = format!("pub use {module}::");
    let Some(rest) = lib.split(&begin).nth(1).and_then(|rest| rest.split(';').next()) else { return Vec::new() };
    rest.trim_matches(['{', '}']).split(',').map(|name| name.trim().to_owned()).collect()
}

/// Public types, traits and functions that a user can reach, with where they stand. `exported`: what is reached, if not all.
fn public_items(source: &Source, exported: Option<&Vec<String>>) -> Vec<(usize, String)> {
    let code = &source.product;
    let impls = impls(code);
    let is_exported = |name: &String| exported.is_none_or(|exported| exported.contains(name));
    let mut found = Vec::new();
    for at in source::words(code, "pub") {
        let rest = code[at + 3..].trim_start();
        if rest.starts_with('(') {
            continue; // pub(crate)
        }
        let mut tokens =
            rest.split(|character: char| !source::is_of_a_name(character)).filter(|token| !token.is_empty());
        let kind = tokens.find(|token| !["const", "unsafe", "async"].contains(token)).unwrap_or_default();
        let name = tokens.next().unwrap_or_default().to_owned();
        let is_reached = match kind {
            "struct" | "enum" | "trait" | "type" => is_exported(&name),
            "fn" => match impls.iter().find(|(_, body)| body.contains(&at)) {
                Some((owner, _)) => is_exported(owner),
                None => is_exported(&name),
            },
            _ => false,
        };
        if is_reached {
            found.push((at, name));
        }
    }
    found
}

/// The inherent `impl` blocks: whose, and where.
fn impls(code: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    for at in source::words(code, "impl") {
        let begins_a_line = code[..at].chars().next_back().is_none_or(|character| character == '\n');
        let Some(body) = source::body(code, at).filter(|_| begins_a_line) else { continue };
        let head = code[at + 4..body.start].split(" where").next().unwrap_or_default();
        let head = head.trim_start();
        let after_generics = if head.starts_with('<') { &head[end_of_generics(head)..] } else { head };
        let name: String =
            after_generics.trim_start().chars().take_while(|&character| source::is_of_a_name(character)).collect();
        if !after_generics.contains(" for ") {
            found.push((name, body));
        }
    }
    found
}

fn end_of_generics(text: &str) -> usize {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// The documentation above an item.
fn documentation(source: &Source, at: usize) -> String {
    let line = source.line_of(at) - 1;
    let lines: Vec<&str> = source.text.lines().collect();
    let above = lines[..line].iter().rev().map(|text| text.trim());
    let belongs = above.take_while(|text| text.starts_with("///") || text.starts_with("#[") || text.starts_with("#!["));
    belongs.filter(|text| text.starts_with("///")).collect::<Vec<_>>().join("\n")
}

#[test]
fn items_are_found() {
    let text = "/// ```\npub struct A;\nstruct B;\nimpl<T: Fn() -> u8> A {\n    /// text\n    #[inline]\n    pub fn c() {}\n    pub(crate) fn d() {}\n    fn e() {}\n}\nimpl B {\n    pub fn f() {}\n}\nimpl Drop for A {}\npub fn g() {}\n";
    let source = Source::new("x.rs", text);
    let items = public_items(&source, Some(&vec!["A".to_owned()]));
    assert_eq!(items.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["A", "c"]);
    let names: Vec<_> = public_items(&source, None).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["A", "c", "f", "g"]);
    assert!(documentation(&source, items[0].0).contains("```"));
    assert_eq!(documentation(&source, items[1].0), "/// text");
    assert_eq!(exports("pub use a::{A, B};\npub use b::C;", "a"), ["A", "B"]);
    assert_eq!(exports("pub use a::{A, B};\npub use b::C;", "b"), ["C"]);
}
