//! The payload of the server's BYE to a tagged session: the reason, and whether the client may come back.

use std::time::Duration;

use super::{Id, Verb, digits, encode_args, split_word};

/// The reason of a BYE to a tagged session. To any other peer, a BYE has no payload.
///
/// ```
/// use std::time::Duration;
/// use sayagain::wire::ByeArgs;
///
/// assert_eq!(ByeArgs::parse(b"draining 5000"), ByeArgs::Draining(Some(Duration::from_secs(5))));
/// assert_eq!(ByeArgs::parse(b"a word of a later version"), ByeArgs::Ended);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByeArgs {
    /// The operator or the rules ended the session. Its name is free, and the client does not reconnect by itself.
    Ended,
    /// Another connection has taken over the session. The client does not reconnect.
    Elsewhere,
    /// The server shuts down, and all its sessions end. Holds the time after which the server expects to be back, if it
    /// knows.
    Draining(Option<Duration>),
    /// Only this connection ends. The session waits this long for its client to resume it.
    Waiting(Duration),
}

impl ByeArgs {
    /// Parses the payload of a BYE, without its leading space. Unknown or empty payloads are [`ByeArgs::Ended`].
    #[must_use]
    pub fn parse(args: &[u8]) -> Self {
        let (word, rest) = split_word(args);
        let time = rest.and_then(|rest| digits::parse(split_word(rest).0)).map(Duration::from_millis);
        match (word, time) {
            (b"elsewhere", _) => Self::Elsewhere,
            (b"draining", time) => Self::Draining(time),
            (b"waiting", Some(time)) => Self::Waiting(time),
            _ => Self::Ended,
        }
    }

    /// Appends the whole BYE, tagged if there is an `id`. Times are in whole milliseconds, rounded up.
    pub fn encode(self, id: Option<Id>, out: &mut Vec<u8>) {
        let (word, time) = match self {
            Self::Ended => ("ended", None),
            Self::Elsewhere => ("elsewhere", None),
            Self::Draining(time) => ("draining", time),
            Self::Waiting(time) => ("waiting", Some(time)),
        };
        match time {
            None => encode_args(id, Verb::Bye, &[word.as_bytes()], out),
            Some(time) => {
                let mut text = Vec::new();
                digits::push(millis(time), 0, &mut text);
                encode_args(id, Verb::Bye, &[word.as_bytes(), &text], out);
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_reason_survives_a_round_trip() {
        for (args, frame) in [
            (ByeArgs::Ended, "BYE 0006 ended"),
            (ByeArgs::Elsewhere, "BYE 0010 elsewhere"),
            (ByeArgs::Draining(None), "BYE 0009 draining"),
            (ByeArgs::Draining(Some(5 * SECOND)), "BYE 0014 draining 5000"),
            (ByeArgs::Waiting(SECOND), "BYE 0013 waiting 1000"),
            (ByeArgs::Waiting(Duration::ZERO), "BYE 0010 waiting 0"),
        ] {
            let mut out = Vec::new();
            args.encode(None, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), frame);
            assert_eq!(ByeArgs::parse(&out["BYE 0000 ".len()..]), args);
        }
        let mut out = Vec::new();
        ByeArgs::Draining(Some(Duration::from_nanos(1))).encode(Id::new(7), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "@7 BYE 0011 draining 1");
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }

    #[test]
    fn an_unknown_word_means_ended_and_text_after_a_known_word_is_ignored() {
        for text in
            ["", " ", "over", "ended by me", "ENDED", "waiting", "waiting x", "waiting -1", "waiting  5"]
        {
            assert_eq!(ByeArgs::parse(text.as_bytes()), ByeArgs::Ended, "{text:?}");
        }
        for (text, args) in [
            ("elsewhere again", ByeArgs::Elsewhere),
            ("draining soon", ByeArgs::Draining(None)),
            ("draining 99999999999999999999999", ByeArgs::Draining(None)),
            ("draining 1000 tea", ByeArgs::Draining(Some(SECOND))),
            ("waiting 1000 please", ByeArgs::Waiting(SECOND)),
        ] {
            assert_eq!(ByeArgs::parse(text.as_bytes()), args, "{text:?}");
        }
    }
}
