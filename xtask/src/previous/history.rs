//! Which commit has the program of the previous protocol version: the last one before this version came into the text
//! of the layout.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// The text that has the version.
const DOCUMENT: &str = "docs/layout.md";

/// What the history says.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The commit, in full.
    Commit(String),
    /// There is none here, for that reason; a sentence with the cure.
    Missing(String),
}

/// The protocol version of this tree.
pub fn version() -> anyhow::Result<u32> {
    let text =
        std::fs::read_to_string(crate::root().join(DOCUMENT)).with_context(|| format!("cannot read {DOCUMENT}"))?;
    version_of(&text)
}

/// The last commit of the version before `version`.
pub fn previous(version: u32) -> anyhow::Result<Found> {
    if version < 2 {
        return Ok(Found::Missing(format!("protocol version {version} is the first: there is none before it")));
    }
    let Some(head) = git(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])? else {
        return Ok(Found::Missing("this tree has no git history: try it in a clone of the repository".into()));
    };
    let line = format!("-S{}", row(version));
    let log = git(&["log", &line, "--format=%H %P", "--", DOCUMENT])?.context("git log failed")?;
    let is_shallow = git(&["rev-parse", "--is-shallow-repository"])?.is_some_and(|said| said.trim() == "true");
    let found = before_oldest(&log, head.trim(), version, is_shallow);
    match found {
        Found::Commit(commit) if !is_there(&commit)? => Ok(Found::Missing(missing(version))),
        found => Ok(found),
    }
}

/// A commit by any of its names; an error says that there is none of that name.
pub fn named(name: &str) -> anyhow::Result<String> {
    let commit = git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])?;
    let commit =
        commit.with_context(|| format!("there is no commit `{name}` here: `git log` has those that there are"))?;
    Ok(commit.trim().to_owned())
}

/// A shallow clone knows the number of a commit that it does not have.
fn is_there(commit: &str) -> anyhow::Result<bool> {
    Ok(git(&["cat-file", "-e", &format!("{commit}^{{commit}}")])?.is_some())
}

/// What git prints; `None` if it fails, or if there is no git.
fn git(arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("git");
    let output = match command.args(arguments).current_dir(crate::root()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output.context("cannot start git")?,
    };
    let said = String::from_utf8(output.stdout).context("git does not print UTF-8")?;
    Ok(output.status.success().then_some(said))
}

/// The row of the text that says the version.
fn row(version: u32) -> String {
    format!("| `PROTOCOL_VERSION` | {version} |")
}

/// The version that a text of the layout says.
fn version_of(text: &str) -> anyhow::Result<u32> {
    let begin = "| `PROTOCOL_VERSION` | ";
    let mut said = text.lines().filter_map(|line| line.strip_prefix(begin)?.strip_suffix(" |"));
    let version = said.next().with_context(|| format!("{DOCUMENT} has no row `{begin}N |`"))?;
    ensure!(said.next().is_none(), "{DOCUMENT} says twice which version it is of");
    version.parse().with_context(|| format!("{DOCUMENT} has `{version}` for the protocol version, not a number"))
}

/// The parent of the oldest commit of a log, which has a line for each, `commit parent...`, the newest first. With no
/// commit at all the version is in the work tree only, so that the previous one is the newest commit.
fn before_oldest(log: &str, head: &str, version: u32, is_shallow: bool) -> Found {
    let Some(oldest) = log.lines().rfind(|line| !line.trim().is_empty()) else {
        return Found::Commit(head.to_owned());
    };
    match oldest.split_whitespace().nth(1) {
        Some(parent) => Found::Commit(parent.to_owned()),
        // At the border of a shallow clone, everything looks as if it came with the first commit.
        None if is_shallow => Found::Missing(missing(version)),
        None => Found::Missing(format!(
            "the history begins with protocol version {version}: it has no commit of version {}; --commit names one",
            version - 1
        )),
    }
}

fn missing(version: u32) -> String {
    let previous = version - 1;
    format!("this clone is shallow and lacks the last commit of protocol version {previous}: `git fetch --unshallow`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_its_row() {
        let text = "| constant | value |\n|---|---|\n| `PROTOCOL_VERSION` | 12 |\n| `PROTOCOL_VERSION_MIN` | 1 |\n";
        assert_eq!(version_of(text).unwrap(), 12);
        for wrong in ["", "| `PROTOCOL_VERSION` | two |\n", &text.repeat(2)] {
            version_of(wrong).unwrap_err();
        }
        assert!(version().unwrap() >= 1);
    }

    #[test]
    fn the_previous_version_is_the_parent_of_the_oldest_commit_that_has_this_one() {
        let found = |log| before_oldest(log, "head", 2, false);
        assert_eq!(found("cc bb\naa 99\n"), Found::Commit("99".into()));
        assert_eq!(found("aa 99 77\n"), Found::Commit("99".into()), "of a merge it is the first parent");
        assert_eq!(found("\n"), Found::Commit("head".into()), "the version is not committed yet");
    }

    #[test]
    fn a_history_that_lacks_it_is_told_with_the_cure() {
        let said = |is_shallow| match before_oldest("aa\n", "aa", 2, is_shallow) {
            Found::Missing(said) => said,
            Found::Commit(commit) => panic!("there is no commit {commit}"),
        };
        assert!(said(true).contains("`git fetch --unshallow`") && said(true).contains("version 1"), "{}", said(true));
        assert!(said(false).contains("--commit") && !said(false).contains("shallow"), "{}", said(false));
        assert!(matches!(previous(1).unwrap(), Found::Missing(said) if said.contains("is the first")));
    }
}
