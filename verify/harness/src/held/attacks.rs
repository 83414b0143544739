//! G29: each attack beside honest clients, in turns with times of peace: what is held stays within the stated bounds,
//! the honest ones hardly notice, and everything is back when the attackers are killed.
//!
//! Beside them stands a second server with such clients that nobody attacks. What the machine does meanwhile, and the
//! processor time that the attackers take, meets both alike: so the honest ones' times are judged by the longer of two,
//! their own in peace and those of the second server's clients during the attack.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wigwag::Client;
use wigwag_testing::{Ground, Process, Snapshot};

use super::attacker::LINGERING;
use super::honest::{Honest, Phase, Times};
use crate::crowd::baseline::{comes_back, percentile};
use crate::crowd::server::CrowdServer;
use crate::outcome::Outcome;
use crate::processors::on_another;
use crate::role;
use crate::scale::{Scale, Trial};

/// Users that nothing else runs as: those who are let in, as many as there are, and those who are not.
const ADMITTED: u32 = 60_300;
const ADMITTED_MAX: u32 = 24;
const OUTSIDERS: u32 = 60_400;
/// What the server may have open. A sixteenth of it are the welcomes under way, of which others have a half, and each a
/// quarter.
const DESCRIPTORS: usize = 1024;
const WELCOMES: usize = DESCRIPTORS / 16;
/// Sessions of each user, also of those whose memory is kept.
const SESSIONS: usize = 8;
/// Places for those who have not connected yet.
const PLACES: usize = 64;
/// What a session and a handshake have; the threads that see to what may take long, and the one that gives back memory.
const OF_SESSION: usize = 6;
const ERRAND_THREADS: usize = 5;
/// Threads that do for one user what may take long: closing, and sending to sockets that are slow.
const THREADS_OF_USER: usize = 16;
/// The goal: the honest ones' 99th percentile is at most so many times that of peace, or of those who are not attacked.
/// A machine that does something else can make one measurement worse, and not each of three.
const RATIO: f64 = 2.0;
const MEASURED: usize = 3;

/// Some attackers of one kind.
struct Crew {
    how: &'static str,
    is_admitted: bool,
    /// What each may hold at a time, and all of this attack together.
    most: usize,
}

impl Crew {
    fn who(&self) -> &'static str {
        if self.is_admitted { "let in" } else { "not let in" }
    }

    /// Whether it holds something in any case.
    fn is_to_hold(&self) -> bool {
        let holds = ["keep-open", "keep-mapped", "keep-read", "keep-under-way", "linger", "knock"];
        self.most > 0 && holds.contains(&self.how)
    }
}

struct Attack {
    name: &'static str,
    crews: &'static [Crew],
    all_most: usize,
    /// Sessions that the server lets each user have.
    sessions: usize,
    /// Descriptors of the server beyond the baseline.
    descriptors: usize,
    on_older_kernel: bool,
    /// The server lets descriptors travel, with clients of its own user.
    has_descriptors: bool,
    /// It costs those who connect the two slow wakes of each user that are stated, and that user is remembered for a
    /// minute: connects are not judged, and each round has new users.
    is_remembered: bool,
}

const fn admitted(how: &'static str, most: usize) -> Crew {
    Crew { how, is_admitted: true, most }
}

const fn outsider(how: &'static str) -> Crew {
    Crew { how, is_admitted: false, most: 0 }
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "unread welcomes",
        crews: &[
            admitted("greet", WELCOMES / 4),
            admitted("greet", WELCOMES / 4),
            admitted("greet", WELCOMES / 4),
            outsider("greet"),
        ],
        all_most: WELCOMES / 2,
        sessions: 256, // more than are needed to reach the bound of welcomes
        descriptors: (WELCOMES / 2 + 4) * OF_SESSION,
        on_older_kernel: false,
        has_descriptors: false,
        is_remembered: false,
    },
    Attack {
        name: "kept memory",
        crews: &[
            admitted("keep-open", SESSIONS),
            admitted("keep-mapped", SESSIONS),
            admitted("keep-read", SESSIONS),
            admitted("keep-under-way", SESSIONS),
            outsider("keep-open"),
        ],
        all_most: 4 * SESSIONS,
        sessions: SESSIONS,
        descriptors: 4 * SESSIONS + 6 * OF_SESSION,
        on_older_kernel: false,
        has_descriptors: false,
        is_remembered: false,
    },
    Attack {
        name: "watched sockets",
        crews: &[admitted("watch", 0), admitted("watch-many", SESSIONS), outsider("watch-many")],
        all_most: SESSIONS,
        sessions: SESSIONS,
        descriptors: PLACES + 12 * OF_SESSION,
        on_older_kernel: false,
        has_descriptors: false,
        is_remembered: true,
    },
    Attack {
        name: "lingering sockets",
        crews: &[admitted("linger", LINGERING), Crew { how: "linger", is_admitted: false, most: LINGERING }],
        all_most: 2 * LINGERING,
        sessions: SESSIONS,
        descriptors: 2 * LINGERING + 6 * OF_SESSION,
        on_older_kernel: true,
        has_descriptors: false,
        is_remembered: false,
    },
    Attack {
        name: "half-open handshakes",
        crews: &[admitted("knock", usize::MAX), Crew { how: "knock", is_admitted: false, most: usize::MAX }],
        all_most: usize::MAX,
        sessions: SESSIONS,
        descriptors: PLACES + 6 * OF_SESSION,
        on_older_kernel: false,
        has_descriptors: false,
        is_remembered: false,
    },
    carried("carried descriptors", &[admitted("carry", 0), admitted("carry", 0), outsider("carry")], false),
    carried(
        "carried descriptors on an older kernel",
        &[admitted("carry-on-older", 0), admitted("carry-on-older", 0), outsider("carry-on-older")],
        true,
    ),
];

/// Descriptors are sent that never travel with other users. What the kernel has taken counts against the limits of
/// their own user, and is given back once the server has seen it: nothing of it is left when they stop.
const fn carried(name: &'static str, crews: &'static [Crew], on_older_kernel: bool) -> Attack {
    Attack {
        name,
        crews,
        all_most: 0,
        sessions: SESSIONS,
        descriptors: PLACES + (2 * SESSIONS + 4) * OF_SESSION,
        on_older_kernel,
        has_descriptors: true,
        is_remembered: false,
    }
}

/// What came of one attack.
struct Report {
    held: Vec<usize>,
    descriptors: usize,
    threads: usize,
    /// Of calls, and of connects.
    p99_us: [Percentiles; 2],
}

/// 99th percentiles, in microseconds.
#[derive(Clone, Copy, Default)]
struct Percentiles {
    /// In peace.
    alone: u32,
    /// During the attack.
    beside: u32,
    /// During the attack, at the server that is not attacked.
    elsewhere: u32,
}

impl Percentiles {
    fn of([[alone, beside], [_, elsewhere]]: [Times; 2]) -> Percentiles {
        let [alone, beside, elsewhere] = [alone, beside, elsewhere].map(|mut times| percentile(&mut times, 99));
        Percentiles { alone, beside, elsewhere }
    }

    fn ratio(&self) -> f64 {
        f64::from(self.beside) / f64::from(self.alone.max(self.elsewhere).max(1))
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { alone, beside, elsewhere } = self;
        write!(out, "{beside} us ({alone} us in peace, {elsewhere} us elsewhere)")
    }
}

/// The goal.
pub fn held(trial: &Trial) -> anyhow::Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Outcome::not_tried("only root can play other users"));
    }
    let mut findings = Vec::new();
    let mut parts = Vec::new();
    for attack in ATTACKS {
        let report = try_attack(attack, trial, &mut findings).with_context(|| attack.name.to_owned())?;
        let held: Vec<String> = report.held.iter().map(usize::to_string).collect();
        let [calls, connects] = report.p99_us;
        parts.push(format!(
            "{}: held {}, {} descriptors and {} threads more, p99 of calls {calls}, of connects {connects}",
            attack.name,
            held.join("+"),
            report.descriptors,
            report.threads,
        ));
    }
    Ok(Outcome::of(parts.join("; "), findings))
}

fn try_attack(attack: &Attack, trial: &Trial, findings: &mut Vec<String>) -> anyhow::Result<Report> {
    let rounds: u32 = trial.pick(1, 2, 8);
    let ground = Ground::new();
    std::fs::set_permissions(ground.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut options = vec![
        "slots=2".to_owned(),
        "capacity=4096".to_owned(),
        "handshake_ms=300".to_owned(),
        format!("nofile={DESCRIPTORS}"),
        format!("max_handshakes={PLACES}"),
        format!("max_sessions_per_user={}", attack.sessions),
    ];
    options.extend((0..ADMITTED_MAX).map(|number| format!("allow_user={}", ADMITTED + number)));
    options.extend(attack.has_descriptors.then(|| "descriptors=1".to_owned()));
    options.extend(attack.on_older_kernel.then(|| "old_kernel=1".to_owned()));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server = CrowdServer::start(&ground.socket(), &options)?;
    let elsewhere = Ground::new();
    let servers = [server, CrowdServer::start(&elsewhere.socket(), &["slots=2", "capacity=4096"])?];
    let steady = [Client::connect(&servers[0].socket)?, Client::connect(&servers[1].socket)?];
    let before = Snapshot::when_settled(servers[0].proc_id, 1);
    let honest = [Honest::new(), Honest::new()];
    let mut report =
        Report { held: vec![0; attack.crews.len()], descriptors: 0, threads: 0, p99_us: Default::default() };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let (server, honest) = (&servers[0], &honest);
        for ((steady, honest), server) in steady.into_iter().zip(honest).zip(&servers) {
            scope.spawn(move || honest.keep_calling(steady));
            scope.spawn(|| honest.keep_connecting(&server.socket));
        }
        let mut done = Ok(());
        for measurement in 0..MEASURED as u32 {
            for round in 0..rounds {
                let number = measurement * rounds + round;
                let users = if attack.is_remembered { number * attack.crews.len() as u32 % ADMITTED_MAX } else { 0 };
                done = one_round(attack, trial, server, honest, &before, users, &mut report, findings);
                if done.is_err() || !findings.is_empty() {
                    break;
                }
            }
            let [attacked, elsewhere] = honest.each_ref().map(Honest::take_times);
            let [calls, connects] = attacked;
            let [calls_elsewhere, connects_elsewhere] = elsewhere;
            report.p99_us = [[calls, calls_elsewhere], [connects, connects_elsewhere]].map(Percentiles::of);
            // An attack that reaches nothing shows nothing.
            for (crew, held) in attack.crews.iter().zip(&report.held) {
                if *held == 0 && crew.is_to_hold() && done.is_ok() {
                    let who = crew.who();
                    findings.push(format!("{}: `{}` by a user who is {who} held nothing", attack.name, crew.how));
                }
            }
            let is_measured = trial.scale != Scale::Test && done.is_ok() && findings.is_empty();
            let judged = &report.p99_us[..if attack.is_remembered { 1 } else { 2 }];
            if !is_measured || judged.iter().all(|p99_us| p99_us.ratio() <= RATIO) {
                break;
            }
            if measurement + 1 == MEASURED as u32 {
                let [calls, connects] = report.p99_us;
                findings.push(format!(
                    "{}: the 99th percentile is {calls} of calls and {connects} of connects, and more than {RATIO} \
                     times each in {MEASURED} measurements",
                    attack.name,
                ));
            }
        }
        enter(honest, Phase::Over);
        done
    })?;
    let told = honest.iter().flat_map(Honest::take_findings);
    findings.extend(told.map(|what| format!("{}: {what}", attack.name)));
    servers.into_iter().for_each(|server| findings.extend(server.stop()));
    Ok(report)
}

/// Peace, then the attack, then its end. `users`: the first of those who are let in.
#[allow(clippy::too_many_arguments, reason = "one caller, and each is another thing")]
fn one_round(
    attack: &Attack,
    trial: &Trial,
    server: &CrowdServer,
    honest: &[Honest; 2],
    before: &Snapshot,
    users: u32,
    report: &mut Report,
    findings: &mut Vec<String>,
) -> anyhow::Result<()> {
    let duration = trial.pick(Duration::from_millis(400), Duration::from_millis(800), Duration::from_secs(5));
    let attackers: Vec<Process> = attack
        .crews
        .iter()
        .zip(0..)
        .map(|(crew, number)| {
            let user = number + if crew.is_admitted { ADMITTED + users } else { OUTSIDERS + users };
            let seed = trial.seed.wrapping_add(u64::from(number));
            let arguments =
                [server.socket.to_string_lossy().into_owned(), user.to_string(), crew.how.to_owned(), seed.to_string()];
            // Not where they would only take time from the honest ones, as anybody's busy processes do.
            on_another(0, || role::start("held-attacker", arguments))
        })
        .collect::<anyhow::Result<_>>()?;
    for attacker in &attackers {
        anyhow::ensure!(attacker.try_hear().as_deref() == Some("there"), "an attacker is gone before it began");
    }
    enter(honest, Phase::Alone);
    look_on(server, duration);
    enter(honest, Phase::Beside);
    attackers.iter().for_each(|attacker| attacker.tell("begin"));
    let (descriptors, threads) = look_on(server, duration);
    attackers.iter().for_each(|attacker| attacker.tell("say"));
    let mut all = 0usize;
    for ((attacker, crew), most_held) in attackers.iter().zip(attack.crews).zip(&mut report.held) {
        let held: usize = attacker.try_hear().context("an attacker is gone")?.parse()?;
        if held > crew.most {
            let who = crew.who();
            findings.push(format!(
                "{}: a user who is {who} holds {held} by `{}`, and the bound is {}",
                attack.name, crew.how, crew.most
            ));
        }
        all = all.saturating_add(held);
        *most_held = (*most_held).max(held);
    }
    if all == 0 && attack.all_most > 0 && !attack.is_remembered {
        findings.push(format!("{}: nobody held anything", attack.name));
    }
    if all > attack.all_most {
        findings.push(format!("{}: all hold {all}, and the bound is {}", attack.name, attack.all_most));
    }
    let sum = |counts: &std::collections::BTreeMap<String, usize>| counts.values().sum::<usize>();
    let descriptors = descriptors.saturating_sub(sum(&before.descriptors));
    let threads = threads.saturating_sub(sum(&before.threads));
    let threads_max = ERRAND_THREADS + attack.crews.len() * THREADS_OF_USER;
    if descriptors > attack.descriptors || threads > threads_max {
        findings.push(format!(
            "{}: the server has {descriptors} descriptors and {threads} threads more, and the bounds are {} and \
             {threads_max}",
            attack.name, attack.descriptors
        ));
    }
    report.descriptors = report.descriptors.max(descriptors);
    report.threads = report.threads.max(threads);
    enter(honest, Phase::Rest);
    for mut attacker in attackers {
        attacker.kill();
    }
    findings.extend(comes_back(before, server.proc_id, &format!("after {}", attack.name)));
    Ok(())
}

/// From now on this goes on, at both servers.
fn enter(honest: &[Honest; 2], phase: Phase) {
    honest.iter().for_each(|honest| honest.enter(phase));
}

/// The most descriptors and threads that the server has meanwhile.
fn look_on(server: &CrowdServer, duration: Duration) -> (usize, usize) {
    let begin = Instant::now();
    let mut most = (0, 0);
    while begin.elapsed() < duration {
        let now = Snapshot::of(server.proc_id);
        most.0 = most.0.max(now.descriptors.values().sum());
        most.1 = most.1.max(now.threads.values().sum());
        std::thread::sleep(Duration::from_millis(40));
    }
    most
}
