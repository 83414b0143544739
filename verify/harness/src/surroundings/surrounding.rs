//! The surroundings, and how a process gets into them.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use serde::{Deserialize, Serialize};

use super::cell::Job;
use super::sandbox;

macro_rules! surroundings {
    ($($(#[doc = $doc:literal])* $one:ident = $group:literal, $side:ident;)*) => {
        /// What can be odd about the world that a program finds itself in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Surrounding {
            $($(#[doc = $doc])* $one,)*
        }

        use Surrounding::*;

        /// All of them.
        pub const ALL: &[Surrounding] = &[$($one,)*];

        impl Surrounding {
            /// What it is about: two of one group exclude each other.
            pub fn group(self) -> &'static str {
                match self {
                    $($one => $group,)*
                }
            }

            /// The side that is in it.
            pub fn side(self) -> Side {
                match self {
                    $($one => Side::$side,)*
                }
            }
        }
    };
}

/// The side that is in a surrounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Both, the server and the client.
    Both,
    /// The server.
    Server,
    /// The client.
    Client,
}

surroundings! {
    /// Nothing is odd: what does not work here is wrong with the trial.
    Plain = "plain", Both;
    /// `XDG_RUNTIME_DIR` is a directory of the user's own.
    XdgPresent = "place", Both;
    /// No variable says where names are.
    XdgAbsent = "place", Both;
    /// `XDG_RUNTIME_DIR` is that of another user's log-in, as after `su`.
    XdgOfAnother = "place", Both;
    /// `XDG_RUNTIME_DIR` leads to a directory that another user owns.
    XdgForeign = "place", Both;
    /// `XDG_RUNTIME_DIR` is no absolute path.
    XdgRelative = "place", Both;
    /// `XDG_RUNTIME_DIR` leads to nothing.
    XdgMissing = "place", Both;
    /// The server has an `XDG_RUNTIME_DIR` of its own, the client none.
    XdgDiffers = "place", Both;
    /// The server was started by cron, the client in a log-in.
    XdgOfALogIn = "place", Both;
    /// `XDG_RUNTIME_DIR` is removed and made again under a living server, as by log-out and log-in.
    XdgRemoved = "place", Both;
    /// `WIGWAG_DIRECTORY` is no absolute path.
    PlaceRelative = "place", Both;
    /// There is no variable at all in the environment.
    NoEnvironment = "place", Both;
    /// The server's socket is removed under it.
    SocketRemoved = "event", Both;
    /// The server's lock file is removed under it.
    LockRemoved = "event", Both;
    /// Every file in the directory of names is removed.
    AllRemoved = "event", Both;
    /// The directory of names is removed with all that is in it.
    DirectoryRemoved = "event", Both;
    /// The server forks twice and has a session of its own before it begins.
    Daemon = "birth", Server;
    /// The server takes the name, forks twice and goes on in the grandchild.
    DaemonTooLate = "birth", Server;
    /// The server is the first process of a PID namespace.
    FirstProcess = "birth", Server;
    /// The umask takes nothing away.
    UmaskNone = "umask", Both;
    /// The umask takes execution away from the owner.
    UmaskSearch = "umask", Both;
    /// The umask takes everything away.
    UmaskAll = "umask", Both;
    /// The directory of names is on a file system without a free byte.
    FullOfBytes = "files", Both;
    /// The directory of names is on a file system without a free inode.
    FullOfFiles = "files", Both;
    /// That file system is full of both, but only after the name was taken.
    FullLater = "files", Both;
    /// The directory of names is on a file system that cannot be written to.
    ReadOnly = "files", Both;
    /// The directory of names is on a file system of 64 KiB.
    Small = "files", Both;
    /// `/proc` is not mounted.
    NoProc = "files", Both;
    /// The server gives up its privileges after it took the name.
    PrivilegesDropped = "user", Server;
    /// An ordinary user instead of root.
    Ordinary = "user", Both;
    /// An ordinary user who may have no more processes and threads.
    NoThreads = "user", Both;
    /// Hang-up, interrupt, termination and broken pipe are ignored at start.
    Ignored = "signals", Both;
    /// Hang-up, interrupt, termination and broken pipe are blocked at start.
    Blocked = "signals", Both;
    /// The parent does not want to know of its children's ends.
    ChildIgnored = "child", Both;
    /// There are no standard streams: their numbers are free.
    NoStreams = "streams", Server;
    /// Standard output has no room.
    OutputFull = "streams", Server;
    /// Standard output is a pipe that nobody reads.
    OutputClosed = "streams", Server;
    /// No pidfd, of any kind.
    NoPidfd = "kernel", Both;
    /// None of the kernel's features that the library says it can do without.
    OldKernel = "kernel", Both;
    /// No inotify.
    NoInotify = "kernel", Both;
    /// No memfd_create.
    NoMemfd = "kernel", Both;
    /// No eventfd.
    NoEventfd = "kernel", Both;
    /// No locks of open file descriptions.
    NoLocks = "kernel", Both;
    /// 64 descriptors.
    FewDescriptors = "descriptors", Both;
    /// So few descriptors that no session can be.
    NoDescriptors = "descriptors", Both;
    /// No file may have any byte.
    NoFileSize = "size", Both;
}

/// An ordinary user, whom no machine knows.
pub const OTHER_USER: u32 = 60_123;

/// Descriptors that a program starts with and no session can be made of.
const FEWEST: u64 = 8;

impl Surrounding {
    /// Only root can make it.
    pub fn needs_root(self) -> bool {
        matches!(self.group(), "files" | "user") || matches!(self, FirstProcess | XdgForeign)
    }

    /// Something is done to the names of a living server.
    pub fn is_event(self) -> bool {
        self.group() == "event" || self == XdgRemoved
    }

    /// The files of a server may stay, as the documents say: nobody could remove them.
    pub fn leaves_files(self, job: Job) -> bool {
        match self {
            PrivilegesDropped | DaemonTooLate => true,
            // Only SIGKILL is left to end it.
            Ignored => job.is_of_the_program(),
            // A process that closes a semaphore cannot open its file once more, to see whether anybody else needs it.
            NoDescriptors => job.is_of_a_semaphore(),
            _ => false,
        }
    }

    /// Whether that side is in it.
    pub fn is_for(self, side: Side) -> bool {
        self.side() == Side::Both || self.side() == side
    }
}

/// Everything about one run's directories.
pub struct Ground {
    /// The directory that belongs to this run.
    pub root: PathBuf,
    /// What the run calls its server: no other run has that name.
    pub name: String,
    /// What is odd.
    pub odd: Vec<Surrounding>,
}

impl Ground {
    /// The directory of names.
    pub fn names(&self) -> PathBuf {
        match self.odd.iter().find(|one| one.group() == "place") {
            None | Some(PlaceRelative) => self.root.join("names"),
            Some(XdgPresent | XdgRemoved | XdgForeign | XdgMissing | XdgDiffers) => self.root.join("run/wigwag"),
            Some(_) => PathBuf::from(format!("/tmp/wigwag-{}", self.user())),
        }
    }

    /// The files of this run in the directory of names.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.names()).into_iter().flatten().flatten();
        let is_ours = |path: &PathBuf| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(&self.name));
        entries.map(|entry| entry.path()).filter(is_ours).collect()
    }

    /// The side that acts.
    pub fn user(&self) -> u32 {
        match self.odd.iter().any(|one| matches!(one, Ordinary | NoThreads)) {
            true => OTHER_USER,
            false => rustix::process::geteuid().as_raw(),
        }
    }

    /// The variables that say where names are, for that side.
    fn environment(&self, side: Side) -> Vec<(&'static str, PathBuf)> {
        let xdg = |path: PathBuf| vec![("XDG_RUNTIME_DIR", path)];
        match self.odd.iter().find(|one| one.group() == "place") {
            None => vec![("WIGWAG_DIRECTORY", self.names())],
            Some(PlaceRelative) => vec![("WIGWAG_DIRECTORY", "names".into())],
            Some(XdgDiffers) if side == Side::Client => Vec::new(),
            Some(XdgPresent | XdgRemoved | XdgForeign | XdgMissing | XdgDiffers) => xdg(self.root.join("run")),
            Some(XdgOfAnother) => xdg(format!("/run/user/{}", self.user() + 1).into()),
            Some(XdgRelative) => xdg("run".into()),
            Some(XdgOfALogIn) if side == Side::Client => xdg(format!("/run/user/{}", self.user()).into()),
            Some(_) => Vec::new(),
        }
    }

    /// Lets a command begin in the surroundings, as far as a process gets into them by its start.
    pub fn surround(&self, command: &mut Command, side: Side) {
        let mut odd: Vec<Surrounding> = self.odd.iter().copied().filter(|one| one.is_for(side)).collect();
        odd.sort_by_key(|one| one.group() == "user"); // what only root can do comes first
        for variable in ["WIGWAG_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"] {
            command.env_remove(variable);
        }
        command.envs(self.environment(side)).current_dir(&self.root);
        let filters: Vec<_> = odd.iter().flat_map(|one| sandbox::filters(*one)).collect();
        // SAFETY: between fork and exec only system calls are made, with memory that was made before.
        unsafe {
            command.pre_exec(move || {
                odd.iter().try_for_each(|one| enter(*one))?;
                filters.iter().try_for_each(sandbox::apply)
            });
        }
    }
}

/// Brings this process, which is about to execute a program, into a surrounding.
fn enter(one: Surrounding) -> std::io::Result<()> {
    use rustix::process::Resource;
    const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE];
    let mask = |bits| rustix::process::umask(rustix::fs::Mode::from_raw_mode(bits));
    match one {
        UmaskNone => drop(mask(0)),
        UmaskSearch => drop(mask(0o177)),
        UmaskAll => drop(mask(0o777)),
        Ordinary => become_other_user()?,
        NoThreads => {
            become_other_user()?;
            limit(Resource::Nproc, 0)?;
        }
        Ignored => ENDING.iter().for_each(|signal| ignore(*signal)),
        ChildIgnored => ignore(libc::SIGCHLD),
        Blocked => {
            let signals: nix::sys::signal::SigSet =
                ENDING.iter().filter_map(|signal| nix::sys::signal::Signal::try_from(*signal).ok()).collect();
            signals.thread_block()?;
        }
        FewDescriptors => limit(Resource::Nofile, 64)?,
        NoDescriptors => limit(Resource::Nofile, FEWEST)?,
        NoFileSize => limit(Resource::Fsize, 0)?,
        Daemon => {
            leave_parent()?;
            nix::unistd::setsid()?;
            leave_parent()?;
        }
        FirstProcess => become_first()?,
        _ => {}
    }
    Ok(())
}

fn ignore(signal: i32) {
    // SAFETY: to ignore a signal installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

fn limit(what: rustix::process::Resource, most: u64) -> std::io::Result<()> {
    let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
    Ok(rustix::process::setrlimit(what, limit)?)
}

/// From now on this process is an ordinary user's.
pub fn become_other_user() -> std::io::Result<()> {
    nix::unistd::setgroups(&[])?;
    nix::unistd::setgid(OTHER_USER.into())?;
    Ok(nix::unistd::setuid(OTHER_USER.into())?)
}

/// Goes on in a child, once the parent has ended: a process that asks to be killed with its parent must not mean that
/// one.
pub fn leave_parent() -> std::io::Result<()> {
    let parent = nix::unistd::getpid();
    // SAFETY: the child is a copy of a process with one thread, which makes system calls only until it executes a
    // program or says what it found.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            while nix::unistd::getppid() == parent {
                std::thread::yield_now();
            }
            Ok(())
        }
        // SAFETY: `_exit` runs nothing of this process.
        _ => unsafe { libc::_exit(0) },
    }
}

/// The first process of a namespace, for its parent.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Passes a signal on: a signal to the parent is meant for the first process, whose number cannot be found without
/// `/proc`.
extern "C" fn pass_on(signal: i32) {
    // SAFETY: a plain system call, which a signal handler may make; the child has not been waited for.
    unsafe { libc::kill(FIRST.load(Ordering::Relaxed), signal) };
}

/// Goes on as the first process of a PID namespace; the parent waits for it, and dies with it.
fn become_first() -> std::io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)?;
    // SAFETY: as in `leave_parent`.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(std::io::Error::last_os_error()),
        0 => Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?),
        _ => {
            let mut status = 0;
            FIRST.store(child, Ordering::Relaxed);
            // SAFETY: plain system calls; this process has nothing that descriptors could be missing to, and ends here.
            // The handler only makes a system call.
            unsafe {
                libc::signal(libc::SIGTERM, pass_on as *const () as libc::sighandler_t);
                libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                // Where it is ignored, as the child has it, the kernel keeps no status: there is none to wait for.
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
                while libc::waitpid(child, &raw mut status, 0) < 0 {
                    if *libc::__errno_location() != libc::EINTR {
                        libc::_exit(255);
                    }
                }
                libc::_exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 255 })
            }
        }
    }
}

/// Makes the directories of a run, and the file systems, in a mount namespace of the calling process.
pub fn prepare(ground: &Ground) -> anyhow::Result<()> {
    let has = |one| ground.odd.contains(&one);
    let own = |path: &Path| -> anyhow::Result<()> {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        if ground.user() != rustix::process::geteuid().as_raw() {
            std::os::unix::fs::chown(path, Some(ground.user()), Some(ground.user()))?;
        }
        Ok(())
    };
    own(&ground.root)?;
    let names = ground.names();
    if names.starts_with(&ground.root) && !has(XdgMissing) {
        own(names.parent().unwrap_or(&ground.root))?;
        let is_made_by_the_library = !ground.odd.iter().any(|one| one.group() == "files");
        if !is_made_by_the_library {
            own(&names)?;
        }
    }
    let inside = ground.root.join("inside");
    std::fs::create_dir(&inside)?;
    std::fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    if has(PrivilegesDropped) {
        std::fs::set_permissions(&ground.root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    if has(XdgForeign) {
        std::os::unix::fs::chown(ground.root.join("run"), Some(OTHER_USER + 1), None)?;
    }
    match ground.odd.iter().find(|one| one.group() == "files") {
        Some(one) => mount(*one, &names, ground.user()),
        None => Ok(()),
    }
}

fn mount(one: Surrounding, names: &Path, user: u32) -> anyhow::Result<()> {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let tmpfs = |path: &Path, flags, options: &str| {
        let options = format!("{options},mode=700,uid={user},gid={user}");
        mount(Some("tiny"), path, Some("tmpfs"), flags, Some(options.as_str()))
    };
    match one {
        NoProc => tmpfs(Path::new("/proc"), MsFlags::empty(), "size=4k")?,
        ReadOnly => tmpfs(names, MsFlags::MS_RDONLY, "size=64k")?,
        FullOfFiles => tmpfs(names, MsFlags::empty(), "size=64k,nr_inodes=1")?,
        _ => tmpfs(names, MsFlags::empty(), "size=64k,nr_inodes=16")?,
    }
    if one == FullOfBytes {
        fill_with_bytes(names);
    }
    Ok(())
}

fn fill_with_bytes(directory: &Path) {
    let Ok(mut file) = std::fs::File::create(directory.join("filling")) else { return };
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
}

/// What happens to the names of a living server.
pub fn happen(ground: &Ground) {
    let remove = |ending: &str| {
        for path in ground.files() {
            if ending.is_empty() || path.to_string_lossy().ends_with(ending) {
                let _ = std::fs::remove_file(path);
            }
        }
    };
    for one in &ground.odd {
        match one {
            SocketRemoved => remove(".sock"),
            LockRemoved => remove(".lock"),
            AllRemoved => remove(""),
            // Where all programs of the machine have their names, only ours are removed.
            DirectoryRemoved if !ground.names().starts_with(&ground.root) => remove(""),
            DirectoryRemoved => drop(std::fs::remove_dir_all(ground.names())),
            XdgRemoved => {
                let run = ground.root.join("run");
                let _ = std::fs::remove_dir_all(&run);
                let _ = std::fs::create_dir(&run);
                let _ = std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o700));
                let _ = std::os::unix::fs::chown(&run, Some(ground.user()), None);
            }
            FullLater => {
                fill_with_bytes(&ground.names());
                for number in 0.. {
                    if std::fs::File::create(ground.names().join(format!("filling-{number}"))).is_err() {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
}
