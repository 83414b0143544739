//! How to wait, as a word on the command line.

/// What a waiting process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Waiting {
    /// Spin while the other side is awake and quick, sleep otherwise
    #[default]
    Adaptive,
    /// Never sleep: the quickest, at the price of a processor
    Spin,
    /// Sleep at once: the most frugal
    Park,
}

impl From<Waiting> for wigwag::Wait {
    fn from(waiting: Waiting) -> wigwag::Wait {
        match waiting {
            Waiting::Adaptive => wigwag::Wait::Adaptive,
            Waiting::Spin => wigwag::Wait::Spin,
            Waiting::Park => wigwag::Wait::Park,
        }
    }
}
