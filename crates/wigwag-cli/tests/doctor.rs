//! `wigwag doctor` on planted faults: each is found, told with its cure, and the cure helps.

mod harness;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Ended, OutputInTime as _, Running, Runtime};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What the doctor says, as JSON, and its code.
struct Told(Value, Option<i32>);

impl Told {
    fn by(command: &mut Command) -> Told {
        let ended = Ended::from(command.output_in_time());
        assert_eq!(ended.stderr, "", "{ended:?}");
        Told(ended.json(), ended.code)
    }

    fn findings(&self, check: &str) -> Vec<&Value> {
        self.0["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect()
    }

    /// The one finding of that check: its level, fact and cure.
    #[track_caller]
    fn one(&self, check: &str) -> (&str, &str, &str) {
        let [finding] = self.findings(check)[..] else { panic!("not one {check}: {:#}", self.0) };
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        (text("level"), text("fact"), text("cure"))
    }

    #[track_caller]
    fn nothing_is_wrong(&self) {
        assert_eq!((self.1, &self.0["wrong"]), (Some(0), &Value::from(0)), "{:#}", self.0);
    }

    /// One thing is wrong: what is said of it, and the cure.
    #[track_caller]
    fn wrong(&self, check: &str) -> (&str, &str) {
        let (level, fact, cure) = self.one(check);
        assert_eq!((level, self.1, &self.0["wrong"]), ("wrong", Some(1), &Value::from(1)), "{:#}", self.0);
        (fact, cure)
    }
}

fn doctor(runtime: &Runtime) -> Command {
    runtime.wigwag(["doctor", "--json"])
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Does what a cure says, as a shell would.
fn apply(cure: &str) {
    let command = cure.split(": ").next().unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{cure}");
}

#[test]
fn a_sound_machine_has_nothing_wrong_and_nothing_is_changed() {
    let runtime = Runtime::new();
    let told = Told::by(&mut doctor(&runtime));
    told.nothing_is_wrong();
    assert!(told.one("directory-place").1.contains("XDG_RUNTIME_DIR"));
    assert!(told.one("directory-safe").1.contains("the first server makes it"));
    assert!(!runtime.path().join("wigwag").exists(), "looking makes nothing");

    let server = runtime.serve("camera", &["--do", "echo"]);
    let told = Told::by(&mut doctor(&runtime));
    told.nothing_is_wrong();
    assert!(told.one("directory-safe").1.contains("mode 700"), "{:#}", told.0);
    assert_eq!(told.one("names-alive").1, "1 name is in use");
    // Stopped is not dead.
    server.signal(Signal::SIGSTOP);
    let told = Told::by(doctor(&runtime).arg("--fix"));
    told.nothing_is_wrong();
    assert_eq!((told.one("names-alive").1, told.findings("name-dead").len()), ("1 name is in use", 0));
    server.signal(Signal::SIGCONT);
    assert_eq!(runtime.run(&["call", "camera", "x"]).succeeded().stdout, b"x");
}

#[test]
fn people_read_sections_of_eighty_columns() {
    let runtime = Runtime::new();
    let text = runtime.run(&["doctor"]).succeeded().text();
    for title in [
        "Runtime directory\n",
        "\nNames\n",
        "\nKernel\n",
        "\nLimits\n",
        "\nProcessors\n",
        "\nMemory\n",
        "\nNothing is wrong.",
    ] {
        assert!(text.contains(title), "{title:?} is missing in {text}");
    }
    let too_long = |line: &&str| line.len() > 80 && line.split_whitespace().count() > 4;
    assert_eq!(text.lines().find(too_long), None, "{text}");
}

#[test]
fn a_directory_of_the_wrong_mode_is_found_and_the_cure_helps() {
    let runtime = Runtime::new();
    let own = runtime.path().join("wigwag");
    std::fs::create_dir(&own).unwrap();
    for (path, mode) in [(own.as_path(), 0o777), (runtime.path(), 0o720)] {
        set_mode(path, mode);
        let told = Told::by(&mut doctor(&runtime));
        let (fact, cure) = told.wrong("directory-safe");
        assert!(fact.contains(&format!("mode {mode:o}")), "{fact}");
        assert_eq!(cure, format!("chmod go-w {}", path.display()));
        apply(cure);
        Told::by(&mut doctor(&runtime)).nothing_is_wrong();
        runtime.run(&["lock", "x", "--", "true"]).succeeded();
    }
}

#[test]
fn a_link_or_a_file_instead_of_the_directory_is_found_and_the_cure_helps() {
    let runtime = Runtime::new();
    let (own, elsewhere) = (runtime.path().join("wigwag"), runtime.path().join("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o700);
    let plant: [&dyn Fn(); 3] = [&|| symlink(&elsewhere, &own).unwrap(), &|| symlink("gone", &own).unwrap(), &|| {
        std::fs::write(&own, "").unwrap()
    }];
    for plant in plant {
        plant();
        let told = Told::by(&mut doctor(&runtime));
        let (fact, cure) = told.wrong("directory-safe");
        assert!(fact.contains("is not a directory, or a symbolic link to one"), "{fact}");
        assert!(cure.starts_with(&format!("rm {}: ", own.display())), "{cure}");
        apply(cure);
        Told::by(&mut doctor(&runtime)).nothing_is_wrong();
    }
    // The same one level up: the variable leads through a link.
    symlink(&elsewhere, &own).unwrap();
    let told = Told::by(doctor(&runtime).env("XDG_RUNTIME_DIR", &own));
    assert!(told.wrong("directory-safe").1.contains("set XDG_RUNTIME_DIR to the directory itself"));
}

#[test]
fn a_runtime_directory_that_is_not_there_or_no_path_is_found() {
    let runtime = Runtime::new();
    let gone = runtime.path().join("gone");
    let told = Told::by(doctor(&runtime).env("XDG_RUNTIME_DIR", &gone));
    let (fact, cure) = told.wrong("directory-safe");
    assert!(fact.contains("does not exist"), "{fact}");
    assert!(cure.starts_with("mkdir -m 700 "), "{cure}");
    apply(cure.split(", or").next().unwrap());
    Told::by(doctor(&runtime).env("XDG_RUNTIME_DIR", &gone)).nothing_is_wrong();

    let told = Told::by(doctor(&runtime).env("XDG_RUNTIME_DIR", "run").env("TMPDIR", runtime.path()));
    assert!(told.one("directory-variable").1.contains("no absolute path"));
    let own = format!("/tmp/wigwag-{}", std::fs::metadata("/proc/self").unwrap().uid());
    assert!(told.one("directory-place").1.contains(&own), "{:#}", told.0);
    let named = runtime.path().join("named");
    let told = Told::by(doctor(&runtime).env("WIGWAG_DIRECTORY", &named));
    told.nothing_is_wrong();
    let place = told.one("directory-place");
    assert!(place.1.contains("by WIGWAG_DIRECTORY") && place.1.contains(named.to_str().unwrap()), "{place:?}");
    let told = Told::by(doctor(&runtime).env("WIGWAG_DIRECTORY", "named"));
    assert!(told.wrong("directory-safe").0.contains("no absolute path"));
}

#[test]
fn stale_names_are_found_and_removed_and_what_lives_is_not() {
    let runtime = Runtime::new();
    let alive = runtime.serve("alive", &["--do", "echo"]);
    let killed = runtime.serve("killed", &["--do", "echo"]);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    let file = |name: &str| runtime.path().join("wigwag").join(name);
    std::fs::write(file("left.semaphore"), "").unwrap();
    assert!(file("killed.sock").exists());
    let told = Told::by(&mut doctor(&runtime));
    told.nothing_is_wrong();
    let dead: Vec<_> = told.findings("name-dead").iter().map(|finding| finding["fact"].as_str().unwrap()).collect();
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead[0].contains("the name killed") && dead[1].contains("the semaphore left"), "{dead:?}");
    assert!(file("killed.sock").exists() && file("left.semaphore").exists(), "nothing is removed without --fix");

    let told = Told::by(doctor(&runtime).arg("--fix"));
    assert_eq!((told.findings("name-removed").len(), told.findings("name-dead").len()), (2, 0), "{:#}", told.0);
    for gone in ["killed.sock", "killed.lock", "left.semaphore"] {
        assert!(!file(gone).exists(), "{gone}");
    }
    assert_eq!(runtime.run(&["call", "alive", "x"]).succeeded().stdout, b"x");
    drop(alive);
}

#[test]
fn n1_a_server_whose_socket_was_removed_takes_it_again_and_is_wrong_while_it_cannot() {
    let runtime = Runtime::new();
    let server = runtime.serve("hidden", &["--do", "echo"]);
    server.halt();
    std::fs::remove_file(&server.socket).unwrap();
    let told = Told::by(doctor(&runtime).arg("--fix"));
    let (level, fact, cure) = told.one("name-unreachable");
    assert!(level == "wrong" && fact.contains("hidden") && cure.contains("restart"), "{fact} {cure}");
    assert!(server.socket.with_extension("lock").exists(), "it lives: its lock stays");
    // The lock file, too: now only the process shows it.
    std::fs::remove_file(server.socket.with_extension("lock")).unwrap();
    let told = Told::by(&mut doctor(&runtime));
    let (fact, cure) = told.wrong("name-lost");
    assert!(fact.contains("hidden.sock") && cure.contains("kill "), "{fact} {cure}");
    server.signal(Signal::SIGCONT);
    let begin = std::time::Instant::now();
    while runtime.run(&["call", "hidden", "x"]).stdout != b"x" {
        assert!(begin.elapsed().as_secs() < 20, "it does not take its name again");
    }
    Told::by(&mut doctor(&runtime)).nothing_is_wrong();
}

#[test]
fn n1_a_semaphore_whose_file_was_removed_or_replaced_under_somebody_is_seen() {
    let runtime = Runtime::new();
    let gate = harness::Gate::new(&runtime);
    let _holding = Running(runtime.wigwag(["lock", "build", "--", "cat", "gate"]).spawn().unwrap());
    let file = runtime.path().join("wigwag/build.semaphore");
    let begin = std::time::Instant::now();
    let is_held = |told: &str| told.contains("1, 0 free");
    while !is_held(&runtime.run(&["inspect", "build"]).text()) {
        assert!(begin.elapsed().as_secs() < 20, "nobody holds it");
    }
    assert!(!runtime.run(&["inspect", "build"]).succeeded().text().contains("LOST"));
    Told::by(&mut doctor(&runtime)).nothing_is_wrong();
    std::fs::rename(&file, file.with_extension("kept")).unwrap();
    let is_told = || {
        let told = Told::by(&mut doctor(&runtime));
        let (fact, cure) = told.wrong("semaphore-lost");
        assert!(fact.contains("build.") && fact.contains("was removed, replaced or moved"), "{fact}");
        assert!(cure.contains("kill "), "{cure}");
    };
    is_told();
    std::fs::remove_file(file.with_extension("kept")).unwrap();
    is_told();
    let told = runtime.run(&["inspect", "build"]).succeeded();
    assert!(told.text().contains("LOST       its file was removed"), "{told:?}");
    let lost = runtime.run(&["inspect", "build", "--json"]).json()["lost_to"].as_array().map(Vec::len);
    assert!(lost >= Some(1), "{lost:?}");
    drop(gate);
}

#[test]
fn what_is_not_ours_is_told_and_left_alone() {
    let runtime = Runtime::new();
    runtime.run(&["lock", "x", "--", "true"]).succeeded();
    let file = |name: &str| runtime.path().join("wigwag").join(name);
    let _listener = UnixListener::bind(file("other.sock")).unwrap();
    std::fs::write(file("notes.sock"), "text").unwrap();
    let told = Told::by(doctor(&runtime).arg("--fix"));
    told.nothing_is_wrong();
    assert!(told.one("name-unguarded").1.contains("other") && told.one("name-foreign").1.contains("notes"));
    assert!(file("other.sock").exists() && file("notes.sock").exists());
}

#[test]
fn permits_of_the_dead_are_told_and_the_cure_helps() {
    let runtime = Runtime::new();
    let mut holder = runtime.wigwag(["lock", "job", "--", "sh", "-c", "echo; exec sleep 100"]);
    let mut holder = holder.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    // It and its command, which keeps the permit too.
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(holder.id() as i32), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    let mut rest = String::new();
    // until the command is gone, too
    std::io::Read::read_to_string(holder.stdout.as_mut().unwrap(), &mut rest).unwrap();
    let told = Told::by(doctor(&runtime).arg("--fix"));
    told.nothing_is_wrong();
    let (level, fact, cure) = told.one("name-owed");
    assert!(level == "note" && fact.contains("job") && cure.contains("wigwag lock job -- true"), "{fact} {cure}");
    assert_eq!(runtime.run(&["lock", "job", "--", "true"]).code, Some(0));
    assert_eq!(Told::by(&mut doctor(&runtime)).findings("name-owed").len(), 0);
}

/// `wigwag publish log`, which publishes what is written to it.
struct Publishing {
    publisher: Running,
    /// Its socket.
    path: std::path::PathBuf,
    published: u64,
}

impl Publishing {
    fn start(runtime: &Runtime, arguments: &[&str]) -> Publishing {
        let mut command = runtime.wigwag(["publish", "log"]);
        let child = command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        runtime.until_it_listens("log");
        Publishing { publisher: Running(child), path: runtime.path().join("wigwag/log.sock"), published: 0 }
    }

    /// Publishes so many messages that are too long for an entry, without waiting until they are published.
    fn write(&mut self, count: u64) {
        let input = self.publisher.0.stdin.as_mut().unwrap();
        (0..count).for_each(|_| writeln!(input, "{}", "x".repeat(100)).unwrap());
    }

    /// Publishes so many messages.
    #[track_caller]
    fn publish(&mut self, count: u64) {
        self.write(count);
        self.published += count;
        self.until(|seen| seen.published == self.published);
    }

    #[track_caller]
    fn until(&self, is_so: impl Fn(&wigwag::observe::Snapshot) -> bool) {
        let observers = wigwag::observe::Observer::all();
        let observer = observers.iter().find(|observer| observer.service().path == self.path).expect("it is there");
        let begin = std::time::Instant::now();
        while !is_so(&observer.snapshot().unwrap()) {
            assert!(begin.elapsed() < harness::LIMIT, "it does not come to that");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[test]
fn what_subscribers_lose_hold_and_do_not_read_is_told() {
    let runtime = Runtime::new();
    let mut log = Publishing::start(&runtime, &["--history", "2"]);
    let told = Told::by(&mut doctor(&runtime));
    told.nothing_is_wrong();
    let expected = "log: 0 messages published, 0 subscribers; it keeps 2 messages, and waits for nobody";
    assert_eq!(told.one("publisher").1, expected);

    let mut holder = wigwag::Subscriber::connect(&log.path).unwrap();
    // The first one may be a copy.
    let held = std::iter::repeat_with(|| {
        log.publish(1);
        holder.recv().unwrap()
    });
    let held = held.take(1000).find(wigwag::Message::is_in_place).expect("it is held");
    let slow = wigwag::Subscriber::connect(&log.path).unwrap();
    let stopped = Running(runtime.wigwag(["subscribe", "log"]).stdout(Stdio::null()).spawn().unwrap());
    log.until(|seen| seen.sessions.len() == 3 && seen.sessions.iter().all(|it| it.subscription.is_some()));
    stopped.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", stopped.0.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for _ in 0..9 {
        log.publish(1);
        holder.recv_into(&mut Vec::new()).unwrap();
    }
    let told = Told::by(&mut doctor(&runtime));
    told.nothing_is_wrong();
    let (level, fact, cure) = told.one("subscriber-holds");
    assert!(level == "note" && fact.contains("1 subscriber holds messages of log"), "{fact}");
    assert!(fact.contains(&format!("{} holds 1;", std::process::id())) && cure.contains("recv_into"), "{fact} {cure}");
    let (level, fact, cure) = told.one("subscriber-loses");
    assert!(level == "note" && fact.contains("2 subscribers of log cannot keep up"), "{fact}");
    assert!(fact.contains("has lost 7 messages, and has taken 0"), "{fact}");
    assert!(cure.contains("--history, now 2") && cure.contains("--patience"), "{cure}");
    let (level, fact, cure) = told.one("subscriber-stopped");
    assert!(level == "note" && fact.contains("1 subscriber of log is stopped"), "{fact}");
    assert!(cure.contains(&format!("kill -CONT {}", stopped.0.id())), "{cure}");
    // Whoever lets go is told of no more, and a publisher forgets who is gone with its next message.
    drop((held, slow, stopped));
    log.publish(1);
    holder.recv_into(&mut Vec::new()).unwrap();
    log.until(|seen| seen.sessions.len() == 1);
    let told = Told::by(&mut doctor(&runtime));
    for check in ["subscriber-holds", "subscriber-loses", "subscriber-stopped"] {
        assert!(told.findings(check).is_empty(), "{:#}", told.0);
    }
}

#[test]
fn a_publisher_that_waits_and_whom_it_cut_off_are_told() {
    let runtime = Runtime::new();
    let mut log = Publishing::start(&runtime, &["--history", "2", "--patience", "100"]);
    let subscriber = wigwag::Subscriber::connect(&log.path).unwrap();
    log.until(|seen| seen.sessions.len() == 1);
    log.write(5);
    log.until(|seen| seen.published == 3);
    let told = Told::by(&mut doctor(&runtime));
    told.nothing_is_wrong();
    let (_, fact, cure) = told.one("publisher-waits");
    assert!(fact.contains("log does not publish") && fact.contains("is 3 messages behind"), "{fact}");
    assert!(cure.contains("--history, now 2") && cure.contains("--patience"), "{cure}");
    assert!(told.findings("subscriber-loses").is_empty(), "nothing is lost: {:#}", told.0);
    drop(subscriber);
    log.until(|seen| seen.published == 5);
    assert!(Told::by(&mut doctor(&runtime)).findings("publisher-waits").is_empty());
    drop(log);

    let mut log = Publishing::start(&runtime, &["--history", "2", "--patience", "0.01"]);
    let _subscriber = wigwag::Subscriber::connect(&log.path).unwrap();
    log.until(|seen| seen.sessions.len() == 1);
    log.publish(5);
    let told = Told::by(&mut doctor(&runtime));
    let (level, fact, cure) = told.one("subscriber-cut-off");
    assert!(level == "note" && fact.contains("log has cut off 1 subscriber") && cure.contains("--patience"), "{fact}");
}

#[test]
fn a_pool_near_its_limit_or_with_too_few_holds_is_told() {
    let runtime = Runtime::new();
    let log = Publishing::start(&runtime, &[]);
    let mut subscribers: Vec<_> = (0..2).map(|_| wigwag::Subscriber::connect(&log.path).unwrap()).collect();
    let told = Told::by(&mut doctor(&runtime));
    assert!(told.findings("subscribers-copy").is_empty() && told.findings("publisher-memory").is_empty());
    subscribers.extend((0..22).map(|_| wigwag::Subscriber::connect(&log.path).unwrap()));
    let told = Told::by(&mut doctor(&runtime));
    let (level, fact, cure) = told.one("subscribers-copy");
    assert!(level == "note" && fact.contains("may ask for 96") && cure.contains("max_holds"), "{fact} {cure}");
    drop(log);

    // Of 64 GiB; nothing of it is touched.
    let _log = Publishing::start(&runtime, &["--history", "1", "--capacity", "900M"]);
    let told = Told::by(&mut doctor(&runtime));
    let (_, fact, cure) = told.one("publisher-memory");
    assert!(fact.contains("subscribers are refused") && cure.contains("--capacity, now 943,718,400"), "{fact} {cure}");
}

/// The doctor as it is started under a limit.
fn limited(runtime: &Runtime, resource: Resource, soft: u64, hard: u64) -> Told {
    let mut command = doctor(runtime);
    // SAFETY: between fork and exec only one system call is made.
    unsafe {
        command.pre_exec(move || setrlimit(resource, soft, hard).map_err(Into::into));
    }
    Told::by(&mut command)
}

#[test]
fn low_limits_are_told_with_what_they_allow() {
    let runtime = Runtime::new();
    let told = limited(&runtime, Resource::RLIMIT_NOFILE, 40, 512);
    let (fact, cure) = told.wrong("limit-descriptors");
    assert!(fact.contains("40 descriptors") && cure.contains("ulimit -n 512"), "{fact} {cure}");
    let told = limited(&runtime, Resource::RLIMIT_NOFILE, 256, 256);
    let (level, fact, cure) = told.one("limit-descriptors");
    assert!(level == "note" && fact.contains("about 60 sessions") && cure.contains("only root"), "{fact} {cure}");
    let told = limited(&runtime, Resource::RLIMIT_FSIZE, 1 << 20, 1 << 20);
    assert!(told.wrong("limit-file-size").1.contains("ulimit -f"));
}

#[test]
fn one_processor_is_told_with_what_it_costs() {
    let runtime = Runtime::new();
    let mut command = doctor(&runtime);
    // SAFETY: between fork and exec only system calls are made; the sets live on the stack.
    unsafe {
        command.pre_exec(|| {
            let mut allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
            let first = (0..nix::sched::CpuSet::count()).find(|&one| allowed.is_set(one).unwrap_or(false)).unwrap_or(0);
            allowed = nix::sched::CpuSet::new();
            allowed.set(first)?;
            Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &allowed)?)
        });
    }
    let told = Told::by(&mut command);
    told.nothing_is_wrong();
    let (level, fact, _) = told.one("processors-allowed");
    assert!(level == "note" && fact.contains("nobody spins"), "{fact}");
}

mod sandboxed {
    //! An older kernel, played by a sandbox: system calls that it does not have fail as there.

    use super::*;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    /// A call that is refused if these arguments are so.
    type Refused = (i64, Vec<(u8, SeccompCmpOp, u64)>);

    fn sandbox(refused: Vec<Refused>, errno: i32) -> BpfProgram {
        let mut rules = std::collections::BTreeMap::<i64, Vec<SeccompRule>>::new();
        for (call, arguments) in refused {
            let condition =
                |(argument, operator, value)| SeccompCondition::new(argument, Dword, operator, value).unwrap();
            let conditions = arguments.into_iter().map(condition).collect();
            rules.entry(call).or_default().push(SeccompRule::new(conditions).unwrap());
        }
        let machine = std::env::consts::ARCH.try_into().unwrap();
        let (otherwise, then) = (SeccompAction::Allow, SeccompAction::Errno(errno as u32));
        SeccompFilter::new(rules, otherwise, then, machine).unwrap().try_into().unwrap()
    }

    fn within(mut command: Command, sandboxes: Vec<BpfProgram>) -> Command {
        // SAFETY: between fork and exec only system calls are made, with memory that was made before.
        unsafe {
            command.pre_exec(move || {
                for sandbox in &sandboxes {
                    seccompiler::apply_filter(sandbox).map_err(|_| std::io::Error::from_raw_os_error(libc::EPERM))?;
                }
                Ok(())
            });
        }
        command
    }

    /// Linux 5.0, with the pidfd of 5.3 missing too.
    fn old_kernel() -> Vec<BpfProgram> {
        let is = |argument: u8, value: u64| (argument, SeccompCmpOp::Eq, value);
        let has = |argument: u8, bit: u64| (argument, SeccompCmpOp::MaskedEq(bit), bit);
        let seal = vec![is(1, libc::F_ADD_SEALS as u64), has(2, libc::F_SEAL_FUTURE_WRITE as u64)];
        let invalid = vec![
            (libc::SYS_memfd_create, vec![has(1, libc::MFD_NOEXEC_SEAL.into())]),
            (libc::SYS_fcntl, seal),
            (libc::SYS_madvise, vec![is(2, libc::MADV_POPULATE_WRITE as u64)]),
        ];
        // SO_PEERPIDFD and SO_PASSRIGHTS.
        let unknown = vec![(libc::SYS_getsockopt, vec![is(2, 77)]), (libc::SYS_setsockopt, vec![is(2, 83)])];
        let absent = vec![(libc::SYS_pidfd_open, vec![is(1, 0)])];
        vec![sandbox(invalid, libc::EINVAL), sandbox(unknown, libc::ENOPROTOOPT), sandbox(absent, libc::ENOSYS)]
    }

    #[test]
    fn features_that_are_missing_are_told_with_what_falls_back() {
        let runtime = Runtime::new();
        let told = Told::by(&mut within(doctor(&runtime), old_kernel()));
        told.nothing_is_wrong();
        let facts: Vec<_> = told.findings("kernel-feature").iter().map(|finding| finding["fact"].to_string()).collect();
        for name in [
            "MFD_NOEXEC_SEAL",
            "F_SEAL_FUTURE_WRITE",
            "SO_PEERPIDFD",
            "pidfd_open",
            "SO_PASSRIGHTS",
            "MADV_POPULATE_WRITE",
        ] {
            assert!(facts.iter().any(|fact| fact.contains(&format!("without {name} "))), "{name}: {facts:#?}");
        }
        assert_eq!(facts.len(), 6, "{facts:#?}");
        // What is said to fall back does.
        let mut server = within(runtime.wigwag(["serve", "old", "--do", "upper", "--json"]), old_kernel());
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let called = within(runtime.wigwag(["call", "old", "hello"]), old_kernel()).output_in_time();
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(Ended::from(called).succeeded().stdout, b"HELLO");
    }

    #[test]
    fn without_what_is_needed_something_is_wrong() {
        let runtime = Runtime::new();
        let none = sandbox(vec![(libc::SYS_memfd_create, vec![(0, SeccompCmpOp::Ne, 0)])], libc::EPERM);
        let told = Told::by(&mut within(doctor(&runtime), vec![none]));
        assert_eq!(told.1, Some(1));
        let facts: Vec<_> =
            told.findings("kernel-feature").iter().map(|finding| finding["level"].as_str().unwrap()).collect();
        assert!(facts.contains(&"wrong"), "{:#}", told.0);
    }
}
