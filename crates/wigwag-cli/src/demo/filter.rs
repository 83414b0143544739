//! The work that the server does on each frame, in place: it turns the picture upside down and cuts each channel to
//! eight tones.
//!
//! It is deliberately cheap, about as fast as memory is, so that what remains of an exchange is the way there and
//! back. The client checks each reply with a second, independent formulation of the same rule.

use super::picture::PIXEL;

/// Applies the filter where the picture lies. `stride` is the length of a row in bytes.
pub fn apply(pixels: &mut [u8], stride: usize) {
    let rows = pixels.len() / stride;
    let (upper, rest) = pixels.split_at_mut(rows / 2 * stride);
    let (middle, lower) = rest.split_at_mut(rows % 2 * stride);
    for (above, below) in upper.chunks_exact_mut(stride).zip(lower.rchunks_exact_mut(stride)) {
        for (a, b) in above.iter_mut().zip(below) {
            (*a, *b) = (eight_tones(*b), eight_tones(*a));
        }
    }
    for byte in middle {
        *byte = eight_tones(*byte);
    }
}

/// The upper three bits, repeated so that the darkest tone is black and the brightest is white.
fn eight_tones(byte: u8) -> u8 {
    let tone = byte & 0b1110_0000;
    tone | tone >> 3 | tone >> 6
}

/// Counts the pixels of `reply` that are not what the filter makes of `request`: the client's own computation, by
/// arithmetic instead of bits, from the rule instead of from the code above.
pub fn wrong_pixels(request: &[u8], reply: &[u8], stride: usize) -> u64 {
    if request.len() != reply.len() {
        return (request.len().max(reply.len()) / PIXEL) as u64;
    }
    let mut wrong = 0;
    for (sent, received) in request.rchunks_exact(stride).zip(reply.chunks_exact(stride)) {
        let right =
            sent.iter().zip(received).fold(true, |right, (sent, received)| right & (*received == expected(*sent)));
        if !right {
            let pixels = sent.chunks(PIXEL).zip(received.chunks(PIXEL));
            wrong += pixels.filter(|(s, r)| s.iter().zip(*r).any(|(s, r)| *r != expected(*s))).count() as u64;
        }
    }
    wrong
}

/// Tone `t` of 0 to 7 becomes `t * 36 + t / 2`: 0, 36, 73, 109, 146, 182, 219, 255.
fn expected(byte: u8) -> u8 {
    byte / 32 * 36 + byte / 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formulations_agree_on_every_tone() {
        let tones: Vec<u8> = (0..=255).map(eight_tones).collect();
        assert_eq!(tones, (0..=255).map(expected).collect::<Vec<_>>());
        assert_eq!((tones[0], tones[255]), (0, 255));
        assert_eq!(tones.iter().collect::<std::collections::HashSet<_>>().len(), 8);
    }

    #[test]
    fn rows_are_turned_upside_down_whether_their_number_is_even_or_odd() {
        for rows in 1..6 {
            let request: Vec<u8> = (0..rows).flat_map(|row| [row * 32; 6]).collect();
            let mut reply = request.clone();
            apply(&mut reply, 6);
            let last = expected((rows - 1) * 32);
            assert_eq!(reply[..6], [last; 6]);
            assert_eq!(wrong_pixels(&request, &reply, 6), 0);
        }
    }

    #[test]
    fn each_wrong_pixel_is_counted_once() {
        let request: Vec<u8> = (0..120).collect();
        let mut reply = request.clone();
        apply(&mut reply, 12);
        reply[0] ^= 1;
        reply[1] ^= 1;
        reply[60] ^= 128;
        assert_eq!(wrong_pixels(&request, &reply, 12), 2);
        assert_eq!(wrong_pixels(&request, &reply[..60], 12), 40);
    }
}
