//! What may be wrong with a link: one sentence each.

use crate::escape::escape_short;
use crate::link::profile::Profile;
use crate::link::spec::{MODELS, PARTS};
use crate::units::{Probability, UnitError};

/// How much of an offending text an error shows, in characters.
const SHOWN: usize = 40;

/// Why a text, or a set of numbers, is no link.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A part by a name that none has.
    #[error("`{text}` is not part of a link; loss models are {models}; other parts are {parts}; or all of it is none",
        models = names(&MODELS), parts = names(&PARTS))]
    UnknownPart {
        /// The name, made safe to show.
        text: String,
    },
    /// A profile by a name that none has.
    #[error("`{text}` is not a profile; there are {}", Profile::ALL.map(|profile| profile.name()).join(", "))]
    UnknownProfile {
        /// The name, made safe to show.
        text: String,
    },
    /// Too few or too many values, or a word that is not among the known ones.
    #[error("`{text}` is not of the form {form}")]
    Form {
        /// The part, made safe to show.
        text: String,
        /// What it should look like.
        form: &'static str,
    },
    /// A value that is not the quantity that the part needs.
    #[error("{part}: {source}")]
    Value {
        /// The name of the part.
        part: &'static str,
        /// What is wrong with the value.
        source: UnitError,
    },
    /// A part that is there twice.
    #[error("{what} is given twice; each part of a link stands once")]
    Twice {
        /// The part.
        what: &'static str,
    },
    /// No part at all.
    #[error("a link has at least one part, like iid:.1; a perfect one is none")]
    Empty,
    /// `none` beside other parts.
    #[error("none stands alone: it is the perfect link")]
    NotAlone,
    /// A burst that is no length.
    #[error("a mean burst of {burst} datagrams is not possible: it is a number from 1 on")]
    Burst {
        /// What was asked for.
        burst: f64,
    },
    /// A burst that is too short for its rate.
    #[error("no chain loses {rate} of all datagrams in bursts of {burst}: the least burst is {}", above(*.least))]
    ShortBurst {
        /// The rate.
        rate: Probability,
        /// What was asked for.
        burst: f64,
        /// `rate / (1 - rate)`.
        least: f64,
    },
    /// Transitions out of one state that are more than certain together.
    #[error("{names} is {sum}: more than 1 cannot leave a state")]
    Leaves {
        /// Which.
        names: &'static str,
        /// Their sum.
        sum: f64,
    },
    /// A range of datagrams that is none.
    #[error(
        "{first}-{last} is not a range of datagrams, which are counted from 1: it begins below 1, or ends before it begins"
    )]
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

/// `text`, safe to show and short.
pub(super) fn shown(text: &str) -> String {
    escape_short(text.as_bytes(), SHOWN).into_owned()
}

fn names(known: &[(&str, &str)]) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A bound for people: rounded up in the fourth digit behind the point, so that what is shown is possible.
fn above(bound: f64) -> f64 {
    ((bound - 1e-9) * 1e4).ceil() / 1e4
}
