//! The options of a retry policy (`--expb`, `--policy` and others), and how they resolve to a [`Backoff`].
//!
//! [`explain()`] prints the schedule of a policy.

use std::time::Duration;

use crate::reliable::{Backoff, Jitter, PolicyName};
use crate::units::PositiveSeconds;

mod explain;

pub use explain::explain;
pub(crate) use explain::{percent, range, seconds};

/// The exclusive upper bound of the first timeout with `--expb`.
const EXPB_LIMIT: Duration = Duration::from_secs(2);

/// The retry options as typed, to be flattened into a program's options.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Retry policy")]
pub struct PolicyArgs {
    /// Seconds after which an unanswered send counts as lost; the first timeout of a growing schedule [default: 1]
    #[arg(long, value_name = "SECS", allow_hyphen_values = true, global = true)]
    pub timeout: Option<PositiveSeconds>,

    /// Exponential backoff: retransmit and double the timeout after each lost send; the first timeout must be below 2
    /// s. Without a retry policy, a request is sent once
    #[arg(long, global = true)]
    pub expb: bool,

    /// Most sends of a request, the first included; on each new connection and from each new address it is sent once
    /// more, 8 times at most [default: 8 with --expb, the policy's with --policy, else 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true, global = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(Backoff::MAX_SENDS)))]
    pub max_sends: Option<u32>,

    /// The longest timeout [default: 60, or the policy's]
    #[arg(long, value_name = "SECS", allow_hyphen_values = true, global = true)]
    pub max_timeout: Option<PositiveSeconds>,

    /// Give up a request SECS seconds after its first send, even if sends are left
    #[arg(long, value_name = "SECS", allow_hyphen_values = true, global = true)]
    pub deadline: Option<PositiveSeconds>,

    /// Randomise timeouts: none, full, equal, decorrelated, ratio:R or initial:F [default: none, or the policy's]
    #[arg(long, allow_hyphen_values = true, global = true)]
    pub jitter: Option<Jitter>,

    /// The shortest timeout derived from measured round trips, for a policy that measures them: rto and quic-pto
    /// [default: the policy's; 1 for rto, RFC 6298 section 2.4]
    #[arg(long, value_name = "SECS", allow_hyphen_values = true, global = true)]
    pub rto_min: Option<PositiveSeconds>,

    /// A policy by name: once, expb, fixed or linear, or a protocol's: coap, sip, sip-invite, dns, rto, quic-pto or
    /// dtls; the options above override its values
    #[arg(long, value_name = "NAME", conflicts_with = "expb", global = true)]
    pub(crate) policy: Option<PolicyName>,
}

impl PolicyArgs {
    /// Resolves the options to a policy.
    ///
    /// # Errors
    ///
    /// One sentence that names the options that contradict each other.
    pub fn resolve(&self) -> Result<Backoff, String> {
        self.check_expb()?;
        let mut policy = self.base();
        if let Some(cap) = self.max_timeout {
            policy = policy.with_max_timeout(cap.as_duration());
        }
        if let Some(sends) = self.max_sends {
            policy = policy.with_max_sends(sends);
        }
        if let Some(deadline) = self.deadline {
            policy = policy.with_deadline(Some(deadline.as_duration()));
        }
        if let Some(jitter) = self.jitter {
            policy = policy.with_jitter(jitter);
        }
        if let Some(least) = self.rto_min {
            if !policy.adaptive() {
                let name = self.name();
                return Err(format!(
                    "--rto-min bounds measured timeouts, and {name} measures none; rto and quic-pto do"
                ));
            }
            policy = policy.with_min_rto(least.as_duration());
        }
        check_cap(&policy)?;
        Ok(policy)
    }

    /// The policy's name in tables. A single send is `once`; more sends without growth are `fixed`, as with
    /// `--max-sends 5` alone.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.chosen() {
            PolicyName::Once if self.max_sends.is_some_and(|sends| sends > 1) => PolicyName::Fixed,
            chosen => chosen,
        }
        .as_str()
    }

    /// The policy that the other options override.
    pub(crate) fn chosen(&self) -> PolicyName {
        let default = if self.expb { PolicyName::Expb } else { PolicyName::Once };
        self.policy.unwrap_or(default)
    }

    fn base(&self) -> Backoff {
        let chosen = self.chosen();
        self.timeout.map_or_else(|| chosen.backoff(), |timeout| chosen.backoff_from(timeout.as_duration()))
    }

    fn check_expb(&self) -> Result<(), String> {
        match self.timeout {
            Some(timeout) if self.chosen() == PolicyName::Expb && timeout.as_duration() >= EXPB_LIMIT => {
                let typed = if self.expb { "--expb" } else { "--policy expb" };
                Err(format!(
                    "{typed} begins with a timeout of less than 2s, and --timeout {timeout} is not: it doubles with each failure"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a cap below the first timeout, which would silently replace it.
fn check_cap(policy: &Backoff) -> Result<(), String> {
    if policy.ack_timeout() <= policy.max_timeout() {
        return Ok(());
    }
    let (first, cap) = (seconds(policy.ack_timeout()), seconds(policy.max_timeout()));
    Err(format!("the first timeout of {first} s is above the longest of {cap} s: raise --max-timeout"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Preset;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        policy: PolicyArgs,
    }

    fn resolve(line: &str) -> Result<Backoff, String> {
        let typed = Typed::try_parse_from(["x"].into_iter().chain(line.split_whitespace()))
            .map_err(|e| e.to_string())?;
        typed.policy.resolve()
    }

    fn explained(line: &str) -> Vec<String> {
        let mut out = Vec::new();
        explain(&resolve(line).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn without_expb_a_request_is_sent_once_and_fails_after_a_second() {
        assert_eq!(
            explained(""),
            [
                "send 1 at 0 s",
                "gives up at 1 s",
                "answered at 10 % loss each way: 81.00 %",
                "answered at 30 % loss each way: 49.00 %",
                "answered at 50 % loss each way: 25.00 %",
            ]
        );
        assert_eq!(resolve("--timeout 100").unwrap().give_up(), Duration::from_secs(100));
    }

    #[test]
    fn with_expb_the_timeout_doubles_for_eight_sends() {
        let expected = [
            "send 1 at 0 s",
            "send 2 at 0.1 s",
            "send 3 at 0.3 s",
            "send 4 at 0.7 s",
            "send 5 at 1.5 s",
            "send 6 at 3.1 s",
            "send 7 at 6.3 s",
            "send 8 at 12.7 s",
            "gives up at 25.5 s",
            "answered at 10 % loss each way: 99.9998 %",
            "answered at 30 % loss each way: 99.54 %",
            "answered at 50 % loss each way: 89.99 %",
        ];
        assert_eq!(explained("--timeout .1 --expb"), expected);
        assert_eq!(
            explained("--expb --timeout .1 --max-sends 5")[4..6],
            ["send 5 at 1.5 s", "gives up at 3.1 s"]
        );
        assert_eq!(
            explained("--expb --timeout .1 --max-timeout .2")[7..9],
            ["send 8 at 1.3 s", "gives up at 1.5 s"]
        );
        assert_eq!(explained("--expb --timeout .1 --deadline 1")[4], "gives up at 1 s");
        assert_eq!(resolve("--timeout 1.999 --expb").unwrap().max_timeout(), Duration::from_secs(60));
    }

    #[test]
    fn explicit_flags_override_a_preset() {
        for preset in Preset::ALL {
            assert_eq!(resolve(&format!("--policy {preset}")).unwrap(), preset.backoff(), "{preset}");
        }
        let sip =
            resolve("--policy sip --timeout .2 --max-sends 3 --max-timeout 9 --deadline 7 --jitter full")
                .unwrap();
        assert_eq!((sip.ack_timeout(), sip.max_sends()), (Duration::from_millis(200), 3));
        assert_eq!(
            (sip.max_timeout(), sip.deadline()),
            (Duration::from_secs(9), Some(Duration::from_secs(7)))
        );
        assert_eq!((sip.jitter(), sip.growth()), (Jitter::Full, Preset::Sip.backoff().growth()));
        assert_eq!(
            resolve("--policy rto --rto-min .2").unwrap(),
            Preset::Rto.backoff().with_min_rto(Duration::from_millis(200))
        );
        assert_eq!(resolve("--policy coap --jitter none").unwrap().jitter(), Jitter::None);
    }

    #[test]
    fn a_policy_by_name_equals_its_options() {
        let same =
            |one: &str, other: &str| assert_eq!(resolve(one).unwrap(), resolve(other).unwrap(), "{one}");
        same("--policy expb --timeout .1", "--expb --timeout .1");
        same("--policy expb", "--expb");
        same("--policy once", "");
        same("--policy once --timeout 100", "--timeout 100");
        same("--policy fixed --timeout 100", "--timeout 100 --max-sends 8");
        let linear = resolve("--policy linear --timeout .1 --max-sends 4").unwrap();
        let tenths: Vec<_> = linear.schedule().map(|at| at.as_millis() / 100).collect();
        assert_eq!(tenths, [0, 1, 3, 6]);
    }

    #[test]
    fn a_policy_has_the_name_of_the_options_that_chose_it() {
        for (line, name) in [
            ("", "once"),
            ("--max-sends 1 --timeout 3", "once"),
            ("--max-sends 5", "fixed"),
            ("--policy once --max-sends 5", "fixed"),
            ("--expb --timeout .1 --max-sends 5", "expb"),
            ("--policy expb", "expb"),
            ("--policy linear", "linear"),
            ("--policy sip-invite --timeout .1", "sip-invite"),
        ] {
            let typed = Typed::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap();
            assert_eq!(typed.policy.name(), name, "{line}");
        }
    }

    #[test]
    fn invalid_options_are_refused_with_a_sentence() {
        for (line, sentence) in [
            ("--timeout -1", "`-1` is not a duration: it must not be negative"),
            ("--timeout 0", "it must be more than zero"),
            ("--timeout NaN", "it is not a number of seconds"),
            ("--timeout inf", "it must not be longer than ten years"),
            ("--timeout 1e300", "it must not be longer than ten years"),
            ("--timeout 2 --expb", "--expb begins with a timeout of less than 2s, and --timeout 2s is not"),
            ("--timeout inf --expb", "it must not be longer than ten years"),
            ("--policy coap --expb", "cannot be used with"),
            ("--policy tcp", "`tcp` is not a retry policy: it must be once, expb, fixed, linear, coap,"),
            (
                "--policy expb --timeout 2",
                "--policy expb begins with a timeout of less than 2s, and --timeout 2s is not",
            ),
            ("--policy expb --expb", "cannot be used with"),
            ("--max-sends 0", "0 is not in 1..=1000000"),
            ("--max-sends -3", "-3 is not in 1..=1000000"),
            ("--max-timeout 0", "it must be more than zero"),
            ("--deadline -2", "it must not be negative"),
            ("--jitter some", "`some` is not a jitter"),
            ("--jitter ratio:2", "it must not be above 1"),
            ("--timeout 3 --max-timeout 1", "the first timeout of 3 s is above the longest of 1 s"),
            ("--policy coap --rto-min .1", "--rto-min bounds measured timeouts, and coap measures none"),
            ("--policy rto --rto-min 0", "it must be more than zero"),
            ("--policy sip --timeout 5", "the first timeout of 5 s is above the longest of 4 s"),
        ] {
            let refused = resolve(line).unwrap_err();
            assert!(refused.contains(sentence), "{line}: {refused}");
        }
    }

    #[test]
    fn explain_adds_notes_on_jitter_measured_timeouts_and_deadlines() {
        assert!(explained("--policy coap").last().unwrap().starts_with("jitter initial:1.5: all timeouts"));
        assert!(explained("--policy rto").last().unwrap().starts_with("once a round trip is measured"));
        let decorrelated = explained("--expb --timeout .1 --jitter decorrelated");
        assert_eq!(
            (decorrelated[1].as_str(), decorrelated[8].as_str()),
            ("send 2 at 0.1 to 0.3 s", "gives up at 0.8 to 216.3 s")
        );
        let coap = explained("--policy coap");
        assert_eq!(coap[5], "gives up at 62 to 93 s, 77.500 s in the mean");
        let cut = explained("--expb --timeout .1 --jitter full --deadline 1");
        assert!(
            cut.last().unwrap().starts_with("with jitter the deadline leaves time for 4 to 8 sends"),
            "{cut:?}"
        );
        assert!(explained("--expb --jitter ratio:.2").last().unwrap().ends_with("by up to 20 % of it"));
        assert_eq!(
            explained("--expb --timeout .1 --max-sends 30").last().unwrap(),
            "answered at 50 % loss each way: 99.98 %"
        );
    }
}
