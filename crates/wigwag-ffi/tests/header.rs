//! The header that is checked in is the one that the sources make, and compilers take it with all warnings on.

mod support;

use std::process::Command;

use support::{WARNINGS, ground, here, is_there};

/// The header, as the sources make it.
fn made() -> String {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_crate(here("")).with_config(config).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).unwrap();
    // A negative number is one thing wherever it is put.
    let lines = text.lines().map(|line| match line.rsplit_once(' ') {
        Some((define, number)) if define.starts_with("#define ") && number.starts_with('-') => {
            format!("{define} ({number})\n")
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn the_header_is_the_one_that_the_sources_make() {
    let (path, made) = (here("include/wigwag.h"), made());
    if std::env::var_os("WIGWAG_WRITE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(made.lines()).position(|(there, made)| there != made);
    assert!(
        there == made,
        "include/wigwag.h is not current, first at line {}: run WIGWAG_WRITE=1 cargo test --test header",
        differs.map_or(0, |line| line + 1)
    );
    assert!(made.contains(&format!("#define WIGWAG_VERSION \"{}\"", env!("CARGO_PKG_VERSION"))), "another version");
}

/// A compiler: its name, whether for C++, and the standard.
const COMPILERS: &[(&str, &str)] =
    &[("gcc", "c11"), ("clang", "c11"), ("g++", "c++17"), ("clang++", "c++17"), ("g++", "c++20"), ("gcc", "c17")];

#[test]
fn compilers_have_nothing_to_say_about_it() {
    let mut tried = 0;
    for (compiler, standard) in COMPILERS {
        if !is_there(compiler) {
            continue;
        }
        let is_cpp = standard.starts_with("c++");
        let ground = ground();
        let source = ground.path(if is_cpp { "header.cc" } else { "header.c" });
        let headers = if is_cpp { "#include <wigwag.hpp>\n" } else { "#include <wigwag.h>\n" };
        // Twice, because of the guard; and something that is used, for a program of nothing is a warning.
        std::fs::write(&source, format!("{headers}{headers}int main(void) {{ return WIGWAG_OK; }}\n")).unwrap();
        let output = Command::new(compiler)
            .arg(format!("-std={standard}"))
            .args(WARNINGS)
            .args(if is_cpp { &[][..] } else { &["-Wstrict-prototypes", "-Wmissing-prototypes"][..] })
            .args(["-fsyntax-only", "-I"])
            .arg(here("include"))
            .arg(&source)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{compiler} -std={standard}:\n{said}");
        tried += 1;
    }
    println!("{tried} compilers and standards");
}
