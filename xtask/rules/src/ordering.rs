//! docs/ordering.md names every atomic access of the library: a new one without its line there fails.
//!
//! The document has a section for each source file, `## path: N uses`, with a table that names in its column
//! "operation" the function, in code marks, and in its column "ordering" the orderings. Counted are the orderings
//! themselves, function by function: a compare-exchange has two.

use std::collections::BTreeMap;

use crate::source::{self, Source, report};

const DOCUMENT: &str = "docs/ordering.md";
const SOURCE: &str = "crates/wigwag/src/";
const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// How often each ordering occurs in each function.
type Uses = BTreeMap<(String, &'static str), usize>;

/// A section of the document: the number in its heading, and the uses in its table.
type Section = (usize, Uses);

fn uses_in(source: &Source) -> Uses {
    let functions = source::functions(&source.product);
    let mut uses = Uses::new();
    for (at, what) in source.product.match_indices("Ordering::") {
        let rest = &source.product[at + what.len()..];
        if let Some(ordering) = ORDERINGS.iter().find(|ordering| rest.starts_with(**ordering)) {
            // The innermost function is the one that begins last.
            let around = functions.iter().filter(|(_, range)| range.contains(&at)).max_by_key(|(_, range)| range.start);
            let function = around.map_or_else(String::new, |(name, _)| name.clone());
            *uses.entry((function, ordering)).or_default() += 1;
        }
    }
    uses
}

fn in_the_sources() -> BTreeMap<String, Uses> {
    let sources = source::sources(SOURCE).into_iter();
    let files = sources.map(|source| (source.path.trim_start_matches(SOURCE).to_owned(), uses_in(&source)));
    files.filter(|(_, uses)| !uses.is_empty()).collect()
}

fn in_the_document(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let (mut current, mut columns): (Option<String>, Option<(usize, usize)>) = (None, None);
    for line in text.lines() {
        if line.starts_with('#') {
            (current, columns) = (None, None);
            let heading = line.trim_start_matches('#').trim();
            if let Some((file, number)) = heading.split_once(": ")
                && let Some(number) = number.split_whitespace().next().and_then(|number| number.parse().ok())
            {
                let file = file.trim_matches('`').to_owned();
                sections.insert(file.clone(), (number, Uses::new()));
                current = Some(file);
            }
        } else if line.starts_with('|')
            && let Some(file) = &current
        {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let column = |title: &str| cells.iter().position(|cell| *cell == title);
            match columns {
                None => columns = column("operation").zip(column("ordering")),
                Some((operation, ordering)) => {
                    let (_, uses) = sections.get_mut(file).expect("the section was made at its heading");
                    add_row(uses, cells.get(operation), cells.get(ordering));
                }
            }
        }
    }
    sections
}

fn add_row(uses: &mut Uses, operation: Option<&&str>, orderings: Option<&&str>) {
    let named = operation.and_then(|cell| cell.split('`').nth(1)).unwrap_or_default();
    let function = named.rsplit("::").next().unwrap_or_default();
    for word in orderings.unwrap_or(&"").split(|character: char| !character.is_alphanumeric()) {
        if let Some(ordering) = ORDERINGS.iter().find(|ordering| **ordering == word) {
            *uses.entry((function.to_owned(), ordering)).or_default() += 1;
        }
    }
}

/// What one has and the other has not, as a sentence each.
fn differences(file: &str, there: &Uses, listed: &Uses) -> Vec<String> {
    let mut found = Vec::new();
    for key in there.keys().chain(listed.keys().filter(|key| !there.contains_key(*key))) {
        let (there, listed) = (there.get(key).copied().unwrap_or(0), listed.get(key).copied().unwrap_or(0));
        if there != listed {
            let (function, ordering) = key;
            found.push(format!(
                "{SOURCE}{file}: `{function}` uses {ordering} {there} times, {DOCUMENT} lists {listed}: what pairs \
                 with \
                 it, and why is that ordering enough?"
            ));
        }
    }
    found
}

#[test]
fn the_document_names_every_atomic_access() {
    let text = source::read(DOCUMENT).unwrap_or_else(|| panic!("{DOCUMENT} is not there"));
    let (sources, document) = (in_the_sources(), in_the_document(&text));
    let mut found = Vec::new();
    for (file, uses) in &sources {
        let total: usize = uses.values().sum();
        match document.get(file) {
            None => found.push(format!("{SOURCE}{file}: {total} orderings, and {DOCUMENT} has no section for it")),
            Some((stated, listed)) => {
                if *stated != total {
                    found.push(format!("{SOURCE}{file}: {total} orderings, {DOCUMENT} states {stated} in its heading"));
                }
                found.extend(differences(file, uses, listed));
            }
        }
    }
    for file in document.keys().filter(|file| !sources.contains_key(*file)) {
        found.push(format!("{DOCUMENT}: there is no atomic access in {file} any more: take its section out"));
    }
    report("Every atomic access has a line in docs/ordering.md: what, with whom, and why that ordering.", found);
}

#[test]
fn sections_are_added_up() {
    let text = "# A\n\n## `a.rs`: 3 uses\n\n| word | operation | ordering | why |\n|---|---|---|---|\n| x | `f`: swap \
        | \
                `SeqCst` | `Acquire` would do |\n| y | `A::g`: swap | `AcqRel`, `Acquire` | - |\n\n## More\n\n| \
                operation | \
                ordering |\n|---|---|\n| `h` | `Relaxed` |\n";
    let sections = in_the_document(text);
    let code = "fn f() { x.swap(1, Ordering::SeqCst) } fn g() { y.cas(Ordering::AcqRel, StdOrdering::Acquire) }";
    let uses = uses_in(&Source::new("a.rs", code));
    assert_eq!(sections.len(), 1);
    assert_eq!(sections["a.rs"], (3, uses.clone()));
    assert_eq!(differences("a.rs", &uses, &Uses::new()).len(), 3);
}
