//! Values of serde types come back as they were sent, whatever attributes their types have, or not at all.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wigwag::{Client, Contract, Encoding, ErrorKind, Receiver, Sender, Server, ShutdownHandle};
use wigwag_testing::{Ground, LIMIT};

/// What became of a value that went to the other side.
#[derive(Debug, PartialEq)]
enum Fate {
    Same,
    Error(String),
    Wrong(String),
}

/// Sends values through a queue, whose receiver decodes them.
struct Way {
    _ground: Ground,
    receiver: Receiver,
    sender: Sender,
}

impl Way {
    fn new(encoding: Encoding) -> Way {
        let ground = Ground::new();
        let contract = Contract::named("values", 1).in_encoding(encoding);
        let receiver = Receiver::builder().contract(contract.clone()).bind(ground.socket()).unwrap();
        let sender = Sender::builder().contract(contract).connect(ground.socket()).unwrap();
        Way { _ground: ground, receiver, sender }
    }

    fn fate<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, value: &T) -> Fate {
        if let Err(error) = self.sender.send_with(value) {
            assert_eq!(error.kind(), ErrorKind::Encoding, "{error}");
            return Fate::Error(error.to_string());
        }
        match self.receiver.recv().unwrap().decode::<T>() {
            Ok(came) if came == *value => Fate::Same,
            Ok(came) => Fate::Wrong(format!("{value:?} came as {came:?}")),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Encoding, "{error}");
                Fate::Error(error.to_string())
            }
        }
    }

    #[track_caller]
    fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, value: T) {
        assert_eq!(self.fate(&value), Fate::Same, "{value:?}");
    }

    #[track_caller]
    fn refused<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, value: T, why: &str) {
        match self.fate(&value) {
            Fate::Error(error) => assert!(error.contains(why), "{error}"),
            other => panic!("{value:?}: {other:?}"),
        }
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Order {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    voucher: Option<u8>,
    count: u8,
    items: Vec<u8>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Action {
    Start,
    #[serde(skip)]
    #[allow(dead_code, reason = "it is skipped")]
    Internal,
    Keep,
    DeleteAll,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Inner {
    x: u32,
    y: Option<String>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(untagged)]
enum Untagged {
    Integer(i64),
    Float(f64),
    Text(String),
    Fields { x: u8 },
    Many(Vec<Untagged>),
    Nothing,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "type")]
enum Tagged {
    Fields { x: u8, bytes: Vec<u8>, at: IpAddr },
    Held(Inner),
    Nothing,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "type", content = "content")]
enum Adjacent {
    One(u8),
    Two(u8, String),
    Fields { z: i8 },
    Nothing,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE", rename_all_fields = "camelCase")]
enum Renamed {
    FirstOne {
        some_field: u8,
    },
    #[serde(rename = "another", alias = "anOther")]
    SecondOne(Option<u8>),
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
#[serde(default)]
struct Defaults {
    #[serde(skip_serializing_if = "is_zero")]
    first: u8,
    second: u8,
    #[serde(skip)]
    never: u8,
    third: u8,
}

mod as_text {
    pub fn serialize<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<u64, D::Error> {
        let text: String = serde::Deserialize::deserialize(decoder)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct With {
    #[serde(with = "as_text")]
    number: u64,
    after: u8,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(into = "u32", from = "u32")]
struct Into(u32);

impl From<u32> for Into {
    fn from(number: u32) -> Into {
        Into(number)
    }
}

impl From<Into> for u32 {
    fn from(into: Into) -> u32 {
        into.0
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Moved(#[serde(default, skip_serializing_if = "is_zero")] u8, #[serde(default)] u8);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum MovedVariant {
    Two(#[serde(default, skip_serializing_if = "is_zero")] u8, #[serde(default)] u8),
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Unit;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Newtype<T>(T);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(transparent)]
struct Transparent {
    inner: Option<u8>,
}

fn order() -> Order {
    Order { voucher: None, count: 0, items: vec![1, 2] }
}

#[test]
fn d6_every_attribute_comes_back_as_it_was_sent() {
    let way = &mut Way::new(Encoding::MessagePack);
    way.same((order(), Action::Keep));
    way.same(Order { voucher: Some(7), ..order() });
    way.same([Action::Start, Action::Keep, Action::DeleteAll]);
    way.refused(Action::Internal, "Internal");
    let inner = Inner { x: 7, y: None };
    way.same(Flat { a: 1, inner: inner.clone(), rest: BTreeMap::from([("more".into(), -5)]) });
    way.same(Untagged::Many(vec![
        Untagged::Integer(-1),
        Untagged::Float(1.0),
        Untagged::Float(0.1),
        Untagged::Text("text".into()),
        Untagged::Fields { x: 1 },
        Untagged::Nothing,
    ]));
    way.same(Tagged::Fields { x: 1, bytes: vec![0, 255], at: [127, 0, 0, 1].into() });
    way.same([Tagged::Held(inner.clone()), Tagged::Nothing]);
    way.same([Adjacent::One(1), Adjacent::Two(2, "b".into()), Adjacent::Fields { z: -1 }, Adjacent::Nothing]);
    way.same([Renamed::FirstOne { some_field: 1 }, Renamed::SecondOne(None), Renamed::SecondOne(Some(1))]);
    way.same([Defaults { second: 2, ..Defaults::default() }, Defaults { first: 1, third: 3, ..Defaults::default() }]);
    way.same(With { number: u64::MAX, after: 1 });
    way.same((Into(1), Transparent { inner: None }, Transparent { inner: Some(1) }));
    way.same(serde_json::json!({"list": [1, -2, 3.5, null, true, {"deep": "er"}], "large": u64::MAX, "one": 1.0}));
}

#[test]
fn d6_what_could_come_back_as_something_else_is_refused() {
    let way = &mut Way::new(Encoding::MessagePack);
    way.same([None, Some(Some(1u8))]);
    way.refused(Some(None::<u8>), "could not be told from None");
    way.refused(vec![Some(())], "could not be told from None");
    way.refused(Some(Newtype(None::<u8>)), "could not be told from None");
    way.refused(Some(Transparent { inner: None }), "could not be told from None");
    way.refused(Some(Untagged::Nothing), "could not be told from None");
    way.refused(BTreeMap::from([("key".to_owned(), Some(serde_json::Value::Null))]), "could not be told from None");
}

#[test]
fn d6_a_tuple_struct_that_leaves_out_a_field_is_refused() {
    let way = &mut Way::new(Encoding::MessagePack);
    way.same((Moved(1, 5), MovedVariant::Two(1, 5)));
    way.refused(Moved(0, 5), "1 fields came of a tuple that has 2");
    way.refused(vec![MovedVariant::Two(0, 5)], "1 fields came of a tuple that has 2");
}

#[test]
fn d6_all_of_serdes_data_model_comes_back() {
    for encoding in [Encoding::MessagePack, Encoding::Postcard] {
        let way = &mut Way::new(encoding);
        way.same(((), Unit, Newtype(3u8), Newtype(None::<u8>), Some(Unit)));
        way.same((u64::MAX, i64::MIN, u128::MAX, i128::MIN, 5u128, 0u8, -1i8));
        way.same((0.1f32, 0.1f64, f64::INFINITY, -0.0f32, 1e300f64, f64::MIN_POSITIVE));
        way.same(('é', String::from("é\0"), vec![Some(1u8), None], [1u8; 32]));
        way.same(BTreeMap::from([(1u8, 2u8)]));
        way.same(BTreeMap::from([((1u8, -2i8), vec![Inner { x: 1, y: Some("y".into()) }])]));
        way.same(BTreeMap::from([(None, 1u8), (Some(1u8), 2)]));
        way.same([Ok::<u8, String>(1), Err("no".into())]);
        way.same((SystemTime::UNIX_EPOCH, Duration::from_millis(5), 1..5u8, std::ops::Bound::Included(5u8)));
        way.same((IpAddr::from([1, 2, 3, 4]), std::path::PathBuf::from("/a"), std::marker::PhantomData::<u8>));
        way.same(vec![Some(vec![()])]);
    }
}

#[test]
fn d6_postcard_refuses_what_it_would_confuse_as_far_as_it_can_be_seen() {
    let way = &mut Way::new(Encoding::Postcard);
    way.refused(order(), "use Encoding::MessagePack");
    way.same(Order { voucher: Some(7), ..order() });
    way.refused(Flat { a: 1, inner: Inner { x: 7, y: None }, rest: BTreeMap::new() }, "");
    way.refused(Untagged::Integer(1), "");
    way.refused(Tagged::Nothing, "");
    way.refused(serde_json::json!([1]), "");
    way.same((Some(None::<u8>), Some(())));
    way.refused([Adjacent::One(1), Adjacent::Nothing], "");
    way.same(With { number: u64::MAX, after: 1 });
}

/// A server of values with so and so a contract, in a thread.
fn serving(ground: &Ground, contract: Contract) -> (std::thread::JoinHandle<wigwag::Result<()>>, ShutdownHandle) {
    let mut server = Server::builder().contract(contract).bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    (std::thread::spawn(move || server.serve_with(|value: (Order, Action)| Ok::<_, String>(value))), stop)
}

#[test]
fn d6_two_sides_with_different_encodings_are_refused_at_connect() {
    for (server, client) in [(Encoding::MessagePack, Encoding::Postcard), (Encoding::Postcard, Encoding::MessagePack)] {
        let ground = Ground::new();
        let (thread, stop) = serving(&ground, Contract::named("orders", 1).in_encoding(server));
        let connect = |encoding| {
            Client::builder().contract(Contract::named("orders", 1).in_encoding(encoding)).connect(ground.socket())
        };
        let error = connect(client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ContractMismatch);
        assert!(error.to_string().contains("orders version 1 in postcard"), "{error}");
        let value = (Order { voucher: Some(1), ..order() }, Action::Start);
        assert_eq!(connect(server).unwrap().call_with::<_, (Order, Action)>(&value).unwrap(), value);
        stop.shutdown();
        thread.join().unwrap().unwrap();
    }
}

#[test]
fn d6_calls_of_clients_of_all_kinds_have_names_unless_they_say_otherwise() {
    let ground = Ground::new();
    let (thread, stop) = serving(&ground, Contract::bytes());
    let value = (order(), Action::Keep);
    let client = Client::connect(ground.socket()).unwrap();
    assert_eq!(client.call_with::<_, (Order, Action)>(&value).unwrap(), value);
    assert_eq!(client.call_with_timeout::<_, (Order, Action)>(&value, LIMIT).unwrap(), value);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = wigwag::tokio::Client::connect(ground.socket()).await.unwrap();
        assert_eq!(client.call_with::<_, (Order, Action)>(&value).await.unwrap(), value);
    });
    stop.shutdown();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_handler_of_values_sees_who_asks_and_by_when() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let thread = std::thread::spawn(move || {
        server.serve_with_request(|(): (), request| {
            let is_timed = request.deadline().is_some();
            Ok::<_, String>((request.peer().uid, is_timed, request.is_abandoned()))
        })
    });
    let client = Client::connect(ground.socket()).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(client.call_with::<_, (u32, bool, bool)>(&()).unwrap(), (uid, false, false));
    assert_eq!(client.call_with_timeout::<_, (u32, bool, bool)>(&(), LIMIT).unwrap(), (uid, true, false));
    stop.shutdown();
    thread.join().unwrap().unwrap();
}
