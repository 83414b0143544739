//! The bytes that tests send: a pattern that a seed stands for, and its inverse, so that no byte can be lost or swapped
//! unseen.

/// The word at `index` of the pattern that `seed` stands for (splitmix64, Steele, Lea, Flood 2014).
pub fn word(seed: u64, index: u64) -> u64 {
    let mut word = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Writes the pattern.
pub fn fill(bytes: &mut [u8], seed: u64) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&word(seed, index as u64).to_le_bytes()[..chunk.len()]);
    }
}

/// Checks every byte of what an inverting server made of the pattern.
#[track_caller]
pub fn check_inverted(bytes: &[u8], len: usize, seed: u64) {
    assert_eq!(bytes.len(), len);
    for (index, chunk) in bytes.chunks(8).enumerate() {
        let expected = (!word(seed, index as u64)).to_le_bytes();
        assert_eq!(chunk, &expected[..chunk.len()], "at byte {} of {len}", index * 8);
    }
}
