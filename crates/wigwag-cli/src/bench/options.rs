//! The command line of `wigwag bench`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::goal::Goal;
use wigwag_bench::case::{Contender, Load, WaitMode};
use wigwag_bench::placement::Pin;

/// Largest payload that the bench measures.
const SIZE_MAX: u64 = 64 << 20;

/// Measure the exchange beside raw memory and the kernel's services
///
/// Two processes; the client fills every byte, the server changes every byte, the client reads and checks every
/// byte. All cases of a run are measured in turn, round after round, and a ratio is the median of the rounds' ratios.
/// Calls faster than a microsecond are timed in batches.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wigwag bench
  wigwag bench --size 48,4KiB,1MiB --only limit,raw,wigwag,unix --wait spin
  wigwag bench --size 1MiB,64MiB --only wigwag,unix --pin two,none
  wigwag bench --rate 1000 --pin none --only wigwag,unix --json rows.jsonl
  wigwag bench --burst 64 --pause 10ms --pin none --only wigwag,unix
  wigwag bench --size 8,48,256,1KiB,4KiB,64KiB,1MiB --html report.html
  wigwag bench --one-way --size 64,4KiB,64KiB,1MiB --wait adaptive
  wigwag bench --one-way --size 64KiB --total 10GiB --wait adaptive
  wigwag bench --goal P3
  wigwag bench --goal all")]
pub struct BenchArgs {
    /// Payload sizes: bytes, or with KiB or MiB behind the number (8 B to 64 MiB)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "48", value_parser = parse_size)]
    pub size: Vec<usize>,

    /// Where the two sides run
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "two")]
    pub pin: Vec<Pin>,

    /// The two processors to use for client and server, if not the first two that are allowed
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..=2)]
    pub processors: Vec<usize>,

    /// How both sides wait
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "adaptive,spin,park")]
    pub wait: Vec<WaitMode>,

    /// Measure only these
    #[arg(long, value_name = "CONTENDERS", value_delimiter = ',')]
    pub only: Vec<Contender>,

    /// What the ratios compare with (by default: limit, raw64, raw, futex or unix, by the case)
    #[arg(long, value_name = "CONTENDER")]
    pub baseline: Option<Contender>,

    /// At most this many calls per case and round
    #[arg(long, value_name = "N")]
    pub calls: Option<u64>,

    /// Time per case and round [default: 0.1]; with --goal, for the whole preset [default: 34]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,

    /// Rounds: each measures every case once [default: 5; each goal has its own]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,

    /// Calls per second; the client sleeps until the next one is due
    #[arg(long, value_name = "R", conflicts_with = "burst")]
    pub rate: Option<f64>,

    /// Calls back to back before each pause
    #[arg(long, value_name = "N", requires = "pause")]
    pub burst: Option<u32>,

    /// The pause between bursts, such as 10ms or 200us (computed through below 50us, slept through from there on)
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub pause: Option<Duration>,

    /// No replies: pieces of each size as fast as the server reads and checks them; streams, Unix socket and pipe
    #[arg(long, conflicts_with_all = ["rate", "burst", "in_flight", "sessions"])]
    pub one_way: bool,

    /// Transfer so many bytes per case and round, such as 10GiB, and in one round if not told otherwise
    #[arg(long, value_name = "BYTES", requires = "one_way", conflicts_with = "calls", value_parser = parse_bytes)]
    pub total: Option<u64>,

    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub in_flight: u32,

    /// Connected sessions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,

    /// Sessions that make calls; the others are idle
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub busy: u32,

    /// Also write one JSON object per case, a line each; `-` writes nothing else to standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Also write a page with charts: one HTML file that needs no network
    #[arg(long, value_name = "FILE", conflicts_with = "goal")]
    pub html: Option<PathBuf>,

    /// Check a goal of the project: prints its figure, the goal and the verdict, exits 0 when met and 1 when not
    #[arg(long, value_name = "GOAL", ignore_case = true)]
    pub goal: Option<Goal>,
}

impl BenchArgs {
    /// The rhythm that was asked for.
    pub fn load(&self) -> anyhow::Result<Load> {
        if self.one_way {
            return Ok(Load::OneWay);
        }
        match (self.rate, self.burst, self.pause) {
            (Some(rate), ..) => {
                ensure!(rate > 0.0 && rate <= 1e6, "--rate {rate} is not between 0 and 1000000 calls per second");
                Ok(Load::Paced { rate })
            }
            (None, burst, Some(pause)) => {
                let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
                Ok(Load::Bursts { burst: burst.unwrap_or(1).max(1), pause_ns })
            }
            (None, ..) => Ok(Load::Closed),
        }
    }

    /// What no single option can see.
    pub fn check(&self) -> anyhow::Result<()> {
        self.load()?;
        ensure!(self.busy <= self.sessions, "--busy {} is more than --sessions {}", self.busy, self.sessions);
        let seconds = self.seconds.unwrap_or(1.0);
        ensure!(seconds > 0.0 && seconds <= 3600.0, "--seconds {seconds} is not between 0 and 3600");
        ensure!(self.calls != Some(0), "--calls 0 measures nothing");
        if self.busy > 1 && self.in_flight > 1 {
            bail!("--busy {} and --in-flight {} do not go together", self.busy, self.in_flight);
        }
        Ok(())
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    match parse_bytes(text)? {
        bytes @ 8..=SIZE_MAX => Ok(bytes as usize),
        _ => Err(format!("'{text}' is not between 8 B and 64 MiB")),
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("'{unit}' is not a unit; B, KiB, MiB and GiB are")),
    };
    let number = u64::from_str(number).map_err(|_| format!("'{text}' is not a number of bytes"))?;
    match number.checked_mul(factor) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err(format!("'{text}' is not a number of bytes from 1 on")),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(format!("'{text}' has no unit; ns, us, ms and s are")),
    };
    let number = f64::from_str(number.trim()).map_err(|_| format!("'{text}' is not a duration"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| format!("'{text}' is not a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_limits() {
        assert_eq!(parse_size("48"), Ok(48));
        assert_eq!(parse_size("4KiB"), Ok(4096));
        assert_eq!(parse_size("1m"), Ok(1 << 20));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert!(parse_size("7").unwrap_err().contains("8 B"));
        assert_eq!(parse_bytes("10GiB"), Ok(10 << 30));
        assert!(parse_bytes("0").is_err() && parse_bytes("99999999999GiB").is_err());
        assert!(parse_size("65MiB").is_err() && parse_size("4 cows").is_err() && parse_size("").is_err());
    }

    #[test]
    fn durations_need_units() {
        assert_eq!(parse_duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_duration("2.5us"), Ok(Duration::from_nanos(2500)));
        assert!(parse_duration("10").is_err() && parse_duration("-1s").is_err());
    }
}
