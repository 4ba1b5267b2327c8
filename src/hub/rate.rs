//! How much a peer may ask for in a second.
//!
//! Only the amounts are here, and how they are written; the door that a rate belongs to is a [`Door`](crate::door::Door).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::escape::escape_short;
use crate::units::ByteSize;

/// Most messages, and most bytes, that one client may send in a second; the default is as many as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages per second.
    pub messages: Option<NonZeroU32>,
    /// Bytes per second.
    pub bytes: Option<NonZeroU32>,
}

impl Rate {
    /// Without a limit.
    pub const UNLIMITED: Self = Self { messages: None, bytes: None };

    /// So many messages per second, of any size; 0 is no limit.
    pub const fn messages(per_second: u32) -> Self {
        Self { messages: NonZeroU32::new(per_second), bytes: None }
    }
}

/// Reads `5/s`, `64KiB/s`, both as `5/s,64KiB/s`, or `none`.
impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::UNLIMITED);
        }
        let shown = || escape_short(text.as_bytes(), 40).into_owned();
        let wrong = || format!("`{}` is not a rate; write 5/s, 64KiB/s, 5/s,64KiB/s or none", shown());
        let mut rate = Self::UNLIMITED;
        for part in text.split(',') {
            let amount = part.strip_suffix("/s").ok_or_else(wrong)?;
            let is_count = amount.bytes().all(|byte| byte.is_ascii_digit());
            let (slot, number) = if is_count {
                (&mut rate.messages, amount.parse().ok())
            } else {
                (&mut rate.bytes, bytes(amount))
            };
            let number = number.and_then(NonZeroU32::new).ok_or_else(wrong)?;
            if slot.replace(number).is_some() {
                return Err(wrong());
            }
        }
        Ok(rate)
    }
}

/// `100B`, or a size with a larger unit.
fn bytes(amount: &str) -> Option<u32> {
    let plain = amount.strip_suffix('B').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let size: ByteSize = plain.unwrap_or(amount).parse().ok()?;
    u32::try_from(size.get()).ok()
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.messages, self.bytes) {
            (None, None) => f.write_str("none"),
            (Some(messages), None) => write!(f, "{messages}/s"),
            (None, Some(bytes)) => write!(f, "{bytes}B/s"),
            (Some(messages), Some(bytes)) => write!(f, "{messages}/s,{bytes}B/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_messages_bytes_both_or_none() {
        for (text, shown) in [
            ("5/s", "5/s"),
            ("none", "none"),
            ("64KiB/s", "65536B/s"),
            ("5/s,1KiB/s", "5/s,1024B/s"),
            ("1KiB/s,5/s", "5/s,1024B/s"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_in_one_line() {
        for text in ["", "5", "0/s", "-1/s", "5/s,6/s", "5/min", "x/s", "4294967296/s", "5/s,", "\x1b/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.starts_with('`') && !error.contains('\x1b'), "{error}");
        }
    }
}
