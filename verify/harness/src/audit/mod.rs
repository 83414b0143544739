//! Audits: what is read twice, what old and foreign peers meet, and whether the tests notice a changed validator.
//!
//! Goals G9 G23 G24.
//!
//! ```text
//! fetch     G9: every path of a request, walked; what was read twice?
//! victims   what is walked
//! tracer    single steps, and which of them touch the segment
//! words     the control words by name; which may be read twice, and why
//! versions  G23: other versions, golden bytes, a client in C
//! mutants   G24: validators changed a little; does a unit test notice?
//! ```

#[cfg(target_arch = "x86_64")]
mod fetch;
pub mod mutants;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod versions;
#[cfg(target_arch = "x86_64")]
mod victims;
#[cfg(target_arch = "x86_64")]
pub mod words;

use crate::goals::Goal;
use crate::role::Play;

/// Slots of the sessions that are walked.
#[cfg(target_arch = "x86_64")]
const SLOTS: usize = 2;
/// Their capacity.
#[cfg(target_arch = "x86_64")]
const CAPACITY: usize = 5000;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal {
        id: "G9",
        name: "read-once",
        title: "no control word is read twice in one request",
        limit_s: [60, 90, 90],
        run: double_fetches,
    },
    Goal {
        id: "G24",
        name: "mutants",
        title: "no changed check goes unnoticed by the tests",
        limit_s: [60, 300, 7200],
        run: mutants::try_it,
    },
    Goal {
        id: "G23",
        name: "foreign-peers",
        title: "foreign peers: versions, bytes, a client in C",
        limit_s: [120, 120, 600],
        run: versions::run,
    },
];

#[cfg(target_arch = "x86_64")]
use fetch::try_it as double_fetches;

#[cfg(not(target_arch = "x86_64"))]
fn double_fetches(_: &crate::scale::Trial) -> anyhow::Result<crate::outcome::Outcome> {
    Ok(crate::outcome::Outcome::not_tried("instructions are decoded on x86-64 only"))
}
/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    #[cfg(target_arch = "x86_64")]
    ("audited-by-hand", victims::by_hand),
    #[cfg(target_arch = "x86_64")]
    ("audited-by-handler", victims::by_handler),
    #[cfg(target_arch = "x86_64")]
    ("audited-client", victims::client),
];
