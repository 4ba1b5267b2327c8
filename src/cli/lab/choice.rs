//! Options with a fixed set of values, each with its help. The types of the values need not know the command line.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A value of an option: its name, its help, and what it means.
pub(super) type Choice<T> = (&'static str, &'static str, T);

/// Returns the parser of an option that takes one of `choices`, by name.
pub(super) fn one_of<T>(choices: &'static [Choice<T>]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let values = choices.iter().map(|(name, help, _)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values).try_map(|name| {
        let found = choices.iter().find(|(known, ..)| *known == name);
        found.map(|(.., value)| *value).ok_or("no such value")
    })
}
