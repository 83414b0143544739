//! Calls and messages with any serde type, for those that are not plain memory.
//!
//! Plain memory needs no encoding: see [`TypedClient`](crate::TypedClient). How a value becomes bytes is a part of the
//! [`Contract`](crate::Contract): two sides with different [`Encoding`]s are refused at connect.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contract::Encoding;
use crate::error::{Error, ErrorKind, Result};

mod unambiguous;

use crate::encoded::unambiguous::{Checked, Strict};

/// How deeply values may be nested, so that no peer's bytes use up the stack of a thread.
const DEPTH_MAX: usize = 128;

/// A value as bytes; `what` it is, for people.
pub(crate) fn encode<T: Serialize + ?Sized>(encoding: Encoding, value: &T, what: &str) -> Result<Vec<u8>> {
    let bytes = match encoding {
        Encoding::MessagePack => encode_named(value),
        Encoding::Postcard => encode_positional(value),
    };
    bytes.map_err(|why| Error::new(ErrorKind::Encoding, format!("the {what} could not be encoded: {why}")))
}

fn encode_named<T: Serialize + ?Sized>(value: &T) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(128);
    // Readable: what is buffered because of an attribute (`flatten`, `tag`) asks for the readable form of an address or
    // a time.
    let mut encoder = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    Checked::<T, false>::new(value).serialize(&mut encoder).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(feature = "postcard")]
fn encode_positional<T: Serialize + ?Sized>(value: &T) -> std::result::Result<Vec<u8>, String> {
    // Of what refuses, postcard's error has no text.
    postcard::to_allocvec(&Checked::<T, true>::new(value)).map_err(|error| {
        format!(
            "{error}: without names, fields that are left out (skip_serializing_if) or not known beforehand (flatten) \
             could not be \
             told apart; use Encoding::MessagePack"
        )
    })
}

#[cfg(not(feature = "postcard"))]
fn encode_positional<T: Serialize + ?Sized>(_: &T) -> std::result::Result<Vec<u8>, String> {
    Err(NOT_HERE.into())
}

/// A value from bytes, all of them; `what` it is, for people.
pub(crate) fn decode<T: DeserializeOwned>(encoding: Encoding, bytes: &[u8], what: &str) -> Result<T> {
    let decoded = match encoding {
        Encoding::MessagePack => decode_named(bytes),
        Encoding::Postcard => decode_positional(bytes),
    };
    let decoded = decoded.and_then(|(value, left)| match left {
        0 => Ok(value),
        left => Err(format!("{left} bytes are left over")),
    });
    decoded.map_err(|why| {
        let sentence = format!(
            "the {what} of {} bytes is not a {}: {why}; do both sides have the same types?",
            bytes.len(),
            std::any::type_name::<T>()
        );
        Error::new(ErrorKind::Encoding, sentence)
    })
}

/// The value, and how many bytes are left over.
fn decode_named<T: DeserializeOwned>(mut bytes: &[u8]) -> std::result::Result<(T, usize), String> {
    let mut decoder = rmp_serde::Deserializer::new(&mut bytes).with_human_readable();
    decoder.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(Strict(&mut decoder)).map_err(|error| error.to_string())?;
    drop(decoder);
    Ok((value, bytes.len()))
}

#[cfg(feature = "postcard")]
fn decode_positional<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<(T, usize), String> {
    postcard::take_from_bytes(bytes).map(|(value, rest)| (value, rest.len())).map_err(|error| error.to_string())
}

#[cfg(not(feature = "postcard"))]
fn decode_positional<T: DeserializeOwned>(_: &[u8]) -> std::result::Result<(T, usize), String> {
    Err(NOT_HERE.into())
}

/// Never seen: the contract was refused before.
#[cfg(not(feature = "postcard"))]
const NOT_HERE: &str = "this program is built without the feature `postcard`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let encodings = [Some(Encoding::MessagePack), cfg!(feature = "postcard").then_some(Encoding::Postcard)];
        for encoding in encodings.into_iter().flatten() {
            let value = (7u32, Some("text".to_owned()), vec![1i64, -1]);
            let bytes = encode(encoding, &value, "request").unwrap();
            assert_eq!(decode::<(u32, Option<String>, Vec<i64>)>(encoding, &bytes, "request").unwrap(), value);
            for bad in [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &[]] {
                let error = decode::<(u32, Option<String>, Vec<i64>)>(encoding, bad, "request").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Encoding);
                assert!(error.to_string().contains(&format!("{} bytes", bad.len())), "{error}");
            }
        }
    }

    #[test]
    #[cfg(feature = "postcard")]
    #[ignore = "it measures: see docs/benchmarks.md"]
    fn what_an_encoding_costs() {
        use std::hint::black_box;
        use std::time::Instant;

        #[derive(serde::Serialize, serde::Deserialize)]
        struct Line {
            article: u32,
            quantity: u16,
            price_cents: u64,
            note: Option<String>,
        }
        #[derive(serde::Serialize, serde::Deserialize)]
        enum Kind {
            #[allow(dead_code, reason = "variants are told apart")]
            Buy,
            Sell {
                limit: u64,
            },
        }
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Order {
            id: u64,
            customer: String,
            at: f64,
            kind: Kind,
            lines: Vec<Line>,
            tags: Vec<String>,
        }
        let line = |n: u32| Line {
            article: 1000 + n,
            quantity: 3,
            price_cents: 1999,
            note: (n == 2).then(|| "a gift".into()),
        };
        let order = Order {
            id: 7_000_001,
            customer: "Ada Lovelace".into(),
            at: 1.75e9,
            kind: Kind::Sell { limit: 12_500 },
            lines: (0..4).map(line).collect(),
            tags: vec!["new".into(), "express".into()],
        };
        let best = |run: &dyn Fn()| {
            let mut least = f64::MAX;
            for _ in 0..60 {
                let begin = Instant::now();
                (0..2000).for_each(|_| run());
                least = least.min(begin.elapsed().as_nanos() as f64 / 2000.0);
            }
            least
        };
        let row = |what: &str, there: &dyn Fn(&Order) -> Vec<u8>, back: &dyn Fn(&[u8]) -> Order| {
            let bytes = there(&order);
            let encode_ns = best(&|| drop(black_box(there(black_box(&order)))));
            let decode_ns = best(&|| drop(black_box(back(black_box(&bytes)))));
            println!("| {what} | {} | {encode_ns:.0} ns | {decode_ns:.0} ns |", bytes.len());
        };
        let ours = |what: &str, encoding| {
            row(what, &|order| encode(encoding, order, "order").unwrap(), &|bytes| {
                decode(encoding, bytes, "order").unwrap()
            });
        };
        ours("`Encoding::MessagePack`, with names", Encoding::MessagePack);
        let unchecked = |order: &Order| {
            let mut bytes = Vec::with_capacity(128);
            let mut encoder = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
            serde::Serialize::serialize(order, &mut encoder).unwrap();
            bytes
        };
        let unchecked_back = |mut bytes: &[u8]| {
            let mut decoder = rmp_serde::Deserializer::new(&mut bytes).with_human_readable();
            serde::Deserialize::deserialize(&mut decoder).unwrap()
        };
        row("the same without the checks for what could be taken for something else", &unchecked, &unchecked_back);
        ours("`Encoding::Postcard`", Encoding::Postcard);
        let json_back = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
        row("JSON (serde_json), to compare", &|order| serde_json::to_vec(order).unwrap(), &json_back);
    }

    #[test]
    fn what_is_nested_without_an_end_is_an_error_and_uses_up_no_stack() {
        #[derive(serde::Deserialize)]
        struct Nested(#[allow(dead_code, reason = "it is never made")] Vec<Nested>);
        let bytes = vec![0x91; 1 << 20]; // a list of one list, and so on
        let error = decode::<Nested>(Encoding::MessagePack, &bytes, "request").map(drop).unwrap_err();
        assert!(error.to_string().contains("depth"), "{error}");
    }
}
