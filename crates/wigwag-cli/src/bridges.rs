//! Bridges to other machines, and what they tell of the names that they carry: links, round trips, losses.
//!
//! Unlike servers, which are looked at, a bridge is asked: it serves its status as an exchange, under a name of its
//! own. One that does not answer is left out, so that what is looked at is shown all the same.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use wigwag::observe::{Observer, Service};
use wigwag::runtime::{Kind, RuntimeDirectory, State};
use wigwag::{Client, Contract, Form};

/// What a bridge serves its status as: `status_contract` of `wigwag-bridge`.
const CONTRACT: (&str, u32) = ("wigwag-bridge status", 1);

/// How long a bridge may take to answer.
const LIMIT: Duration = Duration::from_millis(500);

/// Whether a service is a bridge's status.
pub fn is_bridge(service: &Service) -> bool {
    service.form == Form::Exchange && (service.contract.name(), service.contract.version()) == CONTRACT
}

/// The names under which the bridges of this user tell of themselves.
pub fn names() -> Vec<OsString> {
    let entries = RuntimeDirectory::find().entries().unwrap_or_default();
    let alive = entries.iter().filter(|entry| (entry.kind(), entry.state()) == (Kind::Service, State::Alive));
    let is_bridge = |name: &&OsStr| Observer::open(name).is_ok_and(|observer| is_bridge(observer.service()));
    alive.map(|entry| entry.name()).filter(is_bridge).map(OsStr::to_owned).collect()
}

/// What a bridge answers, with nothing in it that steers a terminal: the lines of `wigwag-bridge status`, those of one
/// name, or metrics. `None`: it does not answer.
pub fn ask(bridge: &OsStr, request: &str) -> Option<String> {
    let contract = Contract::named(CONTRACT.0, CONTRACT.1);
    let client = Client::builder().contract(contract).capacity(1 << 20).timeout(LIMIT).connect(bridge).ok()?;
    let reply = client.call_timeout(request.as_bytes(), LIMIT).ok()?;
    let text = String::from_utf8_lossy(&reply);
    Some(text.chars().map(|letter| if letter.is_control() && letter != '\n' { ' ' } else { letter }).collect())
}

/// What all bridges tell of one name.
pub fn lines_of(name: &OsStr) -> String {
    let request = format!("lines of {}", name.to_string_lossy());
    names().iter().filter_map(|bridge| ask(bridge, &request)).collect()
}

/// The metrics of all bridges, each with its bridge's name. The lines of one family stand together, as the format asks.
pub fn metrics() -> String {
    let answers = names().into_iter().filter_map(|name| {
        let page = ask(&name, "metrics")?;
        Some((name.to_string_lossy().into_owned(), page))
    });
    merged(answers)
}

fn merged(pages: impl Iterator<Item = (String, String)>) -> String {
    let mut families: Vec<(String, Vec<String>)> = Vec::new();
    for (bridge, page) in pages {
        let bridge = bridge.replace('\\', "\\\\").replace('"', "\\\"");
        let mut at = None;
        for line in page.lines() {
            if line.starts_with('#') {
                at = families.iter().position(|(head, _)| head == line).or_else(|| {
                    families.push((line.to_owned(), Vec::new()));
                    Some(families.len() - 1)
                });
            } else if let Some((name, rest)) = line.split_once('{')
                && let Some(at) = at
            {
                families[at].1.push(format!("{name}{{bridge=\"{bridge}\",{rest}"));
            }
        }
    }
    families.retain(|(_, lines)| !lines.is_empty()); // a family without a line is none
    families.into_iter().map(|(head, lines)| format!("{head}\n{}\n", lines.join("\n"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_several_bridges_stand_together() {
        let page = [
            "# TYPE sent counter\nsent{name=\"a\"} 1\n",
            "# TYPE links gauge\nlinks{name=\"a\"} 2\n# TYPE none gauge\n",
        ]
        .concat();
        let pages = ["x", "y"].map(|bridge| (bridge.to_owned(), page.clone()));
        let expected = [
            "# TYPE sent counter\n",
            "sent{bridge=\"x\",name=\"a\"} 1\n",
            "sent{bridge=\"y\",name=\"a\"} 1\n",
            "# TYPE links gauge\n",
            "links{bridge=\"x\",name=\"a\"} 2\n",
            "links{bridge=\"y\",name=\"a\"} 2\n",
        ]
        .concat();
        assert_eq!(merged(pages.into_iter()), expected);
    }
}
