//! A picture in memory: where it comes from, where it goes to. Always RGB, one byte per channel, rows from the top.

use std::path::Path;

use anyhow::{Context as _, ensure};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};

/// Bytes of a pixel.
pub const PIXEL: usize = 3;

/// Larger pictures are scaled down: the demo is bound to half a minute on a small machine.
const MOST_PIXELS: u64 = 2560 * 1600;

/// In how many pixels two frames of the same size differ.
pub fn differing(one: &[u8], other: &[u8]) -> u64 {
    if one == other {
        return 0;
    }
    let (pixels, others) = (one.as_chunks::<PIXEL>().0, other.as_chunks::<PIXEL>().0);
    pixels.iter().zip(others).filter(|(one, other)| one != other).count() as u64
}

/// An RGB picture.
#[derive(Clone)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes for each pixel, row by row from the top.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A black picture.
    pub fn black(width: usize, height: usize) -> Picture {
        Picture { width, height, pixels: vec![0; width * height * PIXEL] }
    }

    /// Reads a PNG or JPEG file. Also says whether it had to be scaled down.
    pub fn load(path: &Path) -> anyhow::Result<(Picture, bool)> {
        let name = path.display();
        let reader = image::ImageReader::open(path).with_context(|| format!("the picture {name} cannot be opened"))?;
        let reader = reader.with_guessed_format().with_context(|| format!("the picture {name} cannot be read"))?;
        let decoded =
            reader.decode().with_context(|| format!("{name} is not a PNG or JPEG picture that can be read"))?;
        let mut picture = decoded.into_rgb8();
        let pixels = u64::from(picture.width()) * u64::from(picture.height());
        ensure!(pixels > 0, "the picture {name} is empty");
        let too_large = pixels > MOST_PIXELS;
        if too_large {
            let scale = (MOST_PIXELS as f64 / pixels as f64).sqrt();
            let scaled = |side: u32| ((f64::from(side) * scale) as u32).max(1);
            picture = image::imageops::thumbnail(&picture, scaled(picture.width()), scaled(picture.height()));
        }
        Ok((Picture::from(picture), too_large))
    }

    /// Writes a PNG file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let describe = || format!("the picture {} cannot be written", path.display());
        let file = std::fs::File::create(path).with_context(describe)?;
        let encoder = PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Sub);
        let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.write_image(&self.pixels, width, height, ExtendedColorType::Rgb8).with_context(describe)
    }

    /// Paints a rectangle, as much of it as lies in the picture.
    pub fn fill(&mut self, left: usize, top: usize, width: usize, height: usize, colour: [u8; PIXEL]) {
        let right = (left + width).min(self.width);
        for y in top..(top + height).min(self.height) {
            let row = &mut self.pixels[y * self.width * PIXEL..][..self.width * PIXEL];
            if left < right {
                row[left * PIXEL..right * PIXEL].as_chunks_mut().0.fill(colour);
            }
        }
    }

    /// Paints one pixel.
    pub fn dot(&mut self, x: usize, y: usize, colour: [u8; PIXEL]) {
        self.fill(x, y, 1, 1, colour);
    }
}

impl From<RgbImage> for Picture {
    fn from(image: RgbImage) -> Picture {
        Picture { width: image.width() as usize, height: image.height() as usize, pixels: image.into_raw() }
    }
}
