//! The shape of files and functions: each says what it is, and none is too long to be read.

use crate::source::{self, report};

/// Most lines of a source file, without its tests.
const FILE_LINES_MAX: usize = 900;
/// Most lines of a function.
const FUNCTION_LINES_MAX: usize = 80;

/// Most characters of a line of Rust.
const LINE_MAX: usize = 120;
/// Most bytes of a file: what is larger is made by a program, and belongs to a release.
const FILE_BYTES_MAX: usize = 256 << 10;

/// Functions that are longer all the same: path, name, lines. They may become shorter, and leave this list, and no
/// other may come into it without a reason beside it.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

#[test]
fn every_file_says_what_it_is() {
    let found = source::sources("")
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}:1: begin with `//!` and one sentence that says what the file is for", source.path))
        .collect();
    report("Every Rust file begins with `//!`.", found);
}

#[test]
fn no_file_is_too_long() {
    let mut found = Vec::new();
    for source in source::sources("") {
        // The tests stand at the end of a file; all before them counts, because a line is what the reader scrolls by.
        let lines = source.product.trim_end().lines().count();
        if !source.is_test() && lines > FILE_LINES_MAX {
            found.push(format!(
                "{}:{lines}: {lines} lines without tests, {FILE_LINES_MAX} are allowed: is it one idea? Split it",
                source.path
            ));
        }
    }
    report("A file is one idea that can be read at a sitting.", found);
}

#[test]
fn no_line_is_too_long() {
    let mut found = Vec::new();
    for source in source::sources("") {
        for (number, line) in source.text.lines().enumerate() {
            // A row of a table in a comment cannot be broken.
            let is_row = line.trim_start().trim_start_matches(['/', '!']).trim_start().starts_with('|');
            let length = line.chars().count();
            if length > LINE_MAX && !is_row {
                found.push(format!("{}:{}: {length} characters, {LINE_MAX} are allowed", source.path, number + 1));
            }
        }
    }
    report("A line can be read without scrolling.", found);
}

#[test]
fn no_file_is_a_blob() {
    let size = |file: &String| std::fs::metadata(source::root().join(file)).map_or(0, |metadata| metadata.len());
    let files = source::files().into_iter().map(|file| (size(&file), file));
    let large = files.filter(|(size, _)| *size > FILE_BYTES_MAX as u64);
    let found = large.map(|(size, file)| format!("{file}: {size} bytes, {FILE_BYTES_MAX} are allowed")).collect();
    report("No file is so large that only a program wrote it.", found);
}

#[test]
fn no_function_is_too_long() {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for source in source::sources("") {
        if source.is_test() {
            continue;
        }
        for (name, range) in source::functions(&source.product) {
            let lines = source.product[range.clone()].matches('\n').count() + 1;
            let allowed = LONG_FUNCTIONS.iter().find(|(path, long, _)| *path == source.path && *long == name);
            let most = allowed.map_or(FUNCTION_LINES_MAX, |(_, _, most)| *most);
            if lines > most {
                found.push(format!(
                    "{}: `{name}` has {lines} lines, {most} are allowed: give its parts names",
                    source.place(range.start)
                ));
            }
            if allowed.is_some() {
                seen.push((source.path.clone(), name, lines));
            }
        }
    }
    for (path, name, most) in LONG_FUNCTIONS {
        match seen.iter().find(|(seen_path, seen_name, _)| seen_path == path && seen_name == name) {
            Some((_, _, lines)) if lines < most => found.push(format!(
                "xtask/rules/src/shape.rs: `{name}` in {path} has {lines} lines by now: lower its {most}, or take it \
                 out"
            )),
            Some(_) => {}
            None => found.push(format!(
                "xtask/rules/src/shape.rs: there is no `{name}` in {path} any more: take it \
                out"
            )),
        }
    }
    report("A function fits on a screen.", found);
}
