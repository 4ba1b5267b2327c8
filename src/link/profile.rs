//! Named network profiles.
//!
//! Latency, rate and loss of `3g`, `edge`, `wifi` and `dsl` are those in the README of comcast (a tool that simulates
//! bad networks). They are half of its latency per direction, its loss and rate per direction. `satellite` is RFC 2488
//! section 2: 279 ms for one hop over a geostationary satellite at the edge of its view. A bit error rate of 10^-7
//! damages one in a thousand datagrams of 1,200 bytes.

use std::str::FromStr;

use crate::link::error::LinkError;

/// A named network; applies to each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    name: &'static str,
    spec: &'static str,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 5] = [
        Self { name: "3g", spec: "iid:.015+delay:125ms+rate:750kbit" },
        Self { name: "edge", spec: "iid:.015+delay:150ms+rate:250kbit" },
        Self { name: "wifi", spec: "iid:.002+delay:20ms+rate:30mbit" },
        Self { name: "dsl", spec: "iid:.02+delay:35ms+rate:2mbit" },
        Self { name: "satellite", spec: "iid:.001+delay:279ms" },
    ];

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its impairments in each direction, in the form that [`LinkConfig`](super::LinkConfig) parses.
    #[must_use]
    pub const fn spec(&self) -> &'static str {
        self.spec
    }
}

impl FromStr for Profile {
    type Err = LinkError;

    fn from_str(name: &str) -> Result<Self, LinkError> {
        let found = Self::ALL.into_iter().find(|profile| profile.name == name);
        found.ok_or_else(|| LinkError::unknown_profile(name))
    }
}
