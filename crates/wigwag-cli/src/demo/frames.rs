//! Moving pictures out of a still one: each frame differs from the one before, so that a stale reply cannot pass for
//! a fresh one.

use super::glyphs;
use super::picture::{PIXEL, Picture};

/// Frames in which the bar crosses the picture.
const CROSSING: usize = 96;

/// A source of frames that all come from one picture.
pub struct Frames {
    still: Picture,
    frame: Picture,
}

impl Frames {
    /// Frames of `still`.
    pub fn new(still: Picture) -> Frames {
        Frames { frame: still.clone(), still }
    }

    /// The length of a row in bytes.
    pub fn stride(&self) -> usize {
        self.still.width * PIXEL
    }

    /// Makes frame `number`: the picture with a bar that moves and, where there is room, the number.
    pub fn make(&mut self, number: u64) -> &[u8] {
        let Frames { still, frame } = self;
        frame.pixels.copy_from_slice(&still.pixels);
        let step = (number as usize).wrapping_mul(still.width.div_ceil(CROSSING)) % still.width;
        frame.fill(step, 0, still.width.div_ceil(CROSSING), still.height, [255, 64, 0]);
        // The corner takes another one of the eight tones each time: also a picture of one pixel has frames.
        frame.dot(0, 0, [(number % 8 * 32) as u8, (number / 8 % 8 * 32) as u8, (number / 64 % 8 * 32) as u8]);
        label(frame, number);
        &self.frame.pixels
    }
}

fn label(frame: &mut Picture, number: u64) {
    let scale = frame.width / 320;
    if scale == 0 {
        return;
    }
    let text = format!("FRAME {number}");
    let (width, height) = (text.len() * glyphs::ADVANCE * scale, glyphs::HEIGHT * scale);
    frame.fill(4 * scale, 4 * scale, width + 3 * scale, height + 4 * scale, [16; PIXEL]);
    glyphs::write(frame, 6 * scale, 6 * scale, scale, [255, 200, 0], &text);
}

#[cfg(test)]
mod tests {
    use super::super::filter;
    use super::*;

    #[test]
    fn no_two_frames_in_a_row_give_the_same_reply() {
        for (width, height) in [(1, 1), (3, 2), (640, 48)] {
            let mut frames = Frames::new(Picture::black(width, height));
            let stride = frames.stride();
            let mut reply = |number| {
                let mut pixels = frames.make(number).to_vec();
                filter::apply(&mut pixels, stride);
                pixels
            };
            for number in 0..200 {
                assert_ne!(reply(number), reply(number + 1), "{width} x {height}, frame {number}");
            }
        }
    }
}
