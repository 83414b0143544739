//! A directory of a test's own.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

/// A directory that only this user can write to, with everything in it, for one test.
pub struct Ground(TempDir);

impl Default for Ground {
    fn default() -> Ground {
        Ground::new()
    }
}

impl Ground {
    /// Makes it. The test has as many descriptors as it may have: how many are usual differs from machine to machine
    /// and from user to user.
    pub fn new() -> Ground {
        raise_descriptor_limit();
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

/// As many descriptors as any test needs.
const DESCRIPTORS: u64 = 16_384;

/// Raises the limit that is in force as far as this user may, and as far as a test needs.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < most) {
        // What is refused leaves the limit as it is, which is enough for most tests.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    }
}
