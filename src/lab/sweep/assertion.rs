//! Assertions on every row, such as `success>=0.99`: their text form and their check.

use std::fmt;
use std::str::FromStr;

use super::cell::Kind;
use super::column::{Column, Row};
use crate::escape::escape_short;

/// A comparison of a column with a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assertion {
    column: Column,
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

/// Longer relations first: `>=` begins with `>`.
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
    /// Checks a row. An empty cell fails.
    ///
    /// # Errors
    ///
    /// The assertion fails; one sentence names the row and its value.
    pub(crate) fn check(&self, row: &Row) -> Result<(), String> {
        let value = row.number(self.column);
        if value.is_some_and(|value| self.relation.holds(value, self.bound)) {
            return Ok(());
        }
        let (policy, up, down) = (&row.policy, &row.link_up, &row.link_down);
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
        let is_number = |column: &Column| !matches!(column.kind(), Kind::Text | Kind::Steps);
        let column = Column::named(column.trim()).filter(is_number).ok_or_else(|| {
            let numbers = Column::ALL.iter().filter(|column| is_number(column));
            let names: Vec<&str> = numbers.map(|column| column.name()).collect();
            format!("`{shown}` names no column of numbers; they are {}", names.join(", "))
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
        write!(f, "{}{}{}", self.column.name(), sign.map_or("", |(sign, _)| sign), self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::sweep::point::Point;
    use crate::lab::sweep::row::Origin;
    use crate::lab::sweep::tally::Tally;
    use crate::link::LinkConfig;
    use crate::reliable::{Backoff, Outcome};
    use std::time::Duration;

    /// Three of four requests are acked.
    fn row() -> Row {
        let mut tally = Tally::default();
        (0..3).for_each(|_| tally.count_outcome(&Outcome::Acked(Vec::new())));
        tally.count_outcome(&Outcome::Unknown);
        let policy = Backoff::new(Duration::from_secs(1));
        let (up, down) = (LinkConfig::perfect(), LinkConfig::perfect());
        let interval = Duration::ZERO;
        let point = Point { policy_name: "once", policy, up, down, size: 1, interval };
        Row::new(&Origin { command: String::new(), mode: "virtual", seed: 1 }, &point, &tally)
    }

    fn check(text: &str) -> Result<(), String> {
        text.parse::<Assertion>().unwrap().check(&row())
    }

    #[test]
    fn every_comparison_holds_where_it_should_and_nowhere_else() {
        for (text, holds) in [
            ("success>=0.75", true),
            ("success>=0.76", false),
            ("success<=.75", true),
            ("success < 0.75", false),
            ("success>0.75", false),
            ("success == 0.75", true),
            ("acked!=3", false),
            ("acked==3", true),
            ("unknown<2", true),
        ] {
            assert_eq!(check(text).is_ok(), holds, "{text}");
        }
    }

    #[test]
    fn an_assertion_on_an_empty_cell_or_a_text_fails() {
        assert!(check("ack_p50_s>=0").unwrap_err().contains("it is not measured with policy once"));
        assert!(check("deadline_s<9").is_err());
    }

    #[test]
    fn a_failure_names_the_assertion_and_the_value() {
        let failure = check("success >= 0.99").unwrap_err();
        assert_eq!(
            failure,
            "success>=0.99 does not hold: it is 0.75 with policy once, link up none, down none"
        );
    }

    #[test]
    fn an_invalid_assertion_is_refused() {
        for text in [
            "",
            "success",
            "success=1",
            "success>=",
            "success>=NaN",
            "success>=inf",
            "succes>=1",
            ">=1",
            "policy!=3",
        ] {
            assert!(text.parse::<Assertion>().is_err(), "{text}");
        }
    }
}
