//! Counters of proxies, as a line of text and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::link::{Fate, LossModel};
use crate::units::Probability;

/// Counters of one direction of a datagram proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DatagramTotals {
    /// Datagrams received.
    pub(crate) datagrams: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
    /// Datagrams that the rules select.
    pub(crate) matched: u64,
    /// Datagrams dropped by the loss model.
    pub(crate) lost: u64,
    /// Datagrams dropped because they exceed the link's MTU.
    pub(crate) too_large: u64,
    /// Datagrams dropped by a full queue.
    pub(crate) queue_full: u64,
    /// Datagrams duplicated.
    pub(crate) duplicated: u64,
    /// Datagrams with a flipped bit.
    pub(crate) corrupted: u64,
    /// Datagrams cut short.
    pub(crate) truncated: u64,
    /// The current loss model; `None` for a replayed record.
    pub(crate) requested: Option<LossModel>,
}

impl DatagramTotals {
    /// Counts the fate of a selected datagram.
    pub(crate) fn count(&mut self, fate: &Fate) {
        self.matched += 1;
        match fate {
            Fate::Lost => self.lost += 1,
            Fate::TooLarge => self.too_large += 1,
            Fate::QueueFull => self.queue_full += 1,
            Fate::Passed(passage) => {
                self.duplicated += u64::from(passage.duplicate.is_some());
                self.corrupted += u64::from(passage.corrupted.is_some());
                self.truncated += u64::from(passage.truncated.is_some());
            }
        }
    }

    /// Returns the lost share of the selected datagrams; `None` if none was selected.
    #[must_use]
    pub(crate) fn realised(&self) -> Option<f64> {
        realised(self.lost, self.matched)
    }

    fn to_json(&self) -> Value {
        json!({
            "datagrams": self.datagrams, "bytes": self.bytes, "matched": self.matched, "lost": self.lost,
            "requested_loss": rate(self.requested.as_ref()), "realised_loss": self.realised(), "too_large": self.too_large,
            "queue_full": self.queue_full, "duplicated": self.duplicated, "corrupted": self.corrupted,
            "truncated": self.truncated,
        })
    }
}

impl fmt::Display for DatagramTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} datagrams, {}",
            self.datagrams,
            losses(self.lost, self.matched, self.requested.as_ref())
        )?;
        let rest = [
            (self.too_large, "too large"),
            (self.queue_full, "queue full"),
            (self.duplicated, "duplicated"),
            (self.corrupted, "corrupted"),
            (self.truncated, "truncated"),
        ];
        rest.iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// Counters of one direction of a stream proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StreamTotals {
    /// Bytes passed on.
    pub(crate) bytes: u64,
    /// Segments sent over the link, retransmissions included.
    pub(crate) segments: u64,
    /// Segments lost: each is a stall.
    pub(crate) lost: u64,
    /// Connections reset by the link.
    pub(crate) resets: u64,
    /// The current loss model; `None` for a replayed record.
    pub(crate) requested: Option<LossModel>,
}

impl StreamTotals {
    fn to_json(&self) -> Value {
        json!({
            "bytes": self.bytes, "segments": self.segments, "lost": self.lost, "requested_loss": rate(self.requested.as_ref()),
            "realised_loss": realised(self.lost, self.segments), "stalls": self.lost, "resets": self.resets,
        })
    }
}

impl fmt::Display for StreamTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let losses = losses(self.lost, self.segments, self.requested.as_ref());
        write!(f, "{} bytes in {} segments, {losses}", self.bytes, self.segments)?;
        if self.resets > 0 { write!(f, ", {} resets", self.resets) } else { Ok(()) }
    }
}

/// Counters of a proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProxyTotals {
    /// Its name.
    pub(crate) name: String,
    /// The counters, by kind of proxy.
    pub(crate) kind: Kind,
}

/// The counters of a datagram or stream proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Datagrams.
    Datagrams {
        /// Clients so far.
        flows: u64,
        /// Clients now.
        open: usize,
        /// Clients evicted because there were too many.
        evicted: u64,
        /// Datagrams that the system did not accept.
        unsent: u64,
        /// Datagrams that arrived after their client had been removed.
        gone: u64,
        /// From clients.
        up: DatagramTotals,
        /// To clients.
        down: DatagramTotals,
    },
    /// Streams.
    Streams {
        /// Connections so far.
        connections: u64,
        /// Connections now.
        open: usize,
        /// Connections refused because there were too many.
        refused: u64,
        /// Connections without a reachable upstream.
        failed: u64,
        /// From clients.
        up: StreamTotals,
        /// To clients.
        down: StreamTotals,
    },
}

impl ProxyTotals {
    /// Returns a JSON object. Values that were never measured are null.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Datagrams { flows, open, evicted, unsent, gone, up, down } => json!({
                "name": self.name, "scheme": "udp", "flows": flows, "open": open, "evicted": evicted,
                "unsent": unsent, "gone": gone, "up": up.to_json(), "down": down.to_json(),
            }),
            Kind::Streams { connections, open, refused, failed, up, down } => json!({
                "name": self.name, "scheme": "tcp", "connections": connections, "open": open, "refused": refused,
                "failed": failed, "up": up.to_json(), "down": down.to_json(),
            }),
        }
    }
}

impl fmt::Display for ProxyTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Datagrams { flows, evicted, unsent, gone, up, down, .. } => {
                write!(f, "{}: {flows} flows; up {up}; down {down}", self.name)?;
                if_any(f, *evicted, "flows had to make room")?;
                if_any(f, *unsent, "datagrams could not be sent")?;
                if_any(f, *gone, "datagrams of clients that were gone")
            }
            Kind::Streams { connections, refused, failed, up, down, .. } => {
                write!(f, "{}: {connections} connections; up {up}; down {down}", self.name)?;
                if_any(f, *refused, "connections refused")?;
                if_any(f, *failed, "without upstream")
            }
        }
    }
}

fn if_any(f: &mut fmt::Formatter<'_>, count: u64, what: &str) -> fmt::Result {
    if count > 0 { write!(f, "; {count} {what}") } else { Ok(()) }
}

fn realised(lost: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| lost as f64 / of as f64)
}

/// Returns the long-term share that a model drops; `None` without a rate, or without a model.
fn rate(model: Option<&LossModel>) -> Option<f64> {
    model.and_then(LossModel::rate).map(Probability::get)
}

/// Returns the requested loss as text: `30.0 %`, or `as recorded` without a model.
#[must_use]
pub(crate) fn requested(model: Option<&LossModel>) -> String {
    model.map_or_else(|| "as recorded".to_owned(), |model| model.requested().to_string())
}

/// `lost 7 of 20 (requested 30.0 %, realised 35.0 %)`.
fn losses(lost: u64, of: u64, model: Option<&LossModel>) -> String {
    let realised =
        realised(lost, of).map_or_else(|| "none".to_owned(), |part| format!("{:.1} %", part * 100.0));
    format!("lost {lost} of {of} (requested {}, realised {realised})", requested(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_contain_requested_and_realised_loss_and_unmeasured_values_are_null() {
        let up = DatagramTotals {
            datagrams: 30,
            matched: 20,
            lost: 7,
            requested: Some(LossModel::from(Probability::new(0.3).unwrap())),
            corrupted: 1,
            ..DatagramTotals::default()
        };
        assert_eq!(
            up.to_string(),
            "30 datagrams, lost 7 of 20 (requested 30.0 %, realised 35.0 %), 1 corrupted"
        );
        let down = DatagramTotals::default();
        assert_eq!(down.to_string(), "0 datagrams, lost 0 of 0 (requested as recorded, realised none)");
        let kind = Kind::Datagrams { flows: 2, open: 1, evicted: 0, unsent: 0, gone: 3, up, down };
        let totals = ProxyTotals { name: "udp1".to_owned(), kind };
        assert!(totals.to_string().ends_with("; 3 datagrams of clients that were gone"), "{totals}");
        let value = totals.to_json();
        assert_eq!(value["gone"], 3);
        assert_eq!(value["up"]["realised_loss"], 0.35);
        assert!(value["down"]["realised_loss"].is_null() && value["down"]["requested_loss"].is_null());
    }
}
