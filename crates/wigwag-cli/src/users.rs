//! Users and groups on the command line, by name or by number.

use nix::unistd::{Gid, Group, Uid, User};
use wigwag::Access;

use crate::output;

/// The users who may connect besides the serving one.
#[derive(Debug, Default, clap::Args)]
pub struct Admission {
    /// Another user who may come, by name or number (may be repeated); take a path that this user can reach
    #[arg(long, value_name = "USER", alias = "allow-uid", allow_negative_numbers = true, value_parser = user)]
    allow_user: Vec<u32>,
    /// A group whose members may come, by name or number (may be repeated)
    #[arg(long, value_name = "GROUP", alias = "allow-gid", allow_negative_numbers = true, value_parser = group)]
    allow_group: Vec<u32>,
    /// Let every user of this machine come
    #[arg(long)]
    allow_everyone: bool,
}

impl Admission {
    /// The same as the library takes it.
    pub fn access(&self) -> Access {
        let access = self.allow_user.iter().fold(Access::default(), |access, uid| access.allow_user(*uid));
        let access = self.allow_group.iter().fold(access, |access, gid| access.allow_group(*gid));
        if self.allow_everyone { access.allow_everyone() } else { access }
    }
}

/// A user on the command line.
pub fn user(text: &str) -> Result<u32, String> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => {
            Err("there is no such user: a name is needed, or a number, for example from `id -u NAME`".to_owned())
        }
        Err(error) => {
            Err(format!("users cannot be looked up by name ({error}): give the number, from `id -u {}`", account(text)))
        }
    }
}

/// A group on the command line.
pub fn group(text: &str) -> Result<u32, String> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    let by_number = "a number, for example from `getent group`";
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no such group: a name is needed, or {by_number}")),
        Err(error) => Err(format!("groups cannot be looked up by name ({error}): give {by_number}")),
    }
}

/// A user as a sentence names it, and as the command line takes it.
pub fn called(uid: u32) -> (String, String) {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => (format!("user {uid} ({})", user.name), output::shell_word(user.name.as_ref())),
        _ => (format!("user {uid}"), uid.to_string()),
    }
}

/// The number that means nobody (-1) is no user's.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| Gid::from_raw(*number).as_raw() != u32::MAX)
}

/// What was given, where it can be somebody's name.
fn account(text: &str) -> String {
    let is_named = text.starts_with(|first: char| first.is_alphabetic() || first == '_');
    if is_named { output::shell_word(text.as_ref()) } else { "NAME".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_users_and_groups_have_names_and_numbers() {
        assert_eq!((user("1000"), group("7")), (Ok(1000), Ok(7)));
        assert_eq!((user("root"), group("root")), (Ok(0), Ok(0)));
        for (sentence, cure) in [
            (user("no such user"), "`id -u NAME`"),
            (user("-1"), "there is no such user"),
            (user("4294967295"), "there is no such user"),
            (group("no such group"), "`getent group`"),
        ] {
            let sentence = sentence.unwrap_err();
            assert!(sentence.contains(cure), "{sentence}");
        }
    }
}
