//! The library's sentences in the words of C: where they name an option of a builder, C has a field of a struct.

/// Who has options in Rust, and which struct has them here.
const OWNERS: &[(&str, &str)] = &[
    ("ClientBuilder::", "wigwag_connect_options."),
    ("SenderBuilder::", "wigwag_connect_options."),
    ("StreamBuilder::", "wigwag_connect_options."),
    ("SubscriberBuilder::", "wigwag_connect_options."),
    ("ConnectOptions::", "wigwag_connect_options."),
    ("ServerBuilder::", "wigwag_listen_options."),
    ("ReceiverBuilder::", "wigwag_listen_options."),
    ("StreamListenerBuilder::", "wigwag_listen_options."),
    ("PublisherBuilder::", "wigwag_listen_options."),
    ("ListenOptions::", "wigwag_listen_options."),
    ("Limits::", "wigwag_listen_options."),
    ("KeeperBuilder::", "wigwag_keeper_options."),
];

/// Options that have another name here: times say their unit, and lists are several.
const NAMES: &[(&str, &str)] = &[
    ("timeout", "timeout_ns"),
    ("server_timeout", "server_timeout_ns"),
    ("handshake_timeout", "handshake_timeout_ns"),
    ("reconnect", "reconnect_ns"),
    ("follow_restarts", "follow_restarts_ns"),
    ("linger", "linger_ns"),
    ("replace", "replace_ns"),
    ("allow_user", "allow_users"),
    ("allow_group", "allow_groups"),
    ("from_listener", "listener"),
    ("ring_bytes", "capacity"),
    ("holds", "slots"),
];

/// Functions that a sentence advises, and what they are here.
const FUNCTIONS: &[(&str, &str)] = &[("Subscriber::recv_into", "wigwag_subscriber_recv_copied()")];

/// The sentence, with fields in the place of options.
pub fn of_c(sentence: &str) -> String {
    let mut text = sentence.to_owned();
    for (owner, structure) in OWNERS {
        while let Some(at) = text.find(owner) {
            let behind = &text[at + owner.len()..];
            let end = behind.find(|character: char| !character.is_alphanumeric() && character != '_');
            let name = &behind[..end.unwrap_or(behind.len())];
            let field = NAMES.iter().find(|(rust, _)| *rust == name).map_or(name, |(_, c)| c);
            let replaced = format!("{structure}{field}");
            text.replace_range(at..at + owner.len() + name.len(), &replaced);
        }
    }
    FUNCTIONS.iter().fold(text, |text, (rust, c)| text.replace(rust, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_fields_here() {
        for (rust, c) in [
            ("too long (ConnectOptions::timeout), or not", "too long (wigwag_connect_options.timeout_ns), or not"),
            (
                "ClientBuilder::slots and ServerBuilder::allow_user",
                "wigwag_connect_options.slots and \
              wigwag_listen_options.allow_users",
            ),
            (
                "its publisher grants it (PublisherBuilder::holds): copy them (Subscriber::recv_into)",
                "its publisher grants it (wigwag_listen_options.slots): copy them (wigwag_subscriber_recv_copied())",
            ),
            ("nothing of the kind: a::b", "nothing of the kind: a::b"),
        ] {
            assert_eq!(of_c(rust), c);
        }
    }
}
