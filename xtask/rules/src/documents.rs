//! Links between documents lead somewhere, and so do the answers for newcomers.

use crate::source::{self, Source, report};

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for file in source::files().into_iter().filter(|file| file.ends_with(".md")) {
        let text = source::read(&file).unwrap_or_default();
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let line = 1 + text[..at].matches('\n').count();
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let other = if path.is_empty() { file.clone() } else { join(directory, path) };
            if !source::root().join(&other).exists() {
                found.push(format!("{file}:{line}: `{target}` leads nowhere: there is no {other}"));
            } else if !anchor.is_empty() && !anchors(&other).iter().any(|known| known == anchor) {
                found.push(format!("{file}:{line}: `{target}` leads nowhere: {other} has no such heading"));
            }
        }
    }
    report("Links between documents lead somewhere.", found);
}

/// A crate is published with its own copy, as a package has nothing from outside of its directory.
#[test]
fn every_copy_of_a_licence_is_that_of_the_root() {
    let mut found = Vec::new();
    for file in source::files() {
        let Some((_, name @ ("LICENSE-MIT" | "LICENSE-APACHE"))) = file.rsplit_once('/') else { continue };
        if source::read(&file) != source::read(name) {
            found.push(format!("{file} is not {name} of the root: copy it"));
        }
    }
    report("Every copy of a licence is that of the root.", found);
}

#[test]
fn the_readme_names_the_oldest_compiler() {
    let manifest = source::read("Cargo.toml").unwrap_or_default();
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap_or_default();
    let sentence = format!("Rust {} or newer", version.trim_matches('"'));
    let is_said = source::read("README.md").unwrap_or_default().contains(&sentence);
    let found = if is_said { Vec::new() } else { vec![format!("README.md does not say \"{sentence}\"")] };
    report("README.md names the oldest compiler, as Cargo.toml has it.", found);
}

fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of a document's headings, as the usual renderers make them.
fn anchors(file: &str) -> Vec<String> {
    let text = source::read(file).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|&c| source::is_of_a_name(c) || c == '-' || c == ' ');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a source has an item of that name: a word that stands directly behind what declares one.
fn declares(source: &Source, item: &str) -> bool {
    const DECLARE: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!"];
    source::words(&source.code, item).any(|at| {
        let before = source.code[..at].trim_end();
        DECLARE.iter().any(|word| before.strip_suffix(word).is_some_and(|rest| !rest.ends_with(source::is_of_a_name)))
    })
}

/// What is wrong with the files and items that a text names: `` `path/to/file.rs` (`item`, `item`) ``.
fn missing_items(text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (at, path) in text.match_indices('`').step_by(2).filter_map(|(at, _)| Some((at, quoted(&text[at..]).next()?))) {
        if !path.contains('/') || !path.ends_with(".rs") {
            continue;
        }
        let Some(code) = read(path) else {
            found.push(format!("there is no {path}"));
            continue;
        };
        let source = Source::new(path, code);
        let behind = &text[at + path.len() + 2..];
        let items = behind.strip_prefix(" (").and_then(|rest| rest.split_once(')')).map_or("", |(items, _)| items);
        let gone = quoted(items).filter(|item| !declares(&source, item));
        found.extend(gone.map(|item| format!("{path} has no item {item}")));
    }
    found
}

#[test]
fn the_answers_for_newcomers_name_what_there_is() {
    let document = source::read("CONTRIBUTING.md").unwrap_or_default();
    let section = document.split("\n## Ten questions\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("CONTRIBUTING.md has the section `Ten questions`");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 10, "the section has another number of questions than it says");
    let silent = rows.iter().filter(|row| !row.contains(".rs`"));
    let mut found: Vec<String> = silent.map(|row| format!("an answer names no file: {row}")).collect();
    found.extend(missing_items(section, source::read));
    report("CONTRIBUTING.md: each answer names a file and an item that exist; write the new name there.", found);
}

#[test]
fn items_that_are_gone_are_noticed() {
    let read =
        |path: &str| (path == "a/b.rs").then(|| "struct Here; impl Here { fn there() {} } // fn told() {}".into());
    for (text, wrong) in [
        ("in `a/b.rs` (`Here`, `there`) and `nowhere`", None),
        ("in `a/b.rs`, or (`gone`)", None),
        ("in `a/b.rs` (`Here`, `gone`)", Some("a/b.rs has no item gone")),
        ("in `a/b.rs` (`told`)", Some("a/b.rs has no item told")),
        ("in `a/b.rs` (`impl`)", Some("a/b.rs has no item impl")),
        ("in `x`: `a/c.rs` (`Here`)", Some("there is no a/c.rs")),
    ] {
        assert_eq!(missing_items(text, read), wrong.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{text}");
    }
}
