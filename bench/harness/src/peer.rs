//! The other process: starting one from this same program, knowing when it is ready, ending it, and, on its side,
//! noticing that whoever started it is gone.
//!
//! A peer is `wigwag peer ...`, a hidden subcommand. It says `ready` or `failed: why` on its standard output. Its
//! standard input stays open for as long as its parent wants it: the kernel closes it when the parent ends in any
//! way, so that no process is ever left behind.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::output;

const READY: &str = "ready";
const FAILED: &str = "failed: ";

/// How long a peer that has been told to end may take before it is killed.
const FAREWELL: Duration = Duration::from_secs(3);

/// A peer's own limit: it leaves by itself when its parent has been gone for so long.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// A process of this program, started by this process. Dropping it ends it.
pub struct PeerProcess {
    child: Child,
    /// Closing it tells the peer to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl PeerProcess {
    /// Starts `wigwag peer ARGUMENTS` without waiting for it to become ready.
    pub fn start<I, S>(arguments: I) -> anyhow::Result<PeerProcess>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let program = std::env::current_exe().context("this program cannot find its own file")?;
        PeerProcess::run(Command::new(program).arg("peer").args(arguments))
    }

    /// Starts another program that says and hears the same lines.
    pub fn run(command: &mut Command) -> anyhow::Result<PeerProcess> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("a second process cannot be started")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("the second process has no output")?);
        Ok(PeerProcess { child, input, output })
    }

    /// Starts a server and waits until clients may connect.
    pub fn start_ready<I, S>(arguments: I) -> anyhow::Result<PeerProcess>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut peer = PeerProcess::start(arguments)?;
        peer.await_ready()?;
        Ok(peer)
    }

    /// Waits until the peer says that it is ready; its reason where it cannot be.
    pub fn await_ready(&mut self) -> anyhow::Result<()> {
        let line = self.line()?;
        match line.strip_prefix(FAILED) {
            Some(reason) => bail!("{reason}"),
            None if line == READY => Ok(()),
            None if line.is_empty() => bail!("the second process ended before it was ready"),
            None => bail!("the second process said '{line}' where it should have said that it is ready"),
        }
    }

    /// The next line that the peer prints; empty where it has ended.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("the second process cannot be heard")?;
        Ok(line.trim_end().to_owned())
    }

    /// Sends a line to the peer's standard input.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the second process has been told to end")?;
        writeln!(input, "{line}").context("the second process does not listen")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end and waits for it. An error where it failed or had to be killed.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let give_up = Instant::now() + FAREWELL;
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "the second process ended with {status}");
                return Ok(());
            }
            if Instant::now() >= give_up {
                self.child.kill()?;
                self.child.wait()?;
                bail!("the second process did not end and was killed");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        // A caller that wants to know how it ended has called `finish`.
        let _ = self.end();
    }
}

/// What a peer answers as one line of JSON, or its reason for not answering.
pub fn answer<T: serde::de::DeserializeOwned>(peer: &mut PeerProcess) -> anyhow::Result<T> {
    let line = peer.line()?;
    if let Some(reason) = line.strip_prefix(FAILED) {
        bail!("{reason}");
    }
    anyhow::ensure!(!line.is_empty(), "the second process ended without an answer");
    serde_json::from_str(&line).context("the second process's answer cannot be read")
}

/// In a peer: says to the parent that clients may connect now.
pub fn say_ready() -> anyhow::Result<()> {
    say(READY)
}

/// In a peer: says why it cannot do its work.
pub fn say_failed(error: &anyhow::Error) -> anyhow::Result<()> {
    say(&format!("{FAILED}{}", format!("{error:#}").replace('\n', " ")))
}

/// In a peer: prints one line to the parent. A parent that is gone is nothing to complain about.
pub fn say(line: &str) -> anyhow::Result<()> {
    output::line(line)
}

/// In a peer: runs `action` once the parent closes our standard input or is gone.
pub fn when_parent_leaves(action: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let watch = move || {
        let mut ignored = [0; 64];
        let mut input = std::io::stdin();
        while matches!(input.read(&mut ignored), Ok(count) if count > 0) {}
        action();
    };
    std::thread::Builder::new().name("parent-watch".into()).spawn(watch).context("no thread can be started")?;
    Ok(())
}

/// In a peer: ends the process some time after the parent is gone, whatever it is doing.
pub fn never_outlive_parent() -> anyhow::Result<()> {
    when_parent_leaves(|| {
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(0);
    })
}
