//! The 128 bits in 22 characters that stand for a session, a nonce or a cookie.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TOKEN_CHARS;

/// Room that the decoder asks for: whole groups of three bytes for the 22 characters; it fills 16.
const DECODE_ROOM: usize = TOKEN_CHARS.div_ceil(4) * 3;

/// A token, nonce or cookie: 22 characters of `[A-Za-z0-9_-]`, unpadded base64url (RFC 4648 section 5) of 128 bits.
///
/// Tokens are secrets: `Debug` shows the first four characters only. `Display` shows all, as the wire does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; TOKEN_CHARS]);

impl Token {
    /// Reads a token; `None` unless `text` is exactly 22 characters of the alphabet.
    ///
    /// A peer may choose its characters freely: whether the last carries stray bits does not matter here.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let chars: [u8; TOKEN_CHARS] = text.try_into().ok()?;
        chars
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            .then_some(Self(chars))
    }

    /// Its 22 characters.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; TOKEN_CHARS] {
        &self.0
    }

    /// The token that spells these 128 bits, most significant byte first.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        let mut chars = [b'A'; TOKEN_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(bits.to_be_bytes(), &mut chars);
        debug_assert_eq!(written.ok(), Some(TOKEN_CHARS), "16 bytes are 22 characters");
        Self(chars)
    }

    /// The bits that it spells; `None` if its last character carries bits beyond the 128, so that
    /// [`Token::from_bits`] cannot have made it.
    #[must_use]
    pub fn to_bits(self) -> Option<u128> {
        let mut bytes = [0; DECODE_ROOM];
        URL_SAFE_NO_PAD.decode_slice(self.0, &mut bytes).ok()?;
        bytes.first_chunk().map(|bytes| u128::from_be_bytes(*bytes))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0.map(char::from);
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
    fn bits_are_spelled_and_read_back() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let token = Token::from_bits(bits);
            assert_eq!(Token::parse(token.as_bytes()), Some(token));
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
    fn debug_does_not_give_the_secret_away() {
        let token = Token::parse(b"abcdefghijklmnopqrstuv").unwrap();
        assert_eq!(format!("{token:?}"), "Token(abcd..)");
        assert_eq!(token.to_string(), "abcdefghijklmnopqrstuv");
    }
}
