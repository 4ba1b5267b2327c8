//! Access rules: which peers may use which names, by their origin.
//!
//! The server consults them when a peer registers a name, and a host during the handshake. The verdicts are here;
//! `pattern` matches names, `origin` matches origins, `file` parses rule files. Nothing here reads files or changes
//! sessions.
//!
//! Of all rules that match a name, one that denies the origin wins. Of those that restrict the name, by `allow` or
//! `listener`, one has to admit the origin. A name that no rule matches is open.
//!
//! ```
//! use sayagain::names::Name;
//! use sayagain::rules::{Rules, Verdict};
//! use sayagain::service::Remote;
//!
//! let rules = Rules::parse(b"[[rule]]\nname = \"admin*\"\nallow = [\"loopback\"]").unwrap();
//! let (admin, far) = (Name::parse(b"Admin1").unwrap(), Remote::Ip("192.0.2.1:4000".parse().unwrap()));
//! assert!(matches!(rules.verdict(&admin, &far, None), Verdict::Denied(..)));
//! ```

use std::collections::HashMap;
use std::fmt;

use crate::escape::escape_short;
use crate::names::{Name, NameError};
use crate::service::Remote;

mod file;
mod origin;
mod pattern;
#[cfg(test)]
mod tests;

pub(crate) use file::MAX_RULES_FILE;
pub use file::RulesError;
// Hidden: not part of the public API, without a promise of stability.
#[doc(hidden)]
pub use origin::OriginPattern;
use origin::Shown;
pub(crate) use origin::UNKNOWN_ID;
use pattern::{Pattern, Subject};

/// The most rules that [`Rules::deny_all_names`] searches for one that admits an origin.
#[doc(hidden)]
pub const MAX_TRIED_FOR_ALL: usize = 64;

/// The most characters of a text from a rules file that are shown.
pub(super) const SHOWN: usize = 60;

/// All rules of a server. By default there are none: every name is open, and unregistered clients cannot send.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whether an unregistered client may send messages, as `guest-1`, `guest-2`, ...
    pub anonymous: bool,
    rules: Vec<Rule>,
    /// Rules for one name, by each of its clash keys.
    exact: HashMap<String, Vec<usize>>,
    /// Rules with a glob.
    globs: Vec<usize>,
    /// Rules for every name.
    for_all: Vec<usize>,
}

/// One rule.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its ordinal in its file, from 1.
    pub number: usize,
    /// The line where it begins, from 1; 0 if it is not from a file.
    pub line: usize,
    /// Its `name` as written.
    pub name: String,
    pattern: Pattern,
    allow: Option<Vec<OriginPattern>>,
    deny: Vec<OriginPattern>,
    listener: Option<String>,
}

/// The verdict for a name from an origin, and the rule that caused it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// No rule matches.
    Open,
    /// The rule admits it, by this item of its `allow` if it has one.
    Allowed(&'a Rule, Option<OriginPattern>),
    /// The rule denies it.
    Denied(&'a Rule, Why),
}

/// The reason why a rule denies a name.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This item of its `deny` matches the origin.
    Deny(OriginPattern),
    /// No item of its `allow` matches the origin.
    Allow,
    /// It is for another listener.
    Listener,
}

impl Rules {
    fn new(anonymous: bool, rules: Vec<Rule>) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let (mut globs, mut for_all) = (Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            match &rule.pattern {
                Pattern::Exact(clash) => {
                    clash
                        .iter()
                        .for_each(|key| exact.entry(key.as_str().to_owned()).or_default().push(index));
                }
                Pattern::Glob(_) => globs.push(index),
            }
            if rule.pattern.is_for_all() {
                for_all.push(index);
            }
        }
        Self { anonymous, rules, exact, globs, for_all }
    }

    /// Adds a rule for a name, or for all names that match a glob (`worker-*`), from these origins, or from all if
    /// there are none. A name that a rule matches is an expected one.
    ///
    /// # Errors
    ///
    /// The rule for names that every possible match would break.
    #[doc(hidden)]
    pub fn expect(&mut self, name: &str, allow: &[OriginPattern]) -> Result<(), NameError> {
        let pattern = Pattern::parse(name)?;
        let allow = (!allow.is_empty()).then(|| allow.to_vec());
        let number = self.rules.len() + 1;
        let mut rules = std::mem::take(&mut self.rules);
        rules.push(Rule {
            number,
            line: 0,
            name: name.to_owned(),
            pattern,
            allow,
            deny: Vec::new(),
            listener: None,
        });
        *self = Self::new(self.anonymous, rules);
        Ok(())
    }

    /// The number of rules.
    #[doc(hidden)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The number of rules that are tried for each name: those for more than one.
    #[doc(hidden)]
    #[must_use]
    pub fn tried(&self) -> usize {
        self.globs.len()
    }

    /// Whether there are none.
    #[doc(hidden)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Checks that the listeners named in rules are among these.
    ///
    /// # Errors
    ///
    /// The first one that is not.
    #[doc(hidden)]
    pub fn check_listeners(&self, listeners: &[String]) -> Result<(), RulesError> {
        for rule in &self.rules {
            if let Some(listener) = rule.listener.as_ref().filter(|listener| !listeners.contains(listener)) {
                let (shown, known) = (escape_short(listener.as_bytes(), SHOWN), listeners.join(", "));
                let what = format!("no listener is called `{shown}`; here are {known}");
                return Err(RulesError { line: rule.line, what });
            }
        }
        Ok(())
    }

    /// The names of the listeners in rules.
    #[doc(hidden)]
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| rule.listener.as_deref())
    }

    /// Whether this origin may use no name at all on this listener. Either a rule for every name (`*`) denies the
    /// origin, or one restricts every name and no rule admits the origin. With more than [`MAX_TRIED_FOR_ALL`] rules to
    /// search, the answer is no.
    #[doc(hidden)]
    #[must_use]
    pub fn deny_all_names(&self, from: &Remote, listener: Option<&str>) -> bool {
        if self.for_all.is_empty() || self.rules.len() > MAX_TRIED_FOR_ALL {
            return false;
        }
        let for_all = || self.for_all.iter().filter_map(|index| self.rules.get(*index));
        if for_all().any(|rule| place_of(&rule.deny, from).is_some()) {
            return true;
        }
        let mut restricting = self.rules.iter().filter(|rule| rule.restricts());
        let admits = |rule: &Rule| matches!(rule.admits(from, listener), Verdict::Allowed(..));
        for_all().any(Rule::restricts) && !restricting.any(admits)
    }

    /// The verdict for a name, an origin and a listener.
    #[doc(hidden)]
    #[must_use]
    pub fn verdict(&self, name: &Name, from: &Remote, listener: Option<&str>) -> Verdict<'_> {
        if self.is_empty() {
            return Verdict::Open;
        }
        let matching = self.matching(&Subject::new(name));
        let denying = matching.iter().find_map(|rule| Some((*rule, place_of(&rule.deny, from)?)));
        if let Some((rule, place)) = denying {
            return Verdict::Denied(rule, Why::Deny(place));
        }
        let mut restricting =
            matching.iter().filter(|rule| rule.restricts()).map(|rule| rule.admits(from, listener));
        let Some(first) = restricting.next() else {
            return matching.first().map_or(Verdict::Open, |rule| Verdict::Allowed(rule, None));
        };
        let admitted = |verdict: &Verdict<'_>| matches!(verdict, Verdict::Allowed(..));
        if admitted(&first) { first } else { restricting.find(admitted).unwrap_or(first) }
    }

    /// The rules that match a name, in their order.
    fn matching(&self, name: &Subject) -> Vec<&Rule> {
        let exact = name.clash.iter().filter_map(|key| self.exact.get(key.as_str())).flatten().copied();
        let is_match = |index: &usize| self.rules.get(*index).is_some_and(|rule| rule.pattern.matches(name));
        let mut indices: Vec<usize> = exact.chain(self.globs.iter().copied().filter(is_match)).collect();
        indices.sort_unstable();
        // Two keys may have found the same rule.
        indices.dedup();
        indices.into_iter().filter_map(|index| self.rules.get(index)).collect()
    }
}

impl Rule {
    /// Whether it restricts the origins of its names, instead of only denying some.
    fn restricts(&self) -> bool {
        self.allow.is_some() || self.listener.is_some()
    }

    fn admits(&self, from: &Remote, listener: Option<&str>) -> Verdict<'_> {
        if self.listener.is_some() && self.listener.as_deref() != listener {
            return Verdict::Denied(self, Why::Listener);
        }
        match &self.allow {
            None => Verdict::Allowed(self, None),
            Some(allow) => match place_of(allow, from) {
                Some(place) => Verdict::Allowed(self, Some(place)),
                None => Verdict::Denied(self, Why::Allow),
            },
        }
    }
}

/// The first of these patterns that matches the origin.
fn place_of(places: &[OriginPattern], from: &Remote) -> Option<OriginPattern> {
    places.iter().copied().find(|place| place.holds(from))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = escape_short(self.name.as_bytes(), SHOWN);
        write!(f, "rule {} (name \"{name}\"", self.number)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        f.write_str(")")
    }
}

impl Verdict<'_> {
    /// Whether the name is denied there.
    #[doc(hidden)]
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(..))
    }

    /// The verdict in one line, for this name and origin.
    #[doc(hidden)]
    #[must_use]
    pub fn explain(&self, name: &Name, from: &Remote) -> String {
        let from = Shown(from);
        match self {
            Self::Open => {
                format!("open: no rule matches \"{}\"", escape_short(name.as_str().as_bytes(), SHOWN))
            }
            Self::Allowed(rule, Some(place)) => format!("allowed: {rule} allows {place}"),
            Self::Allowed(rule, None) => match &rule.listener {
                Some(listener) => {
                    format!("allowed: {rule} is for listener {}", escape_short(listener.as_bytes(), SHOWN))
                }
                None => format!("allowed: {rule} does not deny {from}"),
            },
            Self::Denied(rule, Why::Deny(place)) => format!("denied: {rule} denies {place}"),
            Self::Denied(rule, Why::Allow) => format!("denied: {rule} does not allow {from}"),
            Self::Denied(rule, Why::Listener) => {
                let listener = escape_short(rule.listener.as_deref().unwrap_or_default().as_bytes(), SHOWN);
                format!("denied: {rule} is for listener {listener} alone")
            }
        }
    }
}
