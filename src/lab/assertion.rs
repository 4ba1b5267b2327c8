//! What has to hold of every row: `success>=0.99`.

use std::fmt;
use std::str::FromStr;

use super::row::{COLUMNS, Row};
use crate::escape::escape_short;

/// A column compared to a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    column: &'static str,
    relation: Relation,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    AtLeast,
    AtMost,
    Equal,
    Unequal,
    Above,
    Below,
}

/// The longer ones first: `>=` begins with `>`.
const RELATIONS: [(&str, Relation); 6] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("==", Relation::Equal),
    ("!=", Relation::Unequal),
    (">", Relation::Above),
    ("<", Relation::Below),
];

impl Relation {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::AtMost => value <= bound,
            Self::Equal => value == bound,
            Self::Unequal => value != bound,
            Self::Above => value > bound,
            Self::Below => value < bound,
        }
    }
}

impl Assertion {
    /// `Err` says what the row has instead. What was not measured does not hold.
    ///
    /// # Errors
    ///
    /// The assertion does not hold, in one sentence that names the row.
    pub fn check(&self, row: &Row) -> Result<(), String> {
        let value = row.cell(self.column).and_then(|cell| cell.number());
        if value.is_some_and(|value| self.relation.holds(value, self.bound)) {
            return Ok(());
        }
        let text = |column| row.cell(column).map(|cell| cell.text()).unwrap_or_default();
        let (policy, up, down) = (text("policy"), text("link_up"), text("link_down"));
        let found = value.map_or_else(|| "not measured".to_owned(), |value| value.to_string());
        Err(format!("{self} does not hold: it is {found} with policy {policy}, link up {up}, down {down}"))
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = escape_short(text.as_bytes(), 80);
        let parts = RELATIONS.iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, *relation)));
        let ((column, bound), relation) =
            parts.ok_or_else(|| format!("`{shown}` is not an assertion; write one like success>=0.99"))?;
        let column = COLUMNS.into_iter().find(|name| *name == column.trim()).ok_or_else(|| {
            format!("`{shown}` names no column of the results; they are {}", COLUMNS.join(", "))
        })?;
        let bound: f64 = bound
            .trim()
            .parse()
            .ok()
            .filter(|bound: &f64| bound.is_finite())
            .ok_or_else(|| format!("`{shown}` compares with something that is not a number"))?;
        Ok(Self { column, relation, bound })
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = RELATIONS.iter().find(|(_, relation)| *relation == self.relation);
        write!(f, "{}{}{}", self.column, sign.map_or("", |(sign, _)| sign), self.bound)
    }
}
