//! The program in odd surroundings: two of its commands, and what they print.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::cell::{Cell, Ended, Job, Programs, odd_modes};
use super::sentence;
use super::surrounding::{self, Ground, Side, Surrounding};

/// What is sent; in capitals it comes back.
const TEXT: &str = "one\ntwo\nthree\n";
/// How long who serves may take to be there, and to end.
const LIMIT: Duration = Duration::from_secs(8);

/// A command that has ended.
struct Finished {
    status: Option<ExitStatus>,
    output: String,
    said: String,
    is_mute: bool,
}

/// A command that runs.
struct Running {
    child: Child,
    output: std::thread::JoinHandle<String>,
    said: std::thread::JoinHandle<String>,
    /// It has no stream to say anything to: its code is all it can tell.
    is_mute: bool,
}

fn start(ground: &Ground, wigwag: &Path, side: Side, arguments: &[&str], input: &str) -> std::io::Result<Running> {
    let mut command = Command::new(wigwag);
    if ground.odd.contains(&Surrounding::NoEnvironment) {
        command.env_clear();
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let has = |one: Surrounding| one.is_for(side) && ground.odd.contains(&one);
    if has(Surrounding::OutputFull) {
        command.stdout(std::fs::File::options().write(true).open("/dev/full")?);
    }
    if has(Surrounding::OutputClosed) {
        command.stdout(std::io::pipe()?.1);
    }
    if has(Surrounding::NoStreams) {
        close_streams(&mut command);
    }
    ground.surround(&mut command, side);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let (output, said) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    Ok(Running { child, output, said, is_mute: has(Surrounding::NoStreams) })
}

fn close_streams(command: &mut Command) {
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            (0..3).for_each(|stream| _ = libc::close(stream));
            Ok(())
        });
    }
}

fn read_all(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself; `None` as the status of one that does not.
    fn finish(mut self, limit: Duration) -> Finished {
        let begin = Instant::now();
        while !self.has_ended() && begin.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = self.child.try_wait().ok().flatten();
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
        Finished { status, output: text(self.output), said: text(self.said), is_mute: self.is_mute }
    }

    /// Ends it: by force, if it ignores everything else.
    fn stop(self, odd: &[Surrounding], has_served: bool) -> Finished {
        let first = first_of(self.child.id());
        let is_forced = odd.contains(&Surrounding::Ignored);
        let signal = if is_forced { libc::SIGKILL } else { libc::SIGTERM };
        // SAFETY: a plain system call; the process, or its parent, is ours and has not been waited for.
        unsafe { libc::kill(first, signal) };
        let finished = self.finish(LIMIT);
        // A listener that had nothing to do yet says by its code that it was ended; one that had not begun is ended at
        // once.
        let is_as_told = |status: &ExitStatus| {
            is_forced
                || status.code() == Some(128 + libc::SIGTERM)
                || !has_served && status.signal() == Some(libc::SIGTERM)
        };
        let status = finished.status.map(|status| if is_as_told(&status) { ExitStatus::default() } else { status });
        Finished { status, ..finished }
    }
}

/// The program's own process: where it is the first one of a namespace, the child of the one that was started.
fn first_of(process: u32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_whitespace().next().and_then(|child| child.parse().ok()).unwrap_or(process as i32)
}

impl Finished {
    /// It did what it should; or how the cell ends by this.
    fn expect(self, who: &str, output: Option<&str>) -> Result<(), Ended> {
        let Finished { status, output: printed, said, is_mute } = self;
        let Some(status) = status else { return Err(Ended::Wrong(format!("{who} does not end: {printed} {said}"))) };
        let wrong = |what: String| Err(Ended::Wrong(format!("{who} {what}; it said: {}", said.trim_end())));
        if let Some(signal) = status.signal() {
            return wrong(format!("was ended by signal {signal}"));
        }
        match (status.code(), output) {
            (Some(0), Some(right)) if printed != right => wrong(format!("printed {printed:?}")),
            (Some(0), _) => Ok(()),
            (Some(1..=6 | 74 | 75 | 126 | 127), _) if is_mute => {
                Err(Ended::Sentence(format!("{who}: {status}, and there is no stream to say more")))
            }
            (Some(1..=6 | 74 | 75 | 126 | 127), _) => match sentence::fault_of(said.trim_end()) {
                Some(fault) => wrong(format!("is not clear ({status}): {fault}")),
                None => Err(Ended::Sentence(format!("{who}: {}", said.trim_end()))),
            },
            _ => wrong(format!("ended with {status}")),
        }
    }
}

/// Runs the cell.
pub fn conduct(cell: &Cell, ground: &Ground, programs: &Programs) -> Ended {
    let Some(wigwag) = &programs.wigwag else { return Ended::NotTried("the program is not built".into()) };
    let done = match cell.job {
        Job::ProgramLock => lock(ground, wigwag),
        _ => serve(cell.job, ground, wigwag),
    };
    done.err().unwrap_or(Ended::Works)
}

fn broken(error: std::io::Error) -> Ended {
    Ended::Wrong(format!("a command cannot be started: {error}"))
}

fn serve(job: Job, ground: &Ground, wigwag: &Path) -> Result<(), Ended> {
    let name = ground.name.as_str();
    let is_used_again = ground.odd.iter().any(|one| one.is_event() || *one == Surrounding::FullLater);
    let serving: &[&str] = match job {
        Job::ProgramServe => &["serve", name, "--do", "upper"],
        Job::ProgramQueue => &["queue", "recv", name, "--keep"],
        _ if is_used_again => &["stream", "listen", name, "--keep"],
        _ => &["stream", "listen", name, "--recv-only"],
    };
    let mut server = start(ground, wigwag, Side::Server, serving, "").map_err(broken)?;
    let mut done = use_it(job, ground, wigwag, &mut server, LIMIT);
    let mut times = 1;
    if done.is_ok() && is_used_again {
        surrounding::happen(ground);
        done = use_it(job, ground, wigwag, &mut server, LIMIT);
        times = 2;
    }
    let modes = odd_modes(ground);
    let ended = server.has_ended();
    let finished = match ended {
        true => server.finish(LIMIT),
        false => server.stop(&ground.odd, done.is_ok()),
    };
    let sent = TEXT.repeat(times);
    let is_seen = !ground.odd.iter().any(|one| one.group() == "streams");
    let output = (done.is_ok() && is_seen && job != Job::ProgramServe).then_some(sent.as_str());
    // A program that has ended by itself says why; one that was ended says only that it ended well.
    let served = finished.expect("the server", output);
    match (done, served) {
        (Err(Ended::Wrong(what)), Err(Ended::Wrong(more))) => Err(Ended::Wrong(format!("{what}; {more}"))),
        (Err(wrong @ Ended::Wrong(_)), _) | (_, Err(wrong @ Ended::Wrong(_))) => Err(wrong),
        (_, Err(ended)) | (Err(ended), Ok(())) => Err(ended),
        (Ok(()), Ok(())) => modes.map_or(Ok(()), |modes| Err(Ended::Wrong(modes))),
    }
}

/// The client's part, again and again until there is a server, or none any more.
fn use_it(job: Job, ground: &Ground, wigwag: &Path, server: &mut Running, limit: Duration) -> Result<(), Ended> {
    let name = ground.name.as_str();
    let (arguments, output): (&[&str], _) = match job {
        Job::ProgramServe => (&["call", name, "--timeout", "5"], TEXT.to_uppercase()),
        Job::ProgramQueue => (&["queue", "send", name, "--timeout", "1"], String::new()),
        _ => (&["stream", "connect", name], String::new()),
    };
    let begin = Instant::now();
    loop {
        let has_ended = server.has_ended();
        let client = start(ground, wigwag, Side::Client, arguments, TEXT).map_err(broken)?.finish(LIMIT);
        let is_early = client.status.and_then(|status| status.code()) == Some(3);
        if !is_early || has_ended || begin.elapsed() > limit || says_where_it_is(&client.said) {
            return client.expect("the client", Some(&output));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the answer is not that there is no server, but that it has its name elsewhere.
fn says_where_it_is(said: &str) -> bool {
    said.contains("leads elsewhere")
}

/// Two at a time, five times.
fn lock(ground: &Ground, wigwag: &Path) -> Result<(), Ended> {
    let mark = ground.root.join("inside/held");
    let command = format!("mkdir {0} && rmdir {0} && exit 0; exit 99", mark.display());
    let arguments = ["lock", "--timeout", "5", ground.name.as_str(), "--", "/bin/sh", "-c", command.as_str()];
    for round in 0..5 {
        let sides = [Side::Server, Side::Client];
        let started = sides.map(|side| start(ground, wigwag, side, &arguments, "").map_err(broken));
        if round == 2 {
            surrounding::happen(ground);
        }
        let ended = started.map(|one| one.and_then(|one| one.finish(LIMIT).expect("a lock", None)));
        ended.into_iter().collect::<Result<Vec<()>, Ended>>()?;
    }
    Ok(())
}
