//! The configuration of a link as plain data. Its text form is in `spec`.

use std::fmt;
use std::str::FromStr;

use crate::link::delay::Delay;
use crate::link::error::LinkError;
use crate::link::loss::LossModel;
use crate::link::rate::RateLimit;
use crate::link::spec::Spec;
use crate::units::Probability;

/// The impairments of a [`Link`](super::Link), in the order in which they apply to a datagram: loss, MTU, truncation
/// and corruption, rate, duplication, delay.
///
/// The text form is a list of parts joined by `+` or spaces, such as `iid:.1+delay:50ms,10ms+rate:1mbit`; parsing the
/// output returns the same value. A perfect link is `none`. `docs/loss.md` has the table of all parts.
///
/// ```
/// use sayagain::link::LinkConfig;
///
/// let mut link: LinkConfig = "gilbert:.1,5 + delay:50ms".replace(" + ", " ").parse()?;
/// assert_eq!(link.loss.mean_burst(), Some(5.0));
/// link.apply("iid:.2")?;
/// assert_eq!(link.to_string(), "iid:0.2+delay:0.05s");
/// # Ok::<(), sayagain::link::LinkError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// The loss model.
    #[doc(hidden)]
    pub loss: LossModel,
    /// The one-way delay.
    #[doc(hidden)]
    pub delay: Delay,
    /// Whether a datagram may overtake another of its flow, as a varying delay causes. If not, each waits for the
    /// earlier ones.
    #[doc(hidden)]
    pub reorder: bool,
    /// Probability that a datagram that is not lost arrives twice, each copy after its own delay.
    #[doc(hidden)]
    pub duplicate: Probability,
    /// Probability that one bit of a datagram is flipped.
    #[doc(hidden)]
    pub corrupt: Probability,
    /// Probability that a datagram is truncated.
    #[doc(hidden)]
    pub truncate: Probability,
    /// Probability that a relayed stream connection is reset. Does not affect datagrams.
    #[doc(hidden)]
    pub reset: Probability,
    /// The largest datagram that passes, in bytes without lower headers; larger ones are dropped.
    #[doc(hidden)]
    pub mtu: Option<usize>,
    /// The rate limit.
    #[doc(hidden)]
    pub rate: Option<RateLimit>,
}

impl LinkConfig {
    /// A perfect link: delivers everything once, unchanged, at once and in order.
    #[must_use]
    pub const fn perfect() -> Self {
        Self {
            loss: LossModel::None,
            delay: Delay::ZERO,
            reorder: true,
            duplicate: Probability::ZERO,
            corrupt: Probability::ZERO,
            truncate: Probability::ZERO,
            reset: Probability::ZERO,
            mtu: None,
            rate: None,
        }
    }

    /// Replaces the parts that `text` names; the others stay. `none` replaces all.
    ///
    /// # Errors
    ///
    /// `text` is malformed; nothing is replaced then.
    pub fn apply(&mut self, text: &str) -> Result<(), LinkError> {
        let spec = Spec::parse(text)?;
        spec.apply_to(self)
    }

    /// Whether loss is the only impairment.
    #[doc(hidden)]
    #[must_use]
    pub fn only_loses(&self) -> bool {
        let loss_alone =
            Self { loss: self.loss.clone(), reorder: self.reorder, reset: self.reset, ..Self::perfect() };
        *self == loss_alone
    }

    /// Whether datagrams may be delayed, so that there is a queue that may be full.
    #[doc(hidden)]
    #[must_use]
    pub fn queues(&self) -> bool {
        self.rate.is_some() || self.delay != Delay::ZERO
    }

    /// Whether any impairment is random.
    pub(super) fn draws(&self) -> bool {
        let chances = [self.duplicate, self.corrupt, self.truncate];
        self.loss.draws() || self.delay.varies() || chances.iter().any(|chance| *chance != Probability::ZERO)
    }
}

impl FromStr for LinkConfig {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let mut link = Self::perfect();
        link.apply(text)?;
        Ok(link)
    }
}

impl fmt::Display for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.loss != LossModel::None {
            parts.push(self.loss.to_string());
        }
        if self.delay != Delay::ZERO {
            parts.push(self.delay.to_string());
        }
        if !self.reorder {
            parts.push("reorder:off".to_owned());
        }
        let chances = [("duplicate", self.duplicate), ("corrupt", self.corrupt), ("truncate", self.truncate)];
        let chances = chances.into_iter().filter(|(_, chance)| *chance != Probability::ZERO);
        parts.extend(chances.map(|(name, chance)| format!("{name}:{chance}")));
        parts.extend(self.mtu.map(|mtu| format!("mtu:{mtu}")));
        parts.extend(self.rate.map(|rate| rate.to_string()));
        if self.reset != Probability::ZERO {
            parts.push(format!("reset:{}", self.reset));
        }
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join("+"))
    }
}
