//! The test card: a picture in which every kind of damage shows.
//!
//! Colour bars show a changed channel, the grey wedge a lost tone, the grid and the circle a shifted row, the fine
//! lines a shifted pixel, the writing which way is up.

use super::glyphs;
use super::picture::{PIXEL, Picture};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

const WHITE: [u8; PIXEL] = [235, 235, 235];
const GRID: [u8; PIXEL] = [150, 150, 150];
const BACKGROUND: [u8; PIXEL] = [52, 58, 70];

/// The side of a grid square.
const SQUARE: usize = 60;

/// Colour bars in the order of the broadcasters: by falling brightness.
const BARS: [[u8; PIXEL]; 8] = [
    [235, 235, 235],
    [235, 235, 16],
    [16, 235, 235],
    [16, 235, 16],
    [235, 16, 235],
    [235, 16, 16],
    [16, 16, 235],
    [16, 16, 16],
];

/// Draws the card: 1920 x 1080.
pub fn draw() -> Picture {
    let mut card = Picture::black(WIDTH, HEIGHT);
    card.fill(0, 0, WIDTH, HEIGHT, BACKGROUND);
    grid(&mut card);
    bars(&mut card);
    wedges(&mut card);
    fine_lines(&mut card);
    circle(&mut card, WIDTH / 2, HEIGHT / 2, 470);
    title(&mut card);
    card
}

fn grid(card: &mut Picture) {
    for x in (0..=WIDTH).step_by(SQUARE) {
        card.fill(x.saturating_sub(1), 0, 2, HEIGHT, GRID);
    }
    for y in (0..=HEIGHT).step_by(SQUARE) {
        card.fill(0, y.saturating_sub(1), WIDTH, 2, GRID);
    }
}

fn bars(card: &mut Picture) {
    let width = 1200 / BARS.len();
    for (index, colour) in BARS.into_iter().enumerate() {
        card.fill(360 + index * width, 180, width, 300, colour);
    }
}

/// A grey wedge that is smooth and one in steps, and a rainbow below.
fn wedges(card: &mut Picture) {
    for x in 0..1200 {
        let grey = (x * 255 / 1199) as u8;
        let step = (x / 100 * 255 / 11) as u8;
        card.fill(360 + x, 540, 1, 60, [grey; PIXEL]);
        card.fill(360 + x, 600, 1, 60, [step; PIXEL]);
        card.fill(360 + x, 660, 1, 90, rainbow(x, 1200));
    }
}

/// The colour at `at` of a circle of hues that is `around` long.
fn rainbow(at: usize, around: usize) -> [u8; PIXEL] {
    let phase = at * 6 * 256 / around;
    let (sector, rise) = (phase / 256, (phase % 256) as u8);
    let fall = 255 - rise;
    match sector {
        0 => [255, rise, 0],
        1 => [fall, 255, 0],
        2 => [0, 255, rise],
        3 => [0, fall, 255],
        4 => [rise, 0, 255],
        _ => [255, 0, fall],
    }
}

/// Black and white lines of one, two, three and four pixels.
fn fine_lines(card: &mut Picture) {
    for (index, thickness) in [1, 2, 3, 4].into_iter().enumerate() {
        for x in 0..240 {
            let lit = x / thickness % 2 == 0;
            card.fill(480 + index * 240 + x, 780, 1, 60, if lit { WHITE } else { [16; PIXEL] });
        }
    }
}

fn circle(card: &mut Picture, centre_x: usize, centre_y: usize, radius: usize) {
    // Many more steps than there are pixels on the circle: no gaps, and no need for a cleverer way.
    let steps = radius * 20;
    for step in 0..steps {
        let angle = step as f64 * std::f64::consts::TAU / steps as f64;
        for thickness in 0..4 {
            let distance = (radius - thickness) as f64;
            let x = centre_x as f64 + distance * angle.cos();
            let y = centre_y as f64 + distance * angle.sin();
            card.dot(x as usize, y as usize, WHITE);
        }
    }
}

fn title(card: &mut Picture) {
    sign(card, 60, 10, "WIGWAG");
    sign(card, 870, 5, "THE SAME MEMORY, BACK");
}

/// White writing on a black sign, in the middle of the picture.
fn sign(card: &mut Picture, top: usize, scale: usize, text: &str) {
    // Behind the last letter there is no gap.
    let width = (text.len() * glyphs::ADVANCE - 1) * scale;
    let (left, border) = ((WIDTH - width) / 2, 2 * scale);
    card.fill(left - border, top, width + 2 * border, glyphs::HEIGHT * scale + 2 * border, [16; PIXEL]);
    glyphs::write(card, left, top + border, scale, WHITE, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_a_full_hd_picture_of_many_colours() {
        let card = draw();
        assert_eq!((card.width, card.height, card.pixels.len()), (1920, 1080, 1920 * 1080 * 3));
        let (pixels, _) = card.pixels.as_chunks::<PIXEL>();
        let colours: std::collections::HashSet<_> = pixels.iter().collect();
        assert!(colours.len() > 1000, "{} colours", colours.len());
    }
}
