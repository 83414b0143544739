//! What makes an error a clear sentence.

/// What is wrong with the words in which a failure was told, if anything.
pub fn fault_of(text: &str) -> Option<String> {
    let is_bare = text.len() < 30 || !text.contains([':', ';', ',']);
    let times = |what: &str| text.matches(what).count();
    let words = [libc::ENOSPC, libc::EROFS, libc::EACCES, libc::EPERM, libc::ENOSYS, libc::EMFILE, libc::EAGAIN];
    let in_words = |code: &i32| {
        let told = std::io::Error::from_raw_os_error(*code).to_string();
        told.split(" (").next().unwrap_or_default().to_owned()
    };
    let said_twice = words.iter().map(in_words).find(|words| times(words) > 1);
    let problem = if text.trim().is_empty() {
        "nothing is said"
    } else if text.contains("panicked") {
        "it is a panic"
    } else if times("os error") > 1 || said_twice.is_some() {
        "the system's words stand there twice"
    } else if text.len() > 900 {
        "it is too long to be read"
    } else if is_bare {
        "it names no value, no limit and no cure"
    } else {
        return None;
    };
    Some(format!("{problem}: \"{text}\""))
}
