//! What the library says, in the words of this program: flags in the place of functions, and the subcommand that helps.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use wigwag::observe::Observer;
use wigwag::runtime::{escaped, shell_word};
use wigwag::{ErrorKind, Form};

use crate::{exit, users};

/// An error of the library, told in the words of this program.
#[derive(Debug)]
pub struct Told {
    sentence: String,
    /// The exit code.
    pub code: u8,
}

impl Told {
    /// With the code for a kind of error.
    pub fn new(kind: ErrorKind, sentence: String) -> Told {
        Told { sentence, code: exit::code_of(kind) }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.sentence)
    }
}

impl std::error::Error for Told {}

/// A subcommand that connects to a name.
#[derive(Clone, Copy, Debug)]
pub struct Connecting<'a> {
    pub name: &'a OsStr,
    pub form: Form,
    /// Whose server is expected, by `--server-user`.
    pub server_user: Option<u32>,
}

impl Connecting<'_> {
    /// An error of connecting or of what comes after it.
    pub fn explain(self, error: wigwag::Error) -> anyhow::Error {
        let sentence = match error.kind() {
            ErrorKind::NotRunning => Some(self.nobody(&error.to_string())),
            ErrorKind::ContractMismatch => self.another_form(),
            ErrorKind::PathInvalid | ErrorKind::DirectoryUnsafe => self.another_user(),
            _ => None,
        };
        let sentence = sentence.unwrap_or_else(|| in_flags(&error.to_string()));
        Told::new(error.kind(), sentence).into()
    }

    /// Nobody is there: how one is started that fits.
    fn nobody(self, sentence: &str) -> String {
        // Without a cure of that kind the sentence has another one: the name lives elsewhere.
        let Some((what, _)) = sentence.split_once("; start one with ") else { return in_flags(sentence) };
        let cure = match self.form {
            Form::Queue => with_flags("queue recv", self.name, "--keep"),
            Form::Stream => with_flags("stream listen", self.name, ""),
            Form::Broadcast => with_flags("publish", self.name, ""),
            _ => with_flags("serve", self.name, "--do echo"),
        };
        let mut text = format!("{}; start one with `{cure}`", in_flags(what));
        if let (Some(uid), false) = (self.server_user, is_path(self.name)) {
            text += &format!(
                ", or give the path of its socket: a name is looked for where this user's names are, not where those \
                 of {} are",
                users::called(uid).0
            );
        }
        text
    }

    /// What is there speaks otherwise: which subcommand does so, too.
    fn another_form(self) -> Option<String> {
        let form = Observer::open(self.name).ok()?.service().form;
        if form == self.form {
            return None;
        }
        let word = word(self.name);
        let (what, cure) = match form {
            Form::Queue => ("a queue", format!("wigwag queue send {word}")),
            Form::Stream => ("a listener of streams", format!("wigwag stream connect {word}")),
            Form::Broadcast => ("a publisher", format!("wigwag subscribe {word}")),
            Form::Exchange => ("a server that answers calls", format!("wigwag call {word}")),
            _ => return None,
        };
        Some(format!("{} is {what}: use `{cure}`", escaped(self.name)))
    }

    /// Another user's socket, or in another user's directory.
    fn another_user(self) -> Option<String> {
        let path = Path::new(self.name);
        let expected = self.server_user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let owner = |path: &Path| path.symlink_metadata().ok().map(|metadata| metadata.uid());
        let uid = owner(path).filter(|_| is_path(self.name)).or_else(|| owner(path.parent()?))?;
        if uid == expected || (uid == 0 && owner(path).is_none()) {
            return None;
        }
        let (who, flag) = users::called(uid);
        let shown = escaped(path);
        Some(match self.server_user {
            None => format!("{shown} belongs to {who}: if that user's server is meant, say so by --server-user {flag}"),
            Some(expected) => {
                format!("{shown} belongs to {who}, not to {} as --server-user says", users::called(expected).0)
            }
        })
    }
}

/// An error of a subcommand that takes a name.
pub fn explain(error: wigwag::Error) -> anyhow::Error {
    let sentence = in_flags(&error.to_string());
    Told::new(error.kind(), sentence).into()
}

/// The same, with what else helps.
pub fn explain_with(error: wigwag::Error, more: &str) -> anyhow::Error {
    let sentence = in_flags(&error.to_string()) + more;
    Told::new(error.kind(), sentence).into()
}

/// The flags that stand for functions of the library's builders.
const FLAGS: &[(&str, &str)] = &[
    ("allow_user", "--allow-user"),
    ("allow_group", "--allow-group"),
    ("allow_everyone", "--allow-everyone"),
    ("capacity", "--capacity"),
    ("slots", "--slots"),
    ("ring_bytes", "--ring"),
    ("server_timeout", "--server-timeout"),
    ("server_user", "--server-user"),
    ("permits", "--permits"),
    ("replace", "--replace"),
    ("history", "--history"),
    ("overrun", "--patience"),
];

/// The sides that this program plays with these flags; of the others' functions the name is all that can be told.
const BUILDERS: &[&str] = &[
    "ClientBuilder::",
    "ServerBuilder::",
    "SenderBuilder::",
    "ReceiverBuilder::",
    "StreamBuilder::",
    "StreamListenerBuilder::",
    "SemaphoreBuilder::",
    "PublisherBuilder::",
    "SubscriberBuilder::",
    "ConnectOptions::",
    "ListenOptions::",
];

/// A sentence of the library with flags where it names functions that have one.
pub fn in_flags(sentence: &str) -> String {
    // What a client may ask for is what its server states, here: there is one flag, the server's.
    let mut text = sentence
        .replace(
            "ask for more with ClientBuilder::capacity, within what the server allows (ServerBuilder::capacity)",
            "the server's --capacity raises that",
        )
        .replace(
            "SenderBuilder::capacity, within what the receiver allows (ReceiverBuilder::capacity)",
            "the receiver's --capacity",
        )
        .replace(
            "try again, or let it drop the oldest (PublisherBuilder::overrun)",
            "more --patience gives it longer, and without --patience it loses the oldest",
        )
        // A publisher of this program has the usual limits.
        .replace(
            ", shorter ones (PublisherBuilder::capacity), let fewer be held (PublisherBuilder::max_holds), or raise \
             that",
            " or shorter ones (--capacity)",
        )
        .replace(" (PublisherBuilder::max_bytes_total)", "")
        .replace(" (PublisherBuilder::max_bytes_per_session)", "");
    for builder in BUILDERS {
        for (function, flag) in FLAGS {
            text = text.replace(&format!("{builder}{function}"), flag);
        }
    }
    text
}

/// A name as an argument of this program.
pub fn word(name: &OsStr) -> String {
    let options_end = if name.as_encoded_bytes().starts_with(b"-") { "-- " } else { "" };
    format!("{options_end}{}", shell_word(name))
}

/// A command of this program with a name and flags: where the name would be one itself, the flags come first, as none
/// can stand behind what ends them.
pub fn with_flags(subcommand: &str, name: &OsStr, flags: &str) -> String {
    let (name, space) = (word(name), if flags.is_empty() { "" } else { " " });
    match name.starts_with('-') {
        true => format!("wigwag {subcommand}{space}{flags} {name}"),
        false => format!("wigwag {subcommand} {name}{space}{flags}"),
    }
}

/// Whether it is a path, as the library tells paths from names.
fn is_path(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    ["/", "./", "../"].iter().any(|start| bytes.starts_with(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_flags_stand_for_functions() {
        let sentence =
            "lets in (ServerBuilder::allow_user), and slots (SenderBuilder::slots), all (ServerBuilder::max_sessions)";
        let expected = "lets in (--allow-user), and slots (--slots), all (ServerBuilder::max_sessions)";
        assert_eq!(in_flags(sentence), expected);
    }

    #[test]
    fn c7_the_library_says_how_one_is_started_and_that_part_is_replaced() {
        let error = wigwag::Client::connect("nobody.has.this.name").unwrap_err();
        assert!(error.to_string().contains("; start one with "), "{error}");
    }
}
