//! Every public item of the library shows how it is used.

use std::ops::Range;

use crate::source::{self, Source, report};

/// Where public items are written: files, and folders with all their files.
const PUBLIC: &[&str] = &[
    "broadcast/",
    "contract.rs",
    "error.rs",
    "exchange/",
    "form.rs",
    "observe.rs",
    "observe/",
    "options.rs",
    "queue/",
    "runtime.rs",
    "semaphore/",
    "service/handles.rs",
    "session/peer.rs",
    "stats.rs",
    "stream/",
    "wait/policy.rs",
];

/// Files whose types have the names of public ones, and are not public.
const PRIVATE: &[&str] = &["queue/message.rs", "exchange/polled/session.rs", "exchange/tokio/session.rs"];

/// Where the names are that users reach.
const EXPORTS: &[&str] = &["lib.rs", "tokio.rs"];

/// Public modules: everything public in them is reached.
const OPEN: &[&str] = &["observe.rs", "runtime.rs"];

/// Macros that give a public type some of its methods.
const MACROS: &[&str] = &["crates/wigwag/src/service/settings.rs"];

/// Items that show nothing by themselves: name and reason.
const WITHOUT: &[(&str, &str)] = &[("Result", "an alias, shown by every function that returns one")];

const LIBRARY: &str = "crates/wigwag/src/";

#[test]
fn every_public_item_has_an_example() {
    let read = |path: &str| source::read(&format!("{LIBRARY}{path}")).unwrap_or_else(|| panic!("{path} is there"));
    let exported: Vec<String> = EXPORTS.iter().chain(OPEN).flat_map(|file| exports(&read(file))).collect();
    assert!(exported.iter().any(|name| name == "Client"), "lib.rs is read in another way than it is written");
    let mut found = Vec::new();
    let (mut shown, sources) = (0, source::sources(LIBRARY));
    for part in PUBLIC.iter().chain(PRIVATE) {
        if !sources.iter().any(|source| source.path.trim_start_matches(LIBRARY).starts_with(part)) {
            found.push(format!("xtask/rules/src/examples.rs: there is no {part} any more: correct PUBLIC or PRIVATE"));
        }
    }
    for source in &sources {
        let path = source.path.trim_start_matches(LIBRARY);
        if PRIVATE.contains(&path) || !PUBLIC.iter().any(|part| path.starts_with(part)) {
            continue;
        }
        for (at, name) in public_items(source, (!OPEN.contains(&path)).then_some(&exported)) {
            shown += 1;
            if !WITHOUT.iter().any(|(without, _)| *without == name) && !documentation(source, at).contains("```") {
                found.push(format!("{}: `{name}` needs an example in its documentation", source.place(at)));
            }
        }
    }
    assert!(shown > 300, "only {shown} public items were found: PUBLIC leaves something out");
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

/// The names that a file exports: all words of its lines of `pub use`, and of those that begin with `pub`.
fn exports(text: &str) -> Vec<String> {
    let of_names = |text: &str| -> Vec<String> {
        let words = text.split(|character: char| !source::is_of_a_name(character)).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let uses = text.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.chain(text.lines().filter(|line| line.starts_with("pub "))).flat_map(of_names).collect()
}

/// Public types, traits and functions that a user can reach, with where they stand. `exported`: what is reached, if not
/// all.
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
    let text = "/// ```\npub struct A;\nstruct B;\nimpl<T: Fn() -> u8> A {\n    /// text\n    #[inline]\n    pub fn \
        c() {}\n    pub(crate) fn d() {}\n    fn e() {}\n}\nimpl B {\n    pub fn f() {}\n}\nimpl Drop for A {}\npub fn \
        g() {}\n";
    let source = Source::new("x.rs", text);
    let items = public_items(&source, Some(&vec!["A".to_owned()]));
    assert_eq!(items.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["A", "c"]);
    let names: Vec<_> = public_items(&source, None).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["A", "c", "f", "g"]);
    assert!(documentation(&source, items[0].0).contains("```"));
    assert_eq!(documentation(&source, items[1].0), "/// text");
    let names = exports("//! x\npub use a::{\n    A, B,\n};\npub use b::C;\npub struct D;\n");
    assert!(["A", "B", "C", "D"].iter().all(|name| names.iter().any(|exported| exported == name)));
}
