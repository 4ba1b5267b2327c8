//! Everything a link does to datagrams, as plain data. What it looks like as text is in `spec`.

use std::fmt;
use std::str::FromStr;

use crate::link::delay::Delay;
use crate::link::error::LinkError;
use crate::link::loss::LossModel;
use crate::link::rate::Rate;
use crate::link::spec::Spec;
use crate::units::Probability;

/// What a [`Link`](super::Link) does to datagrams, in the order of what happens to one: loss, MTU, truncation and
/// corruption, rate, duplication, delay.
///
/// Read from parts joined by `+` or spaces, `iid:.1+delay:50ms,10ms+rate:1mbit`, and written so: what is written reads back
/// as the same value. A perfect link is `none`. `docs/loss.md` has the table of all parts.
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
    /// Which datagrams are lost.
    pub loss: LossModel,
    /// How long a datagram takes.
    pub delay: Delay,
    /// Whether one datagram may overtake another of its flow, as a delay that varies makes them. Where it is off, each
    /// waits for those before it.
    pub reorder: bool,
    /// How likely it is that a datagram that is not lost arrives twice, each copy after its own delay.
    pub duplicate: Probability,
    /// How likely it is that one bit of a datagram is flipped.
    pub corrupt: Probability,
    /// How likely it is that a datagram is cut to a shorter length.
    pub truncate: Probability,
    /// How likely it is that what carries a connection resets it: for relays of streams; nothing happens to datagrams.
    pub reset: Probability,
    /// The largest datagram that passes, in bytes without the headers below it; larger ones are dropped.
    pub mtu: Option<usize>,
    /// How fast it is.
    pub rate: Option<Rate>,
}

impl LinkConfig {
    /// Delivers everything once, whole, at once and in order.
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

    /// Replaces the parts that `text` names; the rest stays. `none` replaces all.
    ///
    /// # Errors
    ///
    /// What cannot be read; then nothing is replaced.
    pub fn apply(&mut self, text: &str) -> Result<(), LinkError> {
        let spec = Spec::parse(text)?;
        spec.apply_to(self)
    }

    /// Whether losing is all that it may do to a datagram.
    #[must_use]
    pub fn only_loses(&self) -> bool {
        let loss_alone =
            Self { loss: self.loss.clone(), reorder: self.reorder, reset: self.reset, ..Self::perfect() };
        *self == loss_alone
    }

    /// Whether datagrams may be under way for a time, so that there is a queue that may be full.
    #[must_use]
    pub fn queues(&self) -> bool {
        self.rate.is_some() || self.delay != Delay::ZERO
    }

    /// Whether chance decides anything here.
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
