//! The file format of access rules: TOML, parsed as a whole or not at all.
//!
//! ```toml
//! anonymous = true
//!
//! [[rule]]
//! name = "admin*"
//! allow = ["loopback", "10.0.0.0/8", "unix", "uid:1000"]
//! deny = ["10.0.0.13"]
//! listener = "line"
//! ```

use serde::Deserialize;
use toml::Spanned;

use super::pattern::Pattern;
use super::{OriginPattern, Rule, Rules, SHOWN};
use crate::escape::escape_short;

/// The longest file of rules, in bytes.
pub(crate) const MAX_RULES_FILE: usize = 1 << 20;

/// The most rules in a file.
pub(crate) const MAX_RULES: usize = 10_000;

/// The error in a file of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct RulesError {
    /// The line, from 1.
    pub line: usize,
    /// The message, in one line.
    pub what: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    rule: Vec<Spanned<RuleEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    name: Option<Spanned<String>>,
    allow: Option<Spanned<Vec<Spanned<String>>>>,
    deny: Option<Spanned<Vec<Spanned<String>>>>,
    /// Called `door` in version 0.1.
    #[serde(alias = "door")]
    listener: Option<Spanned<String>>,
}

impl Rules {
    /// Parses the content of a file of rules.
    ///
    /// # Errors
    ///
    /// The first error in it; no rule takes effect then.
    ///
    /// ```
    /// use sayagain::rules::Rules;
    ///
    /// let rules = Rules::parse(b"[[rule]]\nname = \"admin*\"\nallow = [\"loopback\"]")?;
    /// assert_eq!(rules.len(), 1);
    /// assert!(Rules::parse(b"[[rule]]\nname = \"admin*\"").is_err());
    /// # Ok::<(), sayagain::rules::RulesError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, RulesError> {
        if bytes.len() > MAX_RULES_FILE {
            return Err(RulesError { line: 1, what: "a file of rules has 1 MiB at most".to_owned() });
        }
        let source = Source::new(bytes);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| source.wrong_at(error.valid_up_to(), "this is not UTF-8".to_owned()))?;
        let file: File = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        if let Some(extra) = file.rule.get(MAX_RULES) {
            return Err(source.wrong(extra, format!("a file has {MAX_RULES} rules at most")));
        }
        let rules = file.rule.iter().zip(1..).map(|(entry, number)| source.rule(number, entry));
        Ok(Self::new(file.anonymous, rules.collect::<Result<_, _>>()?))
    }
}

/// The ends of the lines of the text, in bytes.
struct Source(Vec<usize>);

impl Source {
    fn new(bytes: &[u8]) -> Self {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        Self(ends.collect())
    }

    fn rule(&self, number: usize, entry: &Spanned<RuleEntry>) -> Result<Rule, RulesError> {
        let RuleEntry { name, allow, deny, listener } = entry.get_ref();
        let Some(name) = name else {
            return Err(self.wrong(entry, "a rule without a name; write name = \"..\"".to_owned()));
        };
        if allow.is_none() && deny.is_none() && listener.is_none() {
            return Err(
                self.wrong(entry, "a rule without a condition; write allow, deny or listener".to_owned())
            );
        }
        Ok(Rule {
            number,
            line: self.line(entry.span().start),
            name: name.get_ref().clone(),
            pattern: self.pattern(name)?,
            allow: allow.as_ref().map(|list| self.places("allow", list)).transpose()?,
            deny: deny.as_ref().map(|list| self.places("deny", list)).transpose()?.unwrap_or_default(),
            listener: listener.as_ref().map(|listener| self.listener(listener)).transpose()?,
        })
    }

    fn pattern(&self, name: &Spanned<String>) -> Result<Pattern, RulesError> {
        let shown = escape_short(name.get_ref().as_bytes(), SHOWN);
        let refuse = |error| self.wrong(name, format!("no name can match `{shown}`: {error}"));
        Pattern::parse(name.get_ref()).map_err(refuse)
    }

    fn places(
        &self,
        key: &str,
        list: &Spanned<Vec<Spanned<String>>>,
    ) -> Result<Vec<OriginPattern>, RulesError> {
        if list.get_ref().is_empty() {
            return Err(self.wrong(list, format!("`{key}` is empty; leave it out or name an origin")));
        }
        let place = |text: &Spanned<String>| text.get_ref().parse().map_err(|what| self.wrong(text, what));
        list.get_ref().iter().map(place).collect()
    }

    fn listener(&self, listener: &Spanned<String>) -> Result<String, RulesError> {
        if listener.get_ref().is_empty() {
            return Err(
                self.wrong(listener, "`listener` is empty; leave it out or name a listener".to_owned())
            );
        }
        Ok(listener.get_ref().clone())
    }

    /// The parser's message, in one line.
    fn syntax(&self, error: &toml::de::Error) -> RulesError {
        let what = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let start = error.span().map_or(0, |span| span.start);
        self.wrong_at(start, escape_short(what.as_bytes(), 200).into_owned())
    }

    fn wrong<T>(&self, place: &Spanned<T>, what: String) -> RulesError {
        self.wrong_at(place.span().start, what)
    }

    fn wrong_at(&self, start: usize, what: String) -> RulesError {
        RulesError { line: self.line(start), what }
    }

    fn line(&self, start: usize) -> usize {
        1 + self.0.partition_point(|end| *end < start)
    }
}
