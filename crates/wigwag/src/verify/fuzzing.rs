//! The validators, for the fuzz targets in `verify/fuzz/` and for the test that runs their corpus: one input each, and
//! what must hold of it. A build without `--cfg fuzzing` has none of this.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::memory::head::{Head, Kind};
use crate::memory::layout::{ERROR_TEXT_CAPACITY, INLINE_CAPACITY};
use crate::memory::slot::{self, Expected};
use crate::session::agreement::Protocol;
use crate::session::name::ServiceName;
use crate::session::protocol::{DescriptorMessage, FromClient, FromServer, Hello, Welcome};
use crate::sync::AtomicU64;

/// All decoders: whatever they accept they write again as the same bytes, but for texts, which are cleaned, and for
/// what a later version may put behind or in the place of ours.
pub fn messages(bytes: &[u8]) {
    if let Some(message) = DescriptorMessage::decode(bytes) {
        assert!(DescriptorMessage::is_meant(bytes) && message.encode() == bytes);
    }
    match FromClient::decode(bytes) {
        // Of a greeting in another version only the versions are read, to refuse it by.
        Ok(FromClient::Hello(hello)) if Protocol::of_hello(hello.protocol_min, hello.protocol_max).is_none() => {}
        Ok(message @ FromClient::Hello(Hello { extension: Some(_), .. })) => {
            assert!(bytes.starts_with(&message.encode()))
        }
        Ok(message) => assert_eq!(message.encode(), bytes),
        Err(_) => {}
    }
    for protocol in [Protocol::V1, Protocol::V2] {
        match FromServer::decode(bytes, protocol) {
            Ok(message @ (FromServer::Refusal(..) | FromServer::Farewell(..))) => {
                let again =
                    FromServer::decode(&message.encode(), protocol).expect("what was accepted is accepted again");
                let (FromServer::Refusal(reason, text) | FromServer::Farewell(reason, text)) = &again else {
                    panic!("{message:?} became {again:?}");
                };
                assert!(matches!(&message, FromServer::Refusal(r, _) | FromServer::Farewell(r, _) if r == reason));
                assert!(!text.chars().any(char::is_control));
            }
            Ok(FromServer::Unknown) => assert!(protocol.is_lenient()),
            // It chose a version that was not offered, and what follows is not read.
            Ok(FromServer::Welcome(welcome)) if welcome.protocol != protocol as u16 => {}
            // Flags that are not known are left out, as is what follows.
            Ok(message @ FromServer::Welcome(Welcome { extension: Some(_), .. })) => {
                assert_eq!(FromServer::decode(&message.encode(), protocol), Ok(message));
            }
            Ok(message) => assert_eq!(message.encode(), bytes),
            Err(_) => {}
        }
    }
}

/// A capacity, a head, a turn and a sequence: what fits lies within the slot, and only the very request that is
/// expected is one.
pub fn words(bytes: &[u8]) {
    let word = |index: usize| {
        let mut word = [0; 8];
        bytes.iter().skip(8 * index).zip(&mut word).for_each(|(from, into)| *into = *from);
        u64::from_le_bytes(word)
    };
    let (capacity, head, turn, steps) = ((word(0) as usize) & ((1 << 30) - 1), word(1), word(2), word(3) % 64);
    if let Some(parsed) = Head::parse(head) {
        assert!(parsed.pack() == head || parsed.kind == Kind::Foreign);
        let text = !parsed.kind.is_users();
        let room = match (parsed.in_body, text) {
            (false, true) => INLINE_CAPACITY,
            (false, false) => INLINE_CAPACITY.min(capacity),
            (true, true) => ERROR_TEXT_CAPACITY,
            (true, false) => capacity,
        };
        assert_eq!(parsed.fits(capacity), parsed.len as usize <= room);
    }
    let expected = (0..steps).fold(Expected::after(0), |expected, _| expected.next());
    let loaded = slot::load(&AtomicU64::new(turn));
    assert_eq!(expected.taken(), steps);
    assert_eq!(expected.is(loaded), turn & !6 == (steps + 1) << 8 | 1);
    assert_eq!((loaded.sequence(), loaded.is_server()), (turn >> 8, turn & 1 != 0));
}

/// A name leads into the runtime directory, a path where it says, and nowhere else.
pub fn names(bytes: &[u8]) {
    let name = OsStr::from_bytes(bytes);
    let is_path = ["/", "./", "../"].iter().any(|start| bytes.starts_with(start.as_bytes()));
    match ServiceName::find(name) {
        Ok(place) if is_path => assert!(place.path().file_name().is_some()),
        Ok(place) => {
            let path = place.path();
            assert!(!bytes.contains(&b'/') && !bytes.contains(&0) && bytes.len() <= 80);
            assert_eq!(path.file_name().map(OsStr::as_bytes), Some([bytes, b".sock"].concat().as_slice()));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn run(target: &str, check: fn(&[u8])) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../verify/fuzz/corpus/");
        let files = std::fs::read_dir(format!("{corpus}{target}")).unwrap();
        let inputs: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        inputs.iter().for_each(|input| check(input));
    }

    #[test]
    fn the_corpus_of_the_validators_holds() {
        run("messages", messages);
        run("words", words);
        run("names", names);
    }
}
