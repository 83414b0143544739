//! Where messages go: zenoh's keys.
//!
//! | key | who declares it | what it is |
//! |---|---|---|
//! | `wigwag/1/export/HOST/NAME/BRIDGE` | an exporting bridge, as a liveliness token | this bridge exports the name |
//! | `wigwag/1/in/HOST/NAME/BRIDGE` | an exporting bridge, as a subscriber | what importers send it |
//! | `wigwag/1/back/HOST/BRIDGE` | an importing bridge, as a subscriber | what exporters send it |
//!
//! The 1 is the version of the messages. BRIDGE is a number that a process draws when it starts, so that a key names
//! one process and what was sent to another one is never taken for its own. Access lists of zenoh's configuration are
//! written over these keys.

use anyhow::Context as _;

/// What all keys begin with.
pub const PREFIX: &str = "wigwag/1";

/// Longest name of a service or a host, in bytes.
pub const NAME_MAX: usize = 200;

/// A name as one part of a key: zenoh gives a meaning to some characters.
pub fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => part.push(char::from(byte)),
            _ => part.push_str(&format!("~{byte:02x}")),
        }
    }
    part
}

/// The name that a part of a key stands for. `None`: it stands for none.
fn name_of(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'~' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().filter(|name| (1..=NAME_MAX).contains(&name.len()))
}

/// An exporter of a name: who is first in this order is chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exporter {
    /// Its machine, as it calls itself.
    pub host: String,
    /// Its process.
    pub bridge: u128,
}

/// The token of an export.
pub fn export(host: &str, name: &str, bridge: u128) -> String {
    format!("{PREFIX}/export/{}/{}/{bridge:032x}", part(host), part(name))
}

/// The tokens of all exports of a name, of one host or of all.
pub fn exports(host: Option<&str>, name: &str) -> String {
    format!("{PREFIX}/export/{}/{}/*", host.map_or_else(|| "*".into(), part), part(name))
}

/// The exporter that a token names.
pub fn exporter_of(token: &str) -> Option<Exporter> {
    let mut parts = token.strip_prefix(PREFIX)?.strip_prefix("/export/")?.split('/');
    let (host, _name, bridge) = (parts.next()?, parts.next()?, parts.next()?);
    let bridge = (bridge.len() == 32).then(|| u128::from_str_radix(bridge, 16).ok()).flatten()?;
    parts.next().is_none().then_some(Exporter { host: name_of(host)?, bridge })
}

/// What importers send an export.
pub fn inlet(exporter: &Exporter, name: &str) -> String {
    format!("{PREFIX}/in/{}/{}/{:032x}", part(&exporter.host), part(name), exporter.bridge)
}

/// What exporters send a bridge.
pub fn inbox(host: &str, bridge: u128) -> String {
    format!("{PREFIX}/back/{}/{bridge:032x}", part(host))
}

/// A number that nobody else has drawn.
pub fn draw() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .context("could not draw a random number")?;
    }
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_as_a_part_of_a_key() {
        for name in ["orders", "a/b", "*", "$*", "ä#?", "~", "~41", " ", "name@host"] {
            let part = part(name);
            assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)), "{part}");
            assert_eq!(name_of(&part).as_deref(), Some(name));
        }
        for part in ["", "~", "~4", "~zz", "~ff"] {
            assert_eq!(name_of(part), None, "{part}");
        }
    }

    #[test]
    fn a_token_names_its_exporter_and_what_is_none_names_nobody() {
        let exporter = Exporter { host: "b*".into(), bridge: 7 };
        assert_eq!(exporter_of(&export("b*", "orders", 7)), Some(exporter));
        for token in ["", "wigwag/1/export/b/orders", "wigwag/1/export/b/orders/7", "wigwag/2/export/b/o/0"] {
            assert_eq!(exporter_of(token), None, "{token}");
        }
        assert_eq!(exporter_of(&format!("{}/more", export("b", "orders", 7))), None);
    }
}
