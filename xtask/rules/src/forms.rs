//! Every decision that depends on the form of a session stands in `form.rs`, in a match that names all forms.

use std::collections::BTreeSet;

use crate::source::{self, Source, report};

const LIBRARY: &str = "crates/wigwag/src/";

/// Where a form is named: all that depends on it is a method there.
const HOME: &str = "crates/wigwag/src/form.rs";

/// Files that begin something of one form, so that they name it: by `in_form(Form::...)` or `FORM: Form = Form::...`,
/// and in no other way.
const CONSTRUCTORS: &[&str] = &[
    "crates/wigwag/src/broadcast/publisher/builder.rs",
    "crates/wigwag/src/broadcast/subscriber/builder.rs",
    "crates/wigwag/src/exchange/client/builder.rs",
    "crates/wigwag/src/exchange/intake.rs",
    "crates/wigwag/src/exchange/server.rs",
    "crates/wigwag/src/queue/intake.rs",
    "crates/wigwag/src/queue/receiver/builder.rs",
    "crates/wigwag/src/queue/sender/builder.rs",
    "crates/wigwag/src/stream/listener/builder.rs",
    "crates/wigwag/src/stream/stream_builder.rs",
];

/// Where a form is named: `Form::` with one of its variants, or with all of them, behind it.
fn named(code: &str) -> impl Iterator<Item = usize> + '_ {
    source::words(code, "Form").filter(|at| {
        let behind = code[at + "Form".len()..].trim_start().strip_prefix("::");
        behind.is_some_and(|rest| {
            rest.trim_start().starts_with(|first: char| first.is_uppercase() || "*{".contains(first))
        })
    })
}

/// Where a form is named and not handed to a constructor, or has another name.
fn decisions(source: &Source, may_construct: bool) -> Vec<usize> {
    let code = &source.product;
    let constructs = |before: &str| before.ends_with("in_form(") || before.ends_with("const FORM: Form =");
    let mut found: Vec<usize> =
        named(code).filter(|&at| !(may_construct && constructs(code[..at].trim_end()))).collect();
    found.extend(source::words(code, "Form").filter(|at| code[at + "Form".len()..].trim_start().starts_with("as ")));
    found
}

/// What makes a decision that does not name all forms.
fn shortcuts(code: &str) -> Vec<usize> {
    let mut found: Vec<usize> = source::words(code, "_")
        .filter(|at| code[at + 1..].trim_start().starts_with("=>") || code[at + 1..].trim_start().starts_with("if "))
        .collect();
    // `form.number() == number` is the one comparison: of numbers, when a message is read.
    let compares = |at: &usize| !code[..*at].trim_end().ends_with("form.number()");
    found.extend(["==", "!="].iter().flat_map(|sign| code.match_indices(sign)).map(|(at, _)| at).filter(compares));
    found.extend(source::words(code, "matches"));
    found.extend(source::words(code, "let").filter(|at| code[..*at].trim_end().ends_with("if")));
    found
}

#[test]
fn only_form_rs_decides_by_the_form() {
    let (mut found, mut used) = (Vec::new(), BTreeSet::new());
    let sources = source::sources(LIBRARY);
    for source in sources.iter().filter(|source| source.path != HOME) {
        let constructor = CONSTRUCTORS.iter().find(|path| **path == source.path);
        let decisions = decisions(source, constructor.is_some());
        found.extend(decisions.into_iter().map(|at| {
            let place = source.place(at);
            format!("{place}: names a form: make the decision a method in form.rs, and ask `form.method()` here")
        }));
        used.extend(constructor.copied().filter(|_| named(&source.product).next().is_some()));
    }
    found.extend(
        CONSTRUCTORS.iter().filter(|path| !used.contains(*path)).map(|path| {
            format!("xtask/rules/src/forms.rs: {path} names no form any more: take it out of CONSTRUCTORS")
        }),
    );
    report("What depends on the form of a session stands in form.rs.", found);
}

#[test]
fn form_rs_names_all_forms_in_each_decision() {
    let sources = source::sources(HOME);
    let home = sources.iter().find(|source| source.path == HOME).expect("form.rs is there");
    let found = shortcuts(&home.product)
        .into_iter()
        .map(|at| format!("{}: leaves forms out: match on the form, and give each an arm", home.place(at)));
    report("A new form does not compile until each decision has an arm for it.", found.collect());
}

#[test]
fn decisions_are_found() {
    let count = |text: &str, may_construct| decisions(&Source::new("x.rs", text), may_construct).len();
    for (text, decisions_found) in [
        ("match form { Form::Queue => 1, _ => 2 }", 1),
        ("form == crate::form::Form::Stream", 1),
        ("use crate::form::Form::*;", 1),
        ("use crate::form::Form as F;", 1),
        ("use crate::form::{Form, Starting}; Form::default(); Form::from_number(1)", 0),
        ("// Form::Queue\n\"Form::Queue\"", 0),
        ("#[cfg(test)]\nmod tests { fn a() { Form::Queue; } }", 0),
        ("contract.in_form(Form::Queue)", 1),
    ] {
        assert_eq!(count(text, false), decisions_found, "{text}");
    }
    assert_eq!(count("contract.in_form(Form::Queue)", true), 0);
    assert_eq!(count("contract.in_form(Form::Queue).form == Form::Queue", true), 1);
}

#[test]
fn shortcuts_are_found() {
    for (code, found) in [
        ("match self { Form::Queue => 1, _ => 2 }", 1),
        ("match self { Form::Queue => 1, _ if a => 2 }", 1),
        ("self == Form::Queue || self != Form::Stream", 2),
        ("matches!(self, Form::Queue)", 1),
        ("if let Form::Queue = self {}", 1),
        ("match self { Form::Queue => 1, Form::Stream | Form::Exchange => 2 }", 0),
        ("find(|form| form.number() == number)", 0),
        ("fmt::Formatter<'_>", 0),
    ] {
        assert_eq!(shortcuts(code).len(), found, "{code}");
    }
}
