//! Names under the habits of machines: what is cleaned up, log-in and log-out, forked children, umask, full file
//! systems, and privileges that are given up.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use wigwag::observe::Observer;
use wigwag::runtime::{RuntimeDirectory, State};
use wigwag::{Client, ErrorKind, Semaphore, Server, StreamListener};
use wigwag_testing::stalled::StalledClose;
use wigwag_testing::{Ground, Process, eventually, limited, no_process_starts, role};

/// What tells a program where names are.
const VARIABLES: [&str; 3] = ["WIGWAG_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"];

/// A process that plays a role with exactly these variables of [`VARIABLES`].
fn start(role: &str, variables: &[(&str, &OsStr)], arguments: &[&OsStr]) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--nocapture", "--include-ignored", "--test-threads=1"]);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied());
    Process::run(command, role, arguments)
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn server() {
    role("server", |link, arguments| {
        let mut server = match Server::bind(arguments[0]) {
            Ok(server) => server,
            Err(error) => return link.tell(format_args!("{:?} {error}", error.kind())),
        };
        link.tell("bound");
        let stop = server.shutdown_handle();
        let serving = std::thread::spawn(move || server.serve(|request| request.make_ascii_uppercase()));
        while let Some(line) = link.hear_at_last() {
            let (word, number) = line.split_once(' ').unwrap_or((&line, ""));
            match word {
                "stop" => break,
                // A child that executes nothing, and lives on.
                "fork" => {
                    // SAFETY: the child only waits for a signal, and ends by it.
                    let child = unsafe { libc::fork() };
                    if child == 0 {
                        loop {
                            // SAFETY: no memory is involved.
                            unsafe { libc::pause() };
                        }
                    }
                    link.tell(child);
                }
                "become" => {
                    // SAFETY: no memory is involved.
                    assert_eq!(unsafe { libc::setuid(number.parse().unwrap()) }, 0);
                    link.tell("become");
                }
                other => panic!("what is {other}?"),
            }
        }
        stop.shutdown();
        match serving.join().unwrap() {
            Ok(()) => link.tell("ended"),
            Err(error) => link.tell(error),
        }
    });
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn caller() {
    role("caller", |link, arguments| {
        match Client::connect(arguments[0]).and_then(|client| Ok(client.call(b"hello")?.to_vec())) {
            Ok(reply) => link.tell(String::from_utf8(reply).unwrap()),
            Err(error) => link.tell(format_args!("{:?} {error}", error.kind())),
        }
    });
}

/// Binds in a process of its own and says how that went; what is bound is dropped at once.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn binder() {
    role("binder", |link, arguments| {
        // SAFETY: no memory is involved.
        unsafe { libc::umask(u32::from_str_radix(arguments[1], 8).unwrap()) };
        let bound = Server::bind(arguments[0]).map(|server| (server, Semaphore::open("a-semaphore", 1)));
        match &bound {
            Ok(_) => link.tell("bound"),
            Err(error) => link.tell(format_args!("{:?} {error}", error.kind())),
        }
        link.hear_at_last();
    });
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Stops a process, and waits until each of its threads is.
fn halt(process: &Process) {
    process.signal(Signal::STOP);
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    eventually("all of its threads are stopped", || {
        fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().flatten().all(is_stopped)
    });
}

#[track_caller]
fn answers(name: impl AsRef<OsStr>) {
    eventually("the server can be reached", || {
        Client::connect(name.as_ref()).is_ok_and(|client| client.call(b"hello").is_ok_and(|reply| *reply == *b"HELLO"))
    });
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server in this process, which serves until it is dropped.
struct Serving(wigwag::ShutdownHandle, Option<std::thread::JoinHandle<wigwag::Result<()>>>);

impl Serving {
    fn start(name: impl AsRef<OsStr>) -> Serving {
        let mut server = Server::bind(name).unwrap();
        let stop = server.shutdown_handle();
        Serving(stop, Some(std::thread::spawn(move || server.serve(|request| request.make_ascii_uppercase()))))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.shutdown();
        self.1.take().unwrap().join().unwrap().unwrap();
    }
}

/// Names in the place of this user that is the same for all of its programs: other programs' are there, too.
fn unique_name() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("names.test.{}.{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

// ---- N1: what is cleaned up -----------------------------------------------------------------------------------------

/// As systemd-tmpfiles does before it removes what is in a directory: whether it would go on.
fn would_be_cleaned(directory: &Path) -> bool {
    let directory = fs::File::open(directory).unwrap();
    // SAFETY: no memory is involved.
    unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

#[test]
fn n1_a_directory_with_a_name_in_it_is_spared_by_who_cleans_up() {
    limited(|| {
        let ground = Ground::new();
        let directory = ground.path("");
        let _guard = no_process_starts();
        assert!(would_be_cleaned(&directory));
        let server = Server::bind(ground.socket()).unwrap();
        assert!(!would_be_cleaned(&directory));
        drop(server);
        assert!(would_be_cleaned(&directory));
        let listener = StreamListener::bind(ground.socket()).unwrap();
        assert!(!would_be_cleaned(&directory));
        drop(listener);
        let semaphore = Semaphore::open(ground.path("permits"), 1).unwrap();
        assert!(!would_be_cleaned(&directory));
        drop(semaphore);
        assert!(would_be_cleaned(&directory));
    });
}

#[test]
fn n1_the_kernel_shows_the_real_path_of_a_socket() {
    limited(|| {
        let ground = Ground::new();
        let _server = Server::bind(ground.socket()).unwrap();
        let shown = fs::read("/proc/net/unix").unwrap();
        let path = ground.socket();
        let is_there = |line: &[u8]| line.ends_with(path.as_os_str().as_bytes());
        assert!(shown.split(|&byte| byte == b'\n').any(is_there), "{}", String::from_utf8_lossy(&shown));
    });
}

#[test]
fn n1_a_name_that_was_removed_renamed_or_replaced_is_taken_again() {
    limited(|| {
        let ground = Ground::new();
        let (socket, lock) = (ground.socket(), ground.socket().with_added_extension("lock"));
        let _server = Serving::start(&socket);
        let observer = Observer::open(&socket).unwrap();
        let remove = |path: &Path| fs::remove_file(path).unwrap();
        let attacks: [&dyn Fn(); 7] = [
            &|| remove(&socket),
            &|| remove(&lock),
            &|| {
                remove(&socket);
                remove(&lock);
            },
            &|| {
                remove(&lock);
                remove(&socket);
            },
            &|| fs::rename(&socket, ground.path("renamed")).unwrap(),
            &|| {
                fs::write(ground.path("another"), "").unwrap();
                fs::rename(ground.path("another"), &lock).unwrap();
            },
            &|| {
                drop(std::os::unix::net::UnixListener::bind(ground.path("dead")).unwrap());
                fs::rename(ground.path("dead"), &socket).unwrap();
            },
        ];
        for (number, attack) in attacks.iter().enumerate() {
            let before = inodes(&socket);
            attack();
            eventually("another file has the name", || inodes(&socket) != before);
            answers(&socket);
            eventually("observers find it", || observer.has_name() && Observer::open(&socket).is_ok());
            assert_eq!(Server::bind(&socket).unwrap_err().kind(), ErrorKind::NameTaken, "{number}");
        }
    });
}

#[test]
fn n1_a_session_lives_on_while_its_servers_name_is_taken_again() {
    limited(|| {
        let ground = Ground::new();
        let _server = Serving::start(ground.socket());
        let client = Client::connect(ground.socket()).unwrap();
        fs::remove_file(ground.socket()).unwrap();
        answers(ground.socket());
        assert_eq!(*client.call(b"on").unwrap(), *b"ON");
    });
}

#[test]
fn n1_a_directory_of_names_that_was_removed_or_moved_is_made_again() {
    limited(|| {
        let ground = Ground::new();
        let variables = [("XDG_RUNTIME_DIR", ground.path("").into_os_string())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_os_str()));
        let own = ground.path("wigwag");
        let mut server = start("server", &variables, &[OsStr::new("echo")]);
        server.expect("bound");
        let reached = || start("caller", &variables, &[OsStr::new("echo")]).hear() == "HELLO";
        fs::rename(&own, ground.path("moved")).unwrap();
        eventually("it is reached after a move", reached);
        assert_eq!(files(&ground.path("moved")), [""; 0], "nothing is left behind");
        eventually("it is reached after a removal", || {
            let _ = fs::remove_dir_all(&own); // races with the server, which takes the name again
            reached()
        });
        // A log-out takes the directory around it, too; the next log-in brings it back.
        fs::rename(ground.path("wigwag"), ground.path("gone")).unwrap();
        eventually("it is reached again", reached);
        server.tell("stop");
        server.expect("ended");
        assert_eq!(files(&own), [""; 0]);
    });
}

#[test]
fn n1_a_path_whose_directory_was_moved_is_taken_again_when_it_is_back() {
    limited(|| {
        let ground = Ground::new();
        let directory = ground.path("own");
        let make = || {
            fs::create_dir(&directory).unwrap();
            fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        };
        make();
        let socket = directory.join("socket");
        let _server = Serving::start(&socket);
        let observer = Observer::open(&socket).unwrap();
        fs::rename(&directory, ground.path("elsewhere")).unwrap();
        assert!(!observer.has_name(), "it is told where it is looked at");
        assert!(Observer::all().iter().any(|one| one.service().path == socket && !one.has_name()));
        make();
        answers(&socket);
        eventually("its name leads to it", || observer.has_name());
    });
}

#[test]
fn n1_a_name_that_another_server_took_meanwhile_stays_with_that_one() {
    limited(|| {
        let ground = Ground::new();
        let socket = ground.socket();
        let mut first = start("server", &[], &[socket.as_os_str()]);
        first.expect("bound");
        halt(&first);
        let first_one = Observer::open(&socket).unwrap();
        fs::remove_file(&socket).unwrap();
        fs::remove_file(socket.with_added_extension("lock")).unwrap();
        let _second = Serving::start(&socket);
        let of_the_second = inodes(&socket);
        first.signal(Signal::CONT);
        answers(&socket);
        assert_eq!(Observer::open(&socket).unwrap().service().pid, std::process::id());
        assert!(!first_one.has_name() && first_one.snapshot().unwrap().state == wigwag::observe::ProcessState::Running);
        first.tell("stop");
        first.expect("ended");
        answers(&socket);
        assert!(Observer::open(&socket).unwrap().has_name());
        assert_eq!(inodes(&socket), of_the_second, "the first one left the name of the second one alone");
    });
}

/// Which files have a name: the socket and the lock.
fn inodes(socket: &Path) -> [Option<u64>; 2] {
    let mut lock = socket.as_os_str().to_owned();
    lock.push(".lock");
    [socket.as_os_str(), &lock].map(|path| fs::symlink_metadata(path).map(|found| found.ino()).ok())
}

#[test]
fn n1_a_server_that_lost_its_name_is_found_by_who_looks_for_it() {
    limited(|| {
        let ground = Ground::new();
        let socket = ground.socket();
        let mut server = start("server", &[], &[socket.as_os_str()]);
        server.expect("bound");
        halt(&server);
        fs::remove_file(&socket).unwrap();
        fs::remove_file(socket.with_added_extension("lock")).unwrap();
        let observer = Observer::open(&socket).unwrap();
        assert_eq!((observer.service().pid, observer.has_name()), (server.id(), false));
        server.kill();
        assert_eq!(Observer::open(&socket).unwrap_err().kind(), ErrorKind::NotRunning);
    });
}

/// The kernel takes its time to close the watch on the name. Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn slow_to_close() {
    role("slow_to_close", |link, arguments| {
        let socket = Path::new(arguments[0]);
        let mut server = Server::bind(socket).unwrap();
        let is_watch = |path: &PathBuf| fs::read_link(path).is_ok_and(|what| what.ends_with("anon_inode:inotify"));
        let watches: Vec<PathBuf> =
            fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path()).filter(is_watch).collect();
        let [watch] = &watches[..] else { panic!("{watches:?}") };
        let stalled = StalledClose::begin(watch.file_name().unwrap().to_str().unwrap().parse().unwrap());
        server.shutdown_handle().shutdown();
        server.serve(|_: &mut wigwag::Request| ()).unwrap();
        link.tell("served");
        drop(server);
        eventually("the watch is being closed", || stalled.has_begun());
        link.tell("dropped");
        drop(Server::bind(socket).unwrap());
        link.tell("bound again");
    });
}

#[test]
fn no_shutdown_waits_until_the_kernel_has_closed_the_watch() {
    let ground = Ground::new();
    let mut server = start("slow_to_close", &[], &[ground.socket().as_os_str()]);
    for what in ["served", "dropped", "bound again"] {
        server.expect(what);
    }
    server.join();
}

/// A user who has used up all of its watches.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn without_watches() {
    role("without_watches", |link, arguments| {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::setuid(arguments[1].parse().unwrap()) }, 0);
        let watch = || rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC);
        let _all: Vec<_> = std::iter::from_fn(|| watch().ok()).collect();
        let socket = Path::new(arguments[0]);
        let _server = Serving::start(socket);
        let client = Client::connect(socket).unwrap();
        fs::remove_file(socket).unwrap();
        drop(client); // the control thread hears of it, and looks
        answers(socket);
        link.tell("works");
    });
}

#[test]
fn n1_a_server_without_a_watch_looks_after_its_name_whenever_it_is_awake() {
    limited(|| {
        if !is_root() {
            return; // another user's watches are used up
        }
        const USER: u32 = 61_847;
        let ground = Ground::new();
        fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        let directory = ground.path("own");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&directory, Some(USER), Some(USER)).unwrap();
        let socket = directory.join("socket");
        start("without_watches", &[], &[socket.as_os_str(), OsStr::new("61847")]).expect("works");
    });
}

// ---- N2: log-in and log-out ----------------------------------------------------------------------------------------

#[test]
fn n2_programs_of_one_user_find_each_other_whoever_is_logged_in() {
    let name = unique_name();
    let name = OsStr::new(&name);
    let of_the_user = PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()));
    let of_another = PathBuf::from("/run/user/54321");
    let ground = Ground::new();
    let elsewhere = ground.path("");
    let login: &[(&str, &OsStr)] = &[("XDG_RUNTIME_DIR", of_the_user.as_os_str())];
    let changed_user: &[(&str, &OsStr)] = &[("XDG_RUNTIME_DIR", of_another.as_os_str())];
    let temporary: &[(&str, &OsStr)] = &[("TMPDIR", elsewhere.as_os_str())];
    let relative: &[(&str, &OsStr)] = &[("XDG_RUNTIME_DIR", OsStr::new("here"))];
    let environments = [&[][..], login, changed_user, temporary, relative];
    for server in environments {
        let mut process = start("server", server, &[name]);
        process.expect("bound");
        for client in environments {
            assert_eq!(start("caller", client, &[name]).hear(), "HELLO", "{server:?} {client:?}");
            let refused = start("server", client, &[name]).hear();
            assert!(refused.starts_with("NameTaken"), "{server:?} {client:?}: {refused}");
        }
        process.tell("stop");
        process.expect("ended");
    }
    assert_eq!(files(&elsewhere), [""; 0]);
}

#[test]
fn n2_a_place_of_its_own_is_stated_and_who_looks_elsewhere_is_told() {
    let name = unique_name();
    let name = OsStr::new(&name);
    let ground = Ground::new();
    let (stated, named) = (ground.path(""), ground.path("named"));
    let environments: [&[(&str, &OsStr)]; 2] =
        [&[("XDG_RUNTIME_DIR", stated.as_os_str())], &[("WIGWAG_DIRECTORY", named.as_os_str())]];
    let mut usual = start("server", &[], &[name]);
    usual.expect("bound");
    let place = format!("/tmp/wigwag-{}", rustix::process::geteuid().as_raw());
    for environment in environments {
        let told = start("caller", environment, &[name]).hear();
        assert!(told.starts_with("NotRunning") && told.contains(&place), "{told}");
        let mut own = start("server", environment, &[name]);
        own.expect("bound"); // a place of its own has names of its own
        assert_eq!(start("caller", environment, &[name]).hear(), "HELLO");
        own.tell("stop");
        own.expect("ended");
    }
    usual.tell("stop");
    usual.expect("ended");
    assert_eq!(fs::metadata(&named).unwrap().mode() & 0o777, 0o700);
    let told = start("caller", &[], &[name]).hear();
    assert!(told.starts_with("NotRunning") && told.contains("start one with"), "{told}");
    let told = start("server", &[("WIGWAG_DIRECTORY", OsStr::new("here"))], &[name]).hear();
    assert!(told.contains("WIGWAG_DIRECTORY is here, which is no absolute path"), "{told}");
}

// ---- N3: forked children -------------------------------------------------------------------------------------------

/// A child that ends with this.
struct Child(i32);

impl Drop for Child {
    fn drop(&mut self) {
        let child = rustix::process::Pid::from_raw(self.0).unwrap();
        rustix::process::kill_process(child, Signal::KILL).unwrap();
    }
}

#[test]
fn n3_a_forked_child_does_not_keep_the_name_of_a_killed_server() {
    for name in ["name", "./socket"] {
        let ground = Ground::new();
        let variables = [("XDG_RUNTIME_DIR", ground.path("").into_os_string())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_os_str()));
        let path = ground.path("socket");
        let name = if name.starts_with('.') { path.as_os_str() } else { OsStr::new(name) };
        let mut server = start("server", &variables, &[name]);
        server.expect("bound");
        server.tell("fork");
        let _child = Child(server.hear().parse().unwrap());
        assert_eq!(start("caller", &variables, &[name]).hear(), "HELLO");
        assert!(start("server", &variables, &[name]).hear().starts_with("NameTaken"));
        server.kill();
        let told = start("caller", &variables, &[name]).hear();
        assert!(told.starts_with("PeerDied") || told.starts_with("NotRunning"), "{told}");
        let mut next = start("server", &variables, &[name]);
        next.expect("bound");
        assert_eq!(start("caller", &variables, &[name]).hear(), "HELLO");
    }
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn looker() {
    role("looker", |link, _| {
        let directory = RuntimeDirectory::find();
        for entry in directory.entries().unwrap() {
            let is_removed = entry.state() == State::Dead && directory.remove_dead(&entry).unwrap();
            link.tell(format_args!("{} {:?} {is_removed}", entry.name().display(), entry.state()));
        }
        link.tell("all");
    });
}

#[test]
fn n3_a_name_that_only_a_child_holds_open_is_dead_and_can_be_removed() {
    let ground = Ground::new();
    let directory = ground.path("");
    let variables = [("XDG_RUNTIME_DIR", directory.as_os_str())];
    let mut server = start("server", &variables, &[OsStr::new("forked")]);
    server.expect("bound");
    server.tell("fork");
    let _child = Child(server.hear().parse().unwrap());
    let mut looker = start("looker", &variables, &[]);
    looker.expect("forked Alive false");
    server.kill();
    let mut looker = start("looker", &variables, &[]);
    looker.expect("forked Dead true");
    looker.expect("all");
    assert_eq!(files(&ground.path("wigwag")), [""; 0]);
}

// ---- N4: umask -----------------------------------------------------------------------------------------------------

#[test]
fn n4_no_umask_spoils_the_directory_or_a_file_in_it() {
    for umask in ["177", "777", "0"] {
        let ground = Ground::new();
        let directory = ground.path("");
        let variables = [("XDG_RUNTIME_DIR", directory.as_os_str())];
        let binder = || start("binder", &variables, &[OsStr::new("echo"), OsStr::new(umask)]);
        let mut first = binder();
        first.expect("bound");
        let mode = |path: &str| fs::symlink_metadata(ground.path(path)).unwrap().mode() & 0o777;
        assert_eq!(
            (mode("wigwag"), mode("wigwag/echo.sock"), mode("wigwag/echo.lock")),
            (0o700, 0o600, 0o600),
            "{umask}"
        );
        assert_eq!(mode("wigwag/a-semaphore.semaphore"), 0o600);
        first.kill();
        // What an earlier version left under such an umask is mended.
        for (path, spoiled) in [("wigwag/echo.lock", 0o000), ("wigwag/echo.sock", 0o000), ("wigwag", 0o600)] {
            fs::set_permissions(ground.path(path), PermissionsExt::from_mode(spoiled)).unwrap();
        }
        let mut second = binder();
        second.expect("bound");
        assert_eq!((mode("wigwag"), mode("wigwag/echo.sock")), (0o700, 0o600));
    }
}

#[test]
fn n4_a_directory_that_others_may_use_is_not_mended_but_told() {
    let ground = Ground::new();
    let own = ground.path("wigwag");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, PermissionsExt::from_mode(0o770)).unwrap();
    let directory = ground.path("");
    let variables = [("XDG_RUNTIME_DIR", directory.as_os_str())];
    let told = start("server", &variables, &[OsStr::new("echo")]).hear();
    assert!(told.starts_with("DirectoryUnsafe") && told.contains("mode 770"), "{told}");
    assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o770);
}

// ---- N5: full and odd file systems --------------------------------------------------------------------------------

/// Binds on a small file system of its own, of which `what` is used up.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn on_a_small_file_system() {
    role("on_a_small_file_system", |link, arguments| {
        let [directory, options, what] = arguments[..] else { panic!() };
        let text = |text: &str| std::ffi::CString::new(text).unwrap();
        let (source, target, kind, options) = (text("tmpfs"), text(directory), text("tmpfs"), text(options));
        let (none, root) = (std::ptr::null(), text("/"));
        // SAFETY: all pointers are of texts that end with a NUL, and live through the calls.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let is_private = libc::mount(none, root.as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast());
            assert_eq!(is_private, 0);
            let is_mounted = libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast());
            assert_eq!(is_mounted, 0);
        }
        let directory = Path::new(directory);
        let fill = directory.join("fill");
        match what {
            "bytes" => drop(fs::write(&fill, vec![1; 1 << 20])),
            "read-only" => {
                // SAFETY: as above.
                let again = unsafe {
                    let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
                    libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, none.cast())
                };
                assert_eq!(again, 0);
            }
            _ => (0..)
                .map(|number| directory.join(format!("fill{number}")))
                .take_while(|path| fs::write(path, "").is_ok())
                .for_each(drop),
        }
        let before = files(directory);
        match Server::bind(directory.join("here")) {
            Ok(mut server) => {
                let stop = server.shutdown_handle();
                let serving = std::thread::spawn(move || server.serve(|request| request.make_ascii_uppercase()));
                let client = Client::connect(directory.join("here")).unwrap();
                let is_it =
                    |observer: &Observer| observer.service().path == directory.join("here") && observer.has_name();
                assert!(Observer::all().iter().any(is_it), "it is seen although its lock file could not say where");
                link.tell(String::from_utf8(client.call(b"works").unwrap().to_vec()).unwrap());
                stop.shutdown();
                serving.join().unwrap().unwrap();
            }
            Err(error) => link.tell(format_args!("{:?} {error}", error.kind())),
        }
        assert_eq!(files(directory), before, "nothing is left behind");
        link.tell("done");
    });
}

#[test]
fn n5_a_full_file_system_fails_what_needs_room_with_its_name_and_nothing_else() {
    if !is_root() {
        return; // only root can mount one
    }
    let ground = Ground::new();
    let directory = ground.path("small");
    fs::create_dir(&directory).unwrap();
    let shown = directory.to_str().unwrap();
    for (options, what, says) in [
        ("size=64k,mode=700", "bytes", "WORKS"),
        ("nr_inodes=8,mode=700", "inodes", "no space left in"),
        ("mode=700", "read-only", "is mounted for reading only"),
    ] {
        let mut process = Process::start("on_a_small_file_system", [shown, options, what]);
        let told = process.hear();
        assert!(told.contains(says) && (says == "WORKS" || told.contains(shown)), "{what}: {told}");
        process.expect("done");
    }
}

#[test]
fn n5_an_error_with_its_sources_says_nothing_twice() {
    let ground = Ground::new();
    let long = ground.path(&"d".repeat(300)).join("socket");
    for error in [Server::bind(long).unwrap_err(), Server::bind("/proc/no.such.name").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let mut texts = vec![error.to_string()];
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            texts.push(inner.to_string());
            source = inner.source();
        }
        let text = texts.join(": ");
        assert_eq!(text.matches("os error").count(), 1, "{text}");
        assert!(error.os_error().is_some());
    }
}

#[test]
fn n5_paths_that_lead_nowhere_are_told_apart() {
    let ground = Ground::new();
    fs::write(ground.path("file"), "").unwrap();
    std::os::unix::fs::symlink("loop", ground.path("loop")).unwrap();
    for (path, kind, says) in [
        ("absent/socket", ErrorKind::PathInvalid, "does not exist; create it first"),
        ("file/socket", ErrorKind::DirectoryUnsafe, "is not a directory"),
        ("loop/socket", ErrorKind::DirectoryUnsafe, "symbolic link"),
    ] {
        let error = Server::bind(ground.path(path)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.to_string().contains(says) && error.to_string().contains(path.split('/').next().unwrap()),
            "{error}"
        );
    }
    assert_eq!(files(&ground.path("")), ["file", "loop"]);
}

// ---- N6: privileges that are given up -----------------------------------------------------------------------------

#[test]
fn n6_a_name_that_was_taken_with_privileges_is_told_and_so_is_the_restart_without() {
    if !is_root() {
        return; // nobody else has any to give up
    }
    const USER: u32 = 65_534;
    let ground = Ground::new();
    fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = ground.socket();
    let mut server = start("server", &[], &[socket.as_os_str()]);
    server.expect("bound");
    let observer = Observer::open(&socket).unwrap();
    assert_eq!(observer.former_user(), None);
    server.tell(format_args!("become {USER}"));
    server.expect("become");
    assert_eq!(observer.former_user(), Some(0));
    server.tell("stop");
    let told = server.hear();
    assert!(told.contains("its name could not be removed") && told.contains("as user 0, who took the name"), "{told}");
    assert_eq!(files(&ground.path("")).len(), 2, "it could not remove its name");
    // The restart as the new user.
    let mut again = start("again_as", &[], &[socket.as_os_str(), OsStr::new("65534")]);
    let told = again.hear();
    for part in
        ["belongs to user 0", "this process is of user 65534", "give up its privileges before it takes the name"]
    {
        assert!(told.contains(part), "{told}");
    }
    // And as root it works, as ever.
    drop(Server::bind(&socket).unwrap());
    assert_eq!(files(&ground.path("")), [""; 0]);
}

#[test]
#[ignore = "a role: other tests start it as a process"]
fn again_as() {
    role("again_as", |link, arguments| {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::setuid(arguments[1].parse().unwrap()) }, 0);
        match Server::bind(arguments[0]) {
            Ok(_) => link.tell("bound"),
            Err(error) => link.tell(error),
        }
    });
}

// ---- Names with odd bytes ------------------------------------------------------------------------------------------

#[test]
fn a_name_of_any_bytes_is_taken_again_like_others() {
    let ground = Ground::new();
    for name in [&b"\xff\xfe"[..], b"a b", b"--help", b"'\"$(x)", "\u{1f980}".as_bytes(), &[b'n'; 80]] {
        let socket = ground.path("").join(OsStr::from_bytes(name));
        let _server = Serving::start(&socket);
        answers(&socket);
        fs::remove_file(&socket).unwrap();
        eventually("it is there again", || socket.exists());
        answers(&socket);
    }
    assert_eq!(fs::read_dir(ground.path("")).unwrap().count(), 0);
}
