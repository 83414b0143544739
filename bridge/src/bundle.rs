//! Small messages of a broadcast, many in one of zenoh's: each with its number, its length and its bytes.

use crate::wire::PIECE_MAX;

/// Bytes of a number and a length.
const HEAD: usize = 12;

/// Messages that go together.
#[derive(Debug, Default)]
pub struct Bundle {
    bytes: Vec<u8>,
}

impl Bundle {
    /// Adds a message. `false`: it does not fit any more.
    pub fn add(&mut self, number: u64, message: &[u8]) -> bool {
        if self.bytes.len() + HEAD + message.len() > PIECE_MAX {
            return false;
        }
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self.bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(message);
        true
    }

    /// What travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The first message of a bundle, and what is behind it. `None`: it is cut off.
pub fn split(bundle: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (number, rest) = bundle.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (message, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((u64::from_le_bytes(*number), message, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::dice;

    #[test]
    fn messages_come_out_as_they_went_in_and_none_is_read_beyond_the_end() {
        let messages = [&b"first"[..], b"", &[7; 4096]];
        let mut bundle = Bundle::default();
        for (number, message) in messages.iter().enumerate() {
            assert!(bundle.add(number as u64, message));
        }
        let mut rest = bundle.bytes();
        for (number, message) in messages.iter().enumerate() {
            let (of, found, behind) = split(rest).unwrap();
            assert_eq!((of, found), (number as u64, *message));
            rest = behind;
        }
        assert!(rest.is_empty());
        for len in 1..HEAD + 5 {
            assert_eq!(split(&bundle.bytes()[..len]), None, "{len}");
        }
    }

    /// Mutated bundles: what is read lies within them, and each step is shorter than the one before.
    #[test]
    fn no_bytes_are_misread() {
        let mut dice = dice();
        let mut random = || dice() as usize;
        let mut whole = 0;
        for _ in 0..20_000 {
            let mut bundle = Bundle::default();
            for number in 0..random() as u64 % 5 {
                bundle.add(number, &vec![7; random() % 40]);
            }
            let mut bytes = bundle.bytes;
            for _ in 0..random() % 3 {
                let at = random() % bytes.len().max(1);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = random() as u8);
            }
            bytes.truncate(random() % (2 * bytes.len() + 1));
            let mut rest = &bytes[..];
            while let Some((_, message, behind)) = split(rest) {
                assert_eq!(message.len() + HEAD + behind.len(), rest.len());
                rest = behind;
            }
            whole += usize::from(rest.is_empty());
        }
        assert!(whole > 1000, "{whole} of them were whole");
    }

    #[test]
    fn a_bundle_is_no_larger_than_a_piece() {
        let mut bundle = Bundle::default();
        let count = (0..).find(|number| !bundle.add(*number, &[0; 100])).unwrap();
        assert_eq!(count as usize, PIECE_MAX / (HEAD + 100));
        assert!(bundle.bytes().len() <= PIECE_MAX && bundle.add(0, b""));
    }
}
