//! G7: attackers in processes of their own that write over their whole segment at full speed, talk nonsense at the
//! socket and come back whenever they are thrown out, while honest clients check every byte of what they get.
//!
//! What the honest ones may expect is measured in the same run. In every round the very same processes first behave:
//! they call by the rules as fast as they can, with the same lengths, and keep their processor busy while they wait.
//! Then they attack. Both times the same number of processes is busy and wants the server, so that calls per second
//! while they attack, divided by calls per second while they behave, is the part of their fair share that the honest
//! clients keep. For comparison there is a third time, in which they want nothing of the server and only burn their
//! processors.
//!
//! The server and the honest clients have a processor for themselves, and the attackers have the others, so what they
//! can take is the server's attention and nothing else. Where all go where they want, the kernel's scheduler decides
//! how much of their time a server and a client are awake at the same moment: the calls per second beside the very same
//! processes then were anything from 6,000 to 18,000.
//!
//! As root, half of the attackers are of another user, whom the server's policy lets in: of their requests the handler
//! has a private copy, and looks whether a single byte of it changes while it works.

mod attack;
mod processes;

use std::path::Path;
use std::time::Duration;

use wigwag_testing::{Ground, Process};

use crate::outcome::Outcome;
use crate::processors;
use crate::role;
use crate::role::Play;
use crate::scale::{Scale, Trial};

/// The processes.
pub const ROLES: &[(&str, Play)] = &[
    ("hostile-host", processes::host),
    ("hostile-attacker", processes::attacker),
    ("hostile-honest", processes::honest),
];

/// A user that nothing else here runs as.
const OTHER_USER: u32 = 60_123;
const ATTACKERS: usize = 4;
const HONEST: usize = 2;
/// What the honest clients must keep, in percent.
const SHARE_MIN: f64 = 80.0;

/// The goal.
pub fn run(trial: &Trial) -> anyhow::Result<Outcome> {
    let is_root = rustix::process::geteuid().is_root();
    let ground = Ground::new();
    if is_root {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(ground.path(""), open)?;
    }
    let socket = ground.socket();
    let start_host = || role::start("hostile-host", [socket.as_os_str(), OTHER_USER.to_string().as_ref()]);
    let mut host = processors::on_the_first(start_host)?;
    host.expect("ready");
    let start_honest = |index: usize| role::start("hostile-honest", [socket.as_os_str(), index.to_string().as_ref()]);
    let mut honest: Vec<Process> =
        (0..HONEST).map(|index| processors::on_the_first(|| start_honest(index))).collect::<Result<_, _>>()?;
    let start_attacker = |index| attacker(&socket, trial.seed, index, is_root);
    let mut attackers: Vec<Process> = (0..ATTACKERS)
        .map(|index| processors::on_another(index, || start_attacker(index)))
        .collect::<Result<_, _>>()?;
    let rounds = trial.pick(2, 6, 5_000);
    let (behave, attack) = trial.pick((300, 700), (2_500, 5_000), (2_500, 5_000));
    let (mut alone, mut calm, mut busy) = (Span::default(), Span::default(), Span::default());
    let mut findings = Vec::new();
    for _ in 0..rounds {
        alone.add(measure(&mut attackers, "burn", &mut honest, behave, &mut findings));
        calm.add(measure(&mut attackers, "behave", &mut honest, behave, &mut findings));
        busy.add(measure(&mut attackers, "attack", &mut honest, attack, &mut findings));
        if !findings.is_empty() {
            break;
        }
    }
    let mut sessions = 0;
    for (index, mut attacker) in attackers.into_iter().enumerate() {
        attacker.tell("stop");
        let report = attacker.hear();
        let (count, hole) = report.split_once(' ').unwrap_or((report.as_str(), ""));
        sessions += count.parse::<u64>().unwrap_or(0);
        if !hole.is_empty() {
            findings.push(format!("attacker {index} could do what the seals forbid: {hole}"));
        }
        attacker.join();
    }
    for client in honest {
        client.tell("stop");
        client.join();
    }
    host.tell("stop");
    let (other_user_calls, changed, violations) = three(&host.hear());
    host.join();
    if changed > 0 {
        findings.push(format!(
            "{changed} of {other_user_calls} requests of another user changed while the handler had them"
        ));
    }
    let share = 100.0 * busy.per_second() / calm.per_second();
    if trial.scale != Scale::Test && share < SHARE_MIN {
        findings.push(format!("honest clients kept {share:.0} % of their fair share, {SHARE_MIN} % are promised"));
    }
    let other_users = match is_root {
        true => format!("{other_user_calls} requests of another user, {changed} changed in the handler's hands"),
        false => "no attackers of another user (that needs root)".into(),
    };
    let figure = format!(
        "{ATTACKERS} attackers for {:.0} s, {sessions} sessions, {violations} violations; {} honest calls meanwhile, \
         share \
         kept {share:.0} % ({:.0} against {:.0} calls/s beside the same processes when they behave, {:.0} when they \
         only burn); {other_users}; seed {}",
        busy.seconds,
        busy.calls,
        busy.per_second(),
        calm.per_second(),
        alone.per_second(),
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// Calls within some time.
#[derive(Clone, Copy, Default)]
struct Span {
    calls: u64,
    seconds: f64,
}

impl Span {
    fn add(&mut self, other: Span) {
        self.calls += other.calls;
        self.seconds += other.seconds;
    }

    fn per_second(self) -> f64 {
        self.calls as f64 / self.seconds.max(1e-9)
    }
}

fn attacker(socket: &Path, seed: u64, index: usize, is_root: bool) -> Process {
    let user = if is_root && index % 2 == 1 { OTHER_USER } else { rustix::process::geteuid().as_raw() };
    let seed = super::dice::seed_of(seed, index as u64).to_string();
    role::start("hostile-attacker", [socket.as_os_str(), seed.as_ref(), user.to_string().as_ref()])
}

/// Lets the attackers do something for a while; how often the honest clients called meanwhile.
fn measure(
    attackers: &mut [Process],
    order: &str,
    honest: &mut [Process],
    ms: u64,
    findings: &mut Vec<String>,
) -> Span {
    attackers.iter().for_each(|attacker| attacker.tell(order));
    std::thread::sleep(Duration::from_millis(100)); // until all of them do
    let (before, begin) = (count(honest, findings), std::time::Instant::now());
    std::thread::sleep(Duration::from_millis(ms));
    let calls = count(honest, findings).saturating_sub(before);
    Span { calls, seconds: begin.elapsed().as_secs_f64() }
}

fn count(honest: &mut [Process], findings: &mut Vec<String>) -> u64 {
    honest
        .iter_mut()
        .map(|client| {
            client.tell("count");
            let line = client.try_hear().unwrap_or_else(|| "the process is gone".into());
            line.parse().unwrap_or_else(|_| {
                findings.push(format!("an honest client: {line}"));
                0
            })
        })
        .sum()
}

fn three(line: &str) -> (u64, u64, u64) {
    let mut numbers = line.split(' ').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}
