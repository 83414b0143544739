//! docs/reliability.md lists the goals that there are, the injected faults with the goals that are shown to find them,
//! and what shows each promise of SECURITY.md.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, report};

const DOCUMENT: &str = "docs/reliability.md";
const NAMES: &str = "verify/README.md";

/// The first cells of the tables below a heading, each with the cell beside it; titles and rules are left out.
fn rows(document: &str, heading: &str) -> BTreeMap<String, String> {
    let below = document.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading)).skip(1);
    let lines = below.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let pair = |cells: Vec<&str>| Some(((*cells.first()?).to_owned(), (*cells.get(1)?).to_owned()));
    cells.filter_map(pair).filter(|(first, _)| first.starts_with(['G', '`'])).collect()
}

/// The texts between two marks, again and again.
fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(begin).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0))
}

/// The goals of the proof.
fn goals() -> BTreeSet<String> {
    let sources = source::sources("verify/harness/src/").into_iter();
    let goals =
        sources.flat_map(|source| between(&source.text, "id: \"G", "\"").map(str::to_owned).collect::<Vec<_>>());
    goals.map(|number| format!("G{number}")).collect()
}

/// The faults that can be injected.
fn faults() -> BTreeSet<String> {
    let text = source::read("crates/wigwag/src/faults.rs").unwrap_or_default();
    let named = text.lines().filter(|line| line.trim_end().ends_with("\";") && line.contains(" = \""));
    named.filter_map(|line| between(line, " = \"", "\"").next().map(str::to_owned)).collect()
}

/// Which goals are shown to find each fault: by a test that names the two, one after the other.
fn finders(faults: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<u32>> {
    let mut finders: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for source in source::sources("verify/harness/tests/faults/") {
        let text: String = source.text.split_whitespace().collect();
        for fault in faults {
            for (at, _) in text.match_indices(&format!("\",\"{fault}\"")) {
                let goal = text[..at].rsplit('"').next().unwrap_or_default();
                let number = goal.strip_prefix('G').and_then(|number| number.parse::<u32>().ok());
                finders.entry(fault.clone()).or_default().extend(number);
            }
        }
    }
    finders
}

#[test]
fn the_goals_are_listed() {
    let (document, goals) = (source::read(DOCUMENT).unwrap_or_default(), goals());
    let listed: BTreeSet<String> = rows(&document, "Goals").into_keys().collect();
    let missing = goals.difference(&listed).map(|goal| format!("{DOCUMENT}: {goal} has no row under `Goals`"));
    let gone = listed.difference(&goals).map(|goal| format!("{DOCUMENT}: verify/harness has no goal {goal}"));
    report("docs/reliability.md lists the goals of `cargo xtask prove`, and no others.", missing.chain(gone).collect());
}

#[test]
fn the_goals_stand_beside_their_names() {
    let (document, mut found) = (source::read(NAMES).unwrap_or_default(), Vec::new());
    let mut listed = rows(&document, "The goals");
    for source in source::sources("verify/harness/src/") {
        for rest in source.text.split("id: \"G").skip(1) {
            let number = rest.split('"').next().unwrap_or_default();
            let name = between(rest, "name: \"", "\"").next().unwrap_or_default();
            if listed.remove(&format!("G{number}")) != Some(format!("`{name}`")) {
                found.push(format!("{NAMES} must have the row: | G{number} | `{name}` |"));
            }
        }
    }
    found.extend(listed.keys().map(|goal| format!("{NAMES}: verify/harness has no goal {goal}")));
    report("verify/README.md lists the goals by number and name.", found);
}

#[test]
fn the_planted_faults_are_listed_with_the_goals_that_find_them() {
    let (document, faults) = (source::read(DOCUMENT).unwrap_or_default(), faults());
    assert!(!faults.is_empty(), "crates/wigwag/src/faults.rs is read in another way than it is written");
    let (mut listed, finders) = (rows(&document, "Injected faults"), finders(&faults));
    let mut found = Vec::new();
    for fault in &faults {
        let goals: Vec<String> = finders.get(fault).into_iter().flatten().map(|number| format!("G{number}")).collect();
        let right = goals.join(" ");
        if goals.is_empty() {
            found.push(format!("no test in verify/harness/tests/faults shows that a goal finds `{fault}`"));
        }
        if listed.remove(&format!("`{fault}`")).as_ref() != Some(&right) {
            found.push(format!("{DOCUMENT} must have the row: | `{fault}` | {right} |"));
        }
    }
    found.extend(listed.keys().map(|fault| format!("{DOCUMENT}: there is no injected fault {fault}")));
    report("docs/reliability.md lists what can be injected, and which goals are shown to find it.", found);
}

#[test]
fn promises_are_shown_by_tests_and_goals_that_exist() {
    let document = source::read(DOCUMENT).unwrap_or_default();
    let table = document.split("## What shows each promise").nth(1);
    let table = table.and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let places = ["crates/wigwag/", "crates/wigwag-tests/"];
    let code: String = places.into_iter().flat_map(source::sources).map(|source| source.text).collect();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 30, "{DOCUMENT} has no table `What shows each promise`");
    let (goals, mut found) = (goals(), BTreeSet::new());
    for row in rows {
        let tests = row.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains(['.', ' ']));
        let missing = tests.filter(|name| !code.contains(&format!("fn {name}()")));
        found.extend(missing.map(|name| format!("{DOCUMENT} names a test that is not there: {name}")));
        let last = row.trim_matches('|').rsplit('|').next().unwrap_or_default();
        let unknown = last.split_whitespace().filter(|goal| !goals.contains(*goal));
        found.extend(unknown.map(|goal| format!("{DOCUMENT} names a goal that is not there: {goal}")));
    }
    report("Whatever docs/reliability.md says shows a promise exists.", found.into_iter().collect());
}

#[test]
fn rows_are_read() {
    let rows = rows("## A\n| x | y |\n|---|---|\n| G1 | one |\n| `a-b` | G2 |\ntext\n## B\n| G3 | three |\n", "A");
    let expected = [("G1", "one"), ("`a-b`", "G2")].map(|(first, second)| (first.to_owned(), second.to_owned()));
    assert_eq!(rows, expected.into_iter().collect());
}
