//! The work of one exchange, the same machine code for every contender.
//!
//! The client fills every byte, the server changes every byte, the client reads every byte and checks. None of it is
//! ever inlined: a contender cannot win because the compiler happened to see through its loop, and raw loop and
//! library pay the same three calls. Blocks of 16 bytes let the compiler use the widest registers that every
//! x86-64 and every aarch64 has, for 48 bytes as for 1 MiB.

/// Sixteen bytes: the block that all loops go by.
const BLOCK: usize = 16;

/// The eight bytes that request number `number` repeats. Its bytes differ from one another, so that no fill becomes
/// a `memset` with other rules (non-temporal stores) than the loops it is compared with.
#[inline(always)]
pub fn pattern(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0123_4567_89ab_cdef
}

/// Client: writes every byte of the request.
#[inline(never)]
pub fn fill(bytes: &mut [u8], pattern: u64) {
    let mut block = [0; BLOCK];
    block[..8].copy_from_slice(&pattern.to_le_bytes());
    block[8..].copy_from_slice(&pattern.to_le_bytes());
    let (blocks, tail) = bytes.as_chunks_mut::<BLOCK>();
    for target in blocks {
        *target = block;
    }
    for (target, byte) in tail.iter_mut().zip(block) {
        *target = byte;
    }
}

/// Server: adds one to every byte, where it lies.
#[inline(never)]
pub fn change(bytes: &mut [u8]) {
    let (blocks, tail) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for byte in block {
            *byte = byte.wrapping_add(1);
        }
    }
    for byte in tail {
        *byte = byte.wrapping_add(1);
    }
}

/// Server with two buffers: the same change on the way from one to the other, in one pass.
#[inline(never)]
pub fn change_into(target: &mut [u8], source: &[u8]) {
    let (targets, target_tail) = target.as_chunks_mut::<BLOCK>();
    let (sources, source_tail) = source.as_chunks::<BLOCK>();
    for (target, source) in targets.iter_mut().zip(sources) {
        for (target, byte) in target.iter_mut().zip(source) {
            *target = byte.wrapping_add(1);
        }
    }
    for (target, byte) in target_tail.iter_mut().zip(source_tail) {
        *target = byte.wrapping_add(1);
    }
}

/// Client: reads every byte of the reply into a sum.
#[inline(never)]
pub fn read(bytes: &[u8]) -> u64 {
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    let mut low = 0u64;
    let mut high = 0u64;
    for block in blocks {
        let both = u128::from_le_bytes(*block);
        low = low.wrapping_add(both as u64);
        high = high.wrapping_add((both >> 64) as u64);
    }
    let tail = tail.iter().fold(0u64, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    low.wrapping_add(high).wrapping_add(tail)
}

/// The sum that [`read`] must return for the reply to a request of `len` bytes with this pattern.
#[inline(always)]
pub fn expected(len: usize, pattern: u64) -> u64 {
    expected_unchanged(len, add_one_to_each_byte(pattern))
}

/// The sum that [`read`] must return for `len` bytes that were filled with this pattern.
#[inline(always)]
pub fn expected_unchanged(len: usize, pattern: u64) -> u64 {
    let words = ((len / BLOCK) * 2) as u64;
    let mut sum = words.wrapping_mul(pattern);
    for index in 0..len % BLOCK {
        sum = sum.wrapping_add((pattern >> (8 * (index % 8))) & 0xff);
    }
    sum
}

/// Eight additions in one word: the low seven bits of each byte cannot carry over, the top bit is added without carry.
#[inline(always)]
fn add_one_to_each_byte(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const ONES: u64 = 0x0101_0101_0101_0101;
    ((word & LOW) + ONES) ^ (word & !LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_request_is_recognised_at_every_length() {
        for len in (0..130).chain([4096, 65_537]) {
            let pattern = pattern(len as u64);
            let mut bytes = vec![0; len];
            fill(&mut bytes, pattern);
            let mut other = vec![0; len];
            change_into(&mut other, &bytes);
            change(&mut bytes);
            assert_eq!(bytes, other);
            assert_eq!(read(&bytes), expected(len, pattern), "{len} bytes");
        }
    }

    #[test]
    fn an_unchanged_byte_is_noticed() {
        for len in [1, 8, 48, 1000] {
            let mut bytes = vec![0; len];
            fill(&mut bytes, pattern(9));
            change(&mut bytes);
            bytes[len - 1] = bytes[len - 1].wrapping_sub(1);
            assert_ne!(read(&bytes), expected(len, pattern(9)));
        }
    }

    #[test]
    fn bytes_are_added_without_carry() {
        assert_eq!(add_one_to_each_byte(0xff00_7f80_ffff_0001), 0x0001_8081_0000_0102);
    }
}
