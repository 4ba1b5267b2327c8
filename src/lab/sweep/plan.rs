//! Plans in TOML: the same definition as the flags of `lab sweep`, which they are turned into.
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

/// The longest plan that is read, in bytes.
pub const MAX_PLAN: u64 = 1 << 20;

/// The words of the command line that a plan stands for.
///
/// `flags` are the names of the flags that a plan may set, without `--`; `-` and `_` are the same.
///
/// # Errors
///
/// One sentence: it is no TOML, or has a key or a value that means nothing.
pub fn words(text: &str, flags: &[String]) -> Result<Vec<String>, String> {
    let table: Table = text.parse().map_err(|error| syntax(text, &error))?;
    let mut words = Vec::new();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("scan", Value::Table(scans)) => {
                scans.iter().try_for_each(|(name, scan)| push_scan(name, scan, &mut words))?;
            }
            ("list", Value::Table(lists)) => {
                lists.iter().try_for_each(|(name, list)| push_list(name, list, &mut words))?;
            }
            _ => push_flag(key, value, flags, &mut words)?,
        }
    }
    Ok(words)
}

/// What the parser says, in one line.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let message = escape_short(error.message().as_bytes(), 200).into_owned();
    format!("line {}: {message}", before.matches('\n').count() + 1)
}

fn push_flag(key: &str, value: &Value, flags: &[String], words: &mut Vec<String>) -> Result<(), String> {
    let name = key.replace('_', "-");
    if !flags.contains(&name) {
        let known = flags.join(", ");
        return Err(format!("unknown key `{}`; known are scan, list, {known}", shown(key)));
    }
    let flag = format!("--{name}");
    match value {
        Value::Boolean(true) => words.push(flag),
        Value::Boolean(false) => {}
        Value::Array(values) => {
            for value in values {
                words.push(format!("{flag}={}", scalar(key, value)?));
            }
        }
        value => words.push(format!("{flag}={}", scalar(key, value)?)),
    }
    Ok(())
}

/// `loss = { from = 0, to = 0.5, step = 0.05 }`
fn push_scan(name: &str, scan: &Value, words: &mut Vec<String>) -> Result<(), String> {
    let wrong = || format!("scan.{} has to be {{ from = .., to = .., step = .. }}", shown(name));
    let scan = scan.as_table().filter(|scan| scan.len() == 3).ok_or_else(wrong)?;
    let part = |key: &str| scalar(name, scan.get(key).ok_or_else(wrong)?);
    let (from, to, step) = (part("from")?, part("to")?, part("step")?);
    words.extend([
        "--parameter-scan".to_owned(),
        name.to_owned(),
        from,
        to,
        format!("--parameter-step-size={step}"),
    ]);
    Ok(())
}

/// `policy = ["expb", "coap"]`
fn push_list(name: &str, list: &Value, words: &mut Vec<String>) -> Result<(), String> {
    let wrong = || format!("list.{} has to be an array of values", shown(name));
    let values = list.as_array().filter(|values| !values.is_empty()).ok_or_else(wrong)?;
    let values: Vec<String> = values.iter().map(|value| scalar(name, value)).collect::<Result<_, _>>()?;
    words.extend(["--parameter-list".to_owned(), name.to_owned(), values.join(",")]);
    Ok(())
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
        words(text, &["trials", "max-sends", "assert", "real", "link"].map(str::to_owned))
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
    fn what_means_nothing_is_refused_in_one_line() {
        for (text, sentence) in [
            ("trails = 5", "unknown key `trails`; known are scan, list, trials, max-sends"),
            ("trials = 5\ntrials = 6", "line 2: duplicate key"),
            ("trials = ", "line 1: "),
            ("[scan]\nloss = [0, 1]", "scan.loss has to be { from = .., to = .., step = .. }"),
            ("[scan]\nloss = { from = 0, to = 1, steps = 1 }", "scan.loss has to be"),
            ("[list]\npolicy = 'expb'", "list.policy has to be an array"),
            ("[list]\npolicy = []", "list.policy has to be an array"),
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
