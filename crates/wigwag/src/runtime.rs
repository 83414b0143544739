//! Where names live and what stands there, and what this kernel lets the library do: for programs that look after
//! others.
//!
//! ```
//! # let base = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir()
//! #     .unwrap();
//! # unsafe { std::env::set_var("XDG_RUNTIME_DIR", base.path()) }; // nothing else runs in this process
//! use wigwag::runtime::{self, RuntimeDirectory};
//! let _semaphore = wigwag::Semaphore::open("build", 1)?;
//! for entry in RuntimeDirectory::find().entries()? {
//!     println!("{} is {:?}", entry.name().display(), entry.state());
//! }
//! for feature in runtime::features().iter().filter(|feature| feature.missing.is_some()) {
//!     println!("without {}: {}", feature.name, feature.without);
//! }
//! # assert_eq!(RuntimeDirectory::find().entries()?.len(), 1);
//! # Ok::<(), wigwag::Error>(())
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub use crate::escape::{escaped, shell_word};
pub use crate::session::cleanup::{Kind, State};
pub use crate::session::runtime_directory::Rule;

use crate::error::{Error, Result};
use crate::session::runtime_directory::DirectoryChoice;
use crate::session::{cleanup, name};
use crate::sys::{kept_memory, kernel};

/// From now on, forked children of this process keep a private copy of the memory of sessions, at the same addresses:
/// for languages whose references outlive a fork. Handles still give [`Forked`](crate::ErrorKind::Forked) in a child.
///
/// Without it the memory is not there in a child, and whoever touched it would end by SIGSEGV; Rust's borrows see to it
/// that nobody does. It holds for sessions that begin after the call, and costs each of them a descriptor.
///
/// # Errors
/// [`Io`](crate::ErrorKind::Io) if the system registers no handler.
///
/// ```
/// wigwag::runtime::keep_memory_in_children()?;
/// # Ok::<(), wigwag::Error>(())
/// ```
pub fn keep_memory_in_children() -> Result<()> {
    kept_memory::keep_in_children()
}

/// The directory in which this process's names are sockets and files.
///
/// ```
/// let directory = wigwag::runtime::RuntimeDirectory::find();
/// println!("{} ({:?})", directory.path().display(), directory.rule());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeDirectory {
    choice: DirectoryChoice,
}

impl RuntimeDirectory {
    /// Finds it, by the environment of this process. Nothing is made.
    ///
    /// ```
    /// assert!(wigwag::runtime::RuntimeDirectory::find().path().is_absolute());
    /// ```
    pub fn find() -> RuntimeDirectory {
        RuntimeDirectory { choice: DirectoryChoice::find() }
    }

    /// Where it is, or will be.
    ///
    /// ```
    /// # use wigwag::runtime::RuntimeDirectory;
    /// let directory = RuntimeDirectory::find();
    /// assert!(directory.path().to_string_lossy().contains("wigwag"));
    /// ```
    pub fn path(&self) -> &Path {
        &self.choice.path
    }

    /// Where programs of this user with another environment have their names: not in this directory.
    ///
    /// ```
    /// # use wigwag::runtime::RuntimeDirectory;
    /// let directory = RuntimeDirectory::find();
    /// assert!(!directory.elsewhere().iter().any(|other| other == directory.path()));
    /// ```
    pub fn elsewhere(&self) -> Vec<PathBuf> {
        self.choice.elsewhere()
    }

    /// By which rule it was found.
    ///
    /// ```
    /// # use wigwag::runtime::{Rule, RuntimeDirectory};
    /// if RuntimeDirectory::find().rule() == Rule::Elsewhere {
    ///     println!("programs with another TMPDIR do not find each other");
    /// }
    /// ```
    pub fn rule(&self) -> Rule {
        self.choice.rule
    }

    /// Checks it as a server does that takes a name in it: no symbolic link, of this user, writable by its owner only,
    /// and so the directory around it where that is a runtime directory. `false`: it is not there, and the first server
    /// makes it.
    ///
    /// # Errors
    /// Why no name can be taken there (`DirectoryUnsafe`, `Io`), with the cure.
    ///
    /// ```
    /// match wigwag::runtime::RuntimeDirectory::find().check() {
    ///     Ok(is_there) => println!("fine, and there: {is_there}"),
    ///     Err(error) => println!("no server can have a name: {error}"),
    /// }
    /// ```
    pub fn check(&self) -> Result<bool> {
        Ok(name::open_runtime_directory(&self.choice)?.is_some())
    }

    /// The names in it, sorted, services before semaphores. The call makes, changes and removes nothing, and neither
    /// waits for nor disturbs anybody: a name's lock is looked at, which a server that is stopped holds as well.
    ///
    /// # Errors
    /// As [`check`](RuntimeDirectory::check). A directory that is not there has no names.
    ///
    /// ```
    /// # use wigwag::runtime::{RuntimeDirectory, State};
    /// # let directory = RuntimeDirectory::find();
    /// let entries = directory.entries().unwrap_or_default();
    /// let dead = entries.iter().filter(|entry| entry.state() == State::Dead).count();
    /// println!("{dead} of {} are dead", entries.len());
    /// ```
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let Some(directory) = name::open_runtime_directory(&self.choice)? else { return Ok(Vec::new()) };
        Ok(cleanup::look(&directory).into_iter().map(Entry).collect())
    }

    /// Removes a name that is dead, if under its lock it still is. Whether it did: what lives, what owes and what is
    /// not ours is never removed. No program need do so, since each server that takes a name does.
    ///
    /// # Errors
    /// As [`check`](RuntimeDirectory::check).
    ///
    /// ```
    /// # let base = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
    /// #     .tempdir().unwrap();
    /// # unsafe { std::env::set_var("XDG_RUNTIME_DIR", base.path()) }; // nothing else runs in this process
    /// # use wigwag::runtime::RuntimeDirectory;
    /// let server = wigwag::Server::bind("alive")?;
    /// let directory = RuntimeDirectory::find();
    /// for entry in directory.entries()? {
    ///     assert!(!directory.remove_dead(&entry)?, "it lives");
    /// }
    /// # Ok::<(), wigwag::Error>(())
    /// ```
    pub fn remove_dead(&self, entry: &Entry) -> Result<bool> {
        let directory = name::open_runtime_directory(&self.choice)?;
        Ok(directory.is_some_and(|directory| cleanup::remove(&directory, &entry.0)))
    }
}

/// A name in a [`RuntimeDirectory`].
///
/// ```
/// # use wigwag::runtime::RuntimeDirectory;
/// for entry in RuntimeDirectory::find().entries().unwrap_or_default() {
///     println!("{:?} {} {:?}", entry.kind(), entry.name().display(), entry.state());
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(cleanup::FoundName);

impl Entry {
    /// The name, as `connect` and `open` take it.
    ///
    /// ```
    /// # use wigwag::runtime::Entry;
    /// fn is_ours(entry: &Entry) -> bool {
    ///     entry.name() == "camera"
    /// }
    /// ```
    pub fn name(&self) -> &OsStr {
        &self.0.name
    }

    /// What has the name.
    ///
    /// ```
    /// # use wigwag::runtime::{Entry, Kind};
    /// fn is_semaphore(entry: &Entry) -> bool {
    ///     entry.kind() == Kind::Semaphore
    /// }
    /// ```
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The state of its maker.
    ///
    /// ```
    /// # use wigwag::runtime::{Entry, State};
    /// fn can_be_connected_to(entry: &Entry) -> bool {
    ///     matches!(entry.state(), State::Alive | State::Unguarded)
    /// }
    /// ```
    pub fn state(&self) -> State {
        self.0.state
    }
}

/// Something that the library asks of the kernel, whether it is to be had in this process, and what happens without it.
///
/// ```
/// use wigwag::runtime::{Feature, features};
/// fn stops_everything(feature: &Feature) -> bool {
///     feature.is_needed && feature.missing.is_some()
/// }
/// assert!(!features().iter().any(stops_everything));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Feature {
    /// What the kernel's manual calls it.
    pub name: &'static str,
    /// The version of Linux that has it first.
    pub since: &'static str,
    /// What it is for here.
    pub purpose: &'static str,
    /// What happens without it.
    pub without: &'static str,
    /// Whether nothing works without it.
    pub is_needed: bool,
    /// Why it is not to be had, in the kernel's words; `None` if it is.
    pub missing: Option<Error>,
}

/// Tries each feature of the kernel that the library uses: an old kernel, but also a sandbox (seccomp) may lack some.
/// It takes well below a millisecond.
///
/// ```
/// let features = wigwag::runtime::features();
/// assert!(features.iter().any(|feature| feature.name.contains("memfd_create")));
/// ```
pub fn features() -> Vec<Feature> {
    let tried = FEATURES.iter().map(|&(name, since, is_needed, purpose, without, attempt)| Feature {
        name,
        since,
        purpose,
        without,
        is_needed,
        missing: attempt().err(),
    });
    tried.collect()
}

type Row = (&'static str, &'static str, bool, &'static str, &'static str, fn() -> Result<()>);

/// Name, since, whether it is needed, what for, what happens without it, and the attempt.
const FEATURES: &[Row] = &[
    (
        "memfd_create, F_SEAL_SHRINK, F_SEAL_GROW",
        "3.17",
        true,
        "memory that goes with its last owner and whose size nobody can change",
        "no session can be made",
        kernel::sealed_memory,
    ),
    (
        "MADV_DONTFORK",
        "2.6.16",
        true,
        "shared memory that children do not inherit",
        "no memory can be mapped",
        kernel::private_mapping,
    ),
    (
        "SOCK_SEQPACKET, SO_PEERCRED",
        "2.6.4",
        true,
        "the handshake, and who is at the other end",
        "no session can be made",
        kernel::sockets,
    ),
    ("eventfd, epoll", "2.6.27", true, "waking a sleeper", "no session can be made", kernel::doorbells),
    (
        "F_OFD_SETLK",
        "3.15",
        true,
        "telling whether who has a name, or holds a permit, is dead",
        "no server can take a name, and no semaphore can be opened",
        kernel::file_locks,
    ),
    (
        "SO_PEERPIDFD",
        "6.5",
        false,
        "watching the peer's process without its number",
        "the peer is watched by its number, which is checked against reuse",
        kernel::peer_pidfd,
    ),
    (
        "pidfd_open",
        "5.3",
        false,
        "watching the peer's process where SO_PEERPIDFD is missing",
        "where that is missing too, the death of a peer is not noticed while a child that it forked keeps the socket \
         open",
        kernel::pidfd,
    ),
    (
        "MADV_WIPEONFORK",
        "4.14",
        false,
        "an error in a child that uses its parent's handle",
        "such a child ends with SIGSEGV instead",
        kernel::notice_of_forks,
    ),
    (
        "F_SEAL_FUTURE_WRITE",
        "5.1",
        false,
        "forbidding new writable mappings and holes once both sides have mapped",
        "a peer can punch holes into the memory that it shares; the size stays sealed, so nobody gets SIGBUS",
        kernel::future_write_seal,
    ),
    (
        "MFD_NOEXEC_SEAL",
        "6.3",
        false,
        "memory that can never be executed",
        "a peer could make its own mapping of the memory executable",
        kernel::noexec_seal,
    ),
    (
        "SO_PASSRIGHTS",
        "6.16",
        false,
        "refusing descriptors that a client sends",
        "such descriptors are received and closed at once",
        kernel::refusal_of_descriptors,
    ),
    (
        "MADV_POPULATE_WRITE",
        "5.14",
        false,
        "reserving a session's first pages in one call",
        "they are touched one by one, which makes a connect slower",
        kernel::populate,
    ),
    (
        "/proc/self/fd",
        "2.2",
        false,
        "binding and connecting in the very directory that was checked, however long its path is",
        "the path is used: it must fit into 107 bytes, and could be swapped after the check",
        kernel::paths_by_descriptor,
    ),
];

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_the_tests_need() {
        for feature in features() {
            let missing = feature.missing.as_ref().map(ToString::to_string);
            assert!(!feature.is_needed || missing.is_none(), "{}: {missing:?}", feature.name);
        }
    }
}
