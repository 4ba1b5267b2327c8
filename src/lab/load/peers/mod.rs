//! The protocols that `lab load` speaks, one per file, and their names.

use std::str::FromStr;

pub(crate) mod baseline;
pub(crate) mod coap;
pub(crate) mod memcached;
pub(crate) mod mqtt;
pub(crate) mod nats;
pub(crate) mod redis;
pub(crate) mod sayagain;

use self::baseline::Baseline;
use self::coap::Coap;
use self::memcached::Memcached;
use self::mqtt::Mqtt;
use self::nats::Nats;
use self::redis::Redis;
use self::sayagain::{Datagrams, Streams};
use super::peer::{DatagramPeer, Peer};

/// A protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// The protocol of this project.
    #[default]
    Sayagain,
    /// The protocol of NATS.
    Nats,
    /// The protocol of Redis.
    Redis,
    /// MQTT 3.1.1.
    Mqtt,
    /// None: `lab baseline`.
    Baseline,
    /// memcached's text protocol, over datagrams.
    Memcached,
    /// CoAP, over datagrams.
    Coap,
}

/// All protocols with their names.
const KINDS: [(&str, PeerKind); 7] = [
    ("sayagain", PeerKind::Sayagain),
    ("nats", PeerKind::Nats),
    ("redis", PeerKind::Redis),
    ("mqtt", PeerKind::Mqtt),
    ("baseline", PeerKind::Baseline),
    ("memcached", PeerKind::Memcached),
    ("coap", PeerKind::Coap),
];

impl PeerKind {
    /// Returns its name.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Returns its form over streams, with tagged requests if `tagged` and supported; `None` if it has none.
    #[must_use]
    pub(crate) fn streams(self, tagged: bool) -> Option<Box<dyn Peer>> {
        match self {
            Self::Sayagain => Some(Box::new(Streams { tagged })),
            Self::Nats => Some(Box::new(Nats)),
            Self::Redis => Some(Box::new(Redis)),
            Self::Mqtt => Some(Box::new(Mqtt)),
            Self::Baseline => Some(Box::new(Baseline)),
            Self::Memcached | Self::Coap => None,
        }
    }

    /// Returns its form over datagrams; `None` if it has none.
    #[must_use]
    pub(crate) fn datagrams(self) -> Option<Box<dyn DatagramPeer>> {
        match self {
            Self::Sayagain => Some(Box::new(Datagrams)),
            Self::Baseline => Some(Box::new(Baseline)),
            Self::Memcached => Some(Box::new(Memcached)),
            Self::Coap => Some(Box::new(Coap)),
            Self::Nats | Self::Redis | Self::Mqtt => None,
        }
    }
}

impl FromStr for PeerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The former name is still accepted.
        let wanted = if text == "bare" { "baseline" } else { text };
        let found = KINDS.iter().find(|(name, _)| *name == wanted).map(|(_, kind)| *kind);
        found.ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            let shown = crate::escape::escape_short(text.as_bytes(), 40);
            format!("`{shown}` is not a protocol; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_chosen_by_its_name_and_others_are_refused() {
        for (name, kind) in KINDS {
            assert_eq!((name.parse(), kind.name()), (Ok(kind), name));
        }
        assert_eq!("bare".parse(), Ok(PeerKind::Baseline), "the old name");
        let error = "irc\u{7}".parse::<PeerKind>().unwrap_err();
        assert!(error.starts_with(r"`irc\x07` is not a protocol; there are sayagain"), "{error}");
    }
}
