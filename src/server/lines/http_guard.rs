//! Recognises HTTP requests on a line listener, so that no web page can send messages to a room.
//!
//! A page may make a browser send a form to any port of its own machine. There the form's text would count as a
//! client's lines. The browser sends a request line first (RFC 9112 section 3), which is not executed but closes the
//! connection.

/// The error that an HTTP client gets.
pub(super) const NO_WEB: &str = "this is no web server";

/// A line of this length in bytes is not a name, and may be the front of a request line that was cut.
const LONG: usize = 1_000;

/// Whether a line is the request line of HTTP/1.0 or 1.1, or may be the front of one that was cut.
pub(super) fn is_request_line(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return false };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || target.is_empty() {
        return false;
    }
    match (words.next(), words.next()) {
        (None, _) => line.len() >= LONG && target.starts_with(b"/"),
        (Some(version), None) => is_version(version),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a byte may be in a method (RFC 9110 section 5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn is_version(word: &[u8]) -> bool {
    matches!(word.strip_prefix(b"HTTP/1."), Some([b'0'..=b'9']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_is_a_method_a_target_and_a_version() {
        for line in ["GET / HTTP/1.1", "POST /a?b=c HTTP/1.0", "OPTIONS * HTTP/1.1", "x-1 http://h/ HTTP/1.9"]
        {
            assert!(is_request_line(line.as_bytes()), "{line}");
        }
        for line in [
            "",
            "GET",
            "GET /",
            "GET / HTTP/2.0",
            "GET / HTTP/1.",
            "GET / HTTP/1.10",
            "GET  / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / of HTTP/1.1",
            "/GET / HTTP/1.1",
            "did you GET / HTTP/1.1",
            "Rick",
        ] {
            assert!(!is_request_line(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn a_cut_request_line_is_recognised_by_its_front() {
        let cut = |beginning: &str, length: usize| format!("{beginning}{}", "x".repeat(length));
        assert!(is_request_line(cut("POST /", 1_018).as_bytes()));
        assert!(!is_request_line(cut("POST /", 100).as_bytes()));
        assert!(!is_request_line(cut("POST ", 1_018).as_bytes()));
        assert!(!is_request_line(cut("look at /", 1_018).as_bytes()));
    }
}
