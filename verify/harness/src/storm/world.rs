//! Where a storm takes place: a directory with the server's socket and a file of complaints, and a board.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use wigwag_testing::Ground;

use super::scoreboard::{Extent, Scoreboard};

/// Complaints of one process that are written down; the first say most.
const COMPLAINTS_MAX: usize = 5;

/// The place, as each of its processes sees it.
pub struct World {
    directory: PathBuf,
    /// The words that all share.
    pub board: Scoreboard,
    /// Only of who made it.
    _ground: Option<Ground>,
}

impl World {
    /// A new one.
    pub fn new(extent: Extent) -> World {
        let ground = Ground::new();
        World { directory: ground.path(""), board: Scoreboard::new(extent), _ground: Some(ground) }
    }

    /// The arguments of a role that lead it here.
    pub fn arguments<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
        let here = [self.directory.clone().into_os_string(), self.board.path().to_owned().into_os_string()];
        here.into_iter().chain(more.into_iter().map(OsString::from)).collect()
    }

    /// The world that a role's arguments lead to. Its panics become complaints.
    pub fn open<'a, 'b>(arguments: &'b [&'a str]) -> (World, &'b [&'a str]) {
        let [directory, board, rest @ ..] = arguments else { panic!("{arguments:?}") };
        let world = World { directory: directory.into(), board: Scoreboard::open(Path::new(board)), _ground: None };
        let complaints = world.complaints_path();
        std::panic::set_hook(Box::new(move |panic| {
            eprintln!("{panic}"); // shown if the trial itself breaks off
            write_down(&complaints, &panic.to_string());
        }));
        (world, rest)
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("server")
    }

    fn complaints_path(&self) -> PathBuf {
        self.directory.join("complaints")
    }

    /// Something is not as it must be.
    pub fn complain(&self, what: impl AsRef<str>) {
        write_down(&self.complaints_path(), what.as_ref());
    }

    /// All that was complained about.
    pub fn complaints(&self) -> Vec<String> {
        let text = std::fs::read(self.complaints_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Files that are left, but for the complaints.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "complaints");
        names.sort();
        names
    }
}

/// One write of one line: it is whole or not there, whoever is killed.
fn write_down(path: &Path, what: &str) {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    if WRITTEN.fetch_add(1, Ordering::Relaxed) < COMPLAINTS_MAX {
        let line = format!("{}\n", what.replace('\n', ": "));
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
