//! The errors of link configurations, one sentence each.

use crate::escape::escape_short;
use crate::link::profile::Profile;
use crate::link::spec::{MODELS, PARTS};
use crate::units::{Probability, UnitError};

/// The most characters of an offending text that an error shows.
const SHOWN: usize = 40;

/// The reason why a text, or a set of numbers, is not a link: one sentence. The variants are not part of the public API.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A part with an unknown name.
    #[error("`{text}` is not part of a link; loss models are {models}; other parts are {parts}; or all of it is none",
        models = names(&MODELS), parts = names(&PARTS))]
    #[doc(hidden)]
    UnknownPart {
        /// The name, escaped.
        text: String,
    },
    /// A profile with an unknown name.
    #[error("`{text}` is not a profile; there are {}", Profile::ALL.map(|profile| profile.name()).join(", "))]
    #[doc(hidden)]
    UnknownProfile {
        /// The name, escaped.
        text: String,
    },
    /// Too few or too many values, or an unknown word.
    #[error("`{text}` is not of the form {form}")]
    #[doc(hidden)]
    Form {
        /// The part, escaped.
        text: String,
        /// The expected form.
        form: &'static str,
    },
    /// A value of the wrong kind for its part.
    #[error("{part}: {source}")]
    #[doc(hidden)]
    Value {
        /// The name of the part.
        part: &'static str,
        /// The error of the value.
        source: UnitError,
    },
    /// A part that occurs twice.
    #[error("{what} is given twice; give each part of a link once")]
    #[doc(hidden)]
    Twice {
        /// The part.
        what: &'static str,
    },
    /// No part at all.
    #[error("a link has at least one part, like iid:.1; a perfect one is none")]
    #[doc(hidden)]
    Empty,
    /// `none` beside other parts.
    #[error("`none` is the perfect link; it cannot be combined with other parts")]
    #[doc(hidden)]
    NotAlone,
    /// A burst that is not a length.
    #[error("a mean burst of {burst} datagrams is not possible: it is a number from 1 on")]
    #[doc(hidden)]
    Burst {
        /// The requested burst.
        burst: f64,
    },
    /// A burst that is too short for its rate.
    #[error("no chain loses {rate} of all datagrams in bursts of {burst}: the least burst is {}", above(*.least))]
    #[doc(hidden)]
    ShortBurst {
        /// The rate.
        rate: Probability,
        /// The requested burst.
        burst: f64,
        /// `rate / (1 - rate)`.
        least: f64,
    },
    /// Transition probabilities out of one state that sum to more than 1.
    #[error("{names} is {sum}: more than 1 cannot leave a state")]
    #[doc(hidden)]
    Leaves {
        /// The transitions.
        names: &'static str,
        /// Their sum.
        sum: f64,
    },
    /// An invalid range of datagrams.
    #[error(
        "{first}-{last} is not a range of datagrams, which are counted from 1: it begins below 1, or ends before it begins"
    )]
    #[doc(hidden)]
    Range {
        /// Its first datagram.
        first: u64,
        /// Its last one.
        last: u64,
    },
}

impl LinkError {
    pub(super) fn unknown_profile(name: &str) -> Self {
        Self::UnknownProfile { text: shown(name) }
    }
}

/// `text`, escaped and shortened.
pub(super) fn shown(text: &str) -> String {
    escape_short(text.as_bytes(), SHOWN).into_owned()
}

fn names(known: &[(&str, &str)]) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A bound for display, rounded up at the fourth decimal so that the shown value is valid.
fn above(bound: f64) -> f64 {
    ((bound - 1e-9) * 1e4).ceil() / 1e4
}
