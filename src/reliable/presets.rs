//! Retry policies of well-known protocols, with the numbers of their RFCs.

use std::fmt;
use std::time::Duration;

use crate::reliable::backoff::{Backoff, Growth, Jitter};
use crate::units::Factor;

const DOUBLING: Growth = Growth::Exponential { factor: Factor::TWO };

/// The retry policy of a protocol, under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `coap`, RFC 7252 sections 4.2 and 4.8: ACK_TIMEOUT 2 s, drawn up to ACK_RANDOM_FACTOR 1.5 times that once per
    /// message, doubled without a cap, MAX_RETRANSMIT 4. Gives up after at most MAX_TRANSMIT_WAIT, 93 s.
    Coap,
    /// `sip`, RFC 3261 section 17.1.2.2, a non-INVITE transaction: Timer E from T1 500 ms doubles up to T2 4 s,
    /// Timer F ends it after 64 T1, 32 s; that makes 11 sends.
    Sip,
    /// `sip-invite`, RFC 3261 section 17.1.1.2, an INVITE transaction: Timer A from T1 500 ms doubles without a cap,
    /// Timer B ends it after 64 T1, 32 s; that makes 7 sends.
    SipInvite,
    /// `dns`, as dig does: 3 sends, 5 s apart. RFC 1035 section 4.2.1 requires 2 to 5 s between repeats, and leaves
    /// their number open.
    Dns,
    /// `rto`, RFC 6298 sections 2 and 5: 1 s, or the measured timeout, doubled up to 60 s. The RFC limits no number of
    /// sends: 7 are the fewest that reach the 100 s for which TCP has to keep trying (R2, RFC 9293 section 3.8.3).
    /// Without a measured timeout it gives up after 123 s.
    Rto,
    /// `quic-pto`, RFC 9002 sections 6.2.1 and 6.2.2. Without a sample, kInitialRtt 333 ms gives 333 ms + 4 (333 ms /
    /// 2) = 999 ms, doubled without a cap. QUIC's idle timeout ends it, which a single request does not have; here,
    /// after 4 retries. Its measured timeout has a floor of 1 ms (kGranularity).
    QuicPto,
    /// `dtls`, RFC 9147 section 5.8.2: 1 s doubled up to 60 s. The RFC limits no number of sends; here, 4 retries.
    Dtls,
}

impl Preset {
    /// All presets, in the order of their documentation.
    pub(crate) const ALL: [Self; 7] =
        [Self::Coap, Self::Sip, Self::SipInvite, Self::Dns, Self::Rto, Self::QuicPto, Self::Dtls];

    /// The name of the preset.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Sip => "sip",
            Self::SipInvite => "sip-invite",
            Self::Dns => "dns",
            Self::Rto => "rto",
            Self::QuicPto => "quic-pto",
            Self::Dtls => "dtls",
        }
    }

    /// Its document, and the numbers that the document leaves open, as one line.
    #[must_use]
    pub(crate) const fn source(self) -> &'static str {
        match self {
            Self::Coap => "RFC 7252 sections 4.2 and 4.8, a confirmable message",
            Self::Sip => "RFC 3261 section 17.1.2.2, a non-INVITE transaction: timers E and F",
            Self::SipInvite => "RFC 3261 section 17.1.1.2, an INVITE transaction: timers A and B",
            Self::Dns => "what dig does; RFC 1035 section 4.2.1 leaves the number of sends open",
            Self::Rto => "RFC 6298 sections 2 and 5; 7 sends reach the 100 s of RFC 9293 section 3.8.3",
            Self::QuicPto => "RFC 9002 sections 6.2.1 and 6.2.2; it has no number of sends, 5 are a choice",
            Self::Dtls => "RFC 9147 section 5.8.2; it has no number of sends, 5 are a choice",
        }
    }

    /// The policy.
    pub fn backoff(self) -> Backoff {
        match self {
            Self::Coap => coap(),
            Self::Sip => sip().with_max_timeout(Duration::from_secs(4)).with_max_sends(11),
            Self::SipInvite => sip().with_max_timeout(Backoff::UNCAPPED).with_max_sends(7),
            Self::Dns => Backoff::new(Duration::from_secs(5)).with_max_sends(3),
            Self::Rto => tcp().with_max_sends(7).with_adaptive(true),
            Self::QuicPto => quic(),
            Self::Dtls => tcp().with_max_retransmit(4),
        }
    }
}

fn coap() -> Backoff {
    Backoff::new(Duration::from_secs(2))
        .with_growth(DOUBLING)
        .with_jitter(Jitter::Initial(Factor::THREE_HALVES))
        .with_max_timeout(Backoff::UNCAPPED)
        .with_max_retransmit(4)
}

fn sip() -> Backoff {
    let t1 = Duration::from_millis(500);
    Backoff::new(t1).with_growth(DOUBLING).with_deadline(Some(64 * t1))
}

fn tcp() -> Backoff {
    Backoff::new(Duration::from_secs(1)).with_growth(DOUBLING).with_max_timeout(Duration::from_secs(60))
}

fn quic() -> Backoff {
    Backoff::new(Duration::from_millis(999))
        .with_growth(DOUBLING)
        .with_max_timeout(Backoff::UNCAPPED)
        .with_max_retransmit(4)
        .with_adaptive(true)
        .with_min_rto(Duration::from_millis(1))
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::success;
    use crate::units::Probability;

    /// Name, sends, last send and give-up in seconds to one decimal, success in % at 10, 30 and 50 % loss each way.
    type Row = (&'static str, usize, &'static str, &'static str, [&'static str; 3]);

    const TABLE: [Row; 7] = [
        // The middle of ACK_RANDOM_FACTOR stretches these by 1.25, to 37.5 and 77.5 s: see the next test.
        ("coap", 5, "30.0", "62.0", ["99.98", "96.55", "76.27"]),
        ("sip", 11, "31.5", "32.0", ["100.00", "99.94", "95.78"]),
        ("sip-invite", 7, "31.5", "32.0", ["100.00", "99.10", "86.65"]),
        ("dtls", 5, "15.0", "31.0", ["99.98", "96.55", "76.27"]),
        ("quic-pto", 5, "15.0", "31.0", ["99.98", "96.55", "76.27"]),
        ("dns", 3, "10.0", "15.0", ["99.31", "86.73", "57.81"]),
        ("rto", 7, "63.0", "123.0", ["100.00", "99.10", "86.65"]),
    ];

    fn tenths(length: Duration) -> String {
        format!("{:.1}", length.as_secs_f64())
    }

    fn percent(loss: f64, sends: usize) -> String {
        let loss = Probability::new(loss).unwrap();
        format!("{:.2}", 100.0 * success(loss, loss, u32::try_from(sends).unwrap()))
    }

    #[test]
    fn presets_send_and_give_up_when_their_rfcs_say() {
        for (name, sends, last, give_up, chances) in TABLE {
            let policy: Backoff = name.parse().unwrap();
            assert_eq!(policy.schedule().count(), sends, "{name}");
            assert_eq!(tenths(policy.schedule().last().unwrap()), last, "{name}");
            assert_eq!(tenths(policy.give_up()), give_up, "{name}");
            assert_eq!([0.1, 0.3, 0.5].map(|loss| percent(loss, sends)), chances, "{name}");
        }
    }

    #[test]
    fn policies_without_an_rfc_keep_to_the_same_table() {
        let expb = Backoff::new(Duration::from_millis(100)).with_growth(DOUBLING).with_max_sends(5);
        assert_eq!(
            (tenths(expb.schedule().last().unwrap()), tenths(expb.give_up())),
            ("1.5".into(), "3.1".into())
        );
        let growth = Growth::Exponential { factor: Factor::THREE_HALVES };
        let fping = Backoff::new(Duration::from_millis(500)).with_growth(growth).with_max_retransmit(3);
        assert_eq!(
            (tenths(fping.schedule().last().unwrap()), tenths(fping.give_up())),
            ("2.4".into(), "4.1".into())
        );
        assert_eq!([0.1, 0.3, 0.5].map(|loss| percent(loss, 4)), ["99.87", "93.23", "68.36"]);
    }

    #[test]
    fn coap_at_its_slowest_takes_the_spans_that_rfc_7252_derives() {
        let at = |factor: f64| {
            let policy = Preset::Coap.backoff().with_ack_timeout(Duration::from_secs_f64(2.0 * factor));
            (tenths(policy.schedule().last().unwrap()), tenths(policy.give_up()))
        };
        assert_eq!(at(1.25), ("37.5".into(), "77.5".into()));
        // Section 4.8.2: MAX_TRANSMIT_SPAN and MAX_TRANSMIT_WAIT.
        assert_eq!(at(1.5), ("45.0".into(), "93.0".into()));
        assert_eq!(Preset::Coap.backoff().jitter(), Jitter::Initial(Factor::THREE_HALVES));
    }

    #[test]
    fn sip_repeats_at_the_instants_of_rfc_3261() {
        let halves =
            |preset: Preset| preset.backoff().schedule().map(|at| at.as_millis() / 500).collect::<Vec<_>>();
        assert_eq!(halves(Preset::Sip), [0, 1, 3, 7, 15, 23, 31, 39, 47, 55, 63]);
        assert_eq!(halves(Preset::SipInvite), [0, 1, 3, 7, 15, 31, 63]);
    }

    #[test]
    fn only_rto_and_quic_pto_learn_from_round_trips() {
        let learning: Vec<_> = Preset::ALL.into_iter().filter(|preset| preset.backoff().adaptive()).collect();
        assert_eq!(learning, [Preset::Rto, Preset::QuicPto]);
    }
}
