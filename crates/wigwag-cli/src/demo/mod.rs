//! `wigwag demo`: the main job on real input, over Wigwag and over the ordinary services of this machine.
//!
//! For each service, a server process and a client process exchange frames of a picture. The services take turns in
//! rounds, forwards and backwards, so that a machine that slows down slows down all of them. Then four viewers look at
//! the frames of one publisher. In the end each service is counted: how many system calls an exchange takes. Everything
//! has a budget: the whole ends within half a minute.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod client;
mod filter;
mod frames;
mod glyphs;
mod job;
mod picture;
mod report;
mod system_calls;
mod test_card;
mod viewers;

pub use client::Task;
pub use job::Job;
pub use viewers::Looking;

use self::client::{Observed, RECEIVED, SENT};
use self::picture::Picture;
use self::report::{Report, Tally};
use self::viewers::Viewers;
use crate::peer::{self, PeerProcess};
use crate::transport::{Kind, private_directory, private_directory_in};
use crate::{exit, output};

const ROUNDS: u64 = 3;

/// What one service may take in one round.
const TURN: Duration = Duration::from_millis(550);

/// After this no further round is begun.
const LAST_ROUND: Duration = Duration::from_secs(11);

/// After this nothing more is counted.
const LAST_COUNT: Duration = Duration::from_secs(22);

/// Whatever happens, the demo is over then.
const DEADLINE: Duration = Duration::from_secs(29);

/// More exchanges do not sharpen the figures of a small picture.
const MOST_FRAMES_A_TURN: u64 = 2_000;

/// Bytes to be exchanged while system calls are counted. Message queues take hundreds of calls for each megabyte, all
/// of them alike, and each call of a traced process is slow: fewer exchanges say as much.
const COUNTED_BYTES: usize = 64 << 20;
const COUNTED_BYTES_OF_QUEUES: usize = 12 << 20;

/// Exchanges to count at least and at most.
const FEWEST_COUNTED: usize = 2;
const MOST_COUNTED: usize = 200;

const EXAMPLES: &str = "\
Examples:
  wigwag demo
  wigwag demo --input photo.jpg --out /tmp/demo
  wigwag demo --frames 20
  wigwag demo --viewers            # only the four viewers of one publisher
  wigwag demo --json | jq '.services[] | {service, p50_ns, transport_p50_ns}'

Ends within 30 seconds. Exit code 1 if a single pixel is wrong.";

/// Send pictures through shared memory, check every pixel, and compare with files, pipes, queues and sockets
///
/// A real server process and a real client process exchange frames of a picture: the client writes each into shared
/// memory, the server turns it upside down and cuts it to eight tones where it lies, the client reads it back and
/// checks every pixel. The same job then goes through a file, a pipe, a POSIX message queue, a Unix socket and TCP. And
/// one publisher shows frames to four viewers: one that keeps up, a slow one, one that is stopped, one that is killed.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A PNG or JPEG picture to use instead of the test card
    #[arg(long, value_name = "IMAGE")]
    pub input: Option<PathBuf>,
    /// Frames to time through each service at the most [default: as many as the time allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    /// The directory for before.png and after.png [default: demo-out]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Show only the publisher and its four viewers; writes no pictures, and takes six seconds
    #[arg(long, conflicts_with_all = ["frames", "out"])]
    pub viewers: bool,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let root = private_directory()?;
    end_at_deadline(root.path().to_owned());
    end_on_signals(root.path().to_owned())?;
    let (picture, source) = open_picture(args)?;
    if args.viewers {
        return show_viewers(root.path(), &picture, args.json);
    }
    let out = args.out.clone().unwrap_or_else(|| "demo-out".into());
    std::fs::create_dir_all(&out).with_context(|| format!("the directory {} cannot be made", out.display()))?;
    let mut demo = Demo::new(start, root.path(), picture, args.frames)?;
    demo.measure()?;
    demo.show()?;
    demo.count();
    demo.progress.finish_and_clear();
    let report = demo.report(source, &out)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&report.text())?;
    }
    ensure!(report.wrong_pixels() == 0, "{} pixels came back wrong", report.wrong_pixels());
    ensure!(report.viewers.is_all_accounted_for(), "a viewer has neither seen a frame nor was it told as lost");
    Ok(ExitCode::SUCCESS)
}

fn show_viewers(root: &Path, picture: &Picture, is_json: bool) -> anyhow::Result<ExitCode> {
    let viewers = viewers::show(root, picture)?;
    match is_json {
        true => output::json(&viewers)?,
        false => output::bytes(viewers.text().as_bytes())?,
    }
    ensure!(viewers.wrong_pixels() == 0, "{} pixels were wrong", viewers.wrong_pixels());
    ensure!(viewers.is_all_accounted_for(), "a viewer has neither seen a frame nor was it told as lost");
    Ok(ExitCode::SUCCESS)
}

/// The hidden processes of the demo.
#[derive(Debug, clap::Subcommand)]
pub enum Role {
    /// Filters frames.
    #[command(name = "demo-server")]
    Server(Job),
    /// Sends frames.
    #[command(name = "demo-client")]
    Client(Task),
    /// Publishes frames.
    #[command(name = "demo-publisher")]
    Publisher(Job),
    /// Looks at what is published.
    #[command(name = "demo-viewer")]
    Viewer(Looking),
    /// Counts the system calls of the other two.
    #[command(name = "demo-count")]
    Count(Task),
}

impl Role {
    /// Plays the part.
    pub fn play(&self) -> anyhow::Result<()> {
        match self {
            Role::Server(job) => job::serve(job),
            Role::Client(task) => client::run(task),
            Role::Publisher(job) => viewers::publish(job),
            Role::Viewer(looking) => viewers::view(looking),
            Role::Count(task) => system_calls::run(task),
        }
    }
}

fn open_picture(args: &Args) -> anyhow::Result<(Picture, String)> {
    let Some(path) = &args.input else {
        return Ok((test_card::draw(), "test card".into()));
    };
    let (picture, scaled) = Picture::load(path)?;
    let note = if scaled { ", scaled down" } else { "" };
    Ok((picture, format!("{}{note}", path.display())))
}

/// Half a minute is a promise, also where something hangs. All child processes end with us.
fn end_at_deadline(root: PathBuf) {
    std::thread::spawn(move || {
        std::thread::sleep(DEADLINE);
        output::complain(&format!(
            "wigwag: the demo did not end within {} seconds and was stopped.",
            DEADLINE.as_secs()
        ));
        leave(&root, i32::from(exit::FAILED));
    });
}

/// Leaves nothing behind when somebody has seen enough.
fn end_on_signals(root: PathBuf) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals cannot be received")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            leave(&root, 128 + signal);
        }
    });
    Ok(())
}

fn leave(root: &Path, code: i32) -> ! {
    // There is nobody left to tell when this fails.
    let _ = std::fs::remove_dir_all(root);
    std::process::exit(code)
}

struct Demo<'r> {
    start: Instant,
    /// All rendezvous lie in here.
    root: &'r Path,
    picture: Picture,
    frames: u64,
    /// The work alone first, then the services.
    tallies: Vec<Tally>,
    /// The last frame that went over Wigwag, and what came back.
    kept: Option<(Picture, Picture)>,
    /// What the four viewers saw.
    viewers: Option<Viewers>,
    progress: ProgressBar,
}

impl<'r> Demo<'r> {
    fn new(start: Instant, root: &'r Path, picture: Picture, frames: Option<u64>) -> anyhow::Result<Demo<'r>> {
        let transports = std::iter::once(None).chain(Kind::ALL.map(Some));
        let tallies = transports.map(Tally::new).collect::<anyhow::Result<Vec<_>>>()?;
        let steps = tallies.len() as u64 * ROUNDS + 1 + Kind::ALL.len() as u64;
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {msg}")?;
        let progress = ProgressBar::new(steps).with_style(style);
        Ok(Demo {
            start,
            root,
            picture,
            frames: frames.unwrap_or(u64::MAX),
            tallies,
            kept: None,
            viewers: None,
            progress,
        })
    }

    /// All rounds, or as many as there is time for.
    fn measure(&mut self) -> anyhow::Result<()> {
        for round in 0..ROUNDS {
            if round > 0 && self.start.elapsed() > LAST_ROUND {
                break;
            }
            let mut order: Vec<usize> = (0..self.tallies.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                self.progress.inc(1);
                self.take_turn(index, round)?;
            }
        }
        Ok(())
    }

    fn take_turn(&mut self, index: usize, round: u64) -> anyhow::Result<()> {
        let tally = &self.tallies[index];
        let share = (self.frames - tally.timed().min(self.frames)).div_ceil(ROUNDS - round);
        if share == 0 || tally.unavailable.is_some() {
            return Ok(());
        }
        let transport = tally.transport;
        self.progress.set_message(format!("timing {}", transport.map_or("the work alone", Kind::label)));
        match self.exchange(transport, share.min(MOST_FRAMES_A_TURN), tally.timed()) {
            Ok(observed) => self.tallies[index].add(&observed),
            Err(error) if matches!(transport, None | Some(Kind::Wigwag)) => return Err(error),
            // A machine without message queues still has a demo.
            Err(error) => self.tallies[index].unavailable = Some(format!("{error:#}")),
        }
        Ok(())
    }

    /// A server process, a client process, and what the client observed.
    fn exchange(&mut self, transport: Option<Kind>, frames: u64, first: u64) -> anyhow::Result<Observed> {
        let directory = private_directory_in(self.root)?;
        let job = Job::prepare(transport, directory.path(), &self.picture)?;
        let server = match transport {
            None => None,
            Some(_) => Some(PeerProcess::start_ready(job.arguments("demo-server"))?),
        };
        let mut arguments = job.arguments("demo-client");
        arguments.extend(["--frames".into(), frames.to_string().into(), "--first".into(), first.to_string().into()]);
        arguments.extend(["--seconds".into(), TURN.as_secs_f64().to_string().into()]);
        if let Some(server) = &server {
            arguments.extend(["--server".into(), server.pid().to_string().into()]);
        }
        let keeps = transport == Some(Kind::Wigwag);
        if keeps {
            arguments.push("--keep".into());
        }
        let mut client = PeerProcess::start(arguments)?;
        let observed = peer::answer(&mut client)?;
        client.finish()?;
        if let Some(server) = server {
            server.finish()?;
        }
        if keeps {
            self.kept = Some((self.kept_picture(&job, SENT)?, self.kept_picture(&job, RECEIVED)?));
        }
        Ok(observed)
    }

    fn kept_picture(&self, job: &Job, name: &str) -> anyhow::Result<Picture> {
        let pixels = std::fs::read(job.directory.join(name)).context("the client kept no frame")?;
        ensure!(pixels.len() == job.length(), "the frame that the client kept has another size");
        Ok(Picture { width: job.width, height: job.height, pixels })
    }

    /// One publisher and four viewers.
    fn show(&mut self) -> anyhow::Result<()> {
        self.progress.inc(1);
        self.progress.set_message("publishing to four viewers");
        self.viewers = Some(viewers::show(self.root, &self.picture)?);
        Ok(())
    }

    /// Counts the system calls over each service. What cannot be counted has a reason.
    fn count(&mut self) {
        for index in 0..self.tallies.len() {
            let Some(transport) = self.tallies[index].transport else { continue };
            self.progress.inc(1);
            if self.tallies[index].unavailable.is_some() || self.start.elapsed() > LAST_COUNT {
                continue;
            }
            self.progress.set_message(format!("counting the system calls over {}", transport.label()));
            let counted = self.count_one(transport, self.tallies[index].timed());
            self.tallies[index].system_calls = counted.map_err(|error| format!("{error:#}"));
        }
    }

    fn count_one(&self, transport: Kind, timed: u64) -> anyhow::Result<f64> {
        let directory = private_directory_in(self.root)?;
        let job = Job::prepare(Some(transport), directory.path(), &self.picture)?;
        let bytes = if transport == Kind::Mqueue { COUNTED_BYTES_OF_QUEUES } else { COUNTED_BYTES };
        // Three times as many exchanges are made, and all the rounds have not taken two seconds.
        let affordable = usize::try_from(timed / 4).unwrap_or(usize::MAX);
        let frames = (bytes / job.length()).min(affordable).clamp(FEWEST_COUNTED, MOST_COUNTED);
        let mut arguments = job.arguments("demo-count");
        arguments.extend(["--frames".into(), frames.to_string().into()]);
        let mut tracer = PeerProcess::start(arguments)?;
        let counted: system_calls::Counted = peer::answer(&mut tracer)?;
        tracer.finish()?;
        Ok(counted.per_exchange)
    }

    fn report(self, picture: String, out: &Path) -> anyhow::Result<Report> {
        let (sent, received) = self.kept.as_ref().context("no frame went over Wigwag")?;
        let (before, after) = (out.join("before.png"), out.join("after.png"));
        sent.save(&before)?;
        received.save(&after)?;
        let alone_p50_ns = self.tallies[0].p50_ns();
        let mut rows: Vec<_> = self.tallies.iter().map(|tally| tally.row(alone_p50_ns)).collect();
        Ok(Report {
            picture,
            width: self.picture.width,
            height: self.picture.height,
            bytes: self.picture.pixels.len(),
            processors: std::thread::available_parallelism()?.get(),
            alone: rows.remove(0),
            services: rows,
            viewers: self.viewers.context("nothing was published")?,
            before,
            after,
            seconds: self.start.elapsed().as_secs_f64(),
        })
    }
}
