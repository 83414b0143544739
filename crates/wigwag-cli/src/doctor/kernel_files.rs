//! The files in which the kernel tells about itself, below a root that tests can choose.

use std::path::{Path, PathBuf};

/// `/proc` and `/sys`.
#[derive(Debug)]
pub struct KernelFiles {
    root: PathBuf,
}

impl KernelFiles {
    /// Those of this machine.
    pub fn here() -> KernelFiles {
        KernelFiles { root: "/".into() }
    }

    #[cfg(test)]
    pub fn below(root: &Path) -> KernelFiles {
        KernelFiles { root: root.to_owned() }
    }

    /// The text of a file; `None` where the kernel does not say.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()?;
        Some(text.trim().to_owned())
    }

    /// The first number of a file.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.split_whitespace().next()?.parse().ok()
    }

    /// A list of processors such as `0-3,8`.
    pub fn processors(&self, path: impl AsRef<Path>) -> Option<Vec<usize>> {
        Some(list(&self.text(path)?))
    }

    /// The directories of this process's control groups with that controller, the innermost first, for both versions
    /// (cgroups(7)). A limit of an outer group holds for the inner ones too.
    pub fn control_groups(&self, controller: &str) -> Vec<PathBuf> {
        let (Some(groups), Some(mounts)) = (self.text("/proc/self/cgroup"), self.text("/proc/self/mountinfo")) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for group in groups.lines() {
            let mut parts = group.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let is_second = number == "0" && controllers.is_empty();
            if !is_second && !controllers.split(',').any(|name| name == controller) {
                continue;
            }
            let mount = mounts.lines().find_map(|line| mount_of(line, (!is_second).then_some(controller)));
            let Some((root, point)) = mount else { continue };
            // A container sees its own group as the root of the mount, and its path as if from the machine's root.
            let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
            let below = below.strip_prefix("/").unwrap_or(below);
            found.extend(below.ancestors().map(|group| point.join(group)));
        }
        found
    }
}

/// The root and the place of a mount of control groups: of the second version, or of the first with that controller.
fn mount_of(line: &str, controller: Option<&str>) -> Option<(String, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split_whitespace().skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut kind = kind.split_whitespace();
    let name = kind.next()?;
    let fits = match controller {
        None => name == "cgroup2",
        Some(controller) => name == "cgroup" && kind.nth(1)?.split(',').any(|option| option == controller),
    };
    fits.then(|| (root.to_owned(), PathBuf::from(point)))
}

/// A list such as `0-3,8`, as the kernel writes it.
fn list(text: &str) -> Vec<usize> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            all.extend(first..=last.min(first + 8192));
        }
    }
    all
}

/// The same the other way.
pub fn as_list(processors: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &processor in processors {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == processor => *last = processor,
            _ => parts.push((processor, processor)),
        }
    }
    let parts = parts.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Files as a kernel would show them.
    pub fn planted(files: &[(&str, &str)]) -> (tempfile::TempDir, KernelFiles) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = KernelFiles::below(root.path());
        (root, files)
    }

    #[test]
    fn lists_of_processors_are_read_and_written() {
        assert_eq!(list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(list(""), Vec::<usize>::new());
        assert_eq!(list("nonsense,3"), [3]);
        for text in ["0-2,8", "5", ""] {
            assert_eq!(as_list(&list(text)), text);
        }
    }

    #[test]
    fn control_groups_of_both_versions_are_found() {
        let mounts = "30 20 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      31 20 0:2 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n\
                      32 20 0:3 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";
        let (_root, files) = planted(&[
            ("/proc/self/cgroup", "4:memory:/a/b\n3:cpuacct,cpu:/docker/x\n0::/c"),
            ("/proc/self/mountinfo", mounts),
        ]);
        let found = |controller: &str| -> Vec<String> {
            files
                .control_groups(controller)
                .iter()
                .map(|path| path.to_str().unwrap().trim_end_matches('/').to_owned())
                .collect()
        };
        let second = ["/sys/fs/cgroup/c", "/sys/fs/cgroup"];
        assert_eq!(
            found("memory")[..3],
            ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"]
        );
        assert_eq!(found("memory")[3..], second);
        assert_eq!(found("cpu"), [&["/sys/fs/cgroup/cpu"][..], &second].concat());
    }
}
