//! Names and paths as text: different names stay different, no name steers a terminal, and each text can be turned back
//! into its name.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// A name or a path as it is fit to be printed.
///
/// A name is a row of bytes. Those that are not UTF-8, and those of characters that steer a terminal or change the
/// direction of a text, are written as `\xff`; so is a backslash before what would read as such. Everything else stands
/// for itself. So two names never look the same, and the text tells the name's bytes. All errors of the library and
/// everything that the program `wigwag` prints have names in this form.
///
/// ```
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
/// use wigwag::runtime::escaped;
/// assert_eq!(escaped(r"caméra\1"), r"caméra\1");
/// assert_eq!(escaped(OsStr::from_bytes(b"a\xff")), r"a\xff");
/// assert_eq!(escaped(r"a\xff"), r"a\x5cxff", "another name");
/// ```
pub fn escaped(name: impl AsRef<OsStr>) -> String {
    let bytes = name.as_ref().as_bytes();
    let (mut text, mut at) = (String::with_capacity(bytes.len()), 0);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match steers(character) || (character == '\\' && reads_as_byte(&bytes[at..])) {
                true => hexadecimal(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes()),
                false => text.push(character),
            }
            at += character.len_utf8();
        }
        hexadecimal(&mut text, chunk.invalid());
        at += chunk.invalid().len();
    }
    text
}

/// A sentence of another process: it keeps its lines, and does not steer a terminal.
pub(crate) fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

/// Whether a text begins like a byte that is written out.
fn reads_as_byte(text: &[u8]) -> bool {
    matches!(text, [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// A name or a path as a word that a shell takes, for commands that people copy.
///
/// What is not plain is quoted; what is not UTF-8, or would steer a terminal, is written as `$'\xff'`, which bash, zsh
/// and every shell of POSIX 2024 read.
///
/// ```
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
/// use wigwag::runtime::shell_word;
/// assert_eq!(shell_word("shout"), "shout");
/// assert_eq!(shell_word("it's"), r"'it'\''s'");
/// assert_eq!(shell_word(OsStr::from_bytes(b"a\xff")), r"$'a\xff'");
/// ```
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    if let Some(text) = word.to_str().filter(|text| !text.chars().any(steers)) {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._/@%+=:-".contains(letter);
        if !text.is_empty() && text.chars().all(is_plain) {
            return text.to_owned();
        }
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut text = String::from("$'");
    for chunk in word.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' | '\'' => text.extend(['\\', character]),
                character if steers(character) => {
                    hexadecimal(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                character => text.push(character),
            }
        }
        hexadecimal(&mut text, chunk.invalid());
    }
    text.push('\'');
    text
}

fn hexadecimal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}"); // writing into a string does not fail
    }
}

/// Whether a terminal takes it for an order, or shows what follows in another place than where it stands.
fn steers(character: char) -> bool {
    let is_invisible = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    character.is_control() || is_invisible || character == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n7_names_that_differ_look_different() {
        let names: [&[u8]; 14] = [
            b"a\xff",
            b"a\xfe",
            br"a\xff",
            br"a\\xff",
            b"a\\\xff",
            br"a\x5cxff",
            br"a\x5c",
            b"a\\\\",
            "a\u{ff}".as_bytes(),
            b"a\n",
            br"a\n",
            "a\u{202e}".as_bytes(),
            br"a\xe2\x80\xae",
            "a\u{fffd}".as_bytes(),
        ];
        let texts: std::collections::BTreeSet<String> =
            names.iter().map(|name| escaped(OsStr::from_bytes(name))).collect();
        assert_eq!(texts.len(), names.len(), "{texts:?}");
        assert!(texts.iter().all(|text| !text.chars().any(steers)), "{texts:?}");
        for name in names {
            assert_eq!(read_back(&escaped(OsStr::from_bytes(name))), name);
        }
    }

    /// The name that a text stands for.
    fn read_back(text: &str) -> Vec<u8> {
        let (mut name, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, ..] = rest {
            if reads_as_byte(rest) {
                name.push(u8::from_str_radix(str::from_utf8(&rest[2..4]).unwrap(), 16).unwrap());
                rest = &rest[4..];
            } else {
                name.push(*first);
                rest = &rest[1..];
            }
        }
        name
    }

    #[test]
    fn n7_a_shell_reads_the_word_as_the_name() {
        let every_byte: Vec<u8> = (1..=255).collect();
        let names: [&[u8]; 7] =
            [&every_byte, b"it's", br"a\b", b"", b"a b$(id)`", b"\xff'\\1", "\u{202e}1é'".as_bytes()];
        for name in names {
            let script = format!("printf %s {}", shell_word(OsStr::from_bytes(name)));
            let _guard = wigwag_testing::process_starts();
            let output = std::process::Command::new("bash").arg("-c").arg(&script).env("LC_ALL", "C").output().unwrap();
            assert!(output.stdout == name, "{script}");
        }
    }
}
