//! Bytes that say where in which stream they belong.

use wigwag_testing::word;

/// Fills with the bytes of a stream from a place on.
pub fn fill(bytes: &mut [u8], seed: u64, from: usize) {
    for (at, byte) in (from..).zip(bytes) {
        *byte = word(seed, at as u64 / 8).to_le_bytes()[at % 8];
    }
}

/// The bytes of a stream from a place on.
pub fn part(seed: u64, from: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, seed, from);
    bytes
}

/// Where the first byte is that does not belong there.
pub fn first_wrong(bytes: &[u8], seed: u64, from: usize) -> Option<usize> {
    let expected = part(seed, from, bytes.len());
    (bytes != expected).then(|| from + bytes.iter().zip(&expected).take_while(|(found, right)| found == right).count())
}
