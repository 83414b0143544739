//! A step: commands, one after the other, and what came of each.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Command, ExitCode, Stdio};
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
}

/// Runs the steps, each even when one before it failed, so that one run tells all. The exit code is 0 if all passed.
pub fn run(steps: &[&Step]) -> ExitCode {
    let begin = Instant::now();
    let failed: Vec<&str> = steps.iter().filter(|step| !passes(step)).map(|step| step.name).collect();
    if failed.is_empty() {
        println!("\nall steps passed in {} s", begin.elapsed().as_secs());
        return ExitCode::SUCCESS;
    }
    println!("\nFAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn passes(step: &Step) -> bool {
    println!("\n==== {}: {} ====", step.name, step.about);
    let begin = Instant::now();
    let found = match (step.commands)() {
        Ok(commands) => commands.into_iter().filter_map(|command| complaint(command).err()).collect(),
        Err(error) => vec![error],
    };
    let took = begin.elapsed().as_secs();
    for error in &found {
        println!("{error:#}");
    }
    match found.len() {
        0 => println!("---- {}: passed in {took} s", step.name),
        _ => println!("---- {}: FAILED after {took} s", step.name),
    }
    found.is_empty()
}

/// Runs a command in the root of the repository; an error says how it failed.
fn complaint(mut command: Command) -> anyhow::Result<()> {
    let line = line(&command);
    println!("$ {line}");
    // One stream, so that what is said stays in its order.
    let out = io::stdout().as_fd().try_clone_to_owned().context("standard output cannot be shared")?;
    let status = command.current_dir(crate::root()).stderr(Stdio::from(out)).status();
    let status = status.with_context(|| format!("cannot start `{line}`"))?;
    anyhow::ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
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
        let step = |commands| Step { name: "name", about: "about", commands };
        assert!(passes(&step(|| Ok(vec![shell("true"), shell("true")]))));
        assert!(!passes(&step(|| Ok(vec![shell("false"), shell("true")]))));
        assert!(!passes(&step(|| Ok(vec![Command::new("a-program-that-is-not-there")]))));
        assert!(!passes(&step(|| anyhow::bail!("nothing can be run"))));
    }

    #[test]
    fn every_step_is_run_and_one_that_fails_is_told() {
        static BAD: Step = Step { name: "bad", about: "fails", commands: || Ok(vec![shell("false")]) };
        static GOOD: Step = Step { name: "good", about: "passes", commands: || Ok(vec![shell("true")]) };
        assert_eq!(run(&[&GOOD]), ExitCode::SUCCESS);
        assert_eq!(run(&[&BAD, &GOOD]), ExitCode::FAILURE);
    }
}
