//! Strict decimal numbers in ASCII, for ids, lengths and counts.

/// The most digits of a `u64`.
const U64_DIGITS: usize = 20;

/// Parses a whole text as a number: ASCII digits only, no leading zero (except `0` itself), within 64 bits.
pub(super) fn parse(text: &[u8]) -> Option<u64> {
    match text {
        [] | [b'0', _, ..] => None,
        _ => parse_padded(text),
    }
}

/// Parses a whole text as a number, leading zeros allowed.
pub(super) fn parse_padded(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |value, &byte| value.checked_mul(10)?.checked_add(digit(byte)?))
}

/// The value of one ASCII digit.
pub(super) fn digit(byte: u8) -> Option<u64> {
    byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
}

/// The number of digits of `value`.
pub(super) fn count(mut value: u64) -> usize {
    let mut digits = 1;
    while value >= 10 {
        value /= 10;
        digits += 1;
    }
    digits
}

/// Four digits with leading zeros; the last four of a longer number.
pub(super) fn four(value: u16) -> [u8; 4] {
    [1_000, 100, 10, 1].map(|place| b'0' + (value / place % 10) as u8)
}

/// Appends `value`, padded with zeros to at least `width` (20 at most) digits.
pub(super) fn push(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; U64_DIGITS];
    let mut written = 0;
    for place in text.iter_mut().rev() {
        if value == 0 && written >= width.max(1) {
            break;
        }
        *place += (value % 10) as u8;
        value /= 10;
        written += 1;
    }
    out.extend_from_slice(text.get(U64_DIGITS - written..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_a_round_trip_at_every_power_of_ten() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        for value in powers.flat_map(|power| [power - 1, power, power + 1]).chain([u64::MAX]) {
            let mut text = Vec::new();
            push(value, 0, &mut text);
            assert_eq!(text, value.to_string().into_bytes());
            assert_eq!(parse(&text), Some(value));
            assert_eq!(count(value), text.len());
        }
    }

    #[test]
    fn padding_fills_up_to_the_width_and_never_cuts() {
        let mut text = Vec::new();
        push(7, 4, &mut text);
        push(12_345, 4, &mut text);
        push(0, 3, &mut text);
        assert_eq!(text, b"000712345000");
    }

    #[test]
    fn nothing_but_plain_digits_within_64_bits_is_a_number() {
        for text in ["", "01", "00", "+1", "-1", " 1", "1 ", "1_0", "１", "18446744073709551616", "1\0"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
