//! What is measured: all cases of the comparison, in interleaved rounds, and the parts that are no loop of calls.

use std::path::Path;
use std::time::{Duration, Instant};

use wigwag_bench::case::{Case, Contender as Name, Load, WaitMode};
use wigwag_bench::machine::Machine;
use wigwag_bench::meter::Extent;
use wigwag_bench::page::{Contestant, LeftOut, PERCENTILES, Page, Point};
use wigwag_bench::phase::Stage;
use wigwag_bench::placement::{Pin, Processors};
use wigwag_bench::progress::Progress;
use wigwag_bench::row::Row;
use wigwag_bench::series::{Plan, Rounds, Series};

use crate::contender::Entry;
use crate::contenders::OURS;
use crate::options::{Options, Part};
use crate::{broadcasts, killed, leftovers, silent};

/// The payload where the size is not what is varied.
const SIZE: usize = 48;
/// A process that takes longer than this, beyond what it was told to measure, is ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a quick run begins nothing new any more, so that it ends within 3 minutes on a busy machine too.
const QUICK: Duration = Duration::from_secs(150);

/// What is varied in one series: all contenders do the same work in it, in turn.
struct Group {
    what: String,
    rounds: usize,
    seconds: f64,
    /// The case of a contender, from its closed loop of 48 bytes.
    case: Box<dyn Fn(Case) -> Case>,
    /// Whether contenders that poll take part.
    polling: bool,
    /// Whether it is about several clients, so that those which can have one only have no part in it.
    many: bool,
}

/// How much is measured.
struct Scope {
    quick: bool,
}

impl Scope {
    fn choose<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn group(
        &self,
        what: String,
        rounds: [usize; 2],
        seconds: [f64; 2],
        case: impl Fn(Case) -> Case + 'static,
    ) -> Group {
        Group {
            what,
            rounds: self.choose(rounds[0], rounds[1]),
            seconds: self.choose(seconds[0], seconds[1]),
            case: Box::new(case),
            polling: true,
            many: false,
        }
    }

    fn sizes(&self) -> Vec<Group> {
        const FULL: [usize; 9] = [8, 48, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
        let two = |&size: &usize| {
            self.group(format!("{size} B, closed loop"), [5, 3], [0.2, 0.05], move |case| Case { size, ..case })
        };
        let one = |&size: &usize| {
            let case = move |case: Case| Case { size, ..case }.pinned(Pin::One);
            self.group(format!("{size} B, closed loop, one processor"), [5, 1], [0.2, 0.06], case)
        };
        let two = self.choose(&FULL[..], &[48, 4 << 10, 1 << 20]).iter().map(two);
        two.chain(self.choose(&[48, 4 << 10, 1 << 20][..], &[48]).iter().map(one)).collect()
    }

    fn rates(&self) -> Vec<Group> {
        let seconds = |rate: f64| if rate < 1e3 { 1.0 } else { 0.4 };
        let at = |rate: f64, pin: Pin| {
            let place = if pin == Pin::Two { "pinned" } else { "not pinned" };
            let what = format!("{rate} calls/s, {place}");
            let seconds = [seconds(rate), 0.15];
            let group = self.group(what, [3, 2], seconds, move |case| case.pinned(pin).loaded(Load::Paced { rate }));
            Group { polling: !self.quick, ..group }
        };
        let rates = self.choose(&[100.0, 1e3, 1e4, 1e5][..], &[1e3]);
        let pins = self.choose(&[Pin::None, Pin::Two][..], &[Pin::None]);
        pins.iter()
            .flat_map(|&pin| rates.iter().map(move |&rate| (rate, pin)))
            .map(|(rate, pin)| at(rate, pin))
            .collect()
    }

    fn bursts(&self) -> Group {
        let load = Load::Bursts { burst: 64, pause_ns: 10_000_000 };
        let what = "bursts of 64 calls, 10 ms apart, not pinned".to_owned();
        let group = self.group(what, [3, 1], [0.4, 0.15], move |case| case.pinned(Pin::None).loaded(load));
        Group { polling: false, ..group }
    }

    fn in_flight(&self) -> Vec<Group> {
        let group = |&count: &usize| {
            let what = format!("{count} requests under way");
            self.group(what, [3, 1], [0.2, 0.06], move |case| case.in_flight(count))
        };
        // One request under way is what the sizes begin with.
        self.choose(&[2, 4, 8, 16, 32, 64][..], &[8, 64]).iter().map(group).collect()
    }

    fn clients(&self) -> Vec<Group> {
        let group = |&count: &usize| {
            let what = format!("{count} clients of one server, not pinned");
            let case = move |case: Case| case.pinned(Pin::None).sessions(count, count);
            Group { many: true, ..self.group(what, [3, 1], [0.3, 0.1], case) }
        };
        self.choose(&[1, 2, 4, 8, 16, 32, 64][..], &[1, 16]).iter().map(group).collect()
    }

    fn start(&self) -> Group {
        let what = "from connecting to the first reply".to_owned();
        self.group(what, [25, 3], [0.0, 0.0], |case| case.pinned(Pin::None).loaded(Load::Start))
    }
}

/// Measures everything that was asked for.
pub fn run(options: &Options, entries: &[Entry], root: &Path, words: &[String]) -> anyhow::Result<Page> {
    let processors = Processors::choose(&options.processors)?;
    let stage = Stage::new(processors, root)?.patient(PATIENCE);
    let mut run = Run {
        stage: &stage,
        entries,
        root,
        processors: if processors.server.is_some() { 2 } else { 1 },
        progress: Progress::new(),
        deadline: options.quick.then(|| Instant::now() + QUICK),
        page: page(entries, options, words),
    };
    let scope = Scope { quick: options.quick };
    // What nobody should miss comes first, for a quick run may have to leave out what comes last.
    run.parts(
        options,
        [(Part::Sizes, scope.sizes()), (Part::Rates, scope.rates()), (Part::Start, vec![scope.start()])],
    );
    if options.wants(Part::Silent) {
        run.silent(scope.choose(Duration::from_secs(5), Duration::from_millis(700)));
    }
    if options.wants(Part::Killed) {
        run.killed(scope.choose(Duration::from_secs(3), Duration::from_millis(700)));
    }
    if options.wants(Part::Broadcast) {
        run.broadcasts(&scope, options);
    }
    let (bursts, in_flight) = (vec![scope.bursts()], scope.in_flight());
    run.parts(options, [(Part::Bursts, bursts), (Part::InFlight, in_flight), (Part::Clients, scope.clients())]);
    Ok(run.page)
}

fn page(entries: &[Entry], options: &Options, words: &[String]) -> Page {
    let contestant = |entry: &Entry| Contestant {
        name: entry.about.name.to_owned(),
        label: entry.about.label.to_owned(),
        how: entry.about.how.to_owned(),
        missing: entry.missing.map(str::to_owned),
    };
    let features = if cfg!(feature = "zenoh") { " --features zenoh" } else { "" };
    let command =
        format!("cargo run --release --manifest-path bench/compare/Cargo.toml{features} -- {}", words.join(" "));
    let amount = if options.quick { "A quick run: few rounds, little time for each case. " } else { "" };
    Page {
        title: "The same work through Wigwag and through everything else".to_owned(),
        lead: format!(
            "{amount}Two processes: the client fills every byte of a request, the server changes every byte, the \
             client reads the whole reply. All contenders take turns, round after round. Ratios carry over to other \
             machines, times do not."
        ),
        ours: OURS.to_owned(),
        commands: vec![command.trim_end().to_owned()],
        machine: Machine::here(),
        contenders: entries.iter().map(contestant).collect(),
        percentiles: PERCENTILES.to_vec(),
        rows: Vec::new(),
        idle: Vec::new(),
        crashes: Vec::new(),
        broadcasts: Vec::new(),
        left_out: Vec::new(),
    }
}

struct Run<'a> {
    stage: &'a Stage,
    entries: &'a [Entry],
    root: &'a Path,
    processors: usize,
    progress: Progress,
    /// When nothing new is begun any more.
    deadline: Option<Instant>,
    page: Page,
}

impl Run<'_> {
    fn parts(&mut self, options: &Options, parts: [(Part, Vec<Group>); 3]) {
        for (_, groups) in parts.into_iter().filter(|(part, _)| options.wants(*part)) {
            groups.iter().for_each(|group| self.series(group));
        }
    }

    /// One series: every contender does the same work, in turn.
    fn series(&mut self, group: &Group) {
        if self.is_late() {
            return self.leave_out("everybody", &group.what, LATE.to_owned());
        }
        eprintln!("measuring: {}", group.what);
        let cases = self.cases(group);
        let extent = Extent::seconds(group.seconds);
        let plans = cases.iter().map(|&case| Plan { case, extent }).collect();
        // A round that would go beyond the deadline is not begun; the first always is.
        let budget = self.deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()) / 3);
        let rounds = Rounds { most: group.rounds, budget };
        let series = Series::run(self.stage, plans, rounds, &self.progress);
        // What polls and what rivals were ended in the middle of is gone now.
        leftovers::remove(self.root);
        let measured: Vec<usize> = series.indexes().collect();
        for (index, case) in cases.iter().enumerate().filter(|(index, _)| !measured.contains(index)) {
            let why = series.failure(index).map_or("it failed".to_owned(), |error| error.root_cause().to_string());
            self.leave_out(case.contender.name(), &format!("{} ({})", group.what, case.wait), why);
        }
        let ours = measured.iter().copied().find(|&index| is_ours(series.case(index)));
        for &index in &measured {
            let row = Row::new(&series, index);
            let row = match ours {
                Some(ours) => row.against(&series, index, ours),
                None => row,
            };
            self.page.rows.push(Point::new(row, &series, index));
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|end| Instant::now() >= end)
    }

    /// The cases of a series; those that make no sense are noted with the reason.
    fn cases(&mut self, group: &Group) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut left_out = Vec::new();
        for entry in self.entries {
            if let (true, Some(why)) = (group.many, entry.about.alone) {
                left_out.push((entry.about.name, why.to_owned()));
                continue;
            }
            let waits = entry
                .about
                .waits
                .iter()
                .filter(|wait| group.polling || **wait != WaitMode::Spin || entry.about.waits.len() == 1);
            for &wait in waits {
                let case = (group.case)(entry.case(wait, SIZE));
                match self.obstacle(entry, &case) {
                    None => cases.push(case),
                    Some(why) => left_out.push((entry.about.name, why)),
                }
            }
        }
        for (name, why) in left_out {
            self.leave_out(name, &group.what, why);
        }
        cases
    }

    fn obstacle(&self, entry: &Entry, case: &Case) -> Option<String> {
        if let Some(why) = entry.obstacle(case) {
            return Some(why);
        }
        if !self.stage.can_place(case) {
            return Some("needs two processors, and this process may use one".to_owned());
        }
        let threads = case.busy.max(1) + 1;
        if case.wait == WaitMode::Spin && case.busy > 1 && threads > self.processors {
            return Some("more polling threads than processors only wait for the scheduler".to_owned());
        }
        None
    }

    fn silent(&mut self, rest: Duration) {
        eprintln!("watching: {} silent clients of each contender", silent::CLIENTS);
        for entry in self.entries {
            for wait in main_waits(entry) {
                if self.is_late() {
                    self.leave_out(entry.about.name, "silent clients", LATE.to_owned());
                    continue;
                }
                self.progress.show(&format!("{} {wait}", entry.about.name));
                match silent::watch(self.stage, entry, wait, rest) {
                    Ok(idle) => self.page.idle.push(idle),
                    Err(left_out) => self.page.left_out.push(left_out),
                }
            }
            leftovers::remove(self.root);
        }
        self.progress.clear();
    }

    fn killed(&mut self, patience: Duration) {
        eprintln!("killing: servers and clients of each contender");
        for entry in self.entries {
            for wait in main_waits(entry) {
                if self.is_late() {
                    self.leave_out(entry.about.name, "SIGKILL", LATE.to_owned());
                    continue;
                }
                self.progress.show(&format!("{} {wait}", entry.about.name));
                match killed::kill(self.stage, entry, wait, patience) {
                    Ok(crash) => self.page.crashes.push(crash),
                    Err(left_out) => self.page.left_out.push(left_out),
                }
                leftovers::remove(self.root);
            }
        }
        self.progress.clear();
    }

    fn broadcasts(&mut self, scope: &Scope, options: &Options) {
        if self.is_late() {
            return self.leave_out("everybody", "one publisher and its readers", LATE.to_owned());
        }
        let extent = broadcasts::Extent {
            sizes: scope.choose(&[48, 64, 4 << 10, 1 << 20], &[64, 1 << 20]),
            readers: scope.choose(&[1, 4, 16], &[1, 4]),
            rounds: scope.choose(5, 1),
            turn: Duration::from_millis(scope.choose(500, 100)),
        };
        let processors = self.stage.processors();
        let (found, left_out) = broadcasts::measure(&extent, &options.only, processors, self.root, &self.progress);
        self.page.broadcasts.extend(found);
        self.page.left_out.extend(left_out);
    }

    fn leave_out(&mut self, contender: &str, what: &str, why: String) {
        let left_out = LeftOut { contender: contender.to_owned(), what: what.to_owned(), why };
        // Several ways of waiting may have the same reason.
        if !self.page.left_out.contains(&left_out) {
            self.page.left_out.push(left_out);
        }
    }
}

const LATE: &str = "no time was left for it in a quick run";

/// What everything is compared with: our default.
fn is_ours(case: &Case) -> bool {
    case.contender == Name::Wigwag && case.wait == WaitMode::Adaptive
}

/// The way of waiting that a program has which does not burn a processor: our default, or sleeping.
fn main_waits(entry: &Entry) -> impl Iterator<Item = WaitMode> + use<> {
    let waits = entry.about.waits;
    let adaptive = waits.contains(&WaitMode::Adaptive).then_some(WaitMode::Adaptive);
    let park = waits.contains(&WaitMode::Park).then_some(WaitMode::Park);
    adaptive.or(park).or(waits.first().copied()).into_iter()
}
