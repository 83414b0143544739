//! What every contender is to the comparison: a server that answers, a client that calls, and what is to be said
//! about both.

use serde::Serialize;
use wigwag_bench::case::{Case, Contender as Name, Load, WaitMode};
use wigwag_bench::report::Report;
use wigwag_bench::role::{self, Orders, Role};
use wigwag_bench::transport::Caller;

use crate::contenders;

/// Facts about a contender that its measurements do not say.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct About {
    /// Its name on the command line and in the JSON.
    pub name: &'static str,
    /// What a person calls it.
    pub label: &'static str,
    /// The configuration it is measured in, as a sentence for the page.
    pub how: &'static str,
    /// Ways of waiting that it has.
    pub waits: &'static [WaitMode],
    /// The largest payload that it carries in this configuration.
    pub size_max: usize,
    /// The largest payload that it can sleep for; above, it only polls.
    pub asleep_max: usize,
    /// Why it cannot serve several clients at once; nothing where it can.
    pub alone: Option<&'static str>,
    /// Why it cannot have several requests under way; nothing where it can.
    pub one_at_a_time: Option<&'static str>,
    /// Why it is measured in a closed loop only; nothing where it is not.
    pub closed_only: Option<&'static str>,
}

/// The largest payload that the comparison uses.
pub const SIZE_MAX: usize = 1 << 20;

impl About {
    /// One that carries everything, for one client, one request at a time.
    pub const fn new(name: &'static str, label: &'static str, how: &'static str) -> About {
        About {
            name,
            label,
            how,
            waits: &[WaitMode::Park, WaitMode::Spin],
            size_max: SIZE_MAX,
            asleep_max: SIZE_MAX,
            alone: Some(
                "a queue or buffer for each direction is for one client; each further client needs another pair",
            ),
            one_at_a_time: Some("one buffer or a strict turn-taking: there is nothing to have several requests in"),
            closed_only: None,
        }
    }
}

/// One contender. Each is a file in `contenders/`, whose head says in which configuration it is measured.
pub trait Contender: 'static {
    /// The client's end.
    type Client: Caller;
    /// What is to be said about it.
    const ABOUT: About;

    /// Makes what a client connects to, says `role::ready`, and answers until the process is ended. The change of a
    /// request is `work::change` or, for a system with two buffers, `work::change_into`.
    fn serve(orders: &Orders) -> anyhow::Result<()>;

    /// Connects to a server that has said that it is ready.
    fn connect(orders: &Orders) -> anyhow::Result<Self::Client>;

    /// The client's part; what is not a plain closed, paced or bursty loop of `connect`'s client comes here.
    fn measure(orders: &Orders) -> anyhow::Result<Report> {
        role::run(orders, || Self::connect(orders))
    }

    /// Connected clients that are silent after one call.
    fn idle(orders: &Orders) -> anyhow::Result<()> {
        role::hold(orders, || role::one_call(Self::connect(orders)?, orders.case.size))
    }
}

/// A contender as a value.
pub struct Entry {
    /// What is to be said about it.
    pub about: About,
    /// Why this program does not have it; nothing where it does.
    pub missing: Option<&'static str>,
    name: Name,
    play: fn(&Orders) -> anyhow::Result<()>,
}

impl Entry {
    /// A contender that this program has.
    pub fn of<C: Contender>() -> Entry {
        Entry { about: C::ABOUT, missing: None, name: Name::Rival(C::ABOUT.name), play: play::<C> }
    }

    /// A contender that the crate of the measuring parts has.
    pub fn own(name: Name, about: About) -> Entry {
        Entry { about, missing: None, name, play: role::play }
    }

    /// A contender that could not be built, and why.
    #[cfg_attr(all(boost, feature = "zenoh"), allow(dead_code, reason = "everybody is there"))]
    pub fn missing(about: About, why: &'static str) -> Entry {
        Entry { about, missing: Some(why), name: Name::Rival(about.name), play: role::play }
    }

    /// A case of this contender: a closed loop on two processors.
    pub fn case(&self, wait: WaitMode, size: usize) -> Case {
        Case::new(self.name, wait, size)
    }

    /// Why a case makes no sense for this contender.
    pub fn obstacle(&self, case: &Case) -> Option<String> {
        if let Some(why) = self.missing {
            return Some(why.to_owned());
        }
        if case.size > self.about.size_max {
            return Some(format!("carries at most {} bytes", self.about.size_max));
        }
        if case.wait != WaitMode::Spin && case.size > self.about.asleep_max {
            return Some(format!("has nothing to sleep on above {} bytes", self.about.asleep_max));
        }
        let several = case.sessions > 1 || case.busy > 1;
        let paced = !matches!(case.load, Load::Closed | Load::Start | Load::UntilDeath);
        let why = match self.about {
            About { alone: Some(why), .. } if several => why,
            About { one_at_a_time: Some(why), .. } if case.in_flight > 1 => why,
            About { closed_only: Some(why), .. } if paced || several || case.load != Load::Closed => why,
            _ if case.spins_on_one_processor() => "would stand on the only processor that the other side needs",
            _ => return None,
        };
        Some(why.to_owned())
    }
}

/// Plays a part in a phase, in a process of its own.
pub fn peer(orders: &Orders) -> anyhow::Result<()> {
    let name = orders.case.contender.name();
    match contenders::all().into_iter().find(|entry| entry.about.name == name) {
        Some(entry) => (entry.play)(orders),
        None => anyhow::bail!("there is no contender {name}"),
    }
}

fn play<C: Contender>(orders: &Orders) -> anyhow::Result<()> {
    role::prepare(orders)?;
    match orders.role {
        Role::Server => C::serve(orders),
        Role::Client => wigwag_bench::peer::say(&serde_json::to_string(&C::measure(orders)?)?),
        Role::Idler => C::idle(orders),
        Role::Tracer => anyhow::bail!("system calls are counted by `wigwag bench`"),
    }
}

/// A word that is in the name of everything that a phase leaves in places shared with others.
pub fn token(directory: &std::path::Path) -> String {
    // The run's name and the phase's: what is left can be told from other runs', and from other phases'.
    let names: Vec<_> = directory.iter().rev().take(2).map(|name| name.to_string_lossy()).collect();
    names.join("-").replace(['.', '/'], "")
}
