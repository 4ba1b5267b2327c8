//! The cells of results: the types of the fields of a row, with their text in a CSV. The columns are in `column`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// The kind of a column's cells. An empty cell means: not measured, no theory, or no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A whole number from 0 on.
    Count,
    /// A number from 0 to 1.
    Share,
    /// A number from 0 on: seconds, bytes, events.
    Amount,
    /// Any number.
    Signed,
    /// `seconds:share;seconds:share;..`, both ascending.
    Steps,
}

/// A cell, measured or empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// A word.
    Text(&'a str),
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
    /// Seconds, and the share reached by then.
    Steps(&'a [(f64, f64)]),
    /// Not measured, or no theory.
    Empty,
}

impl<'a> Cell<'a> {
    /// Returns the text of the cell in a CSV.
    #[must_use]
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Whole(number) => Cow::Owned(number.to_string()),
            Self::Real(number) => Cow::Owned(number.to_string()),
            Self::Steps(steps) => Cow::Owned(steps_text(steps)),
            Self::Empty => Cow::Borrowed(""),
        }
    }

    /// Returns the number in the cell, if it is one.
    #[must_use]
    pub(crate) const fn number(self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(number as f64),
            Self::Real(number) => Some(number),
            Self::Text(_) | Self::Steps(_) | Self::Empty => None,
        }
    }

    /// Returns the cell as JSON: null if it is empty.
    #[must_use]
    pub(crate) fn json(self) -> Value {
        match self {
            Self::Text(_) | Self::Steps(_) => Value::from(self.text()),
            Self::Whole(number) => Value::from(number),
            Self::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            Self::Empty => Value::Null,
        }
    }
}

/// Rounds to nine significant digits: further digits are rounding errors that would differ between machines.
fn rounded(number: f64) -> f64 {
    format!("{number:.8e}").parse().unwrap_or(number)
}

impl From<Option<f64>> for Cell<'_> {
    /// Rounds to nine significant digits.
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Empty, |number| Self::Real(rounded(number)))
    }
}

impl From<Option<u64>> for Cell<'_> {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Empty, Self::Whole)
    }
}

impl From<u64> for Cell<'_> {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// The type of a row's field.
pub(super) trait Field {
    /// The kind of its cells.
    const KIND: Kind;

    /// Returns its cell.
    fn cell(&self) -> Cell<'_>;
}

impl Field for String {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::Text(self)
    }
}

/// A whole number from 0 on, or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "&str", into = "String")]
pub(crate) struct Count(pub(crate) Option<u64>);

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self(Some(number))
    }
}

impl TryFrom<&str> for Count {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|number| Self(Some(number))).map_err(|_| "a whole number from 0 on")
    }
}

impl Field for Count {
    const KIND: Kind = Kind::Count;

    fn cell(&self) -> Cell<'_> {
        self.0.into()
    }
}

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident $least:expr, $most:expr, $expected:literal;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
            #[serde(try_from = "&str", into = "String")]
            pub(crate) struct $name(pub(crate) Option<f64>);

            impl From<Option<f64>> for $name {
                /// Rounds to nine significant digits.
                fn from(number: Option<f64>) -> Self {
                    Self(number.map(rounded))
                }
            }

            impl TryFrom<&str> for $name {
                type Error = &'static str;

                fn try_from(text: &str) -> Result<Self, Self::Error> {
                    if text.is_empty() {
                        return Ok(Self(None));
                    }
                    let number = text.parse().ok().filter(|number| ($least..=$most).contains(number));
                    number.map(|number| Self(Some(number))).ok_or($expected)
                }
            }

            impl Field for $name {
                const KIND: Kind = Kind::$name;

                fn cell(&self) -> Cell<'_> {
                    self.0.map_or(Cell::Empty, Cell::Real)
                }
            }
        )+
    };
}

measures! {
    /// A number from 0 to 1, or empty.
    Share 0.0, 1.0, "a number from 0 to 1";
    /// A number from 0 on, or empty.
    Amount 0.0, f64::MAX, "a number from 0 on";
    /// Any number, or empty.
    Signed f64::MIN, f64::MAX, "a number";
}

/// Seconds and the share reached by then, both ascending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "&str", into = "String")]
pub(crate) struct Steps(pub(crate) Vec<(f64, f64)>);

impl FromIterator<(f64, f64)> for Steps {
    /// Rounds the shares to nine significant digits.
    fn from_iter<T: IntoIterator<Item = (f64, f64)>>(steps: T) -> Self {
        Self(steps.into_iter().map(|(seconds, share)| (seconds, rounded(share))).collect())
    }
}

impl TryFrom<&str> for Steps {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let step = |step: &str| {
            let (seconds, share) = step.split_once(':')?;
            Some((Amount::try_from(seconds).ok()?.0?, Share::try_from(share).ok()?.0?))
        };
        let steps: Option<Vec<_>> = text.split_terminator(';').map(step).collect();
        let is_ascending = |steps: &Vec<(f64, f64)>| steps.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1);
        steps.filter(is_ascending).map(Self).ok_or("a list of seconds:share;.., both ascending")
    }
}

impl Field for Steps {
    const KIND: Kind = Kind::Steps;

    fn cell(&self) -> Cell<'_> {
        if self.0.is_empty() { Cell::Empty } else { Cell::Steps(&self.0) }
    }
}

fn steps_text(steps: &[(f64, f64)]) -> String {
    let steps: Vec<_> = steps.iter().map(|(seconds, share)| format!("{seconds}:{share}")).collect();
    steps.join(";")
}

macro_rules! text_of_fields {
    ($($field:ty)+) => {
        $(
            impl From<$field> for String {
                fn from(field: $field) -> Self {
                    field.cell().text().into_owned()
                }
            }
        )+
    };
}

text_of_fields! { Count Share Amount Signed Steps }
