//! 128-bit identifiers in 22 characters: session tokens, nonces and cookies.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use super::TOKEN_CHARS;

/// Buffer size of the decoder: whole groups of three bytes for the 22 characters. It fills 16.
const DECODE_ROOM: usize = TOKEN_CHARS.div_ceil(4) * 3;

/// Decodes the choice of a peer, whose last character may carry bits beyond the 128.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// The bits of the last character beyond the 128.
const STRAY: u8 = 0b1111;

/// A token, nonce or cookie: 22 characters of `[A-Za-z0-9_-]`, unpadded base64url (RFC 4648 section 5) of 128 bits.
///
/// Tokens are secrets: `Debug` shows the first four characters only. `Display` shows all, as the wire does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The most significant byte first.
    bits: [u8; 16],
    /// The extra bits of its last character: up to four, in a token that a peer chose.
    stray: u8,
}

impl Token {
    /// Parses a token; `None` unless `text` is exactly 22 characters of the alphabet.
    ///
    /// A peer may choose the characters freely: extra bits in the last one are accepted.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; TOKEN_CHARS] = text.try_into().ok()?;
        let mut bytes = [0; DECODE_ROOM];
        LENIENT.decode_slice(text, &mut bytes).ok()?;
        Some(Self { bits: *bytes.first_chunk()?, stray: value(*text.last()?) & STRAY })
    }

    /// The 22 characters.
    #[must_use]
    pub fn text(&self) -> [u8; TOKEN_CHARS] {
        let mut text = [b'A'; TOKEN_CHARS];
        let written = LENIENT.encode_slice(self.bits, &mut text);
        debug_assert_eq!(written.ok(), Some(TOKEN_CHARS), "16 bytes are 22 characters");
        if let Some(last) = text.last_mut() {
            *last = character(value(*last) | self.stray);
        }
        text
    }

    /// The token for these 128 bits, most significant byte first.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self { bits: bits.to_be_bytes(), stray: 0 }
    }

    /// The 128 bits; `None` if its last character carries extra bits, so that [`Token::from_bits`] cannot have made it.
    #[must_use]
    pub fn to_bits(self) -> Option<u128> {
        (self.stray == 0).then_some(u128::from_be_bytes(self.bits))
    }
}

/// The six bits of a character of the alphabet.
fn value(character: u8) -> u8 {
    match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        _ => 63,
    }
}

/// The character for six bits.
fn character(value: u8) -> u8 {
    match value {
        0..=25 => b'A' + value,
        26..=51 => b'a' + value - 26,
        52..=61 => b'0' + value - 52,
        62 => b'-',
        _ => b'_',
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.text().map(char::from);
        write!(f, "Token({a}{b}{c}{d}..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_22_characters_of_the_alphabet_are_a_token() {
        assert!(Token::parse(b"ABCDEFGHIJKLMNOPQRSTUV").is_some());
        assert!(Token::parse(b"abcxyz0189-_ABCXYZ0000").is_some());
        for wrong in ["", "ABCDEFGHIJKLMNOPQRSTU", "ABCDEFGHIJKLMNOPQRSTUVW", "ABCDEFGHIJKLMNOPQRSTU="] {
            assert_eq!(Token::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte)) {
            let mut text = [b'A'; TOKEN_CHARS];
            text[7] = byte;
            assert_eq!(Token::parse(&text), None, "{byte}");
        }
    }

    #[test]
    fn bits_survive_a_round_trip() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let token = Token::from_bits(bits);
            assert_eq!(Token::parse(&token.text()), Some(token));
            assert_eq!(token.to_bits(), Some(bits));
        }
        assert_eq!(Token::from_bits(0).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Token::from_bits(u128::MAX).to_string(), "_____________________w");
    }

    #[test]
    fn stray_bits_in_the_last_character_are_a_token_without_bits() {
        let token = Token::parse(b"AAAAAAAAAAAAAAAAAAAAAB").unwrap();
        assert_eq!(token.to_bits(), None);
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = Token::parse(b"abcdefghijklmnopqrstuv").unwrap();
        assert_eq!(format!("{token:?}"), "Token(abcd..)");
        assert_eq!(token.to_string(), "abcdefghijklmnopqrstuv");
    }
}
