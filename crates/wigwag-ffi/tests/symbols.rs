//! What the shared library exports: the functions of the header, which are listed, and nothing else.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use support::{here, is_there, library, run, text};

#[test]
fn the_shared_library_exports_the_functions_of_the_header_and_nothing_else() {
    if !is_there("nm") {
        return;
    }
    let mut nm = Command::new("nm");
    let said = run(nm.args(["--dynamic", "--defined-only", "--format=posix"]).arg(library().join("libwigwag.so")));
    let exported: BTreeSet<String> =
        text(&said.stdout).lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    let list = here("symbols.txt");
    if std::env::var_os("WIGWAG_WRITE").is_some() {
        std::fs::write(&list, exported.iter().map(|name| format!("{name}\n")).collect::<String>()).unwrap();
    }
    let listed: BTreeSet<String> =
        std::fs::read_to_string(&list).unwrap_or_default().lines().map(str::to_owned).collect();
    let new: Vec<_> = exported.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&exported).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "symbols.txt lacks {new:?}, and has {gone:?}, which is not exported; a symbol that is gone breaks programs. \
         WIGWAG_WRITE=1 cargo test --test symbols writes it"
    );
    let others: Vec<_> = exported.iter().filter(|name| !name.starts_with("wigwag_")).collect();
    assert!(others.is_empty(), "these are nobody's business: {others:?}");

    let header = std::fs::read_to_string(here("include/wigwag.h")).unwrap();
    let declared: BTreeSet<String> = header
        .split("WIGWAG_API ")
        .chain(header.split("WIGWAG_API\n"))
        .skip(1)
        .filter_map(|behind| behind.split('(').next()?.split([' ', '*']).next_back().map(str::to_owned))
        .filter(|name| name.starts_with("wigwag_"))
        .collect();
    assert_eq!(declared, exported, "the header declares other functions than the library has");
}

#[test]
fn the_shared_library_has_its_name() {
    if !is_there("readelf") {
        return;
    }
    let said = text(&run(Command::new("readelf").arg("--dynamic").arg(library().join("libwigwag.so"))).stdout);
    assert!(said.contains("soname: [libwigwag.so.0]"), "{said}");
}
