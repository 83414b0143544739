//! One publisher and four viewers of the same picture stream: one that keeps up, one that is slow, one that is stopped
//! for a while, one that is killed and begun anew.
//!
//! Each is a process of its own. The publisher first publishes to nobody, then to the four, at the same rate; what a
//! frame costs it is timed both times. Each viewer reads each frame where the publisher wrote it, checks every pixel,
//! and says its number and what was lost before it. What the killed one missed follows from the numbers alone.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use wigwag::{ErrorKind, Publisher, Subscriber};

use super::frames::Frames;
use super::job::Job;
use super::picture::Picture;
use crate::peer::{self, PeerProcess};
use crate::transport::private_directory_in;

mod report;

pub use report::Viewers;
use report::{Times, Viewer};

/// Frames a second, and how many are published to nobody and to the viewers.
const RATE: u32 = 30;
const ALONE: u64 = 30;
const SHOWN: u64 = 96;

/// Messages that the publisher keeps: a tenth of a second and more.
const HISTORY: usize = 4;
/// Messages that all viewers, and one of them, may hold. Each has one in hand at a time.
const MAX_HOLDS: usize = 10;
const HOLDS: usize = 2;

/// For how long the slow viewer looks at each frame.
const SLOW: Duration = Duration::from_millis(150);

/// What is done while frame so-and-so is due.
const STOPPED_AT: u64 = SHOWN / 4;
const KILLED_AT: u64 = SHOWN / 3;
const BEGUN_ANEW_AT: u64 = SHOWN / 2;
const CONTINUED_AT: u64 = SHOWN * 3 / 4;

/// Longer than all of it takes, for whoever waits for another one of these processes.
const PATIENCE: Duration = Duration::from_secs(8);

/// The name, in the directory of the job.
const NAME: &str = "pictures";

/// What a viewer shall do.
#[derive(Clone, Debug, clap::Args)]
pub struct Looking {
    /// What all know.
    #[command(flatten)]
    pub job: Job,
    /// Milliseconds to look at each frame.
    #[arg(long, default_value_t = 0)]
    pub pause_ms: u64,
}

/// A frame that a viewer has seen, as it says it in a line of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sight {
    sequence: u64,
    lost_before: u64,
    wrong_pixels: u64,
}

/// How long the publisher took for each frame: to write it, and to publish it.
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    alone_ns: Vec<u64>,
    shown_ns: Vec<u64>,
}

/// Shows the four, with the directory of their names in `root`.
pub fn show(root: &std::path::Path, picture: &Picture) -> anyhow::Result<Viewers> {
    let directory = private_directory_in(root)?;
    let job = Job::prepare(None, directory.path(), picture)?;
    let mut publisher = PeerProcess::start_ready(job.arguments("demo-publisher"))?;
    publisher.await_ready().context("the publisher has published to nobody")?;
    let ordinary = Watched::start(&job, Duration::ZERO)?;
    let slow = Watched::start(&job, SLOW)?;
    let stopped = Watched::start(&job, Duration::ZERO)?;
    let killed = Watched::start(&job, Duration::ZERO)?;
    publisher.await_ready().context("the publisher does not find the viewers")?;
    let begin = Instant::now();
    let until = |frame: u64| {
        let due = begin + Duration::from_secs(frame) / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    };
    until(STOPPED_AT);
    kill(stopped.pid, Signal::SIGSTOP)?;
    until(KILLED_AT);
    kill(killed.pid, Signal::SIGKILL)?;
    until(BEGUN_ANEW_AT);
    let begun_anew = Watched::start(&job, Duration::ZERO)?;
    until(CONTINUED_AT);
    kill(stopped.pid, Signal::SIGCONT)?;
    let published: Published = peer::answer(&mut publisher)?;
    publisher.finish()?;
    let viewer = |name, about, sights: &[Sight]| Viewer::new(name, about, sights, ALONE, SHOWN);
    let mut both = killed.sights()?;
    both.extend(begun_anew.sights()?);
    Ok(Viewers {
        frames: SHOWN,
        frame_bytes: job.length(),
        frames_per_second: RATE,
        history: HISTORY,
        alone: Times::of(published.alone_ns),
        shown: Times::of(published.shown_ns),
        viewers: vec![
            viewer("ordinary", "keeps up".to_owned(), &ordinary.sights()?),
            viewer("slow", format!("slow, {} ms each", SLOW.as_millis()), &slow.sights()?),
            viewer("stopped", "stopped a while".to_owned(), &stopped.sights()?),
            viewer("killed", "killed, restarted".to_owned(), &both),
        ],
    })
}

/// A viewer's process, and a thread that hears what it sees.
struct Watched {
    pid: Pid,
    heard: JoinHandle<anyhow::Result<Vec<Sight>>>,
}

impl Watched {
    fn start(job: &Job, pause: Duration) -> anyhow::Result<Watched> {
        let mut arguments = job.arguments("demo-viewer");
        arguments.extend(["--pause-ms".into(), pause.as_millis().to_string().into()]);
        let mut viewer = PeerProcess::start_ready(arguments)?;
        let pid = Pid::from_raw(i32::try_from(viewer.pid())?);
        let hear = move || {
            let mut sights = Vec::new();
            loop {
                let line = viewer.line()?;
                match serde_json::from_str(&line) {
                    Ok(sight) => sights.push(sight),
                    // Its end; or it was killed while it said something.
                    Err(_) if !line.starts_with("failed") => return Ok(sights),
                    Err(_) => bail!("a viewer {line}"),
                }
            }
        };
        Ok(Watched { pid, heard: std::thread::Builder::new().name("viewer".into()).spawn(hear)? })
    }

    /// All that it saw, once it has ended.
    fn sights(self) -> anyhow::Result<Vec<Sight>> {
        self.heard.join().map_err(|_| anyhow::anyhow!("a viewer was not heard to its end"))?
    }
}

/// The publisher's process.
pub fn publish(job: &Job) -> anyhow::Result<()> {
    peer::never_outlive_parent()?;
    match publish_all(job) {
        Ok(published) => peer::say(&serde_json::to_string(&published)?),
        Err(error) => peer::say_failed(&error),
    }
}

fn publish_all(job: &Job) -> anyhow::Result<Published> {
    let mut frames = Frames::new(job.picture()?);
    let builder = Publisher::builder().history(HISTORY).capacity(job.length()).max_holds(MAX_HOLDS).holds(HOLDS);
    let mut publisher = builder.bind(job.directory.join(NAME))?;
    peer::say_ready()?;
    let mut publish = |publisher: &mut Publisher, count: u64| -> anyhow::Result<Vec<u64>> {
        let mut times = Vec::new();
        let begin = Instant::now();
        for number in 0..u32::try_from(count)? {
            let due = begin + Duration::from_secs(u64::from(number)) / RATE;
            let pixels = frames.make(publisher.stats().published + 1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            let mut draft = publisher.loan(pixels.len())?;
            draft.copy_from_slice(pixels);
            draft.commit()?;
            times.push(u64::try_from(start.elapsed().as_nanos())?);
        }
        Ok(times)
    };
    let alone_ns = publish(&mut publisher, ALONE)?;
    peer::say_ready()?;
    publisher.wait_for_subscribers(4, PATIENCE)?;
    peer::say_ready()?;
    let shown_ns = publish(&mut publisher, SHOWN)?;
    Ok(Published { alone_ns, shown_ns })
}

/// A viewer's process: until the publisher has ended, and all is read.
pub fn view(looking: &Looking) -> anyhow::Result<()> {
    // It may be stopped when the demo ends, and then hear of nothing but this.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    peer::never_outlive_parent()?;
    view_all(looking).or_else(|error| peer::say_failed(&error))
}

fn view_all(looking: &Looking) -> anyhow::Result<()> {
    let mut frames = Frames::new(looking.job.picture()?);
    let mut subscriber = Subscriber::connect(looking.job.directory.join(NAME))?;
    peer::say_ready()?;
    loop {
        let message = match subscriber.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(error) if error.kind() == ErrorKind::Ended => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let expected = frames.make(message.sequence());
        ensure!(message.len() == expected.len(), "frame {} has another size", message.sequence());
        let sight = Sight {
            sequence: message.sequence(),
            lost_before: message.lost_before(),
            wrong_pixels: super::picture::differing(&message, expected),
        };
        peer::say(&serde_json::to_string(&sight)?)?;
        std::thread::sleep(Duration::from_millis(looking.pause_ms));
    }
}
