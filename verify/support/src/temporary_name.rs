//! A name in a directory of its own, for examples that are run with the tests.

use std::path::PathBuf;

use tempfile::TempDir;

/// A name that nobody else has. Its directory, which only this user may enter, goes when this is dropped.
#[derive(Debug)]
pub struct TemporaryName {
    /// The name, as a path.
    pub path: PathBuf,
    _directory: TempDir,
}

/// A [`TemporaryName`] that ends with `name`.
///
/// # Panics
/// If there is no room for a temporary directory.
pub fn temporary_name(name: &str) -> TemporaryName {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let directory = tempfile::Builder::new().permissions(mode).tempdir().expect("a directory for an example");
    TemporaryName { path: directory.path().join(name), _directory: directory }
}
