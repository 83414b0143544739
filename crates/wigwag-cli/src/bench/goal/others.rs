//! What goals share that are measured with second processes of their own: how these start and end, and the words
//! between.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use wigwag_bench::memory::Memory;

/// Second processes, which are killed in the end.
pub struct Others(Vec<Child>);

impl Others {
    /// Starts `wigwag peer ARGUMENTS` for each.
    pub fn start<const N: usize>(each: impl IntoIterator<Item = [OsString; N]>) -> anyhow::Result<Others> {
        let program = std::env::current_exe().context("this program has no path")?;
        let mut others = Others(Vec::new());
        for arguments in each {
            let mut command = Command::new(&program);
            command.arg("peer").args(arguments).stdin(Stdio::piped());
            others.0.push(command.spawn().context("a second process cannot be started")?);
        }
        Ok(others)
    }

    /// Waits until they have ended by themselves, which they are to do in time and without an error.
    pub fn end(mut self, patience: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        while let Some(child) = self.0.last_mut() {
            match child.try_wait().context("a second process cannot be waited for")? {
                Some(status) => {
                    self.0.pop();
                    ensure!(status.success(), "a second process has ended with {status}");
                }
                None => {
                    ensure!(begin.elapsed() < patience, "a second process does not end within {patience:?}");
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// In a second process: it ends with the one that started it.
pub fn exit_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0)
    });
}

/// Maps words that the processes share.
pub fn map(path: &Path, size: usize) -> anyhow::Result<Memory> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.set_len(size as u64)?;
    Memory::map(file, size)
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
