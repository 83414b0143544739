//! A page over HTTP: one request a connection, each with a deadline, so that whoever says or reads nothing keeps nobody
//! out.
//!
//! `httparse` reads the request. tiny_http, which was here first, has no deadlines, and its threads are taken one by
//! one by clients that connect in a burst and say nothing: five of them keep everybody out.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may take to ask, and how long to read.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest request, and the most lines in it.
const REQUEST_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// Connections at a time; those beyond are closed at once.
const CONNECTIONS_MAX: usize = 128;
/// After an error of the system, such as that there is no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A status and a text.
pub type Answer = (u16, String);

/// Answers each GET of a path by `answer`, for ever.
pub fn serve(listener: &TcpListener, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> ! {
    let answer = Arc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        if Arc::strong_count(&answer) > CONNECTIONS_MAX {
            continue;
        }
        let answer = Arc::clone(&answer);
        // A client that goes away, or for which no thread can be started, gets no answer.
        let _ = std::thread::Builder::new().name("answer".into()).spawn(move || converse(stream, &*answer));
    }
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&str) -> Answer) -> io::Result<()> {
    let mut request = Vec::new();
    let (with_body, (status, text)) = match ask(&mut stream, &mut request)? {
        Ok((method, path)) => match method.as_str() {
            "GET" => (true, answer(&path)),
            "HEAD" => (false, answer(&path)),
            _ => (true, (405, "only GET is answered\n".into())),
        },
        Err(answer) => (true, answer),
    };
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    };
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        super::CONTENT_TYPE,
        text.len()
    );
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(head.as_bytes())?;
    if with_body {
        stream.write_all(text.as_bytes())?;
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads the method and the path; the inner error is what to answer instead.
fn ask(stream: &mut TcpStream, request: &mut Vec<u8>) -> io::Result<Result<(String, String), Answer>> {
    let deadline = Instant::now() + PATIENCE;
    let mut piece = [0; 1024];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(request) {
            Ok(httparse::Status::Complete(_)) => {
                let path = parsed.path.unwrap_or_default().split('?').next().unwrap_or_default();
                return Ok(Ok((parsed.method.unwrap_or_default().to_owned(), path.to_owned())));
            }
            Ok(httparse::Status::Partial) if request.len() < REQUEST_MAX => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Ok(Err((431, format!("a request of more than {REQUEST_MAX} bytes or {HEADERS_MAX} lines\n"))));
            }
            Err(error) => return Ok(Err((400, format!("that is no request: {error}\n")))),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let count = match left.is_zero() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut piece)),
        };
        match count {
            Ok(0) => return Ok(Err((400, "the request is cut off\n".into()))),
            Ok(count) => request.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => {
                return Ok(Err((408, format!("no whole request within {} s\n", PATIENCE.as_secs()))));
            }
            Err(error) => return Err(error),
        }
    }
}
