//! The program among other programs: what it inherits and passes on, how it ends, and what becomes of its commands.

mod harness;
#[path = "harness/screen.rs"]
mod screen;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Ended, LIMIT, OutputInTime as _, Running, Runtime};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use screen::Screen;

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Lets a program begin with signals that are ignored, or blocked.
fn begin_with(command: &mut Command, ignored: &'static [Signal], blocked: &'static [Signal]) {
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            for one in ignored {
                let action = SigAction::new(SigHandler::SigIgn, SaFlags::SA_NOCLDWAIT, SigSet::empty());
                sigaction(*one, &action)?;
            }
            Ok(blocked.iter().copied().collect::<SigSet>().thread_block()?)
        });
    }
}

/// The signals of a line of /proc/PID/status, as bits.
fn bits(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

/// How the commands of a subcommand begin, if the subcommand began with these signals ignored and blocked.
fn status_of_commands(subcommand: &str, ignored: &'static [Signal], blocked: &'static [Signal]) -> String {
    let runtime = Runtime::new();
    let mut command = match subcommand {
        "lock" => runtime.wigwag(["lock", "job", "cat", "/proc/self/status"]),
        _ => runtime.wigwag(["serve", "look", "--exec", "cat /proc/self/status"]),
    };
    begin_with(&mut command, ignored, blocked);
    if subcommand == "lock" {
        return Ended::from(command.output_in_time()).succeeded().text();
    }
    let _serving = Running(command.stdout(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("look");
    runtime.run(&["call", "look", "x"]).succeeded().text()
}

#[test]
fn c1_what_was_ignored_stays_ignored_and_nothing_else_is() {
    const ENDING: &[Signal] =
        &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE, Signal::SIGQUIT, Signal::SIGTSTP];
    for subcommand in ["lock", "serve"] {
        let status = status_of_commands(subcommand, ENDING, &[]);
        for signal in ENDING {
            assert!(bits(&status, "SigIgn") & bit(*signal) != 0, "{subcommand}: {signal} was ignored");
        }
        let status = status_of_commands(subcommand, &[], &[Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGUSR1]);
        for signal in ENDING {
            assert!(bits(&status, "SigIgn") & bit(*signal) == 0, "{subcommand}: {signal} was not ignored");
        }
        assert_eq!(bits(&status, "SigBlk") & 0x7fff_ffff, 0, "{subcommand}");
    }
}

#[test]
fn c1_a_program_that_ignores_the_end_of_its_terminal_goes_on() {
    let runtime = Runtime::new();
    let mut locked = runtime.wigwag(["lock", "job", "-c", "echo up; read line; echo $line"]);
    begin_with(&mut locked, &[Signal::SIGHUP, Signal::SIGINT], &[]);
    let mut locked = Running(locked.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut output = BufReader::new(locked.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let mut serving = runtime.wigwag(["serve", "shout", "--do", "upper"]);
    begin_with(&mut serving, &[Signal::SIGHUP, Signal::SIGINT], &[]);
    let mut serving = Running(serving.stdout(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("shout");
    let mut receiving = runtime.wigwag(["queue", "recv", "jobs", "--keep"]);
    begin_with(&mut receiving, &[Signal::SIGHUP, Signal::SIGINT], &[]);
    let mut receiving = Running(receiving.stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("jobs");
    for one in [Signal::SIGHUP, Signal::SIGINT] {
        for child in [&locked.0, &serving.0, &receiving.0] {
            signal(child, one);
        }
    }
    assert_eq!(runtime.run(&["call", "shout", "x"]).succeeded().text(), "X");
    runtime.shell("echo order | wigwag queue send jobs").status().unwrap();
    signal(&receiving.0, Signal::SIGTERM);
    assert_eq!((receiving.output().as_str(), receiving.code()), ("order\n", Some(0)));
    std::io::Write::write_all(&mut locked.0.stdin.take().unwrap(), b"survived\n").unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), locked.code()), ("survived\n", Some(0)));
    signal(&serving.0, Signal::SIGTERM);
    assert_eq!(serving.code(), Some(0));
}

#[test]
fn c1_a_signal_that_was_blocked_arrives() {
    let runtime = Runtime::new();
    let mut serving = runtime.wigwag(["serve", "shout", "--do", "upper"]);
    begin_with(&mut serving, &[], &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    let mut serving = Running(serving.stdout(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("shout");
    signal(&serving.0, Signal::SIGTERM);
    assert_eq!(serving.code(), Some(0));
}

#[test]
fn c2_children_are_waited_for_although_whoever_started_us_did_not_want_its_own() {
    let runtime = Runtime::new();
    let mut locked = runtime.wigwag(["lock", "job", "-c", "exit 7"]);
    begin_with(&mut locked, &[Signal::SIGCHLD], &[]);
    assert_eq!(locked.status().unwrap().code(), Some(7));
    let mut serving = runtime.wigwag(["serve", "name", "--exec", "cat; exit 0"]);
    begin_with(&mut serving, &[Signal::SIGCHLD], &[]);
    let _serving = Running(serving.stdout(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("name");
    for _ in 0..3 {
        assert_eq!(runtime.run(&["call", "name", "x"]).succeeded().text(), "x");
    }
}

/// A server whose command says in the file `PID` that it runs, and waits for the pipe `gate`.
fn serve_and_wait(runtime: &Runtime, arguments: &[&str]) -> Running {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        runtime.path().join("gate"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let script = "echo $$ > pid.new; mv pid.new pid; cat gate; echo done";
    let mut command = runtime.wigwag([&["serve", "name", "--exec", script], arguments].concat());
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("name");
    running
}

fn call(runtime: &Runtime, arguments: &[&str]) -> Running {
    let mut command = runtime.wigwag([&["call", "name", "x"], arguments].concat());
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn pid_of_command(runtime: &Runtime) -> i32 {
    let path = runtime.path().join("pid");
    eventually("the command runs", || path.exists());
    let pid = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    std::fs::remove_file(path).unwrap();
    pid
}

fn is_there(process: i32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn c3_commands_end_by_themselves_at_ctrl_c_and_are_ended_by_a_second_one() {
    let runtime = Runtime::new();
    let mut serving = serve_and_wait(&runtime, &[]);
    let mut calling = call(&runtime, &[]);
    let command = pid_of_command(&runtime);
    assert_eq!(nix::unistd::getpgid(Some(Pid::from_raw(command))).unwrap().as_raw(), command, "a group of its own");
    signal(&serving.0, Signal::SIGINT);
    // It takes no more, and so it has heard.
    eventually("it ends", || runtime.run(&["call", "name", "y", "--timeout", "0.05"]).code != Some(5));
    assert!(is_there(command));
    std::fs::write(runtime.path().join("gate"), "through").unwrap();
    assert_eq!((calling.output().as_str(), calling.code()), ("throughdone\n", Some(0)));
    assert_eq!(serving.code(), Some(0));

    std::fs::remove_file(runtime.path().join("gate")).unwrap();
    let mut serving = serve_and_wait(&runtime, &[]);
    let mut calling = call(&runtime, &[]);
    let command = pid_of_command(&runtime);
    signal(&serving.0, Signal::SIGINT);
    eventually("it ends", || runtime.run(&["call", "name", "y", "--timeout", "0.05"]).code != Some(5));
    signal(&serving.0, Signal::SIGINT);
    assert_eq!(serving.code(), Some(130));
    eventually("the command is ended, too", || !is_there(command));
    assert_ne!(calling.code(), Some(0));
}

#[test]
fn c3_ctrl_c_and_ctrl_z_of_a_terminal_do_not_reach_the_commands() {
    let runtime = Runtime::new();
    let script = "echo $$ > pid.new; mv pid.new pid; cat gate; (echo x > /dev/tty) 2>/dev/null || echo no terminal";
    let gate = harness::Gate::new(&runtime);
    let mut screen = Screen::start(runtime.wigwag(["serve", "name", "--exec", script]), 24, 80);
    runtime.until_it_listens("name");
    screen.until("it says so", |text| text.contains("Stop it with Ctrl-C."));
    let mut calling = call(&runtime, &[]);
    let command = pid_of_command(&runtime);
    screen.press("\x03");
    eventually("it takes no more", || runtime.run(&["call", "name", "y", "--timeout", "0.05"]).code != Some(5));
    assert!(is_there(command));
    drop(gate);
    assert_eq!((calling.output().as_str(), calling.code()), ("no terminal\n", Some(0)));
    assert_eq!(screen.wait().code(), Some(0));
}

#[test]
fn c4_the_reply_is_there_when_the_command_ends_whoever_holds_its_output() {
    let runtime = Runtime::new();
    let gate = harness::Gate::new(&runtime);
    let _serving = runtime.serve("name", &["--exec", "cat gate & echo hi"]);
    for _ in 0..3 {
        assert_eq!(runtime.run(&["call", "name", "x"]).succeeded().text(), "hi\n");
    }
    drop(gate); // the readers end
}

#[test]
fn c4_who_gives_up_stops_the_command_and_frees_the_thread() {
    let runtime = Runtime::new();
    // What it starts is ended with it, and what does not listen to SIGTERM.
    let script = "trap '' TERM; sleep 1000 & echo $! > inner; echo $$ > pid.new; mv pid.new pid; cat; wait";
    let serving = runtime.serve("name", &["--exec", &format!("[ $(cat) = quick ] && exec echo quick; {script}")]);
    let calling = call(&runtime, &["--timeout", "0.3"]);
    let command = pid_of_command(&runtime);
    let inner: i32 = std::fs::read_to_string(runtime.path().join("inner")).unwrap().trim().parse().unwrap();
    drop(calling);
    assert_eq!(runtime.run(&["call", "name", "quick"]).succeeded().text(), "quick\n");
    eventually("both are gone", || !is_there(command) && !is_there(inner));
    drop(serving);
}

#[test]
fn c4_a_command_has_a_time_and_is_ended_when_it_is_over() {
    let runtime = Runtime::new();
    let mut serving = serve_and_wait(&runtime, &["--timeout", "0.2"]);
    let mut calling = call(&runtime, &[]);
    let command = pid_of_command(&runtime);
    assert_eq!(calling.code(), Some(1));
    let mut said = String::new();
    calling.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("did not end within 200 ms") && said.contains("--timeout"), "{said}");
    eventually("it is gone", || !is_there(command));
    signal(&serving.0, Signal::SIGTERM);
    assert_eq!(serving.code(), Some(0));
    assert_eq!(runtime.run(&["serve", "x", "--do", "echo", "--timeout", "1"]).code, Some(2), "there is no command");
}

/// A program as the first process of a namespace; it is found by the lines that it prints. `None`: not possible here.
fn first_process(runtime: &Runtime, arguments: &[&str]) -> Option<Running> {
    let can = Command::new("unshare").args(["--user", "--map-root-user", "--pid", "--fork", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine lets nobody make a namespace");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_wigwag")]);
    command.args(arguments).env("XDG_RUNTIME_DIR", runtime.path()).current_dir(runtime.path()).stdin(Stdio::null());
    Some(Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()))
}

/// The only child of a process.
fn child_of(process: u32) -> i32 {
    let mut found = None;
    eventually("there is a child", || {
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        found = children.split_whitespace().next().and_then(|child| child.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn c5_the_first_process_of_a_namespace_ends_in_order() {
    let runtime = Runtime::new();
    let long = ["lock", "job", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done"];
    let cases: [(&[&str], i32); 5] = [
        (&["serve", "name", "--do", "echo"], 0),
        (&["metrics", "--listen", "0"], 0),
        (&["queue", "recv", "name", "--keep"], 0),
        (&["stream", "listen", "name"], 143),
        (&long, 9),
    ];
    for (arguments, code) in cases {
        let Some(mut running) = first_process(&runtime, arguments) else { return };
        match arguments[0] {
            "queue" | "stream" => runtime.until_it_listens("name"),
            _ => {
                let mut line = String::new();
                BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
                assert!(!line.is_empty(), "{arguments:?}");
            }
        }
        kill(Pid::from_raw(child_of(running.0.id())), Signal::SIGTERM).unwrap();
        assert_eq!(running.code(), Some(code), "{arguments:?}");
        assert!(!runtime.path().join("wigwag/name.sock").exists(), "{arguments:?}");
    }
    // One that would be ended by the default action of the signal.
    let _serving = runtime.serve("hangs", &["--exec", "cat gate; sleep 100"]);
    let Some(mut calling) = first_process(&runtime, &["call", "hangs", "x"]) else { return };
    let first = child_of(calling.0.id());
    eventually("it calls", || runtime.run(&["inspect", "hangs"]).text().contains("serving"));
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    assert_eq!(calling.code(), Some(143));
    for (script, code) in [("exit 7", 7), ("kill -KILL $$", 137)] {
        let Some(mut running) = first_process(&runtime, &["lock", "job", "-c", script]) else { return };
        assert_eq!(running.code(), Some(code), "{script}");
    }
}

#[test]
fn c5_the_first_process_of_a_namespace_waits_for_orphans() {
    let runtime = Runtime::new();
    let script = "(sh -c 'echo $$ > orphan.new; mv orphan.new orphan' &) ; true";
    let Some(running) = first_process(&runtime, &["serve", "name", "--exec", script]) else { return };
    let first = child_of(running.0.id());
    runtime.until_it_listens("name");
    for _ in 0..5 {
        runtime.run(&["call", "name", "x"]).succeeded();
    }
    // In the namespace: the first process, the server, and nobody who has ended and is not waited for.
    let zombies = || {
        let mut count = 0;
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            count += usize::from(stat.contains(") Z "));
        }
        (count, children.split_whitespace().count())
    };
    eventually("the orphans are gone", || zombies() == (0, 1));
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
}

#[test]
fn c5_a_terminal_that_goes_away_ends_top_in_order() {
    let runtime = Runtime::new();
    for ignored in [&[][..], &[Signal::SIGHUP]] {
        let mut command = runtime.wigwag(["top", "--interval", "0.1"]);
        begin_with(&mut command, ignored, &[]);
        let screen = Screen::start(command, 24, 80);
        screen.until("it is there", |text| text.contains("No service of this user runs"));
        let status = screen.hang_up();
        assert_eq!(status.signal(), None, "{status}");
        assert!([Some(0), Some(129)].contains(&status.code()), "{status}");
    }
}

#[test]
fn c5_a_server_needs_nobody_who_reads_and_no_standard_streams() {
    let runtime = Runtime::new();
    // Nobody reads what is printed.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut metrics = Running(runtime.wigwag(["metrics", "--listen", "0"]).stdout(writer).spawn().unwrap());
    // No standard streams at all: what it opens must not take their numbers.
    let script = "exec \"$WIGWAG\" serve name --do upper <&- >&- 2>&-";
    let mut serving = Running(runtime.shell(script).spawn().unwrap());
    runtime.until_it_listens("name");
    assert_eq!(runtime.run(&["call", "name", "x"]).succeeded().text(), "X");
    for descriptor in 0..3 {
        let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", serving.0.id())).unwrap();
        assert_eq!(link, Path::new("/dev/null"));
    }
    signal(&serving.0, Signal::SIGTERM);
    assert_eq!(serving.code(), Some(0));
    assert_eq!(metrics.0.try_wait().unwrap(), None, "it goes on");
    signal(&metrics.0, Signal::SIGTERM);
    assert_eq!(metrics.code(), Some(0));
}

#[test]
fn c5_what_cannot_be_printed_is_not_taken() {
    let runtime = Runtime::new();
    let _serving = runtime.serve("shout", &["--do", "upper"]);
    for script in ["wigwag call shout x >&-", "wigwag ls >&-", "wigwag queue recv jobs >&-", "wigwag call shout <&-"] {
        let ended = Ended::from(runtime.shell(script).output_in_time());
        assert_eq!(ended.code, Some(1), "{script}: {ended:?}");
        assert!(ended.stderr.contains("is closed"), "{script}: {ended:?}");
    }
    for script in ["wigwag call shout x > /dev/full", "wigwag ls > /dev/full", "wigwag inspect shout > /dev/full"] {
        let ended = Ended::from(runtime.shell(script).output_in_time());
        let complaint = ended.failed(1);
        assert!(complaint.contains("o space left"), "{script}: {complaint}");
    }
    // An error that nobody can be told is the same error.
    for script in ["wigwag call nobody x 2> /dev/full", "wigwag call nobody x 2>&-"] {
        assert_eq!(runtime.shell(script).status().unwrap().code(), Some(3), "{script}");
    }
    assert_eq!(runtime.shell("wigwag ls | head -1").status().unwrap().code(), Some(0));
}

#[test]
fn c7_the_advice_fits_what_was_asked_for() {
    let runtime = Runtime::new();
    let cases: [(&[&str], &str); 4] = [
        (&["call", "nobody", "x"], "; start one with `wigwag serve nobody --do echo`."),
        (&["queue", "send", "nobody"], "; start one with `wigwag queue recv nobody --keep`."),
        (&["queue", "send", "--timeout", "0.05", "nobody"], "; start one with `wigwag queue recv nobody --keep`."),
        (&["stream", "connect", "nobody"], "; start one with `wigwag stream listen nobody`."),
    ];
    for (arguments, advice) in cases {
        let complaint = runtime.run(arguments).failed(3);
        assert!(complaint.ends_with(&format!("{advice}\n")) && !complaint.contains("::"), "{complaint}");
    }
    let _calls = runtime.serve("calls", &["--do", "upper"]);
    let _queue = Running(runtime.wigwag(["queue", "recv", "jobs", "--keep"]).stdout(Stdio::null()).spawn().unwrap());
    let _stream = Running(runtime.wigwag(["stream", "listen", "log", "--keep"]).stdout(Stdio::null()).spawn().unwrap());
    runtime.until_it_listens("jobs");
    runtime.until_it_listens("log");
    for (name, right) in
        [("calls", "wigwag call calls"), ("jobs", "wigwag queue send jobs"), ("log", "wigwag stream connect log")]
    {
        for wrong in [&["call", name, "x"][..], &["queue", "send", name], &["stream", "connect", name]] {
            if right.starts_with(&format!("wigwag {}", wrong[0])) {
                continue;
            }
            let complaint = runtime.run(wrong).failed(4);
            assert!(complaint.contains(&format!("use `{right}`")), "{wrong:?}: {complaint}");
        }
    }
}

#[test]
fn c7_what_is_advised_does_what_it_says_when_it_is_typed() {
    let runtime = Runtime::new();
    for name in ["nobody", "-x", "--help", "it's one"] {
        for ask in [&["call", "--", name, "x"][..], &["queue", "send", "--", name], &["stream", "connect", "--", name]]
        {
            let complaint = runtime.run(ask).failed(3);
            let advice = complaint.split('`').rev().nth(1).unwrap();
            assert!(advice.starts_with("wigwag "), "{complaint}");
            let mut shell = runtime.shell(&format!("exec {advice}"));
            let mut advised = Running(shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
            eventually(advice, || {
                assert_eq!(advised.0.try_wait().unwrap(), None, "{advice}");
                runtime.path().join(format!("wigwag/{name}.sock")).exists()
            });
            signal(&advised.0, Signal::SIGTERM);
            advised.code();
        }
    }
    // A server that takes less than was sent, likewise.
    let _serving = runtime.serve("small", &["--do", "echo", "--capacity", "1"]);
    let complaint = runtime.run(&["call", "small", "xy"]).failed(1);
    assert!(complaint.contains("`wigwag serve small --capacity 2 ...`"), "{complaint}");
}

/// Another user than root.
const OTHER: u32 = 60_123;

#[test]
fn c6_a_server_of_another_user_is_called_by_saying_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can play another user");
        return;
    }
    let runtime = Runtime::new();
    let path = runtime.path().join("their");
    std::fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(OTHER), Some(OTHER)).unwrap();
    // The other user must get there, and to the program.
    for directory in [runtime.path(), &path] {
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let program = path.join("wigwag");
    std::fs::copy(env!("CARGO_BIN_EXE_wigwag"), &program).unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(&path).env_clear().uid(OTHER).gid(OTHER).stdin(Stdio::null());
        Running(command.stdout(Stdio::piped()).spawn().unwrap())
    };
    let socket = |name: &str| {
        let socket = path.join(name);
        harness::until_it_listens(&socket);
        socket.to_str().unwrap().to_owned()
    };
    let _serving = start(&["serve", "./shout", "--do", "upper", "--allow-user", "root"]);
    let mut receiving = start(&["queue", "recv", "./jobs", "--allow-group", "root"]);
    let mut listening = start(&["stream", "listen", "./log", "--allow-everyone"]);
    let (shout, jobs, log) = (socket("shout"), socket("jobs"), socket("log"));
    let forms: [&[&str]; 3] = [&["call", &shout, "x"], &["queue", "send", &jobs], &["stream", "connect", &log]];
    for arguments in forms {
        let complaint = runtime.run(arguments).failed(2);
        assert!(
            complaint.contains("belongs to user 60123") && complaint.contains("--server-user 60123"),
            "{complaint}"
        );
        assert!(!complaint.contains("chmod") && !complaint.contains("::"), "{complaint}");
        let complaint = runtime.run(&[arguments, &["--server-user", "12345"]].concat()).failed(2);
        assert!(complaint.contains("not to user 12345"), "{complaint}");
    }
    let user = ["--server-user", "60123"];
    assert_eq!(runtime.run(&[forms[0], &user].concat()).succeeded().text(), "X");
    let their = runtime.shell(&format!("echo order | wigwag queue send {jobs} --server-user 60123")).status().unwrap();
    assert!(their.success());
    assert_eq!(receiving.output(), "order\n");
    let their =
        runtime.shell(&format!("echo line | wigwag stream connect {log} --server-user 60123")).status().unwrap();
    assert!(their.success());
    assert_eq!(listening.output(), "line\n");
    // A client that is not let in is told which flag would let it in.
    let _closed = start(&["serve", "./closed", "--do", "upper", "--allow-user", "12345"]);
    let closed = socket("closed");
    let complaint = runtime.run(&["call", &closed, "x", "--server-user", "60123"]).failed(4);
    assert!(complaint.contains("--allow-user") && !complaint.contains("::"), "{complaint}");
    // A name is looked for where this user's names are.
    let complaint = runtime.run(&["call", "nobody", "x", "--server-user", "60123"]).failed(3);
    assert!(complaint.contains("give the path"), "{complaint}");
}

#[test]
fn a_sender_waits_for_the_next_receiver_and_says_so() {
    let runtime = Runtime::new();
    let mut first = Running(runtime.wigwag(["queue", "recv", "name"]).stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("name");
    let mut sending = runtime.shell("seq 1000 | wigwag queue send name");
    let mut sending = Running(sending.stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!((first.output().as_str(), first.code()), ("1\n", Some(0)));
    let mut line = String::new();
    BufReader::new(sending.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("waiting for the next one, `wigwag queue recv name --keep`"), "{line}");
    let mut next =
        Running(runtime.wigwag(["queue", "recv", "name", "--count", "999"]).stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(next.output().lines().last(), Some("1000"));
    assert_eq!((sending.code(), next.code()), (Some(0), Some(0)));
    // With a time it ends, in words that fit a program that ends.
    let mut first = Running(runtime.wigwag(["queue", "recv", "name"]).stdout(Stdio::piped()).spawn().unwrap());
    runtime.until_it_listens("name");
    let ended = Ended::from(runtime.shell("seq 1000 | wigwag queue send name --timeout 0.1").output_in_time());
    assert_eq!(first.code(), Some(0));
    let complaint = ended.failed(3);
    assert!(complaint.contains("within 100 ms (--timeout)") && !complaint.contains("::"), "{complaint}");
}

#[test]
fn c4_a_caller_that_is_killed_stops_the_command_and_frees_the_thread() {
    let runtime = Runtime::new();
    let script = "[ $(cat) = quick ] && exec echo quick; echo $$ > pid.new; mv pid.new pid; sleep 1000";
    let _serving = runtime.serve("name", &["--exec", script]);
    let calling = call(&runtime, &[]);
    let command = pid_of_command(&runtime);
    drop(calling); // killed
    assert_eq!(runtime.run(&["call", "name", "quick"]).succeeded().text(), "quick\n");
    eventually("it is gone", || !is_there(command));
}

#[test]
fn a_server_that_is_killed_takes_its_commands_with_it() {
    let is_running = |process: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    };
    // One program, which the shell becomes, and a shell that is at work itself.
    for script in ["exec sleep 1000", "while :; do :; done"] {
        let runtime = Runtime::new();
        let script = format!("echo $$ > pid.new; mv pid.new pid; {script}");
        let mut command = runtime.wigwag(["serve", "name", "--exec", &script, "--threads", "2"]);
        let mut serving = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        runtime.until_it_listens("name");
        let mut calling = Vec::new();
        let mut commands = Vec::new();
        for _ in 0..2 {
            calling.push(call(&runtime, &[])); // each session has the other thread
            commands.push(pid_of_command(&runtime));
        }
        assert!(commands.iter().all(is_running));
        serving.0.kill().unwrap();
        eventually("the commands are gone, too", || !commands.iter().any(is_running));
        assert!(calling.iter_mut().all(|calling| calling.code() == Some(5)));
    }
}
