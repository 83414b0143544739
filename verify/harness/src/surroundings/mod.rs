//! The world as it is: a matrix of surroundings and of what is done in them.
//!
//! Programs are started in log-ins and after them, by daemons, in containers, on full disks, as the first process, with
//! signals ignored. In each of these surroundings each form, and the program, does a small job from one end to the
//! other. Either it works, or one clear sentence says what is the matter; nothing is lost, and nothing is left.
//!
//! ```text
//! surrounding  sandbox    what can be odd, and how a process gets into it
//! cell                    one job in some surroundings, and what is left of it
//! library  program        the two sides of a job
//! table                   which cells must work, and which must say why not
//! sentence                what makes an error clear
//! ```
//!
//! Goal G28.

mod cell;
mod library;
mod program;
mod sandbox;
mod sentence;
mod surrounding;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use wigwag_testing::word;

use self::cell::{Cell, Ended, JOBS, Programs};
use self::surrounding::ALL;
use self::table::{Expected, expected, is_promised};
use crate::goals::Goal;
use crate::outcome::Outcome;
use crate::role::Play;
use crate::scale::{Scale, Trial};

/// The goals of this part.
pub const GOALS: &[Goal] = &[Goal {
    id: "G28",
    name: "surroundings",
    title: "the world as it is: surroundings and what is done in them",
    limit_s: [600, 900, 7200],
    run: try_all,
}];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("surroundings-cell", cell::play),
    ("surroundings-server", library::play_server),
    ("surroundings-client", library::play_client),
];

/// Cells at a time.
const AT_A_TIME: usize = 6;

/// A cell that was run.
struct Tried {
    cell: Cell,
    ended: Ended,
    finding: Option<String>,
}

fn try_all(trial: &Trial) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let directory = tempfile::Builder::new().prefix("wigwag-surroundings-").tempdir()?;
    // Others may pass through, to what is theirs.
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let (programs, why_not) = programs(directory.path(), trial.scale)?;
    let singles = singles();
    let pairs = pairs(trial.seed, trial.pick(24, 300, 20_000));
    let numbers = AtomicUsize::new(0);
    let run = |cell: &Cell| run(cell, &programs, directory.path(), &numbers);
    let mut tried = all_at_once(&singles, &run);
    tried.extend(all_at_once(&pairs, &run));
    let mut findings = Vec::new();
    let mut not_tried: BTreeMap<String, usize> = BTreeMap::new();
    let (mut works, mut sentences) = (0, 0);
    for Tried { cell, ended, finding } in &tried {
        match ended {
            Ended::Works => works += 1,
            Ended::Sentence(_) => sentences += 1,
            Ended::NotTried(why) => *not_tried.entry(why.clone()).or_default() += 1,
            Ended::Wrong(_) => {}
        }
        if let Some(finding) = finding {
            let smaller = smallest(cell, &run);
            findings
                .push(format!("{cell}: {finding}{smaller}\nagain: cargo xtask prove --only G28 --seed {}", trial.seed));
        }
    }
    let mut missing: Vec<String> = not_tried.iter().map(|(why, count)| format!("{count} not tried: {why}")).collect();
    missing.extend(why_not);
    let missing = if missing.is_empty() { String::new() } else { format!("; {}", missing.join("; ")) };
    let figure = format!(
        "{} cells of {} surroundings and {} jobs, and {} pairs, in {:.1} s: {works} work, {sentences} say why \
         not{missing}; \
         seed {}",
        singles.len(),
        ALL.len(),
        JOBS.len(),
        pairs.len(),
        begin.elapsed().as_secs_f64(),
        trial.seed
    );
    Ok(Outcome::of(figure, findings))
}

/// Every surrounding with every job that it has to do with.
fn singles() -> Vec<Cell> {
    let cells = ALL.iter().flat_map(|one| JOBS.iter().map(|job| Cell { odd: vec![*one], job: *job }));
    cells.filter(|cell| expected(cell.odd[0], cell.job) != Expected::Nothing).collect()
}

/// Two surroundings at a time, by chance.
fn pairs(seed: u64, count: usize) -> Vec<Cell> {
    let pick = |index: u64, most: usize| (word(seed, index) >> 16) as usize % most;
    let cells = (0..).map(|number| {
        let odd = vec![ALL[pick(3 * number, ALL.len())], ALL[pick(3 * number + 1, ALL.len())]];
        Cell { odd, job: JOBS[pick(3 * number + 2, JOBS.len())] }
    });
    let fit = |cell: &Cell| {
        let [one, other] = cell.odd[..] else { return false };
        one.group() != other.group()
            && cell.odd.iter().all(|one| expected(*one, cell.job) != Expected::Nothing)
            && is_promised(&cell.odd, cell.job)
    };
    cells.filter(fit).take(count).collect()
}

/// Runs cells, several at a time, in their order.
fn all_at_once(cells: &[Cell], run: &(impl Fn(&Cell) -> Tried + Sync)) -> Vec<Tried> {
    let (next, tried) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = run(cell);
                    tried.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let mut tried = tried.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    tried.sort_by_key(|one| cells.iter().position(|cell| *cell == one.cell));
    tried
}

fn run(cell: &Cell, programs: &Programs, directory: &Path, numbers: &AtomicUsize) -> Tried {
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    let (root, name) = (directory.join(number.to_string()), format!("g28-{}-{number}", std::process::id()));
    let is_root = rustix::process::geteuid().is_root();
    let ended = if cell.job.is_of_the_program() && programs.wigwag.is_none() {
        Ended::NotTried("there is no program beside this one".into())
    } else if !is_root && cell.odd.iter().any(|one| one.needs_root()) {
        Ended::NotTried("only root can make these surroundings".into())
    } else {
        cell::run(cell, programs, &root, &name)
    };
    let finding = finding_in(cell, &ended);
    Tried { cell: cell.clone(), ended, finding }
}

/// What is wrong with how a cell ended.
fn finding_in(cell: &Cell, ended: &Ended) -> Option<String> {
    let must = match cell.odd[..] {
        [one] => expected(one, cell.job),
        _ => Expected::Either,
    };
    match (ended, must) {
        (Ended::Wrong(what), _) => Some(what.clone()),
        (Ended::Works, Expected::Sentence) => Some("it works, where somebody should say why it does not".into()),
        (Ended::Sentence(told), Expected::Works) => Some(format!("it does not work any more: {told}")),
        _ => None,
    }
}

/// Whether one of two surroundings is enough.
fn smallest(cell: &Cell, run: &impl Fn(&Cell) -> Tried) -> String {
    if cell.odd.len() < 2 {
        return String::new();
    }
    let alone = cell.odd.iter().map(|one| run(&Cell { odd: vec![*one], job: cell.job }));
    let enough: Vec<String> = alone.filter(|one| one.finding.is_some()).map(|one| one.cell.to_string()).collect();
    if enough.is_empty() { "\nonly both together".into() } else { format!("\nenough: {}", enough.join(", ")) }
}

/// Puts the programs where every user can reach them.
fn programs(directory: &Path, scale: Scale) -> anyhow::Result<(Programs, Option<String>)> {
    let place = |from: &Path, name: &str| -> anyhow::Result<PathBuf> {
        let to = directory.join(name);
        std::fs::hard_link(from, &to)
            .or_else(|_| std::fs::copy(from, &to).map(drop))
            .with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    };
    let own = std::env::current_exe()?;
    let (wigwag, why_not) = match wigwag(&own, scale) {
        Ok(wigwag) => (Some(place(&wigwag, "wigwag")?), None),
        Err(why) => (None, Some(format!("{why:#}"))),
    };
    Ok((Programs { own: place(&own, "prove")?, wigwag }, why_not))
}

/// The program: the one that cargo has built or builds, with the profile of tests, which is soon done.
fn wigwag(own: &Path, scale: Scale) -> anyhow::Result<PathBuf> {
    let target = own.ancestors().nth(2).context("no directory to build in")?;
    let program = target.join("debug/wigwag");
    if scale == Scale::Test && program.exists() {
        return Ok(program);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = std::process::Command::new(cargo)
        .args(["build", "--quiet", "--package", "wigwag-cli", "--bin", "wigwag", "--target-dir"])
        .arg(target)
        .current_dir(root)
        .output()
        .context("the library only: cargo cannot be started to build the program")?;
    let complaint = String::from_utf8_lossy(&built.stderr).trim_end().to_owned();
    anyhow::ensure!(
        built.status.success() && program.exists(),
        "the library only: the program cannot be built: {complaint}"
    );
    Ok(program)
}
