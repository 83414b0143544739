//! zenoh: a query with a payload, answered by a queryable, over a Unix socket.
//!
//! Best fair configuration: two peers that know each other's address, no scouting, no router, no timestamps; the blocking
//! interface on the client's side, a callback on the server's. The server changes a copy, because the payload of a query
//! is shared. Built with `--features zenoh`, because zenoh alone takes as long to build as all the others.

use anyhow::{Context as _, anyhow};
use wigwag_bench::case::WaitMode;
use wigwag_bench::role::{self, Orders};
use wigwag_bench::transport::Caller;
use wigwag_bench::work;
use zenoh::{Config, Session, Wait as _};

use crate::contender::{About, Contender};

const KEY: &str = "wigwag/compare";

/// The contender.
pub struct Zenoh;

/// The client's end.
pub struct Ends {
    session: Session,
}

impl Contender for Zenoh {
    type Client = Ends;
    const ABOUT: About = About { waits: &[WaitMode::Park], ..super::ZENOH };

    fn serve(orders: &Orders) -> anyhow::Result<()> {
        let session = open(orders, "listen/endpoints")?;
        let answer = |query: zenoh::query::Query| {
            let mut bytes = query.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
            work::change(&mut bytes);
            // A client that is gone needs no reply.
            let _ = query.reply(KEY, bytes).wait();
        };
        let _queryable = session.declare_queryable(KEY).callback(answer).wait().map_err(said)?;
        role::ready(orders)?;
        loop {
            std::thread::park();
        }
    }

    fn connect(orders: &Orders) -> anyhow::Result<Ends> {
        Ok(Ends { session: open(orders, "connect/endpoints")? })
    }
}

fn open(orders: &Orders, role: &str) -> anyhow::Result<Session> {
    let mut config = Config::default();
    let endpoint = format!("[\"unixsock-stream/{}\"]", orders.directory.join("zenoh").display());
    let none = "[]".to_owned();
    let listens = if role == "connect/endpoints" { none } else { endpoint.clone() };
    let settings = [
        ("mode", "\"peer\"".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("listen/endpoints", listens),
        (role, endpoint),
    ];
    for (key, value) in settings {
        config.insert_json5(key, &value).map_err(|error| anyhow!("zenoh does not take {key}: {error:?}"))?;
    }
    zenoh::open(config).wait().map_err(said)
}

fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("zenoh says: {error}")
}

impl Caller for Ends {
    fn exchange<F, R>(&mut self, len: usize, fill: F, read: R) -> anyhow::Result<()>
    where
        F: FnOnce(&mut [u8]),
        R: FnOnce(&[u8]),
    {
        let mut bytes = vec![0; len];
        fill(&mut bytes);
        let replies = self.session.get(KEY).payload(bytes).wait().map_err(said)?;
        let reply = replies.recv().map_err(said)?;
        let sample = reply.result().ok().context("the queryable answered with an error")?;
        read(&sample.payload().to_bytes());
        Ok(())
    }
}
