//! Name patterns of rules: a name, or a glob with `*` for any run of characters and `?` for one.
//!
//! A rule for `admin` has to cover `ADMIN` and a Cyrillic look-alike, or it would protect nothing. So names are
//! compared by their appearance ([`ClashKeys`]) and by their fold key. The literal parts of a glob are converted to the
//! same forms.

use crate::names::{ClashKeys, MAX_NAME_CHARS, Name, NameError, folded, looks};

/// The skeleton of `m`. Where the skeleton of a name has these two characters, one `?` matches both.
const LOOK_OF_M: &str = "rn";

/// A name or a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// One name and all its look-alikes: they share a clash key.
    Exact(ClashKeys),
    /// All names that match in at least one form.
    Glob([Vec<GlobStep>; FORMS]),
}

/// The forms of a glob: in lower case, as a fold key, and as each clash key, unchanged and with `m` for each `rn`. A
/// `?` is one character of each.
const FORMS: usize = 6;

/// One step of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GlobStep {
    /// This character.
    Char(char),
    /// `?`: one character.
    One,
    /// `*`: any run of characters, may be empty.
    Any,
}

/// The forms of a name that patterns are matched with.
#[derive(Debug)]
pub(super) struct Subject {
    /// Its clash keys.
    pub(super) clash: ClashKeys,
    forms: [Vec<char>; FORMS],
}

impl Subject {
    pub(super) fn new(name: &Name) -> Self {
        let forms = forms(name.as_str());
        Self { clash: name.clash_keys(), forms: forms.map(|form| form.chars().collect()) }
    }
}

/// The forms in which names are compared.
fn forms(text: &str) -> [String; FORMS] {
    let lower = text.chars().flat_map(char::to_lowercase).collect();
    let (look, written) = looks(text);
    let written = written.unwrap_or_else(|| look.clone());
    // Restoring an `m` confuses nothing: the first skeleton has none of its own, and the second only for an `M`.
    let [merged, written_merged] = [&look, &written].map(|look| look.replace(LOOK_OF_M, "m"));
    [lower, folded(text), look, merged, written, written_merged]
}

impl Pattern {
    /// Parses a name or a glob.
    ///
    /// # Errors
    ///
    /// The rule for names that every possible match would break.
    pub(super) fn parse(text: &str) -> Result<Self, NameError> {
        if !text.contains(is_wildcard) {
            return Name::parse(text.as_bytes()).map(|name| Self::Exact(name.clash_keys()));
        }
        check(text)?;
        let mut pieces: [Vec<GlobStep>; FORMS] = Default::default();
        for part in text.split_inclusive(is_wildcard) {
            let literal = part.trim_end_matches(is_wildcard);
            for (pieces, form) in pieces.iter_mut().zip(forms(&normalised(literal))) {
                pieces.extend(form.chars().map(GlobStep::Char));
                match part.get(literal.len()..) {
                    Some("*") if pieces.last() != Some(&GlobStep::Any) => pieces.push(GlobStep::Any),
                    Some("?") => pieces.push(GlobStep::One),
                    _ => {}
                }
            }
        }
        Ok(Self::Glob(pieces))
    }

    /// Whether it matches every name.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(self, Self::Glob([pieces, ..]) if pieces[..] == [GlobStep::Any])
    }

    pub(super) fn matches(&self, name: &Subject) -> bool {
        match self {
            Self::Exact(clash) => clash.clash(&name.clash),
            Self::Glob(globs) => globs.iter().zip(&name.forms).any(|(glob, form)| is_match(glob, form)),
        }
    }
}

fn is_wildcard(c: char) -> bool {
    matches!(c, '*' | '?')
}

/// The literal part of a glob in the spelling of names: full-width characters mapped, the rest composed.
fn normalised(literal: &str) -> String {
    Name::parse(literal.as_bytes()).map_or_else(|_| literal.to_owned(), |name| name.as_str().to_owned())
}

/// Whether any name could match a glob. If that is hard to decide, it returns true.
fn check(glob: &str) -> Result<(), NameError> {
    if glob.chars().filter(|c| *c != '*').nth(MAX_NAME_CHARS).is_some() {
        return Err(NameError::TooLong);
    }
    let literals: Vec<&str> = glob.split(is_wildcard).collect();
    for (n, literal) in literals.iter().enumerate().filter(|(_, literal)| !literal.is_empty()) {
        match Name::parse(literal.as_bytes()) {
            Ok(_) => {}
            Err(NameError::ReservedFirst) if n > 0 => {}
            Err(NameError::NotAllowed) => literal.chars().try_for_each(check_char)?,
            Err(error) => return Err(error),
        }
    }
    match Name::parse(literals.concat().as_bytes()) {
        Err(NameError::MixedScript) => Err(NameError::MixedScript),
        _ => Ok(()),
    }
}

/// Whether some name holds this character: alone, or after a letter of its writing direction.
fn check_char(c: char) -> Result<(), NameError> {
    let fits =
        |before: &str| !matches!(Name::parse(format!("{before}{c}").as_bytes()), Err(NameError::NotAllowed));
    if ["", "a", "\u{627}"].into_iter().any(fits) { Ok(()) } else { Err(NameError::NotAllowed) }
}

/// Matches with backtracking to the last `*` only: the time is proportional to the product of two short lengths.
fn is_match(glob: &[GlobStep], text: &[char]) -> bool {
    let (mut at, mut rest) = (glob, text);
    let mut retry: Option<(&[GlobStep], &[char])> = None;
    loop {
        match (at, rest) {
            ([GlobStep::Any], _) | ([], []) => return true,
            ([GlobStep::Any, after @ ..], _) => {
                retry = rest.split_first().map(|(_, later)| (after, later));
                at = after;
            }
            ([GlobStep::Char(c), after @ ..], [first, later @ ..]) if c == first => {
                (at, rest) = (after, later)
            }
            ([GlobStep::One, after @ ..], [_, later @ ..]) => (at, rest) = (after, later),
            _ => {
                let Some((after, from)) = retry else { return false };
                (at, rest) = (after, from);
                retry = from.split_first().map(|(_, later)| (after, later));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let name = Name::parse(name.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        pattern.matches(&Subject::new(&name))
    }

    #[test]
    fn a_star_is_any_run_and_a_question_mark_one_character() {
        for (pattern, yes, no) in [
            ("bob", &["bob", "BOB", "b0b"][..], &["bobby", "bo"][..]),
            ("bob*", &["bob", "Bobby", "b0bby"], &["xbob", "bo"]),
            ("*bob", &["bob", "xBob", "bobbob"], &["bobb"]),
            ("b*b", &["bb", "bob", "bobob"], &["b", "boba"]),
            ("b?b", &["bob", "BxB", "bmb"], &["bb", "boob"]),
            ("*", &["a", "Zoë", "иван"], &[]),
            ("?*", &["a", "ab"], &[]),
            ("??", &["ab", "жж", "mm"], &["a", "abc"]),
            ("*a*b*c", &["abc", "xaxbxc", "aabbcc", "abcbc"], &["acb", "abcx"]),
            ("a**b", &["ab", "axb"], &["a"]),
            ("straße*", &["STRASSE1", "straße"], &["strase"]),
            ("stra?e", &["straße", "strabe"], &["strae"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_pattern_covers_look_alikes() {
        for (pattern, name) in [
            ("admin", "ADMIN"),
            ("scope", "ѕсоре"),
            ("scope*", "ѕсоре"),
            ("*cop?", "ѕсоре"),
            ("ѕсоре*", "scope2"),
            ("admin*", "adrnin"),
            ("ad?in", "adrnin"),
            ("lo?in*", "1omin"),
            ("ａdmin*", "admin1"),
            ("zoe\u{308}*", "Zoë"),
            ("Bill", "BiII"),
            ("BiII", "bill"),
            ("bill*", "BiII-2"),
            ("?iII*", "bill"),
            ("Mo*", "rnorty"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_no_name_can_match_is_refused() {
        let long = "x".repeat(33);
        let questions = "?".repeat(33);
        for (pattern, error) in [
            ("", NameError::Empty),
            ("two words", NameError::Blank),
            ("two *words", NameError::Blank),
            ("*\u{1b}", NameError::Blank),
            ("#lobby", NameError::HoldsHash),
            ("lob#*", NameError::HoldsHash),
            ("*>", NameError::HoldsAngle),
            ("@*", NameError::ReservedFirst),
            ("~x", NameError::ReservedFirst),
            ("☃*", NameError::NotAllowed),
            ("а*z", NameError::MixedScript),
            (&long, NameError::TooLong),
            (&questions, NameError::TooLong),
        ] {
            let refused = Pattern::parse(pattern).expect_err(pattern);
            // `#` begins a room's name and no client's name: either result is right.
            assert!(refused == error || pattern == "#lobby", "{pattern}: {refused}");
        }
        for pattern in ["*@home", "*\u{301}", "*\u{663}", "\u{627}*\u{663}", "?", "*"] {
            assert!(Pattern::parse(pattern).is_ok(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_with_wildcards_for_parts_of_it(
            name in "[a-zA-Z0-9ëß._-]{1,32}|[а-яА-Я0-9]{1,32}",
            cut in any::<proptest::sample::Index>(),
            length in 0usize..8,
        ) {
            prop_assume!(Name::parse(name.as_bytes()).is_ok());
            let chars: Vec<char> = name.chars().collect();
            let from = cut.index(chars.len());
            let to = (from + length).min(chars.len());
            for (from, to, middle) in [(from, to, "*"), (from, from + 1, "?")] {
                let (before, after): (String, String) = (chars[..from].iter().collect(), chars[to..].iter().collect());
                let pattern = format!("{before}{middle}{after}");
                prop_assert!(matches(&pattern, &name), "{} {}", pattern, name);
            }
        }

        #[test]
        fn any_text_is_a_pattern_or_is_refused(text in "\\PC{0,40}|[*?a-c@# ]{0,40}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                pattern.matches(&Subject::new(&Name::parse(b"abc").unwrap()));
            }
        }
    }

    #[test]
    fn a_glob_that_could_be_matched_in_many_ways_is_decided_at_once() {
        let pattern = "*a".repeat(16);
        assert!(!matches(&pattern, &"a".repeat(15)));
        assert!(!matches(&format!("{pattern}b"), &"a".repeat(32)));
        assert!(matches(&pattern, &"a".repeat(32)));
    }
}
