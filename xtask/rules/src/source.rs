//! Reads the repository's files, and tells code from comments, literals and tests.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A Rust file.
pub struct Source {
    /// Path from the root of the repository, with slashes.
    pub path: String,
    /// The file.
    pub text: String,
    /// The same bytes with comments, strings and character literals turned into spaces.
    pub code: String,
    /// As `code`, with the test modules turned into spaces as well.
    pub product: String,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let (path, text) = (path.into(), text.into());
        let code = blank_comments_and_literals(&text);
        let mut product = code.clone().into_bytes();
        for range in test_modules(&code) {
            blank(&mut product[range]);
        }
        let product = String::from_utf8(product).expect("only whole characters are blanked");
        Source { path, text, code, product }
    }

    /// The line, counted from 1, of a byte.
    pub fn line_of(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    /// `path:line`, as an editor understands it.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.line_of(at))
    }

    /// Whether the whole file is tests.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || ["xtask/rules/", "verify/support/", "verify/harness/"].iter().any(|tests| self.path.starts_with(tests))
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    // Asked at run time first: a target directory may be shared by several checkouts.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.ancestors().nth(2).expect("xtask/rules lies two levels below the root").to_owned()
}

/// All files that belong to the repository: as `git` lists them, or all there are where this is no work tree.
pub fn files() -> Vec<String> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output();
    let mut files = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            let names = String::from_utf8_lossy(&output.stdout).into_owned();
            names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        _ => {
            let mut found = Vec::new();
            walk(&root(), "", &mut found);
            found
        }
    };
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_built = name == "__pycache__" || name.ends_with(".so");
        if name == ".git" || name.starts_with("target") || name == "demo-out" || is_built {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

/// The text of a file; `None` for one that is not text.
pub fn read(file: &str) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(file)).ok()?).ok()
}

/// All Rust files whose path begins with `prefix`.
pub fn sources(prefix: &str) -> Vec<Source> {
    let rust = files().into_iter().filter(|file| file.starts_with(prefix) && file.ends_with(".rs"));
    let sources: Vec<Source> = rust.filter_map(|file| Some(Source::new(file.clone(), read(&file)?))).collect();
    assert!(!sources.is_empty(), "no Rust file begins with {prefix}: the rules look at nothing");
    sources
}

/// Where `word` stands by itself, not as a part of a longer name.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_of_a_name) && !after.is_some_and(is_of_a_name)
    })
}

/// Whether a character may be part of a name.
pub fn is_of_a_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The end of the bracketed part that opens at `open`: one past its closing bracket, or the end of the text.
pub fn end_of_bracket(code: &str, open: usize) -> usize {
    let bytes = code.as_bytes();
    let (opening, closing) = match bytes[open] {
        b'{' => (b'{', b'}'),
        b'(' => (b'(', b')'),
        b'[' => (b'[', b']'),
        other => panic!("{:?} opens nothing", other as char),
    };
    let mut depth = 0usize;
    for (at, &byte) in bytes.iter().enumerate().skip(open) {
        if byte == opening {
            depth += 1;
        } else if byte == closing {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    code.len()
}

/// The body, with its braces, of the item whose head begins at `from`; `None` when a semicolon ends it.
pub fn body(code: &str, from: usize) -> Option<Range<usize>> {
    let bytes = code.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => at = end_of_bracket(code, at),
            b'{' => return Some(at..end_of_bracket(code, at)),
            b';' => return None,
            _ => at += 1,
        }
    }
    None
}

/// The functions of a piece of code: the name and the whole range, from `fn` to the closing brace.
pub fn functions(code: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String = code[at + 2..].trim_start().chars().take_while(|&c| is_of_a_name(c)).collect();
        if name.is_empty() {
            continue; // a function pointer's type
        }
        if let Some(body) = body(code, at) {
            found.push((name, at..body.end));
        }
    }
    found
}

/// Modules, and other items, that stand under an attribute such as `#[cfg(test)]`.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let end = end_of_bracket(code, at + 1);
        let condition = &code[at..end];
        if words(condition, "test").next().is_none() || condition.contains("not(test") {
            continue;
        }
        if let Some(body) = body(code, end) {
            found.push(at..body.end);
        }
    }
    found
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn blank_comments_and_literals(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let Some(length) = length_of_comment_or_literal(text, at) else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let end = (at + length).min(text.len());
        blank(&mut out[at..end]);
        at = end;
    }
    String::from_utf8(out).expect("only whole characters are blanked")
}

fn length_of_comment_or_literal(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(length_of_block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(length_of_string(rest));
    }
    if rest.starts_with('\'') {
        return length_of_character(rest);
    }
    if rest.starts_with('r') && !text[..at].chars().next_back().is_some_and(|c| is_of_a_name(c) && c != 'b' && c != 'c')
    {
        return length_of_raw_string(rest);
    }
    None
}

fn length_of_block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn length_of_string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; `None` for a lifetime.
fn length_of_character(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    match characters.next()? {
        (_, '\\') => {
            characters.next()?; // what is escaped, which may be a quote
            characters.find(|&(_, character)| character == '\'').map(|(at, _)| at + 1)
        }
        _ => characters.next().filter(|&(_, character)| character == '\'').map(|(at, _)| at + 1),
    }
}

fn length_of_raw_string(rest: &str) -> Option<usize> {
    let hashes = rest[1..].bytes().take_while(|&byte| byte == b'#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = 2 + hashes;
    Some(rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()))
}

/// Fails with all that was found, one line each, and the rule.
pub fn report(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}\n\n{}\n", found.join("\n"));
}

#[test]
fn comments_and_literals_are_blanked_and_nothing_else_is() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"a("b \" // c") d"#, r"a(           ) d"),
        ("a('\"') b", "a(   ) b"),
        (r"a('\'', b)", r"a(    , b)"),
        ("fn a<'b>(c: &'b str)", "fn a<'b>(c: &'b str)"),
        ("r\"a\\\" b", "      b"),
        ("br#\"a\"b\"# c", "b         c"),
        ("for r in b", "for r in b"),
        ("\"\u{e4}\" a", "     a"),
    ] {
        assert_eq!(blank_comments_and_literals(text), code, "{text}");
    }
}

#[test]
fn test_modules_are_no_product() {
    let text = "fn a() {}\n#[cfg(all(test, not(loom)))]\nmod tests {\n    fn b() { {} }\n}\nfn c() {}\n";
    let source = Source::new("x.rs", text);
    assert_eq!(source.product.len(), text.len());
    let names: Vec<_> = functions(&source.product).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(functions(&source.code).len(), 3);
    assert_eq!(source.line_of(text.find("fn c").unwrap()), 6);
    let source = Source::new("x.rs", "#[cfg(not(test))]\nmod real { fn a() {} }");
    assert_eq!(functions(&source.product).len(), 1);
}

#[test]
fn functions_have_their_bodies() {
    let code = "fn a(b: [u8; 3]) -> fn(u8) { c }\ntrait T { fn d(); }\nfn e<F>(f: F) where F: Fn() { }";
    let found: Vec<_> = functions(code).into_iter().map(|(name, range)| (name, &code[range])).collect();
    assert_eq!(found[0], ("a".to_owned(), "fn a(b: [u8; 3]) -> fn(u8) { c }"));
    assert_eq!(found[1].0, "e");
    assert_eq!(found.len(), 2);
}
