//! The programs of a version: built from this tree, or from a commit into a place where they are kept.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// The programs of one version.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `wigwag`.
    pub wigwag: PathBuf,
    /// The example `queue`, whose part `work` says which messages are marked as handed out before: `wigwag queue recv`
    /// does not.
    pub queue: PathBuf,
}

impl Programs {
    /// Those of this tree.
    pub fn of_this_tree() -> anyhow::Result<Programs> {
        eprintln!("building the programs of this tree");
        built(&crate::root(), None).context("the programs of this tree cannot be built")
    }

    /// Those of a commit. They are built once, and then kept below the target directory.
    pub fn of_commit(commit: &str) -> anyhow::Result<Programs> {
        let place = crate::target().join("previous").join(commit);
        let kept = Programs { wigwag: place.join("wigwag"), queue: place.join("queue") };
        if kept.wigwag.exists() && kept.queue.exists() {
            return Ok(kept);
        }
        eprintln!("building the programs of {commit}, once: some minutes");
        let work = place.join("build");
        unpack(commit, &work.join("source"))?;
        // Where this tree is built, too: most of what both depend on is the same.
        let built = built(&work.join("source"), Some(&crate::target()));
        let built = built.with_context(|| format!("the programs of {commit} cannot be built"))?;
        keep(&built.queue, &kept.queue)?;
        keep(&built.wigwag, &kept.wigwag)?;
        // Nothing of it is needed again.
        std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        Ok(kept)
    }
}

/// Copies a program under another name first: what has its own name is whole.
fn keep(from: &Path, to: &Path) -> anyhow::Result<()> {
    let partial = to.with_extension("partial");
    let copied = std::fs::copy(from, &partial).and_then(|_| std::fs::rename(&partial, to));
    copied.with_context(|| format!("cannot write {}", to.display()))
}

/// The files of a commit. What an earlier attempt left there is overwritten: so cargo builds only what it had not.
fn unpack(commit: &str, directory: &Path) -> anyhow::Result<()> {
    let describe = || format!("the files of {commit} cannot be unpacked into {}", directory.display());
    std::fs::create_dir_all(directory).with_context(describe)?;
    let mut git = Command::new("git");
    git.args(["archive", "--format=tar", commit]).current_dir(crate::root()).stdout(Stdio::piped());
    let mut archive = git.spawn().context("cannot start git")?;
    let mut tar = Command::new("tar");
    tar.arg("-x").arg("-C").arg(directory).stdin(archive.stdout.take().map_or_else(Stdio::null, Stdio::from));
    let unpacked = tar.status();
    let archived = archive.wait().context("cannot wait for git")?;
    let unpacked = unpacked.context("cannot start tar")?;
    ensure!(archived.success() && unpacked.success(), "{}: git archive: {archived}, tar: {unpacked}", describe());
    Ok(())
}

/// Builds the programs of the workspace in `source`. Each has a build of its own, as users have it: in one build the
/// library would have the features for both. They are not optimized, and their assertions are on: what is asked is
/// whether they understand each other, and an optimized build of both takes longer than all jobs.
fn built(source: &Path, target: Option<&Path>) -> anyhow::Result<Programs> {
    let build = |package, kind, name| {
        let mut command = crate::cargo();
        command.args(["build", "--locked", "--package", package, &format!("--{kind}"), name]);
        if let Some(target) = target {
            command.arg("--target-dir").arg(target);
        }
        command.current_dir(source);
        let said = messages(command)?;
        executable(&said, kind, name).with_context(|| format!("cargo does not say where `{name}` is"))
    };
    Ok(Programs { wigwag: build("wigwag-cli", "bin", "wigwag")?, queue: build("wigwag", "example", "queue")? })
}

/// What cargo tells of a build, one message of JSON a line.
fn messages(mut command: Command) -> anyhow::Result<String> {
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let said = child.stdout.take().map_or_else(|| Ok(String::new()), io::read_to_string);
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    said.context("cannot read what cargo prints")
}

/// Where a program is: cargo says it, because a setting may have put it anywhere.
fn executable(said: &str, kind: &str, name: &str) -> Option<PathBuf> {
    said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|message| {
        let target = &message["target"];
        let is_it = target["name"] == name && target["kind"][0] == kind;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_the_programs_are() {
        let said = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"wigwag"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["example"],"name":"queue"},"executable":"examples/queue"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"wigwag"},"executable":"release/wigwag"}
no JSON
"#;
        assert_eq!(executable(said, "bin", "wigwag"), Some("release/wigwag".into()));
        assert_eq!(executable(said, "example", "queue"), Some("examples/queue".into()));
        assert_eq!(executable(said, "bin", "queue"), None);
    }
}
