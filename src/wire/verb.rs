//! The verb of a frame: the request or response that it carries.

use std::fmt;

use super::VERB_LEN;

/// The verb of a frame: three upper-case ASCII letters (see [the grammar](super)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Open a session under a name, or resume one.
    Reg,
    /// Send a message to a name or a room.
    Snd,
    /// Join a room.
    Jon,
    /// Leave a room.
    Lev,
    /// List the names.
    Lst,
    /// Reply with the same payload.
    Png,
    /// End the session. Sent by both sides.
    Bye,
    /// From the server: delivers a message.
    Rcv,
    /// From the server: the number of messages to this client that were dropped.
    Gap,
    /// From the server: a request succeeded. From a client: pushes have arrived.
    Ack,
    /// From the server: a request is refused, or the stream is broken.
    Err,
    /// Any other three letters: well-formed but undefined. Only [`Verb::from_bytes`] creates it.
    Other([u8; VERB_LEN]),
}

impl Verb {
    /// Parses a verb; `None` unless all three bytes are upper-case ASCII letters.
    #[must_use]
    pub fn from_bytes(bytes: [u8; VERB_LEN]) -> Option<Self> {
        Some(match &bytes {
            b"REG" => Self::Reg,
            b"SND" => Self::Snd,
            b"JON" => Self::Jon,
            b"LEV" => Self::Lev,
            b"LST" => Self::Lst,
            b"PNG" => Self::Png,
            b"BYE" => Self::Bye,
            b"RCV" => Self::Rcv,
            b"GAP" => Self::Gap,
            b"ACK" => Self::Ack,
            b"ERR" => Self::Err,
            other if other.iter().all(u8::is_ascii_uppercase) => Self::Other(bytes),
            _ => return None,
        })
    }

    /// The three letters.
    #[must_use]
    pub fn as_bytes(&self) -> [u8; VERB_LEN] {
        *match self {
            Self::Reg => b"REG",
            Self::Snd => b"SND",
            Self::Jon => b"JON",
            Self::Lev => b"LEV",
            Self::Lst => b"LST",
            Self::Png => b"PNG",
            Self::Bye => b"BYE",
            Self::Rcv => b"RCV",
            Self::Gap => b"GAP",
            Self::Ack => b"ACK",
            Self::Err => b"ERR",
            Self::Other(bytes) => bytes,
        }
    }

    /// Whether it is a client's request, so that its tagged form is answered: REG SND JON LEV LST PNG BYE.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.has_effect() || matches!(self, Self::Lst | Self::Png | Self::Bye)
    }

    /// Whether a second execution would have an effect, so that repeats are remembered: REG SND JON LEV.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        matches!(self, Self::Reg | Self::Snd | Self::Jon | Self::Lev)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&[u8; 3]; 11] =
        [b"REG", b"SND", b"JON", b"LEV", b"LST", b"PNG", b"BYE", b"RCV", b"GAP", b"ACK", b"ERR"];

    #[test]
    fn every_verb_is_read_back_from_its_letters() {
        for letters in KNOWN {
            let verb = Verb::from_bytes(*letters).unwrap();
            assert!(!matches!(verb, Verb::Other(_)), "{verb}");
            assert_eq!(&verb.as_bytes(), letters);
        }
        assert_eq!(Verb::from_bytes(*b"XYZ"), Some(Verb::Other(*b"XYZ")));
        assert_eq!(Verb::Other(*b"XYZ").to_string(), "XYZ");
    }

    #[test]
    fn only_upper_case_letters_are_a_verb() {
        for wrong in [*b"reg", *b"ReG", *b"RE ", *b"R3G", *b"RE[", *b"RE@", [0; 3], [0xff; 3]] {
            assert_eq!(Verb::from_bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_first_seven_verbs_are_requests_and_the_first_four_have_an_effect() {
        let verbs = KNOWN.map(|letters| Verb::from_bytes(*letters).unwrap());
        for (place, verb) in verbs.iter().enumerate() {
            assert_eq!(verb.is_request(), place < 7, "{verb}");
            assert_eq!(verb.has_effect(), place < 4, "{verb}");
        }
        assert!(!Verb::Other(*b"XYZ").is_request());
    }
}
