//! Axes of a sweep: a parameter and its values, as a range or a list, and all combinations of several axes.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use crate::escape::escape_short;
use crate::link::split_list;

/// Bound on the values of one parameter, and on the points of a sweep.
pub(crate) const MAX_POINTS: usize = 20_000;

/// A parameter that a sweep can vary. Each has the name of its flag, with `_` for `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Parameter {
    /// Loss in both directions, drawn separately: independent, or in bursts of `burst`.
    Loss,
    /// Loss to the server.
    LossUp,
    /// Loss from the server.
    LossDown,
    /// Mean length of loss bursts, in datagrams.
    Burst,
    /// Delay in both directions: seconds, or the text after `delay:` in a link.
    Delay,
    /// The link in both directions.
    Link,
    /// The link to the server.
    LinkUp,
    /// The link from the server.
    LinkDown,
    /// The retry policy, by name.
    Policy,
    /// The first timeout, in seconds.
    Timeout,
    /// Sends in all.
    MaxSends,
    /// The longest timeout, in seconds.
    MaxTimeout,
    /// Time in all, in seconds.
    Deadline,
    /// The random variation of timeouts.
    Jitter,
    /// The length of the message, in bytes.
    Size,
    /// Time from the due time of one request to that of the next, in seconds.
    Interval,
    /// Lower bound on a measured timeout, in seconds.
    RtoMin,
}

impl Parameter {
    /// All parameters, with their names.
    pub(crate) const ALL: [(Self, &str); 17] = [
        (Self::Loss, "loss"),
        (Self::LossUp, "loss_up"),
        (Self::LossDown, "loss_down"),
        (Self::Burst, "burst"),
        (Self::Delay, "delay"),
        (Self::Link, "link"),
        (Self::LinkUp, "link_up"),
        (Self::LinkDown, "link_down"),
        (Self::Policy, "policy"),
        (Self::Timeout, "timeout"),
        (Self::MaxSends, "max_sends"),
        (Self::MaxTimeout, "max_timeout"),
        (Self::Deadline, "deadline"),
        (Self::Jitter, "jitter"),
        (Self::Size, "size"),
        (Self::Interval, "interval"),
        (Self::RtoMin, "rto_min"),
    ];

    fn is_link(self) -> bool {
        matches!(self, Self::Link | Self::LinkUp | Self::LinkDown)
    }
}

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = text.replace('-', "_");
        let found = Self::ALL.iter().find(|(_, name)| *name == known).map(|(parameter, _)| *parameter);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
            let shown = escape_short(text.as_bytes(), 40);
            format!("`{shown}` cannot be varied; what can is {}", names.join(", "))
        })
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(parameter, _)| parameter == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// A parameter and its values, as texts that its flag accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// The parameter.
    pub(crate) parameter: Parameter,
    /// Its values, in order; at least one.
    pub(crate) values: Vec<String>,
}

impl Axis {
    /// Creates the axis `from`, `from + step`, .. up to `to`, which is always included. Computed in decimals: 0.05 to
    /// 0.5 in steps of 0.05 are ten values.
    ///
    /// # Errors
    ///
    /// One sentence: a text is not a decimal number, the step does not lead from `from` to `to`, or there are too many
    /// values.
    pub(crate) fn range(parameter: Parameter, from: &str, to: &str, step: &str) -> Result<Self, String> {
        let [from, to, step] = [from, to, step].map(decimal);
        let (from, to, step) = (from?, to?, step?);
        if step <= Decimal::ZERO || to < from {
            return Err(format!(
                "{parameter} from {from} to {to} in steps of {step} leads nowhere; go up, with a step above 0"
            ));
        }
        let count = (to - from).checked_div(step).filter(|steps| *steps < Decimal::from(MAX_POINTS));
        if count.is_none() {
            return Err(format!(
                "{parameter} from {from} to {to} in steps of {step} has more than {MAX_POINTS} values"
            ));
        }
        let mut values: Vec<Decimal> =
            std::iter::successors(Some(from), |at| Some(*at + step).filter(|at| *at < to)).collect();
        if to > from {
            values.push(to);
        }
        Ok(Self { parameter, values: values.iter().map(|value| value.normalize().to_string()).collect() })
    }

    /// Reads a comma-separated list. Links contain commas: the end of a link is known by the beginning of the next
    /// value.
    ///
    /// # Errors
    ///
    /// One sentence: an empty value, or too many values.
    pub(crate) fn list(parameter: Parameter, text: &str) -> Result<Self, String> {
        let words = if parameter.is_link() { split_list(text) } else { text.split(',').collect() };
        let values: Vec<String> = words.into_iter().map(|word| word.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(format!("the list of {parameter} has an empty value"));
        }
        if values.len() > MAX_POINTS {
            return Err(format!("the list of {parameter} has more than {MAX_POINTS} values"));
        }
        Ok(Self { parameter, values })
    }
}

fn decimal(text: &str) -> Result<Decimal, String> {
    // `from_scientific` reads "1e-3", `parse` reads ".05".
    let number = text.parse().or_else(|_| Decimal::from_scientific(text));
    number.map_err(|_| format!("`{}` is not a decimal number", escape_short(text.as_bytes(), 40)))
}

/// One combination: a value for each axis.
pub(crate) type Combination<'a> = Vec<(Parameter, &'a str)>;

/// Returns all combinations, the last axis varying fastest. Without axes, returns the one empty combination.
///
/// # Errors
///
/// One sentence: a parameter that occurs twice, or more than [`MAX_POINTS`] combinations.
pub(crate) fn combinations(axes: &[Axis]) -> Result<Vec<Combination<'_>>, String> {
    for (nth, axis) in axes.iter().enumerate() {
        if axes.iter().take(nth).any(|other| other.parameter == axis.parameter) {
            return Err(format!("{} is varied twice", axis.parameter));
        }
    }
    let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MAX_POINTS) {
        return Err(format!("the sweep has more than {MAX_POINTS} points"));
    }
    Ok(axes.iter().fold(vec![Vec::new()], |all, axis| {
        all.iter().flat_map(|combination| extended(combination, axis)).collect()
    }))
}

fn extended<'a>(combination: &Combination<'a>, axis: &'a Axis) -> Vec<Combination<'a>> {
    let with = |value: &'a String| {
        let mut longer = combination.clone();
        longer.push((axis.parameter, value.as_str()));
        longer
    };
    axis.values.iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: &str, step: &str) -> Result<Vec<String>, String> {
        Ok(Axis::range(Parameter::Loss, from, to, step)?.values)
    }

    #[test]
    fn a_range_includes_its_end_and_adds_up_in_decimals() {
        assert_eq!(range("0", ".3", ".1").unwrap(), ["0", "0.1", "0.2", "0.3"]);
        assert_eq!(range("0", ".5", ".05").unwrap().len(), 11);
        assert_eq!(range("0", ".5", ".2").unwrap(), ["0", "0.2", "0.4", "0.5"]);
        assert_eq!(range("1e-3", "0.003", "1e-3").unwrap(), ["0.001", "0.002", "0.003"]);
        assert_eq!(range("5", "5", "1").unwrap(), ["5"]);
    }

    #[test]
    fn a_range_that_leads_nowhere_or_too_far_is_refused() {
        for (from, to, step) in
            [("0", "1", "0"), ("0", "1", "-1"), ("1", "0", ".1"), ("0", "1", "1e-9"), ("0", "half", "1")]
        {
            assert!(range(from, to, step).is_err(), "{from} {to} {step}");
        }
        assert!(range("0", "79228162514264337593543950335", "0.0000000000000000000000000001").is_err());
    }

    #[test]
    fn a_list_is_split_at_commas_except_within_links() {
        assert_eq!(Axis::list(Parameter::Policy, "expb, coap").unwrap().values, ["expb", "coap"]);
        let links = Axis::list(Parameter::Link, "iid:.1,gilbert:.1,5,profile:3g").unwrap().values;
        assert_eq!(links, ["iid:.1", "gilbert:.1,5", "profile:3g"]);
        assert!(Axis::list(Parameter::Policy, "expb,,coap").is_err());
        assert!(Axis::list(Parameter::Policy, "").is_err());
    }

    #[test]
    fn every_combination_occurs_once_and_the_last_axis_varies_fastest() {
        let axes =
            [Axis::list(Parameter::Policy, "a,b").unwrap(), Axis::list(Parameter::Loss, "0,1").unwrap()];
        let all = combinations(&axes).unwrap();
        let values: Vec<Vec<&str>> =
            all.iter().map(|one| one.iter().map(|(_, value)| *value).collect()).collect();
        assert_eq!(values, [["a", "0"], ["a", "1"], ["b", "0"], ["b", "1"]]);
        assert_eq!(combinations(&[]).unwrap(), [vec![]]);
    }

    #[test]
    fn a_parameter_varied_twice_and_too_many_points_are_refused() {
        let loss = Axis::range(Parameter::Loss, "0", "1", ".001").unwrap();
        assert_eq!(combinations(&[loss.clone(), loss.clone()]).unwrap_err(), "loss is varied twice");
        let burst = Axis { parameter: Parameter::Burst, ..loss.clone() };
        assert_eq!(combinations(&[loss, burst]).unwrap_err(), "the sweep has more than 20000 points");
    }

    #[test]
    fn parameters_go_by_the_names_of_their_flags() {
        for (parameter, name) in Parameter::ALL {
            assert_eq!(name.parse(), Ok(parameter));
            assert_eq!(name.replace('_', "-").parse(), Ok(parameter));
            assert_eq!(parameter.to_string(), name);
        }
        assert!(
            "los".parse::<Parameter>().unwrap_err().starts_with("`los` cannot be varied; what can is loss,")
        );
    }
}
