//! What processes leave in places that outlive them: files, shared memory, queues.
//!
//! Everything that a phase makes has the phase's own directory in its path or that directory's name in its own; its
//! temporary directory is there as well. What else appears in the shared places meanwhile is counted too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where things are left that have no directory of their own.
const SHARED: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// Files by which the two sides of a phase find each other: the comparison's, not the contender's.
const RENDEZVOUS: [&str; 3] = ["tcp.port", "name", "names"];

/// What there is, with its size in bytes.
pub type Listing = BTreeMap<PathBuf, u64>;

/// Everything in a phase's directory, and the names in the shared places.
pub fn list(directory: &Path) -> Listing {
    let mut found = Listing::new();
    walk(directory, &mut found);
    let root = directory.parent().unwrap_or(directory);
    for shared in SHARED.map(Path::new) {
        for entry in std::fs::read_dir(shared).into_iter().flatten().flatten() {
            let path = entry.path();
            let others = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wigwag-"))
                && !path.to_string_lossy().contains(&*token(directory));
            if path != root && !others {
                found.insert(path, entry.metadata().map_or(0, |metadata| size(&metadata)));
            }
        }
    }
    found
}

/// What is there now and was not before, or has grown: how many things, and how many bytes.
pub fn new_since(before: &Listing, after: &Listing) -> (usize, u64) {
    let new = after.iter().filter(|(path, _)| !before.contains_key(*path));
    new.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size))
}

/// Removes what the phases of a run have left in the shared places; the run's directory is its owner's.
pub fn remove(root: &Path) {
    let token = token(root);
    for shared in SHARED.map(Path::new) {
        for entry in std::fs::read_dir(shared).into_iter().flatten().flatten() {
            let path = entry.path();
            if path != root && !token.is_empty() && entry.file_name().to_string_lossy().contains(&*token) {
                // What somebody else has removed meanwhile need not be.
                let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
            }
        }
    }
}

fn token(directory: &Path) -> String {
    directory.file_name().map(|name| name.to_string_lossy().replace(['.', '/'], "")).unwrap_or_default()
}

fn walk(directory: &Path, found: &mut Listing) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), found);
        } else if !RENDEZVOUS.iter().any(|own| entry.file_name() == *own) {
            found.insert(entry.path(), size(&metadata));
        }
    }
}

/// The memory or disk that a file takes up, not the length that it claims.
fn size(metadata: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_counted_with_its_size() {
        let root = tempfile::tempdir().unwrap();
        let before = list(root.path());
        std::fs::create_dir(root.path().join("deep")).unwrap();
        std::fs::write(root.path().join("deep/file"), [1; 5000]).unwrap();
        let (count, bytes) = new_since(&before, &list(root.path()));
        assert!(count >= 1 && bytes >= 5000, "{count} {bytes}");
        assert_eq!(new_since(&before, &before), (0, 0));
    }
}
