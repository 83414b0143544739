//! Where a user's names are: one place for a user, whoever is logged in.
//!
//! | directory | when |
//! |---|---|
//! | `$WIGWAG_DIRECTORY` | the variable is set: for services that state their place |
//! | `$XDG_RUNTIME_DIR/wigwag` | the variable leads to a place of its own, which is not below `/run/user` |
//! | `/tmp/wigwag-UID` | otherwise |
//!
//! `/run/user/UID` comes with a user's first log-in and goes with the last log-out, so programs that began before, in
//! between and after, or were started by cron or as a service, would not find each other there. It is the place only
//! where `/tmp/wigwag-UID` cannot be had, because somebody else has it or `/tmp` cannot be written to; and then, as it
//! may have been otherwise before, a search for a name looks in both.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::sys::directory::{self, Directory};

/// By which rule the runtime directory was found.
///
/// ```
/// # use wigwag::runtime::Rule;
/// fn is_stated(rule: Rule) -> bool {
///     matches!(rule, Rule::Named | Rule::Stated)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// `WIGWAG_DIRECTORY` names it.
    Named,
    /// `XDG_RUNTIME_DIR` is an absolute path that is not below `/run/user`: the directory is in it.
    Stated,
    /// `/tmp/wigwag-UID`: the same for all programs of the user.
    Temporary,
    /// `/run/user/UID/wigwag`, because `/tmp/wigwag-UID` cannot be had.
    OfTheUser,
    /// Under `TMPDIR`, because neither of these can be had.
    Elsewhere,
}

/// The directory of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryChoice {
    /// Where it is, or will be.
    pub path: PathBuf,
    /// Why there.
    pub rule: Rule,
    /// Where else a name of this user may live: clients that connect and servers that take a name look there, too.
    pub others: Vec<PathBuf>,
}

const VARIABLE: &str = "WIGWAG_DIRECTORY";

impl DirectoryChoice {
    /// Finds it by the environment and the user of this process. Nothing is made.
    pub fn find() -> DirectoryChoice {
        if let Some(path) = named() {
            return DirectoryChoice { path, rule: Rule::Named, others: Vec::new() };
        }
        if let Some(base) = stated() {
            return DirectoryChoice { path: base.join("wigwag"), rule: Rule::Stated, others: Vec::new() };
        }
        let uid = rustix::process::geteuid().as_raw();
        let candidates = candidates(uid);
        let chosen = candidates.iter().position(|(path, _)| directory::is_to_be_had(path, uid)).unwrap_or(0);
        let (path, rule) = candidates[chosen].clone();
        let others = candidates.into_iter().map(|(path, _)| path).filter(|other| *other != path);
        let others = others.filter(|other| other.exists() && directory::is_to_be_had(other, uid)).collect();
        DirectoryChoice { path, rule, others }
    }

    /// All other places in which programs of this user with another environment have their names.
    pub fn elsewhere(&self) -> Vec<PathBuf> {
        let places = candidates(rustix::process::geteuid().as_raw()).into_iter().map(|(path, _)| path);
        places.chain(stated().map(|base| base.join("wigwag"))).filter(|other| *other != self.path).collect()
    }

    /// Opens it. `create`: makes it, if it is not there; otherwise it may be missing (`NotRunning`).
    pub fn open(&self, own_uid: u32, owners: &[u32], create: bool) -> Result<Directory> {
        self.check(owners, create)?;
        match create {
            true => Directory::open_or_create(&self.path, own_uid),
            false => Directory::open(&self.path, owners),
        }
    }

    /// Checks what it lies in: where that is private, it must be so indeed, or ours could be swapped for another's.
    /// `create`: it must be there.
    pub fn check(&self, owners: &[u32], create: bool) -> Result<()> {
        if !self.path.is_absolute() {
            return Err(Error::new(
                ErrorKind::DirectoryUnsafe,
                format!("{VARIABLE} is {}, which is no absolute path: set it to one, or unset it", shown(&self.path)),
            ));
        }
        let Some(parent) = self.path.parent().filter(|_| matches!(self.rule, Rule::Stated | Rule::OfTheUser)) else {
            return Ok(());
        };
        match Directory::open(parent, owners) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotRunning && create => Err(Error::new(
                ErrorKind::DirectoryUnsafe,
                format!("the runtime directory {} does not exist: create it, or unset XDG_RUNTIME_DIR", shown(parent)),
            )),
            Err(error) => Err(error),
        }
    }
}

/// Where a user's names can be, if the environment says nothing; the best first.
fn candidates(uid: u32) -> Vec<(PathBuf, Rule)> {
    let mut candidates = vec![
        (PathBuf::from(format!("/tmp/wigwag-{uid}")), Rule::Temporary),
        (PathBuf::from(format!("/run/user/{uid}/wigwag")), Rule::OfTheUser),
    ];
    let elsewhere = std::env::temp_dir().join(format!("wigwag-{uid}"));
    if elsewhere.is_absolute() && elsewhere != candidates[0].0 {
        candidates.push((elsewhere, Rule::Elsewhere));
    }
    candidates
}

fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A directory that the user chose. What log-ins set is none, be it this user's or, after `su` or `sudo`, another's.
fn stated() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_absolute())?;
    (base.parent() != Some(Path::new("/run/user"))).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The environment decides, and it cannot be changed within a test: this one starts itself again.
    #[test]
    fn names_are_in_one_place_for_a_user_unless_another_is_stated() {
        const EXPECTED: &str = "WIGWAG_TEST_EXPECTED_DIRECTORY";
        if let Some(expected) = std::env::var_os(EXPECTED) {
            let choice = DirectoryChoice::find();
            assert_eq!(choice.path, PathBuf::from(expected));
            assert!(!choice.elsewhere().contains(&choice.path));
            return;
        }
        let uid = rustix::process::geteuid().as_raw();
        let own = PathBuf::from(format!("/tmp/wigwag-{uid}"));
        if !directory::is_to_be_had(&own, uid) {
            return; // a machine without a temporary directory of everybody's
        }
        let name = "session::runtime_directory::tests::names_are_in_one_place_for_a_user_unless_another_is_stated";
        let (of_the_user, of_another) = (format!("/run/user/{uid}"), format!("/run/user/{}/", uid + 1));
        for (named, stated, expected) in [
            (Some("/named"), Some("/stated"), "/named".into()),
            (None, Some("/stated"), "/stated/wigwag".into()),
            (None, Some("relative"), own.clone()),
            (None, Some(""), own.clone()),
            (Some(""), None, own.clone()),
            (None, Some(of_the_user.as_str()), own.clone()),
            (None, Some(of_another.as_str()), own.clone()),
            (None, None, own),
        ] {
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", name]).env(EXPECTED, &expected).env("TMPDIR", "/temporary");
            again.env_remove("XDG_RUNTIME_DIR").envs(stated.map(|base| ("XDG_RUNTIME_DIR", base)));
            again.env_remove(VARIABLE).envs(named.map(|path| (VARIABLE, path)));
            let output = {
                let _guard = wigwag_testing::process_starts();
                again.output().unwrap()
            };
            assert!(output.status.success(), "{named:?} {stated:?}: {}", String::from_utf8_lossy(&output.stdout));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        }
    }

    #[test]
    fn a_place_that_is_named_by_half_is_an_error_and_one_that_is_not_there_is_not_made() {
        let choice = |path: &str, rule| DirectoryChoice { path: path.into(), rule, others: Vec::new() };
        let error = choice("here", Rule::Named).open(0, &[0], true).unwrap_err();
        assert!(error.to_string().contains("WIGWAG_DIRECTORY is here, which is no absolute path"), "{error}");
        let gone = choice("/run/user/4294967294/wigwag", Rule::OfTheUser);
        let error = gone.open(0, &[0], true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DirectoryUnsafe, "{error}");
        assert!(error.to_string().contains("the runtime directory /run/user/4294967294 does not exist"), "{error}");
        assert_eq!(gone.open(0, &[0], false).unwrap_err().kind(), ErrorKind::NotRunning);
    }
}
