//! How much of a goal is tried.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How much of a goal is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Seconds: part of `cargo test`
    Test,
    /// Minutes: all goals together 25 minutes on two processors
    Ci,
    /// Hours: the long form
    Full,
}

/// What a goal is tried with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// How much of it.
    pub scale: Scale,
    /// Where all randomness comes from: the same seed tries the same.
    pub seed: u64,
    /// Kills in the storms, instead of the scale's own number.
    pub kills: Option<u64>,
    /// Histories of each form, instead of the scale's own number.
    #[serde(default)]
    pub histories: Option<u64>,
    /// Only the history with this seed, again and again.
    #[serde(default)]
    pub history: Option<u64>,
}

impl Trial {
    /// One of three values, by scale.
    pub fn pick<T>(&self, test: T, ci: T, full: T) -> T {
        match self.scale {
            Scale::Test => test,
            Scale::Ci => ci,
            Scale::Full => full,
        }
    }
}
