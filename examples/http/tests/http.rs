//! hyper over a Wigwag stream does what it does over a Unix socket; and a server that is killed looks like no good end.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode, Version};
use wigwag_http::carrier::Carrier;
use wigwag_http::client::{Client, whole};
use wigwag_http::measure::{Server, private_directory};
use wigwag_http::runtime::Runtime;
use wigwag_http::service::{CHUNK, pattern};

const PROGRAM: &str = env!("CARGO_BIN_EXE_http-over-wigwag");

/// Nothing here takes so long on the busiest machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test over each carrier, with a server of its own.
fn over_both(test: impl AsyncFn(Carrier, Server)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for carrier in Carrier::BOTH {
        let directory = private_directory().unwrap();
        let server = Server::start(Path::new(PROGRAM), carrier, Runtime::CurrentThread, directory.path()).unwrap();
        runtime.block_on(async { tokio::time::timeout(LIMIT, test(carrier, server)).await.expect("a hang") });
    }
}

#[test]
fn one_connection_carries_many_requests_of_every_kind() {
    over_both(async |carrier, server| {
        let mut client = Client::connect(carrier, server.path()).await.unwrap();
        let megabyte = Bytes::from(pattern(1 << 20));
        for round in 0..100 {
            assert_eq!(client.get("/").await.unwrap(), "Hello, world.", "request {round}");
            if round % 10 == 0 {
                assert!(client.post("/echo", megabyte.clone()).await.unwrap() == megabyte);
                assert!(client.get("/bytes/70000").await.unwrap() == pattern(70_000));
                let chunks = client.get(&format!("/chunks/{round}")).await.unwrap();
                assert!(chunks == pattern(CHUNK).repeat(round));
            }
        }
        let answer = client.send(Method::GET, "/nothing", Version::HTTP_11, Bytes::new()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        drop(answer.into_body().collect().await.unwrap());
        let error = client.get("/bytes/x").await.unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
    });
}

#[test]
fn a_body_without_a_length_comes_in_chunks() {
    over_both(async |carrier, server| {
        let mut client = Client::connect(carrier, server.path()).await.unwrap();
        let answer = client.send(Method::GET, "/chunks/5", Version::HTTP_11, Bytes::new()).await.unwrap();
        assert_eq!(answer.headers()["transfer-encoding"], "chunked");
        assert!(whole(answer).await.unwrap() == pattern(CHUNK).repeat(5));
    });
}

#[test]
fn several_connections_are_served_at_a_time() {
    over_both(async |carrier, server| {
        let connect = || Client::connect(carrier, server.path());
        let (mut slow, mut quick) = (connect().await.unwrap(), connect().await.unwrap());
        let slowly = slow.send(Method::GET, "/slowly/50", Version::HTTP_11, Bytes::new()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(quick.get("/").await.unwrap(), "Hello, world.");
        }
        assert!(whole(slowly).await.unwrap() == pattern(CHUNK).repeat(50));
    });
}

/// Reads a body's first bytes, kills the server, and reads on: the error, or how many bytes came before what looks like
/// the end.
async fn killed_while_it_answers(
    carrier: Carrier,
    mut server: Server,
    version: Version,
) -> Result<usize, hyper::Error> {
    let mut client = Client::connect(carrier, server.path()).await.unwrap();
    let mut body = client.send(Method::GET, "/slowly/1000000", version, Bytes::new()).await.unwrap().into_body();
    let mut came = 0;
    while came < 3 * CHUNK {
        came += body.frame().await.expect("more").unwrap().into_data().expect("bytes").len();
    }
    server.kill();
    while let Some(frame) = body.frame().await {
        came += frame?.into_data().expect("bytes").len();
    }
    Ok(came)
}

#[test]
fn a_server_that_is_killed_while_it_answers_is_an_error() {
    over_both(async |carrier, server| {
        assert!(killed_while_it_answers(carrier, server, Version::HTTP_11).await.is_err());
    });
}

/// Where a body ends with its connection, a socket cannot tell a killed server from one that has said everything. A
/// stream can.
#[test]
fn a_body_that_ends_with_its_connection_is_not_cut_off_unnoticed() {
    over_both(async |carrier, server| {
        let came = killed_while_it_answers(carrier, server, Version::HTTP_10).await;
        match carrier {
            Carrier::Wigwag => assert!(came.is_err(), "{came:?} bytes are taken for the whole"),
            Carrier::Unix => assert!(came.is_ok(), "{came:?}"),
        }
    });
}

#[test]
fn both_carriers_are_measured() {
    let output = std::process::Command::new(PROGRAM)
        .args(["measure", "--seconds", "0.4", "--rounds", "1", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 16, "two runtimes, four works, two carriers");
    for row in &rows {
        assert!(row["requests"].as_u64().unwrap() > 0 && row["requests_per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["processor_ns_per_request"].as_f64().unwrap() > 0.0, "{row}");
    }
}
