//! What a process holds: descriptors, shared segments, threads. A process that leaks has more of something afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{LIMIT, eventually};

/// What a process held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many descriptors lead to each kind of thing.
    pub descriptors: BTreeMap<String, usize>,
    /// Mappings of a session's memory.
    pub segments: usize,
    /// Threads by name.
    pub threads: BTreeMap<String, usize>,
}

impl Snapshot {
    /// Looks at a process, which may be this one.
    pub fn of(pid: u32) -> Snapshot {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut snapshot = Snapshot { descriptors: BTreeMap::new(), segments: 0, threads: BTreeMap::new() };
        for entry in fs::read_dir(process.join("fd")).unwrap() {
            // One that is gone by now was not held.
            let Ok(target) = fs::read_link(entry.unwrap().path()) else { continue };
            // "socket:[12345]" and the like: the number is of no interest.
            let kind = target.to_string_lossy().split(":[").next().unwrap().to_owned();
            *snapshot.descriptors.entry(kind).or_default() += 1;
        }
        let maps = fs::read_to_string(process.join("maps")).unwrap();
        snapshot.segments = maps.lines().filter(|line| line.contains("memfd:wigwag")).count();
        for entry in fs::read_dir(process.join("task")).unwrap() {
            let Ok(name) = fs::read_to_string(entry.unwrap().path().join("comm")) else { continue };
            *snapshot.threads.entry(name.trim_end().to_owned()).or_default() += 1;
        }
        snapshot
    }

    /// Looks at a process until it holds that many segments, and the same of everything for a while: threads start, and
    /// sessions that ended are let go.
    pub fn when_settled(pid: u32, segments: usize) -> Snapshot {
        let mut last = Snapshot::of(pid);
        eventually("the process settles", || {
            std::thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut last, Snapshot::of(pid));
            last == before && last.segments == segments
        });
        last
    }

    /// Waits until a process holds what it held then, no more and no less.
    #[track_caller]
    pub fn is_back(&self, pid: u32) {
        let begin = Instant::now();
        loop {
            let now = Snapshot::of(pid);
            if now == *self {
                return;
            }
            assert!(begin.elapsed() < LIMIT, "process {pid} held\n{self:?}\nand now holds\n{now:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
