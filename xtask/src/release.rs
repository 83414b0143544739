//! What can be checked before a release, and what is left to do by hand.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};

use crate::ci;
use crate::step::{self, Step};

/// What is published, in the order in which crates.io can take it: the program needs the parts of its bench.
const PUBLISHED: [(&str, &str); 3] =
    [("wigwag", "crates/wigwag"), ("wigwag-bench", "bench/harness"), ("wigwag-cli", "crates/wigwag-cli")];

const STEPS: [Step; 8] = [
    Step::new("version", "the changelog and the manifests agree", version),
    Step::new("work tree", "everything is committed", work_tree),
    Step::new("files", "what is published has what it needs", files),
    Step::new("dependencies", "their licences, their sources, what is known against them", deny),
    Step::new("oldest", "the oldest dependencies that the manifests allow", oldest),
    Step::new("interface", "the version says what was broken since the last one", interface),
    Step::new("packages", "what is published compiles by itself", packages),
    Step::new("documentation", "every link of it leads somewhere", ci::documentation),
];

/// The command `cargo xtask release`.
pub fn run() -> anyhow::Result<ExitCode> {
    let version = version_of(&read("Cargo.toml")?)?;
    let done = step::run(&STEPS.iter().collect::<Vec<_>>());
    println!("\nLeft to do for {version}, when all of this passes:");
    println!("  .ci/run");
    println!("  cargo xtask prove --full --markdown docs/reliability.md");
    println!("  cargo run --release -- bench --goal all      three times, on a machine that does nothing else");
    println!("  git tag v{version}");
    for (package, _) in PUBLISHED {
        println!("  cargo publish --locked -p {package}");
    }
    Ok(done)
}

fn read(file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(crate::root().join(file)).with_context(|| format!("cannot read {file}"))
}

/// The version of the workspace.
fn version_of(manifest: &str) -> anyhow::Result<String> {
    let below = manifest.split("[workspace.package]").nth(1).unwrap_or_default();
    let version = below.lines().find_map(|line| line.strip_prefix("version = "));
    Ok(version.context("Cargo.toml has no version below [workspace.package]")?.trim_matches('"').to_owned())
}

/// What is wrong with a changelog for the release of that version.
fn check_changelog(changelog: &str, version: &str) -> anyhow::Result<()> {
    let heading =
        changelog.lines().find_map(|line| line.strip_prefix("## [")).context("CHANGELOG.md has no version")?;
    let (newest, date) =
        heading.split_once("] - ").context("CHANGELOG.md: a version has a date: `## [1.2.3] - DATE`")?;
    ensure!(newest == version, "CHANGELOG.md begins with {newest}, but Cargo.toml has {version}");
    let is_date = date.len() == 10 && date.chars().all(|character| character.is_ascii_digit() || character == '-');
    ensure!(is_date, "CHANGELOG.md: {version} has no date yet: `{date}`");
    Ok(())
}

/// That the crates of the workspace ask for one another in that version.
fn check_dependencies(manifest: &str, version: &str) -> anyhow::Result<()> {
    for (package, path) in PUBLISHED {
        let Some(line) = manifest.lines().find(|line| line.starts_with(&format!("{package} = "))) else { continue };
        let right = format!("{package} = {{ path = \"{path}\", version = \"{version}\" }}");
        ensure!(line == right, "Cargo.toml has `{line}`, and should have `{right}`");
    }
    Ok(())
}

fn version() -> anyhow::Result<Vec<Command>> {
    let manifest = read("Cargo.toml")?;
    let version = version_of(&manifest)?;
    check_dependencies(&manifest, &version)?;
    check_changelog(&read("CHANGELOG.md")?, &version)?;
    // The lock file has the versions of the workspace, too.
    let mut command = crate::cargo();
    command
        .args(["metadata", "--locked", "--quiet", "--no-deps", "--format-version=1"])
        .stdout(std::process::Stdio::null());
    Ok(vec![command])
}

fn work_tree() -> anyhow::Result<Vec<Command>> {
    let mut command = Command::new("git");
    let output =
        command.args(["status", "--porcelain"]).current_dir(crate::root()).output().context("cannot start git")?;
    let changed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && changed.is_empty(), "these files are not committed:\n{}", changed.trim_end());
    Ok(Vec::new())
}

fn files() -> anyhow::Result<Vec<Command>> {
    for (package, directory) in PUBLISHED {
        let mut command = crate::cargo();
        command.args(["package", "--list", "--allow-dirty", "--quiet", "--package", package]);
        let output = command.current_dir(crate::root()).output().context("cannot start cargo")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        for needed in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            ensure!(listed.lines().any(|file| file == needed), "{package} would be published without {needed}");
            let here = crate::root().join(directory).join(needed);
            ensure!(needed == "README.md" || is_same(&here, needed)?, "{} is not that of the root", here.display());
        }
        // Without it the README's links lead nowhere on crates.io.
        let manifest = read(&format!("{directory}/Cargo.toml"))?;
        ensure!(
            manifest.lines().any(|line| line.starts_with("repository")),
            "{directory}/Cargo.toml does not say where the repository is: `repository.workspace = true`"
        );
        println!("{package}: {} files", listed.lines().count());
    }
    Ok(Vec::new())
}

fn is_same(file: &Path, in_root: &str) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text == read(in_root)?)
}

/// Needs the internet, for what is known against them.
fn deny() -> anyhow::Result<Vec<Command>> {
    let mut command = crate::cargo();
    command.args(["deny", "check"]);
    Ok(vec![command])
}

/// What is published, in a copy of the workspace that has nothing else: so the lock file stays as it is, and only the
/// bounds count that users have.
fn oldest() -> anyhow::Result<Vec<Command>> {
    let copy = crate::root().join("target/oldest");
    let _ = fs::remove_dir_all(&copy); // what is not there need not go
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--"]).args(TO_COPY).current_dir(crate::root());
    let output = list.output().context("cannot start git")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    for file in String::from_utf8_lossy(&output.stdout).split_terminator('\0') {
        let there = copy.join(file);
        fs::create_dir_all(there.parent().unwrap_or(&copy)).with_context(|| format!("no directory for {file}"))?;
        fs::copy(crate::root().join(file), there).with_context(|| format!("cannot copy {file}"))?;
    }
    fs::write(copy.join("Cargo.toml"), with_members(&read("Cargo.toml")?, &TO_COPY)?).context("cannot write")?;

    let manifest = copy.join("Cargo.toml");
    let cargo = |words: &[&str]| {
        let mut command = crate::cargo();
        command.args(words).arg("--manifest-path").arg(&manifest);
        command.env("CARGO_TARGET_DIR", crate::root().join("target/oldest-build"));
        command
    };
    let mut update = cargo(&["update", "-Z", "direct-minimal-versions"]);
    update.env("RUSTC_BOOTSTRAP", "1"); // the option is not stable
    Ok(vec![update, cargo(&["check", "-p", "wigwag", "--all-features"]), cargo(&["check", "-p", "wigwag-cli"])])
}

/// What `oldest` needs: the published crates and what their tests are made with.
const TO_COPY: [&str; 4] = ["crates/wigwag", "crates/wigwag-cli", "bench/harness", "verify/support"];

/// A manifest of the workspace with other members.
fn with_members(manifest: &str, members: &[&str]) -> anyhow::Result<String> {
    let (head, rest) = manifest.split_once("\nmembers = [").context("Cargo.toml has no members")?;
    let (_, tail) = rest.split_once(']').context("the members of Cargo.toml have no end")?;
    Ok(format!("{head}\nmembers = {members:?}{tail}"))
}

/// Against the last version that was released. The program has no interface of this kind, the bench promises none.
fn interface() -> anyhow::Result<Vec<Command>> {
    let mut describe = Command::new("git");
    describe.args(["describe", "--tags", "--abbrev=0", "--match=v*"]).current_dir(crate::root());
    let output = describe.output().context("cannot start git")?;
    if !output.status.success() {
        println!("no version was released yet: there is nothing to compare with");
        return Ok(Vec::new());
    }
    let mut command = crate::cargo();
    command.args(["semver-checks", "--package", "wigwag", "--baseline-rev"]);
    command.arg(String::from_utf8_lossy(&output.stdout).trim());
    Ok(vec![command])
}

fn packages() -> anyhow::Result<Vec<Command>> {
    let mut command = crate::cargo();
    command.args(["package", "--locked", "--allow-dirty"]);
    command.args(PUBLISHED.iter().flat_map(|(package, _)| ["--package", package]));
    Ok(vec![command])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_must_have_the_version_and_its_date() {
        let check = |heading: &str| {
            check_changelog(&format!("# Changelog\n\n## {heading}\n\n## [0.0.9] - 2020-01-01\n"), "0.1.0")
        };
        check("[0.1.0] - 2026-01-31").unwrap();
        for wrong in ["[0.1.0] - unreleased", "[0.1.1] - 2026-01-31", "[0.1.0]"] {
            check(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_copy_of_the_workspace_has_its_members_and_all_else() {
        let manifest = "[workspace]\nresolver = \"3\"\nmembers = [\n    \"a\",\n    \"b\",\n]\nexclude = [\"c\"]\n";
        let expected = "[workspace]\nresolver = \"3\"\nmembers = [\"d\"]\nexclude = [\"c\"]\n";
        assert_eq!(with_members(manifest, &["d"]).unwrap(), expected);
        with_members("[workspace]\n", &["d"]).unwrap_err();
    }

    #[test]
    fn dependencies_within_the_workspace_have_its_version() {
        let manifest = read("Cargo.toml").unwrap();
        let version = version_of(&manifest).unwrap();
        check_dependencies(&manifest, &version).unwrap();
        let other =
            manifest.replace(&format!("bench/harness\", version = \"{version}"), "bench/harness\", version = \"0.0.1");
        assert_ne!(manifest, other);
        check_dependencies(&other, &version).unwrap_err();
    }
}
