//! A directory of a test's own.

use std::path::PathBuf;

use tempfile::TempDir;

/// A directory that only this user can write to, with everything in it, for one test.
pub struct Ground(TempDir);

impl Default for Ground {
    fn default() -> Ground {
        Ground::new()
    }
}

impl Ground {
    /// Makes it.
    pub fn new() -> Ground {
        let directory = tempfile::Builder::new().prefix("wigwag-test-").tempdir().unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(directory.path(), private).unwrap();
        Ground(directory)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of the socket that the test's server has.
    pub fn socket(&self) -> PathBuf {
        self.path("server")
    }
}
