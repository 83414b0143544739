//! Random numbers for tests, the same ones each time (xorshift64, Marsaglia 2003).

/// Gives the next one.
pub fn dice() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
