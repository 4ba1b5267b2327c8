//! Retry policies as text: a name and the parameters that differ from it, such as `expb+timeout:0.1s+max-sends:5`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Backoff, Growth, PolicyName};
use crate::units::{Factor, PositiveSeconds, Seconds, UnitError};

/// Parses a `PolicyName`, and after each `+` a parameter: `timeout:SECS`, `max-timeout:SECS`, `factor:F` of an
/// exponential growth, `jitter:` as for [`Jitter`](super::Jitter), `max-sends:N`, `deadline:SECS` or `deadline:none`,
/// `adaptive:yes` or `adaptive:no`, `rto-min:SECS`.
///
/// A parameter sets the value of the setter that it is named after; the first timeout counts before the others.
///
/// ```
/// use std::time::Duration;
/// use sayagain::reliable::{Backoff, Preset};
///
/// let policy: Backoff = "coap".parse()?;
/// assert_eq!(policy, Preset::Coap.backoff());
/// let quick: Backoff = "expb+timeout:100ms+max-sends:5".parse()?;
/// assert_eq!(quick.give_up(), Duration::from_millis(3_100));
/// assert_eq!(quick.to_string(), "expb+timeout:0.1s+max-sends:5");
/// let refused = "tcp".parse::<Backoff>().unwrap_err().to_string();
/// assert!(refused.starts_with("`tcp` is not a retry policy: it must be once, expb, fixed, linear, coap, "));
/// # Ok::<(), sayagain::units::UnitError>(())
/// ```
impl FromStr for Backoff {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut parts = text.split('+');
        let name: PolicyName = parts.next().unwrap_or_default().parse()?;
        let parts: Vec<(&str, &str)> =
            parts.map(|part| part.split_once(':').ok_or_else(|| unknown(part))).collect::<Result<_, _>>()?;
        let mut policy = name.backoff();
        for (_, value) in parts.iter().filter(|(key, _)| *key == "timeout") {
            policy = name.backoff_from(seconds(value)?);
        }
        parts.into_iter().filter(|(key, _)| *key != "timeout").try_fold(policy, with)
    }
}

/// The policy with one parameter changed.
fn with(policy: Backoff, (key, value): (&str, &str)) -> Result<Backoff, UnitError> {
    Ok(match key {
        "max-timeout" => policy.with_max_timeout(seconds(value)?),
        "factor" => match policy.growth() {
            Growth::Exponential { .. } => {
                policy.with_growth(Growth::Exponential { factor: value.parse::<Factor>()? })
            }
            Growth::Fixed | Growth::Linear => {
                return Err(UnitError::new(
                    value,
                    "a parameter here",
                    "only an exponential growth has a factor",
                ));
            }
        },
        "jitter" => policy.with_jitter(value.parse()?),
        "max-sends" => policy.with_max_sends(sends(value)?),
        "deadline" if value == "none" => policy.with_deadline(None),
        "deadline" => policy.with_deadline(Some(seconds(value)?)),
        "adaptive" => policy.with_adaptive(match value {
            "yes" => true,
            "no" => false,
            _ => return Err(UnitError::new(value, "a value of adaptive", "it must be yes or no")),
        }),
        "rto-min" => policy.with_min_rto(seconds(value)?),
        _ => return Err(unknown(key)),
    })
}

fn unknown(part: &str) -> UnitError {
    let why =
        "it must be timeout:, max-timeout:, factor:, jitter:, max-sends:, deadline:, adaptive: or rto-min:";
    UnitError::new(part, "a parameter of a retry policy", why)
}

fn seconds(value: &str) -> Result<Duration, UnitError> {
    value.parse().map(PositiveSeconds::as_duration)
}

fn sends(value: &str) -> Result<u32, UnitError> {
    let count = value.parse().ok().filter(|count| (1..=Backoff::MAX_SENDS).contains(count));
    count.ok_or_else(|| {
        UnitError::new(value, "a number of sends", "it must be a whole number from 1 to 1000000")
    })
}

/// Shows the policy as it is parsed: the name that it differs least from, and the parameters that differ. The name of a
/// protocol counts as one difference, unless the policy is that protocol's.
impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nearest = PolicyName::all().filter(|name| is_of_kind(*name, self));
        let nearest = nearest.map(|name| (name, differences(name, self)));
        let Some((name, parameters)) = nearest.min_by_key(distance) else {
            // `fixed`, `linear` and `expb` are of every kind.
            return Err(fmt::Error);
        };
        f.write_str(name.as_str())?;
        parameters.iter().try_for_each(|(key, value)| write!(f, "+{key}:{value}"))
    }
}

fn distance((name, parameters): &(PolicyName, Vec<(&'static str, String)>)) -> usize {
    let is_protocol = matches!(name, PolicyName::Preset(_)) && !parameters.is_empty();
    parameters.len() + usize::from(is_protocol)
}

/// Whether parameters can change the named policy to this one. `once` is a policy of one send.
fn is_of_kind(name: PolicyName, policy: &Backoff) -> bool {
    let is_same =
        std::mem::discriminant(&name.backoff().growth()) == std::mem::discriminant(&policy.growth());
    is_same && (name != PolicyName::Once || policy.max_sends() == 1)
}

/// The parameters that change the named policy to this one.
fn differences(name: PolicyName, policy: &Backoff) -> Vec<(&'static str, String)> {
    let is_first_the_same = name.backoff().ack_timeout() == policy.ack_timeout();
    let base = if is_first_the_same { name.backoff() } else { name.backoff_from(policy.ack_timeout()) };
    let factor = |policy: &Backoff| match policy.growth() {
        Growth::Exponential { factor } => factor.to_string(),
        Growth::Fixed | Growth::Linear => String::new(),
    };
    let deadline = |policy: &Backoff| policy.deadline().map_or_else(|| "none".to_owned(), shown);
    let adaptive = |policy: &Backoff| if policy.adaptive() { "yes" } else { "no" }.to_owned();
    let pair = |key, value: &dyn Fn(&Backoff) -> String| {
        let value_here = value(policy);
        (value(&base) != value_here).then_some((key, value_here))
    };
    let timeout = (!is_first_the_same).then(|| ("timeout", shown(policy.ack_timeout())));
    let others = [
        pair("max-timeout", &|policy| shown(policy.max_timeout())),
        pair("factor", &factor),
        pair("jitter", &|policy| policy.jitter().to_string()),
        pair("max-sends", &|policy| policy.max_sends().to_string()),
        pair("deadline", &deadline),
        pair("adaptive", &adaptive),
        pair("rto-min", &|policy| shown(policy.min_rto())),
    ];
    timeout.into_iter().chain(others.into_iter().flatten()).collect()
}

fn shown(length: Duration) -> String {
    Seconds::new(length).unwrap_or(Seconds::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::{Jitter, Preset};

    fn parse(text: &str) -> Result<Backoff, String> {
        text.parse().map_err(|error: UnitError| error.to_string())
    }

    #[test]
    fn the_text_of_a_policy_parses_to_the_same_policy() {
        let growths = [
            Growth::Fixed,
            Growth::Linear,
            Growth::Exponential { factor: Factor::TWO },
            Growth::Exponential { factor: Factor::new(1.3).unwrap() },
        ];
        let millis = Duration::from_millis;
        let named = PolicyName::all().map(PolicyName::backoff);
        let own = growths.into_iter().flat_map(|growth| {
            [1, 250, 2_000, 90_000].map(|first| Backoff::new(millis(first)).with_growth(growth))
        });
        for policy in named.chain(own) {
            let changed = [
                policy.clone(),
                policy.clone().with_max_sends(1),
                policy.clone().with_max_sends(3).with_deadline(Some(millis(12_345))),
                policy.clone().with_deadline(None).with_jitter(Jitter::Equal),
                policy.clone().with_jitter(Jitter::Initial(Factor::THREE_HALVES)),
                policy.clone().with_ack_timeout(millis(700)).with_max_timeout(millis(300)),
                policy.clone().with_max_timeout(Backoff::UNCAPPED),
                policy.with_adaptive(true).with_min_rto(Duration::from_micros(1)),
            ];
            for policy in changed {
                assert_eq!(parse(&policy.to_string()), Ok(policy.clone()), "{policy}");
            }
        }
    }

    #[test]
    fn a_policy_displays_the_name_that_it_differs_least_from_and_no_protocol_by_chance() {
        for text in [
            "once",
            "coap",
            "coap+max-sends:3",
            "fixed+timeout:0.2s+max-sends:3",
            "expb+timeout:0.1s+max-sends:5+deadline:3s",
            "expb+factor:1.5+jitter:ratio:0.2",
            "linear+timeout:90s+max-sends:2",
            "rto+rto-min:0.25s",
        ] {
            assert_eq!(parse(text).map(|policy| policy.to_string()), Ok(text.to_owned()));
        }
        let plain = Backoff::new(Duration::from_secs(1));
        assert_eq!(plain.to_string(), "fixed+max-sends:5");
        assert_eq!(Preset::Sip.backoff().to_string(), "sip");
    }

    #[test]
    fn a_parameter_that_is_unknown_or_out_of_range_is_refused_with_the_reason() {
        for (text, why) in [
            ("hope", "`hope` is not a retry policy: it must be once, "),
            ("expb+sends:5", "`sends` is not a parameter of a retry policy: it must be timeout:, "),
            ("expb+5", "`5` is not a parameter of a retry policy"),
            ("expb+max-sends:0", "`0` is not a number of sends: it must be a whole number from 1 to 1000000"),
            ("fixed+factor:2", "`2` is not a parameter here: only an exponential growth has a factor"),
            ("expb+timeout:0", "`0` is not a duration: it must be more than zero"),
            ("expb+jitter:some", "`some` is not a jitter: "),
            ("rto+adaptive:maybe", "`maybe` is not a value of adaptive: it must be yes or no"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
    }
}
