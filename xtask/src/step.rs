//! A step: commands, one after the other, and what came of each.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::process::{Command, ExitCode, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::Context as _;

/// A step. It passes if all of its commands do; every one of them is run.
pub struct Step {
    /// What it is called.
    pub name: &'static str,
    /// What it shows, in a few words.
    pub about: &'static str,
    /// What is run.
    pub commands: fn() -> anyhow::Result<Vec<Command>>,
    /// What else may run meanwhile.
    pub turn: Turn,
}

/// When a step runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// After the one before it, perhaps beside one that began earlier.
    Next,
    /// It begins in its turn and goes on beside the steps after it, because it waits for most of its time. What it says
    /// is shown once it has ended.
    Beside,
    /// Only when all others have ended: what it looks at needs the machine for itself.
    Alone,
}

/// A step that runs beside others: whether it passes, and what it says.
type Running = JoinHandle<(bool, String)>;

/// Runs the steps, each even when one before it failed, so that one run tells all. The exit code is 0 if all passed.
pub fn run(steps: &[&'static Step]) -> ExitCode {
    let begin = Instant::now();
    let (mut failed, mut beside): (Vec<&str>, Vec<(&str, Running)>) = (Vec::new(), Vec::new());
    for (at, step) in steps.iter().copied().enumerate() {
        if step.turn == Turn::Alone {
            failed.extend(beside.drain(..).filter_map(ended));
        }
        let has_company = steps.get(at + 1).is_some_and(|next| next.turn != Turn::Alone);
        if step.turn == Turn::Beside && has_company {
            println!("\n==== {} begins, and goes on beside what follows ====", step.name);
            beside.push((step.name, thread::spawn(|| passes_unseen(step))));
        } else if !passes(step) {
            failed.push(step.name);
        }
    }
    failed.extend(beside.into_iter().filter_map(ended));
    if failed.is_empty() {
        println!("\nall steps passed in {} s", begin.elapsed().as_secs());
        return ExitCode::SUCCESS;
    }
    println!("\nFAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Waits for a step and shows what it said. Returns its name if it failed.
fn ended((name, running): (&'static str, Running)) -> Option<&'static str> {
    let (has_passed, said) = running.join().unwrap_or_else(|_| (false, format!("\n---- {name}: FAILED: it panicked")));
    println!("{said}");
    (!has_passed).then_some(name)
}

/// Runs a step whose commands write to where this program does.
fn passes(step: &Step) -> bool {
    perform(step, |line| println!("{line}"), |command, _| shown(command))
}

/// Runs a step, and keeps what it says.
fn passes_unseen(step: &Step) -> (bool, String) {
    let said = std::cell::RefCell::new(String::new());
    let say = |line: &str| {
        said.borrow_mut().push_str(line);
        said.borrow_mut().push('\n');
    };
    let has_passed = perform(step, say, |command, say| {
        let (status, text) = kept(command)?;
        say(&text);
        Ok(status)
    });
    (has_passed, said.into_inner())
}

/// Runs the commands of a step in the root of the repository, by `start`, which returns how one ended.
fn perform<Say: Fn(&str)>(
    step: &Step,
    say: Say,
    start: impl Fn(Command, &Say) -> io::Result<std::process::ExitStatus>,
) -> bool {
    say(&format!("\n==== {}: {} ====", step.name, step.about));
    let begin = Instant::now();
    let attempt = |mut command: Command| {
        let line = line(&command);
        say(&format!("$ {line}"));
        command.current_dir(crate::root());
        let status = start(command, &say).with_context(|| format!("cannot start `{line}`"))?;
        anyhow::ensure!(status.success(), "`{line}` failed: {status}");
        Ok(())
    };
    let found = match (step.commands)() {
        Ok(commands) => commands.into_iter().filter_map(|command| attempt(command).err()).collect(),
        Err(error) => vec![error],
    };
    let took = begin.elapsed().as_secs();
    for error in &found {
        say(&format!("{error:#}"));
    }
    match found.len() {
        0 => say(&format!("---- {}: passed in {took} s", step.name)),
        _ => say(&format!("---- {}: FAILED after {took} s", step.name)),
    }
    found.is_empty()
}

/// Runs a command that writes to this program's output: to one stream, so that what is said stays in its order.
fn shown(mut command: Command) -> io::Result<std::process::ExitStatus> {
    use std::os::fd::AsFd as _;
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    command.stderr(Stdio::from(out)).status()
}

/// Runs a command and keeps what it says on both of its streams, in its order.
fn kept(mut command: Command) -> io::Result<(std::process::ExitStatus, String)> {
    let (mut reader, writer) = io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    drop(command); // It has the writer's end, and the reader waits until nobody has.
    let mut said = Vec::new();
    reader.read_to_end(&mut said)?;
    Ok((child.wait()?, String::from_utf8_lossy(&said).into_owned()))
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
        let step = |commands| Step { name: "name", about: "about", commands, turn: Turn::Next };
        assert!(passes(&step(|| Ok(vec![shell("true"), shell("true")]))));
        assert!(!passes(&step(|| Ok(vec![shell("false"), shell("true")]))));
        assert!(!passes(&step(|| Ok(vec![Command::new("a-program-that-is-not-there")]))));
        assert!(!passes(&step(|| anyhow::bail!("nothing can be run"))));
    }

    static BAD: Step = Step { name: "bad", about: "fails", commands: || Ok(vec![shell("false")]), turn: Turn::Next };
    static GOOD: Step = Step { name: "good", about: "passes", commands: || Ok(vec![shell("true")]), turn: Turn::Next };

    #[test]
    fn every_step_is_run_and_one_that_fails_is_told() {
        assert_eq!(run(&[&GOOD]), ExitCode::SUCCESS);
        assert_eq!(run(&[&BAD, &GOOD]), ExitCode::FAILURE);
    }

    #[test]
    fn one_that_runs_beside_others_is_waited_for_and_heard() {
        static SLOW: Step = Step {
            name: "slow",
            about: "fails late",
            commands: || Ok(vec![shell("sleep 0.2; echo said; echo told >&2; exit 3")]),
            turn: Turn::Beside,
        };
        static LAST: Step =
            Step { name: "last", about: "passes", commands: || Ok(vec![shell("true")]), turn: Turn::Alone };
        assert_eq!(run(&[&SLOW, &GOOD]), ExitCode::FAILURE);
        assert_eq!(run(&[&SLOW, &GOOD, &LAST]), ExitCode::FAILURE);
        let (has_passed, said) = passes_unseen(&SLOW);
        assert!(!has_passed && said.contains("said\ntold") && said.contains("exit status: 3"), "{said}");
    }
}
