//! The examples of the documentation, of README.md and of docs/recipes.md compile in a crate outside of the workspace.
//! It has of ours only `wigwag`, with the names that examples make up for a test, and of others only what the examples
//! name. In here, doctests find every crate that the library itself is made with.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One example: where it stands, and its lines.
struct Example {
    place: String,
    lines: Vec<String>,
}

/// The examples of a text whose lines are documentation as a whole.
fn examples_in(path: &str, lines: impl Iterator<Item = (usize, Option<String>)>) -> Vec<Example> {
    let mut examples = Vec::new();
    // `None`: outside of any; else whether the block is Rust that is to compile, and its lines so far.
    let mut block: Option<(bool, Example)> = None;
    for (number, line) in lines {
        let Some(line) = line else {
            block = None;
            continue;
        };
        match (line.trim_start().strip_prefix("```"), &mut block) {
            (Some(info), None) => {
                let is_rust = matches!(info.trim(), "" | "rust" | "no_run" | "rust,no_run");
                block = Some((is_rust, Example { place: format!("{path}:{number}"), lines: Vec::new() }));
            }
            (Some(_), Some(_)) => {
                examples.extend(block.take().filter(|(is_rust, _)| *is_rust).map(|(_, example)| example))
            }
            (None, Some((_, example))) => {
                let code = line.trim_start();
                let hidden = code.strip_prefix("# ").or_else(|| code.strip_prefix('#').filter(|rest| rest.is_empty()));
                example.lines.push(hidden.map_or_else(|| line.clone(), str::to_owned));
            }
            (None, None) => {}
        }
    }
    examples
}

fn examples_of_markdown(root: &Path, path: &str) -> Vec<Example> {
    let text = fs::read_to_string(root.join(path)).unwrap();
    // A block without a word is no Rust there.
    let lines = text.lines().enumerate().map(|(at, line)| {
        let line = if line == "```" { "``` " } else { line };
        (at + 1, Some(line.to_owned()))
    });
    examples_in(path, lines).into_iter().filter(|example| !example.lines.is_empty()).collect()
}

fn examples_of_source(root: &Path, path: &Path) -> Vec<Example> {
    let text = fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(root).unwrap().display().to_string();
    let lines = text.lines().enumerate().map(|(at, line)| {
        let line = line.trim_start();
        let rest = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        (at + 1, rest.map(|rest| rest.strip_prefix(' ').unwrap_or(rest).to_owned()))
    });
    examples_in(&name, lines)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// As rustdoc wraps it: a function of its own, which returns a result if the text ends with one.
fn module(number: usize, example: &Example) -> String {
    let body = example.lines.join("\n");
    let place = &example.place;
    let mut text = String::new();
    if body.contains("fn main(") {
        write!(text, "// {place}\npub mod example_{number} {{\n{body}\n}}\n\n").unwrap();
    } else if body.trim_end().ends_with("(())") {
        write!(
            text,
            "// {place}\npub fn example_{number}() {{\nfn inner() -> Result<(), impl core::fmt::Debug> \
             {{\n{body}\n}}\ninner().unwrap()\n}}\n\n"
        )
        .unwrap();
    } else {
        write!(text, "// {place}\npub fn example_{number}() {{\n{body}\n}}\n\n").unwrap();
    }
    text
}

#[test]
fn the_examples_compile_in_a_crate_outside_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut examples = examples_of_markdown(&root, "README.md");
    examples.extend(examples_of_markdown(&root, "docs/recipes.md"));
    let mut paths = Vec::new();
    sources(&root.join("crates/wigwag/src"), &mut paths);
    paths.sort();
    examples.extend(paths.iter().flat_map(|path| examples_of_source(&root, path)));
    assert!(examples.len() > 300, "only {} examples were found", examples.len());

    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let manifest = format!(
        r#"[package]
name = "outside-crate"
version = "0.0.0"
edition = "2024"

[dependencies]
wigwag = {{ path = "{}", features = ["axum", "tokio", "tower", "postcard", "serde", "tracing"] }}
# What examples use of others, in the open or hidden; the names that they make up are hidden.
wigwag-testing = {{ path = "{}" }}
tempfile = "3"
tokio = {{ version = "1", features = ["io-util", "macros", "net", "rt-multi-thread", "sync", "time"] }}
tower = {{ version = "0.5", default-features = false, features = ["limit", "load-shed", "timeout", "util"] }}
serde = {{ version = "1", features = ["derive"] }}
futures-core = "0.3"
tower-service = "0.3"
axum = {{ version = "0.8", default-features = false, features = ["http1", "tokio"] }}
signal-hook = "*"
rustix = {{ version = "1", features = ["event", "process"] }}

[features]
tokio = []

[workspace]
"#,
        root.join("crates/wigwag").display(),
        root.join("verify/support").display()
    );
    fs::write(at("Cargo.toml"), manifest).unwrap();
    fs::copy(root.join("Cargo.lock"), at("Cargo.lock")).unwrap(); // the versions that are here already
    fs::create_dir(at("src")).unwrap();
    let head = "#![allow(warnings)]\n\n";
    let text: String = examples.iter().enumerate().map(|(number, example)| module(number, example)).collect();
    fs::write(at("src/lib.rs"), format!("{head}{text}")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--features", "tokio"])
        .current_dir(directory.path())
        .env("CARGO_TARGET_DIR", root.join("target/outside-crate"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    if output.status.success() {
        return;
    }
    let kept = root.join("target/outside-crate/examples.rs");
    let _ = fs::copy(at("src/lib.rs"), &kept);
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.chars().take(6000).collect();
    panic!("examples do not compile outside of the workspace; they lie in {}:\n{said}", kept.display());
}
