//! An axis of a plot: its range, its scale (linear or logarithmic), its ticks and their labels.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::series::trimmed;
use super::sheet::whole;

/// The ratio of largest to smallest value from which times and sizes are logarithmic.
const LOG_RATIO: f64 = 50.0;
/// The margin of an axis beyond its values, at both ends, so that markers are complete.
const MARGIN: f64 = 0.04;
/// Bound on the ticks of an axis.
const TICKS: f64 = 6.0;

/// An axis, and the positions of values on it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    /// Its ends, on its scale.
    ends: (f64, f64),
    ticks: Vec<Tick>,
}

/// A marked value and its label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    value: f64,
    /// The label, without a unit.
    pub(super) label: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// Values times this factor.
    Linear(f64),
    /// Decimal logarithms; 0 is drawn at the position of this value.
    Log(f64),
}

impl Axis {
    /// Creates an axis from 0 to 100 %, for values from 0 to 1.
    pub(super) fn shares() -> Self {
        Self::linear(0.0, 1.0, 100.0)
    }

    /// Creates an axis in percent, up to the largest of these shares.
    pub(super) fn percent(values: &[f64]) -> Self {
        let (low, high) = span(values);
        if low < high { Self::linear(low, high, 100.0) } else { Self::shares() }
    }

    /// Creates an axis from 0 to the tick after these values.
    pub(super) fn from_zero(values: &[f64]) -> Self {
        let (_, high) = span(values);
        let high = if high > 0.0 { high } else { 1.0 };
        let (step, _) = nice_step(high / TICKS);
        Self::linear(0.0, (high / step).ceil() * step, 1.0)
    }

    /// Creates an axis for times and sizes: logarithmic if they differ much, otherwise from 0.
    pub(super) fn wide(values: &[f64]) -> Self {
        let positive: Vec<f64> = values.iter().copied().filter(|value| *value > 0.0).collect();
        let (low, high) = span(&positive);
        if positive.is_empty() || high / low < LOG_RATIO {
            return Self::from_zero(values);
        }
        Self::log(low, high, positive.len() < values.len())
    }

    fn linear(low: f64, high: f64, factor: f64) -> Self {
        let (low, high) = (low * factor, high * factor);
        let (step, places) = nice_step((high - low) / TICKS);
        let first = (low / step).ceil();
        let steps =
            (0..=20_u8).map(|n| (first + f64::from(n)) * step).take_while(|at| *at <= high + step * 1e-6);
        let tick = |at: f64| Tick { value: at / factor, label: number(at, places) };
        let margin = (high - low) * MARGIN;
        Self {
            scale: Scale::Linear(factor),
            ends: (low - margin, high + margin),
            ticks: steps.map(tick).collect(),
        }
    }

    fn log(low: f64, high: f64, with_zero: bool) -> Self {
        let (first, last) = (low.log10().floor(), high.log10().ceil());
        let decades = last - first;
        let zero = first - if with_zero { (decades / 5.0).max(0.5) } else { 0.0 };
        let step = (decades / TICKS).ceil().max(1.0);
        let powers = (0..=20_u8).map(|n| first + f64::from(n) * step).take_while(|power| *power <= last);
        let zeros = with_zero.then(|| Tick { value: 0.0, label: "0".to_owned() });
        let tick =
            |power: f64| Tick { value: 10_f64.powf(power), label: number(10_f64.powf(power), places(power)) };
        let margin = (last - zero) * MARGIN;
        Self {
            scale: Scale::Log(zero),
            ends: (zero - margin, last + margin),
            ticks: zeros.into_iter().chain(powers.map(tick)).collect(),
        }
    }

    /// Returns the smallest and the largest value on it.
    pub(super) fn reach(&self) -> (f64, f64) {
        match self.scale {
            Scale::Linear(factor) => (self.ends.0 / factor, self.ends.1 / factor),
            Scale::Log(_) => (0.0, 10_f64.powf(self.ends.1)),
        }
    }

    /// Returns its ticks.
    pub(super) fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// Returns whether 0 has a position on it, if it is logarithmic; `None` for a linear one.
    pub(super) fn log_with_zero(&self) -> Option<bool> {
        matches!(self.scale, Scale::Log(_)).then(|| self.ticks.first().is_some_and(|tick| tick.value == 0.0))
    }

    fn on_scale(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear(factor) => value * factor,
            Scale::Log(zero) => value.log10().max(zero),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let part = (self.on_scale(*value) - self.ends.0) / (self.ends.1 - self.ends.0);
        whole(f64::from(from) + part.clamp(0.0, 1.0) * f64::from(to - from))
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.value).collect()
    }

    fn range(&self) -> Range<f64> {
        let (low, high) = self.reach();
        low..high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.value == *value);
        tick.map_or_else(String::new, |tick| tick.label.clone())
    }
}

/// Returns the smallest and the largest value; 0 and 0 without values.
fn span(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().reduce(f64::min).unwrap_or_default();
    (low, values.iter().copied().reduce(f64::max).unwrap_or_default())
}

/// Returns a step of 1, 2 or 5 times a power of ten, at least `least`, and the decimals that it needs.
fn nice_step(least: f64) -> (f64, usize) {
    let least = least.max(f64::MIN_POSITIVE);
    let power = least.log10().floor();
    let unit = 10_f64.powf(power);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * unit >= least * (1.0 - 1e-9));
    match factor {
        Some(factor) => (factor * unit, places(power)),
        None => (10.0 * unit, places(power + 1.0)),
    }
}

/// Returns the decimals that this power of ten needs.
fn places(power: f64) -> usize {
    usize::try_from(-whole(power)).unwrap_or_default()
}

/// Formats a number with so many decimals; in scientific notation if it would be long.
fn number(value: f64, places: usize) -> String {
    if places > 4 || value >= 1e6 { trimmed(value) } else { format!("{value:.places$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn shares_are_marked_in_percent() {
        assert_eq!(labels(&Axis::shares()), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&Axis::percent(&[0.0, 0.5])), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&Axis::percent(&[0.001, 0.003])), ["0.10", "0.15", "0.20", "0.25", "0.30"]);
    }

    #[test]
    fn an_axis_of_one_value_is_still_an_axis() {
        for values in [&[0.0][..], &[0.3], &[]] {
            assert_eq!(labels(&Axis::percent(values)).len(), 6);
        }
        assert_eq!(labels(&Axis::from_zero(&[0.0])), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::wide(&[0.0, 0.0])), labels(&Axis::from_zero(&[])));
    }

    #[test]
    fn no_two_ticks_have_the_same_label() {
        for (high, last) in [(3e6, "3e6"), (2.4e-6, "2.5e-6"), (1.2e9, "1.2e9"), (4e4, "40000"), (7.0, "8")] {
            let axis = Axis::from_zero(&[high]);
            let mut labels = labels(&axis);
            assert_eq!(labels.last(), Some(&last));
            labels.dedup();
            assert_eq!(labels.len(), axis.ticks().len());
        }
    }

    #[test]
    fn times_far_apart_are_drawn_logarithmically_and_zero_keeps_a_place() {
        let axis = Axis::wide(&[0.001, 100.0]);
        assert_eq!(labels(&axis), ["0.001", "0.01", "0.1", "1", "10", "100"]);
        assert_eq!(axis.log_with_zero(), Some(false));
        let axis = Axis::wide(&[0.0, 0.1, 30.0]);
        assert_eq!(labels(&axis), ["0", "0.1", "1", "10", "100"]);
        assert_eq!(axis.log_with_zero(), Some(true));
        assert!(axis.map(&0.0, (0, 1_000)) < axis.map(&0.1, (0, 1_000)) - 50);
        assert_eq!(Axis::wide(&[0.1, 3.0]).log_with_zero(), None);
    }

    #[test]
    fn values_are_inside_the_axis_and_in_order() {
        for values in
            [vec![0.0, 0.25, 0.5], vec![1e-9, 1.0, 1e9], vec![1e300, f64::MAX], vec![5e-324, 1e-300]]
        {
            for axis in [Axis::wide(&values), Axis::from_zero(&values)] {
                let places: Vec<i32> = values.iter().map(|value| axis.map(value, (0, 1_000))).collect();
                assert!(places.is_sorted() && places.iter().all(|at| (0..=1_000).contains(at)), "{places:?}");
                assert!(axis.ticks().len() <= 22, "{axis:?}");
            }
        }
    }
}
