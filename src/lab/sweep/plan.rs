//! Plans in TOML: the same definition as the flags of `lab sweep`. A plan is translated into flags; their meaning is
//! not here.
//!
//! ```toml
//! trials = 10000
//! seed = 1
//! timeout = 0.1
//! assert = ["executions_max<=1"]
//!
//! [scan]
//! loss = { from = 0, to = 0.5, step = 0.05 }
//!
//! [list]
//! policy = ["expb", "coap"]
//! ```

use toml::{Table, Value};

use crate::escape::escape_short;

/// Largest plan that is read, in bytes.
pub(crate) const MAX_PLAN: u64 = 1 << 20;

/// Translates a plan into words of the command line.
///
/// `flags` are the names of the flags that a plan may set, without `--`; `-` and `_` are equivalent. `typed` names the
/// flags and parameters that were set on the command line, which overrides the plan.
///
/// # Errors
///
/// One sentence: the text is no TOML, or has an unknown key or an invalid value.
pub(crate) fn words(text: &str, flags: &[String], typed: &[String]) -> Result<Vec<String>, String> {
    let table: Table = text.parse().map_err(|error| syntax(text, &error))?;
    let mut words = Vec::new();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("scan", Value::Table(scans)) => push_all(scans, scan, typed, &mut words)?,
            ("list", Value::Table(lists)) => push_all(lists, list, typed, &mut words)?,
            _ => push(key, flag(key, value, flags)?, typed, &mut words),
        }
    }
    Ok(words)
}

/// Translates an entry of a table into words.
type ToWords = fn(&str, &Value) -> Result<Vec<String>, String>;

fn push_all(
    table: &Table,
    to_words: ToWords,
    typed: &[String],
    words: &mut Vec<String>,
) -> Result<(), String> {
    table.iter().try_for_each(|(name, value)| {
        push(name, to_words(name, value)?, typed, words);
        Ok(())
    })
}

/// Adds the words of an entry, unless the command line sets it.
fn push(name: &str, more: Vec<String>, typed: &[String], words: &mut Vec<String>) {
    if !typed.contains(&name.replace('_', "-")) {
        words.extend(more);
    }
}

/// The parser's message, in one line.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let message = escape_short(error.message().as_bytes(), 200).into_owned();
    format!("line {}: {message}", before.matches('\n').count() + 1)
}

fn flag(key: &str, value: &Value, flags: &[String]) -> Result<Vec<String>, String> {
    let name = key.replace('_', "-");
    if !flags.contains(&name) {
        let known = flags.join(", ");
        return Err(format!("unknown key `{}`; known are scan, list, {known}", shown(key)));
    }
    let word = |value| Ok(format!("--{name}={}", scalar(key, value)?));
    match value {
        Value::Boolean(set) => Ok(if *set { vec![format!("--{name}")] } else { Vec::new() }),
        Value::Array(values) => values.iter().map(word).collect(),
        value => Ok(vec![word(value)?]),
    }
}

/// `loss = { from = 0, to = 0.5, step = 0.05 }`
fn scan(name: &str, scan: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("scan.{} has to be {{ from = .., to = .., step = .. }}", shown(name));
    let scan = scan.as_table().filter(|scan| scan.len() == 3).ok_or_else(wrong)?;
    let part = |key: &str| scalar(name, scan.get(key).ok_or_else(wrong)?);
    let (from, to, step) = (part("from")?, part("to")?, part("step")?);
    let step = format!("--parameter-step-size={step}");
    Ok(vec!["--parameter-scan".to_owned(), name.to_owned(), from, to, step])
}

/// `policy = ["expb", "coap"]`
fn list(name: &str, list: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("list.{} has to be an array of values", shown(name));
    let values = list.as_array().filter(|values| !values.is_empty()).ok_or_else(wrong)?;
    let values: Vec<String> = values.iter().map(|value| scalar(name, value)).collect::<Result<_, _>>()?;
    // Only links have a recognisable end; other values would be split at their commas.
    if !name.starts_with("link") && values.iter().any(|value| value.contains(',')) {
        return Err(format!("a value of list.{} has a comma; what has one is varied as a link", shown(name)));
    }
    Ok(vec!["--parameter-list".to_owned(), name.to_owned(), values.join(",")])
}

fn scalar(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => Err(format!("`{}` has a value that is neither a text nor a number", shown(key))),
    }
}

fn shown(key: &str) -> String {
    escape_short(key.as_bytes(), 40).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Vec<String>, String> {
        words(text, &["trials", "max-sends", "assert", "real", "link"].map(str::to_owned), &[])
    }

    #[test]
    fn a_plan_is_the_words_of_a_command_line() {
        let text = "trials = 1_000\nmax_sends = 5\nreal = true\nassert = ['success>=0.9', 'executions_max<=1']\n\
                    link = 'iid:.1'\n[scan]\nloss = { from = 0, to = 0.5, step = 0.05 }\n[list]\npolicy = ['expb', 'coap']\n";
        let expected = [
            "--trials=1000",
            "--max-sends=5",
            "--real",
            "--assert=success>=0.9",
            "--assert=executions_max<=1",
            "--link=iid:.1",
            "--parameter-scan",
            "loss",
            "0",
            "0.5",
            "--parameter-step-size=0.05",
            "--parameter-list",
            "policy",
            "expb,coap",
        ];
        let mut words = plan(text).unwrap();
        let mut expected = expected.map(str::to_owned).to_vec();
        words.sort();
        expected.sort();
        assert_eq!(words, expected);
        assert_eq!(plan("").unwrap(), [""; 0]);
        assert_eq!(plan("real = false").unwrap(), [""; 0]);
    }

    #[test]
    fn the_command_line_overrides_the_plan_for_fixed_and_varied_parameters() {
        let flags = ["trials", "max-sends"].map(str::to_owned);
        let plan = "trials = 5\nmax_sends = 3\n[list]\npolicy = ['expb', 'coap']\n[scan]\nloss = { from = 0, to = 1, step = 1 }";
        let typed = ["max-sends", "policy"].map(str::to_owned);
        let left = words(plan, &flags, &typed).unwrap();
        assert!(left.contains(&"--trials=5".to_owned()) && left.contains(&"loss".to_owned()));
        assert!(!left.iter().any(|word| word.contains("max-sends") || word.contains("policy")), "{left:?}");
        assert!(words("trails = 5", &flags, &["trails".to_owned()]).is_err(), "a typo stays one");
    }

    #[test]
    fn an_invalid_plan_is_refused_in_one_line() {
        for (text, sentence) in [
            ("trails = 5", "unknown key `trails`; known are scan, list, trials, max-sends"),
            ("trials = 5\ntrials = 6", "line 2: duplicate key"),
            ("trials = ", "line 1: "),
            ("[scan]\nloss = [0, 1]", "scan.loss has to be { from = .., to = .., step = .. }"),
            ("[scan]\nloss = { from = 0, to = 1, steps = 1 }", "scan.loss has to be"),
            ("[list]\npolicy = 'expb'", "list.policy has to be an array"),
            ("[list]\npolicy = []", "list.policy has to be an array"),
            ("[list]\ndelay = ['50ms,10ms']", "a value of list.delay has a comma"),
            ("trials = 2026-01-01", "`trials` has a value that is neither a text nor a number"),
            ("scan = 3", "unknown key `scan`"),
            ("[trials]\nx = 1", "`trials` has a value that is neither"),
            ("\"a\\u001b[2J\" = 1", "unknown key `a\\x1b[2J`"),
        ] {
            let refused = plan(text).unwrap_err();
            assert!(refused.contains(sentence), "{text}: {refused}");
            assert_eq!(refused.lines().count(), 1);
        }
    }
}
