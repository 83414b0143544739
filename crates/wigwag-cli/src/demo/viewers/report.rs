//! What the four viewers have seen, in figures and as a line of signs for each.

use std::fmt::Write as _;

use serde::Serialize;

use super::Sight;
use crate::output;

/// Frames that one sign stands for.
const FRAMES_A_SIGN: usize = 2;

/// Everything, in the form in which `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Viewers {
    /// Frames that were published while the viewers were there.
    pub frames: u64,
    /// Bytes of each.
    pub frame_bytes: usize,
    /// At this rate.
    pub frames_per_second: u32,
    /// Frames that the publisher keeps.
    pub history: usize,
    /// What a frame cost the publisher before anybody listened.
    pub alone: Times,
    /// What it cost with the four.
    pub shown: Times,
    /// The four.
    pub viewers: Vec<Viewer>,
}

/// How long the publisher took to write and publish a frame.
#[derive(Debug, Serialize)]
pub struct Times {
    /// For half of the frames less.
    pub p50_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Times {
    /// Of these times.
    pub fn of(mut nanoseconds: Vec<u64>) -> Times {
        nanoseconds.sort_unstable();
        let at = |index: usize| nanoseconds.get(index).copied().unwrap_or(0);
        Times { p50_ns: at(nanoseconds.len() / 2), max_ns: at(nanoseconds.len().saturating_sub(1)) }
    }
}

/// What one viewer has seen.
#[derive(Debug, Serialize)]
pub struct Viewer {
    /// A word for scripts.
    pub viewer: &'static str,
    #[serde(skip)]
    about: String,
    /// Frames that it saw.
    pub seen: u64,
    /// Frames that it was told to have lost; of the killed one also those between the last frame before its end and the
    /// first one after.
    pub lost: u64,
    /// Pixels that were not what the publisher had written.
    pub wrong_pixels: u64,
    /// By frame.
    #[serde(skip)]
    is_seen: Vec<bool>,
}

impl Viewer {
    /// From what it said. `before`: messages that were published before the first frame, of `frames`.
    pub(super) fn new(viewer: &'static str, about: String, sights: &[Sight], before: u64, frames: u64) -> Viewer {
        let mut is_seen = vec![false; frames as usize];
        let (mut lost, mut next) = (0, before + 1);
        for sight in sights {
            // Another process has begun: nobody told it what the one before it missed. The numbers do.
            let is_of_another = sight.sequence.saturating_sub(sight.lost_before) > next;
            lost += if is_of_another { sight.sequence - next } else { sight.lost_before };
            next = sight.sequence + 1;
            let index = sight.sequence.checked_sub(before + 1).and_then(|index| usize::try_from(index).ok());
            if let Some(is_seen) = index.and_then(|index| is_seen.get_mut(index)) {
                *is_seen = true;
            }
        }
        let wrong_pixels = sights.iter().map(|sight| sight.wrong_pixels).sum();
        Viewer { viewer, about, seen: sights.len() as u64, lost, wrong_pixels, is_seen }
    }

    /// `#`: at least one of the frames was seen.
    fn signs(&self) -> String {
        let sign = |frames: &[bool]| if frames.contains(&true) { '#' } else { '.' };
        self.is_seen.chunks(FRAMES_A_SIGN).map(sign).collect()
    }
}

impl Viewers {
    /// Pixels that were wrong, with all viewers.
    pub fn wrong_pixels(&self) -> u64 {
        self.viewers.iter().map(|viewer| viewer.wrong_pixels).sum()
    }

    /// Whether every frame was seen or told as lost, by each viewer.
    pub fn is_all_accounted_for(&self) -> bool {
        self.viewers.iter().all(|viewer| viewer.seen + viewer.lost == self.frames)
    }

    /// As people read it, in 80 columns.
    pub fn text(&self) -> String {
        let mut text = format!(
            "One publisher, four viewers: {} frames of {} bytes, {} a second.\n\
             Each frame is written once. Each viewer is a process that reads it where it lies\n\
             and checks every pixel. The publisher keeps {} frames, and waits for nobody.\n\n",
            self.frames,
            output::count(self.frame_bytes as u64),
            self.frames_per_second,
            self.history
        );
        let _ = writeln!(text, "  {:<18}{:>4}  {:>4}", "", "seen", "lost");
        for viewer in &self.viewers {
            let _ = writeln!(text, "  {:<18}{:>4}  {:>4}  {}", viewer.about, viewer.seen, viewer.lost, viewer.signs());
        }
        let duration = |nanoseconds: u64| output::duration(nanoseconds as f64);
        let _ = write!(
            text,
            "\n  #: seen, .: lost; a sign is {FRAMES_A_SIGN} frames. Each loss was told with the next frame.\n\n\
             To write and publish a frame took {} while nobody listened (at most\n\
             {}), and {} before these four (at most {}). Whoever is slow,\n\
             stopped or dead loses frames of its own, and costs nobody else any.\n",
            duration(self.alone.p50_ns),
            duration(self.alone.max_ns),
            duration(self.shown.p50_ns),
            duration(self.shown.max_ns),
        );
        text.push_str(match (self.is_all_accounted_for(), self.wrong_pixels()) {
            (true, 0) => "Every frame is accounted for, and every pixel is right.\n",
            (false, 0) => "NOT every frame is accounted for: seen and lost are not all.\n",
            _ => "There are WRONG pixels.\n",
        });
        text
    }
}

#[cfg(test)]
impl Viewers {
    /// Nobody saw anything.
    pub fn nothing() -> Viewers {
        let times = || Times::of(Vec::new());
        let (alone, shown) = (times(), times());
        Viewers { frames: 0, frame_bytes: 0, frames_per_second: 0, history: 0, alone, shown, viewers: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(sequence: u64, lost_before: u64) -> Sight {
        Sight { sequence, lost_before, wrong_pixels: 0 }
    }

    fn viewers(sights: &[Sight]) -> Viewers {
        let about = "killed, restarted".to_owned();
        Viewers {
            frames: 8,
            frame_bytes: 6,
            frames_per_second: 30,
            history: 4,
            alone: Times::of(vec![3_000, 1_000, 2_000]),
            shown: Times::of(vec![]),
            viewers: vec![Viewer::new("killed", about, sights, 100, 8)],
        }
    }

    #[test]
    fn what_is_told_as_lost_and_what_a_dead_one_missed_is_counted_once() {
        // Frames 101 and 104 with two lost; then another process, which begins at 107.
        let seen = viewers(&[sight(101, 0), sight(104, 2), sight(107, 0), sight(108, 0)]);
        let viewer = &seen.viewers[0];
        assert_eq!((viewer.seen, viewer.lost, viewer.signs().as_str()), (4, 4, "##.#"));
        assert!(seen.is_all_accounted_for());
        assert_eq!((seen.alone.p50_ns, seen.alone.max_ns, seen.shown.max_ns), (2_000, 3_000, 0));
        let text = seen.text();
        assert!(text.contains("killed, restarted    4     4  ##.#\n") && text.contains("is accounted for"), "{text}");
    }

    #[test]
    fn a_frame_that_is_neither_seen_nor_lost_is_told() {
        // The last one is missing, and nobody said so.
        let seen = viewers(&[sight(101, 0), sight(107, 5)]);
        assert!(!seen.is_all_accounted_for());
        assert!(seen.text().contains("NOT every frame"), "{}", seen.text());
    }

    #[test]
    fn it_fits_a_terminal() {
        let mut seen = viewers(&[]);
        seen.frame_bytes = 12_288_000;
        let about = "slow, 150 ms each".to_owned();
        seen.viewers = vec![Viewer::new("stopped", about, &[], super::super::ALONE, super::super::SHOWN)];
        let text = seen.text();
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
