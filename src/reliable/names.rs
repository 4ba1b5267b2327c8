//! The names of retry policies, in code, on command lines and in tables.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::reliable::{Backoff, Growth, Preset};
use crate::units::{Factor, UnitError};

/// The number of sends of a policy that retries and is not a protocol's.
const REPEATED_SENDS: u32 = 8;
/// The default cap of `expb`.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// A retry policy, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyName {
    /// `once`: one send; the default on the client's command line.
    Once,
    /// `expb`: 8 sends, the timeout doubled after each, up to 60 s; `--expb` on command lines.
    Expb,
    /// `fixed`: 8 sends with equal timeouts.
    Fixed,
    /// `linear`: 8 sends, with 1, 2, 3, .. times the first timeout, up to 60 s.
    Linear,
    /// The policy of a protocol.
    Preset(Preset),
}

impl PolicyName {
    /// All names, those of protocols last.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let own = [Self::Once, Self::Expb, Self::Fixed, Self::Linear];
        own.into_iter().chain(Preset::ALL.map(Self::Preset))
    }

    /// The name as typed.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Expb => "expb",
            Self::Fixed => "fixed",
            Self::Linear => "linear",
            Self::Preset(preset) => preset.name(),
        }
    }

    /// The policy, with its own first timeout, or 1 s if it has none.
    pub(crate) fn backoff(self) -> Backoff {
        let policy = Backoff::new(Duration::from_secs(1)).with_max_sends(REPEATED_SENDS);
        match self {
            Self::Once => policy.with_max_sends(1),
            Self::Expb => {
                policy.with_growth(Growth::Exponential { factor: Factor::TWO }).with_max_timeout(MAX_TIMEOUT)
            }
            Self::Fixed => policy,
            Self::Linear => policy.with_growth(Growth::Linear),
            Self::Preset(preset) => preset.backoff(),
        }
    }

    /// The policy with another first timeout. If only the default caps it, a longer one raises the cap.
    pub(crate) fn backoff_from(self, timeout: Duration) -> Backoff {
        let policy = self.backoff().with_ack_timeout(timeout);
        match self {
            Self::Once | Self::Fixed | Self::Linear => policy.with_max_timeout(timeout.max(MAX_TIMEOUT)),
            Self::Expb | Self::Preset(_) => policy,
        }
    }

    /// Its source, as one line: the RFC and its section, or the reason for its numbers.
    #[must_use]
    pub(crate) const fn source(self) -> &'static str {
        match self {
            Self::Once => "no protocol's: the client's default",
            Self::Expb => {
                "no protocol's: exponential backoff, as RFC 6298 section 5.5 has it; 8 sends are a choice"
            }
            Self::Fixed => "no protocol's: always the same timeout; 8 sends are a choice",
            Self::Linear => "no protocol's: 1, 2, 3, .. times the first timeout; 8 sends are a choice",
            Self::Preset(preset) => preset.source(),
        }
    }
}

impl FromStr for PolicyName {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::all().find(|policy| policy.as_str() == text).ok_or_else(|| {
            let why =
                "it must be once, expb, fixed, linear, coap, sip, sip-invite, dns, rto, quic-pto or dtls";
            UnitError::new(text, "a retry policy", why)
        })
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_its_name_and_the_refusal_lists_them_all() {
        let refused = "tcp".parse::<PolicyName>().unwrap_err().to_string();
        assert!(refused.starts_with("`tcp` is not a retry policy: it must be once, expb, "), "{refused}");
        let listed = refused.split_once("must be ").unwrap().1.replace(" or ", ", ");
        assert_eq!(listed, PolicyName::all().map(PolicyName::as_str).collect::<Vec<_>>().join(", "));
        for policy in PolicyName::all() {
            assert_eq!(policy.to_string().parse(), Ok(policy));
            assert_eq!(policy.to_string().parse(), Ok(policy.backoff()));
            assert!(!policy.source().is_empty());
        }
    }
}
