//! Loss models as plain data, with their formulas. [`Verdicts`](super::Verdicts) applies one.

use std::fmt;

use crate::link::bursts::{Elliott, FourState, Gilbert};
use crate::link::drops::DropList;
use crate::link::markov::Chain;
use crate::units::{Probability, Seconds};

/// Decides which datagrams are lost.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum LossModel {
    /// No loss; nothing is drawn.
    #[default]
    None,
    /// Independent loss of each datagram with this probability.
    Bernoulli(Probability),
    /// Bursts, given by rate and mean length.
    Gilbert(Gilbert),
    /// Bursts, given by a good and a bad state with a loss each (Gilbert 1960, Elliott 1963).
    GilbertElliott {
        /// From the good state to the bad one, per datagram.
        p: Probability,
        /// From the bad state to the good one.
        r: Probability,
        /// The loss probability in the good state.
        loss_good: Probability,
        /// The loss probability in the bad state.
        loss_bad: Probability,
    },
    /// tc-netem's four states: bursts with gaps in them, and isolated losses.
    FourState(FourState),
    /// Exactly these datagrams of each flow.
    List(DropList),
    /// A cycle: everything passes for `on`, then nothing for `off`, counted from the first datagram.
    Blackhole {
        /// Time during which everything passes.
        on: Seconds,
        /// Time during which everything is lost.
        off: Seconds,
    },
}

impl LossModel {
    /// The fraction of datagrams lost in the long run, by the model's formula; `None` if there is no long run. For a
    /// blackhole, the fraction of time, which equals that of evenly sent datagrams.
    #[must_use]
    pub fn rate(&self) -> Option<Probability> {
        // Rounding may exceed 1 slightly.
        let of = |rate: f64| Probability::new(rate.clamp(0.0, 1.0)).ok();
        match self {
            Self::None => Some(Probability::ZERO),
            Self::Bernoulli(p) => Some(*p),
            Self::Gilbert(gilbert) => Some(gilbert.rate()),
            Self::GilbertElliott { .. } => of(self.elliott()?.rate()),
            Self::FourState(four) => of(four.rate()),
            Self::List(_) => None,
            Self::Blackhole { on, off } => {
                let (on, off) = (on.as_duration().as_secs_f64(), off.as_duration().as_secs_f64());
                if off == 0.0 { Some(Probability::ZERO) } else { of(off / (on + off)) }
            }
        }
    }

    /// The mean length of a run of consecutive losses of one flow, in datagrams, by the model's formula. It is the rate
    /// over the probability that a loss is followed by none. `None` if nothing or everything is lost, or if it depends
    /// on the sending times.
    #[must_use]
    pub fn mean_burst(&self) -> Option<f64> {
        match self {
            Self::Bernoulli(p) if *p > Probability::ZERO && *p < Probability::ONE => {
                Some(1.0 / p.complement().get())
            }
            Self::Gilbert(gilbert) => gilbert.mean_burst(),
            Self::GilbertElliott { .. } => self.elliott()?.mean_burst(),
            Self::FourState(four) => four.mean_burst(),
            Self::None | Self::Bernoulli(_) | Self::List(_) | Self::Blackhole { .. } => None,
        }
    }

    /// The requested loss, to show beside the realised one: the rate in per cent, or the model if it has none.
    #[must_use]
    pub fn requested(&self) -> String {
        self.rate().map_or_else(|| self.to_string(), |rate| format!("{:.1} %", rate.get() * 100.0))
    }

    /// Whether it never loses anything, as far as its parameters alone show.
    #[must_use]
    pub fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Bernoulli(p) => *p == Probability::ZERO,
            _ => false,
        }
    }

    /// Whether a verdict needs random draws.
    pub(super) fn draws(&self) -> bool {
        !self.is_none() && !matches!(self, Self::List(_) | Self::Blackhole { .. })
    }

    /// Whether the model has memory: a state that each datagram advances.
    pub(crate) fn has_states(&self) -> bool {
        matches!(self, Self::Gilbert(_) | Self::GilbertElliott { .. } | Self::FourState(_))
    }

    /// The number of datagrams after which such a model forgets its state; `None` for other models, and if it never
    /// does.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.chain()?.memory()
    }

    /// The period of a blackhole; `None` for other models, and if it never changes.
    pub(crate) fn cycle(&self) -> Option<std::time::Duration> {
        match self {
            Self::Blackhole { on, off } => Some(on.as_duration() + off.as_duration())
                .filter(|_| !on.as_duration().is_zero() && !off.as_duration().is_zero()),
            _ => None,
        }
    }

    /// The Markov chain of a model with memory.
    pub(super) fn chain(&self) -> Option<Chain> {
        match self {
            Self::Gilbert(gilbert) => Some(gilbert.chain()),
            Self::FourState(four) => Some(four.chain()),
            _ => self.elliott().map(|elliott| elliott.chain()),
        }
    }

    fn elliott(&self) -> Option<Elliott> {
        match *self {
            Self::GilbertElliott { p, r, loss_good, loss_bad } => {
                Some(Elliott { p, r, good: loss_good, bad: loss_bad })
            }
            _ => None,
        }
    }
}

#[doc(hidden)]
impl From<Probability> for LossModel {
    /// Independent losses at this rate; at 0, no model.
    fn from(rate: Probability) -> Self {
        if rate == Probability::ZERO { Self::None } else { Self::Bernoulli(rate) }
    }
}

impl fmt::Display for LossModel {
    /// The text form that [`LinkConfig`](super::LinkConfig) parses; `none` for no model.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Bernoulli(p) => write!(f, "iid:{p}"),
            Self::Gilbert(gilbert) => gilbert.fmt(f),
            Self::GilbertElliott { p, r, loss_good, loss_bad } => {
                write!(f, "ge:{p},{r},{},{}", survival(*loss_bad), survival(*loss_good))
            }
            Self::FourState(four) => four.fmt(f),
            Self::List(list) => write!(f, "list:{list}"),
            Self::Blackhole { on, off } => write!(f, "blackhole:{on},{off}"),
        }
    }
}

/// `1 - p` for display: 0.1 for 0.9 instead of 0.09999999999999998, if that maps back to 0.9.
pub(super) fn survival(p: Probability) -> Probability {
    let exact = p.complement();
    let short = format!("{:.15}", exact.get()).parse().unwrap_or(exact);
    if short.complement() == p { short } else { exact }
}
