//! A step: commands, one after the other, and what came of each.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::excerpt;

/// How often is looked whether a command that says nothing has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long what a command left behind is heard after its end, if it says something all the time.
const LEFTOVERS_HEARD: Duration = Duration::from_secs(2);

/// A step. It passes if all of its commands do; every one of them is run.
pub struct Step {
    /// What it is called.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub about: &'static str,
    /// What is run.
    pub commands: fn() -> anyhow::Result<Vec<Command>>,
    turn: Turn,
}

impl Step {
    /// One that runs after the one before it, perhaps beside one that began earlier.
    pub const fn new(name: &'static str, about: &'static str, commands: fn() -> anyhow::Result<Vec<Command>>) -> Step {
        Step { name, about, commands, turn: Turn::Next }
    }

    /// The same, but it goes on beside the steps after it. What it says is shown once it has ended.
    pub const fn beside_others(self) -> Step {
        Step { turn: Turn::Beside, ..self }
    }

    /// The same, but only when all others have ended: what it looks at needs the machine for itself.
    pub const fn alone(self) -> Step {
        Step { turn: Turn::Alone, ..self }
    }
}

/// When a step runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Next,
    Beside,
    Alone,
}

/// What came of a step.
struct Outcome {
    has_passed: bool,
    /// All that its commands said, each with itself as the first line.
    said: String,
}

/// A step that runs beside others.
type Running = JoinHandle<Outcome>;

/// Runs the steps, each even when one before it failed, so that one run tells all. What failed is said again at the
/// end, where whoever reads only the end finds it. The exit code is 0 if all passed.
pub fn run(steps: &[&'static Step]) -> ExitCode {
    let begin = Instant::now();
    let mut failed: Vec<(&str, String)> = Vec::new();
    let mut beside: Vec<(&str, Running)> = Vec::new();
    let mut note = |name, outcome: Outcome| {
        if !outcome.has_passed {
            failed.push((name, excerpt::of(&outcome.said)));
        }
    };
    for (at, step) in steps.iter().copied().enumerate() {
        if step.turn == Turn::Alone {
            beside.drain(..).for_each(|(name, running)| note(name, ended(name, running)));
        }
        let has_company = steps.get(at + 1).is_some_and(|next| next.turn != Turn::Alone);
        if step.turn == Turn::Beside && has_company {
            println!("\n==== {} begins, and goes on beside what follows ====", step.name);
            beside.push((step.name, thread::spawn(|| perform(step, |_| ()))));
        } else {
            note(step.name, perform(step, show));
        }
    }
    beside.into_iter().for_each(|(name, running)| note(name, ended(name, running)));
    if failed.is_empty() {
        println!("\nall steps passed in {} s", begin.elapsed().as_secs());
        return ExitCode::SUCCESS;
    }
    for (name, excerpt) in &failed {
        println!("\n==== {name} failed: ====\n{excerpt}");
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    println!("\nFAILED after {} s: {}", begin.elapsed().as_secs(), names.join(", "));
    ExitCode::FAILURE
}

/// Waits for a step that ran beside others, and shows what it said.
fn ended(name: &str, running: Running) -> Outcome {
    let outcome = running.join().unwrap_or_else(|_| Outcome { has_passed: false, said: format!("{name} panicked\n") });
    show(outcome.said.as_bytes());
    outcome
}

/// Whoever reads it may be gone: the steps go on, and the exit code still tells.
fn show(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Runs the commands of a step in the root of the repository. What it says goes to `show` as it comes, too.
fn perform(step: &Step, show: impl Fn(&[u8])) -> Outcome {
    let mut said = Vec::new();
    let mut say = |bytes: &[u8]| {
        show(bytes);
        said.extend_from_slice(bytes);
    };
    say(format!("\n==== {}: {} ====\n", step.name, step.about).as_bytes());
    let begin = Instant::now();
    let mut attempt = |mut command: Command| {
        let line = line(&command);
        say(format!("$ {line}\n").as_bytes());
        command.current_dir(crate::root());
        let status = heard(command, &mut say).with_context(|| format!("cannot start `{line}`"))?;
        anyhow::ensure!(status.success(), "`{line}` failed: {status}");
        Ok(())
    };
    let found = match (step.commands)() {
        Ok(commands) => commands.into_iter().filter_map(|command| attempt(command).err()).collect(),
        Err(error) => vec![error],
    };
    let took = begin.elapsed().as_secs();
    for error in &found {
        say(format!("error: {error:#}\n").as_bytes());
    }
    match found.len() {
        0 => say(format!("---- {}: passed in {took} s\n", step.name).as_bytes()),
        _ => say(format!("---- {}: FAILED after {took} s\n", step.name).as_bytes()),
    }
    Outcome { has_passed: found.is_empty(), said: String::from_utf8_lossy(&said).into_owned() }
}

/// Runs a command and hands on what it says on both of its streams, in its order. Processes that it leaves behind may
/// have its streams for ever: they are not waited for.
fn heard(mut command: Command, say: &mut impl FnMut(&[u8])) -> io::Result<ExitStatus> {
    let (mut reader, writer) = io::pipe()?;
    if io::stdout().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always"); // it cannot see that somebody looks
    }
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    drop(command); // It has the writer's end, too.
    let (sender, chunks) = mpsc::sync_channel(16);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match (chunks.recv_timeout(LOOK_INTERVAL), ended) {
            (Ok(chunk), _) => say(&chunk),
            (Err(RecvTimeoutError::Disconnected), _) => return child.wait(),
            (Err(RecvTimeoutError::Timeout), Some((status, _))) => return Ok(status),
            (Err(RecvTimeoutError::Timeout), None) => {}
        }
        match ended {
            None => ended = child.try_wait()?.map(|status| (status, Instant::now())),
            Some((status, since)) if since.elapsed() > LEFTOVERS_HEARD => return Ok(status),
            Some(_) => {}
        }
    }
}

/// A command as somebody would type it.
fn line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", word(name), word(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(word);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn word(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains([' ', '*', '"']) { format!("'{}'", word.trim()) } else { word.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        let mut command = shell("exit 0");
        command.env("RUSTFLAGS", " --cfg loom").env_remove("CARGO_PKG_NAME");
        assert_eq!(line(&command), "RUSTFLAGS='--cfg loom' sh -c 'exit 0'");
    }

    #[test]
    fn a_step_fails_if_any_of_its_commands_does() {
        let passes = |commands| perform(&Step::new("name", "about", commands), |_| ()).has_passed;
        assert!(passes(|| Ok(vec![shell("true"), shell("true")])));
        assert!(!passes(|| Ok(vec![shell("false"), shell("true")])));
        assert!(!passes(|| Ok(vec![Command::new("a-program-that-is-not-there")])));
        assert!(!passes(|| anyhow::bail!("nothing can be run")));
    }

    static BAD: Step = Step::new("bad", "fails", || Ok(vec![shell("false")]));
    static GOOD: Step = Step::new("good", "passes", || Ok(vec![shell("true")]));

    #[test]
    fn every_step_is_run_and_one_that_fails_is_told() {
        assert_eq!(run(&[&GOOD]), ExitCode::SUCCESS);
        assert_eq!(run(&[&BAD, &GOOD]), ExitCode::FAILURE);
    }

    #[test]
    fn one_that_runs_beside_others_is_waited_for_and_heard() {
        static SLOW: Step = Step::new("slow", "fails late", || {
            Ok(vec![shell("sleep 0.2; echo said; echo told >&2; exit 3"), shell("echo after")])
        })
        .beside_others();
        static LAST: Step = Step::new("last", "passes", || Ok(vec![shell("true")])).alone();
        assert_eq!(run(&[&SLOW, &GOOD]), ExitCode::FAILURE);
        assert_eq!(run(&[&SLOW, &GOOD, &LAST]), ExitCode::FAILURE);
        let shown = std::cell::RefCell::new(Vec::new());
        let outcome = perform(&SLOW, |bytes| shown.borrow_mut().extend_from_slice(bytes));
        let said = outcome.said;
        assert!(!outcome.has_passed && said.contains("said\ntold\n") && said.contains("exit status: 3"), "{said}");
        assert!(said.contains("$ sh -c 'echo after'\nafter\n"), "{said}");
        assert_eq!(String::from_utf8(shown.into_inner()).unwrap(), said);
    }

    #[test]
    fn what_a_command_leaves_behind_is_not_waited_for() {
        let all_heard = |script: &str| {
            let said = std::cell::RefCell::new(Vec::new());
            let status = heard(shell(script), &mut |bytes| said.borrow_mut().extend_from_slice(bytes)).unwrap();
            assert!(status.success());
            String::from_utf8(said.into_inner()).unwrap()
        };
        let pid = all_heard("sleep 30 & echo $!");
        assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success(), "it was waited for");
        let said = all_heard("(for line in $(seq 1500); do echo line; sleep 0.02; done) & echo first");
        assert!(said.contains("first") && said.lines().count() < 1500, "it was heard to its end");
    }
}
