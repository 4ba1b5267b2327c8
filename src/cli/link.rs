//! The options that describe a simulated link (`--link`, `--profile` and others), shared by all programs.
//!
//! The text of a link is parsed in [`crate::link`].

use std::fmt;
use std::str::FromStr;

use crate::link::{LinkConfig, LinkError, Profile};

/// The options of a simulated link, as typed.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct LinkArgs {
    /// The simulated link of each direction, drawn independently: iid:.1+delay:50ms,10ms+rate:1mbit; docs/loss.md lists
    /// all parts
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    pub link: Option<LinkText>,

    /// The same from client to server only; its parts replace those of --link
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    pub link_up: Option<LinkText>,

    /// The same from server to client only; its parts replace those of --link
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    pub link_down: Option<LinkText>,

    /// A link by name, whose parts the other options replace: 3g, edge, wifi, dsl or satellite
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub profile: Option<Profile>,
}

impl LinkArgs {
    /// Resolves the two directions: to the server, and from it.
    ///
    /// # Errors
    ///
    /// One sentence that names the parts that contradict each other.
    pub fn resolve(&self) -> Result<(LinkConfig, LinkConfig), String> {
        let profile = self.profile.map(|profile| profile.spec());
        let both = self.link.as_ref().map(LinkText::as_str);
        let direction = |own: &Option<LinkText>| {
            let mut link = LinkConfig::perfect();
            let texts = [profile, both, own.as_ref().map(LinkText::as_str)];
            texts.into_iter().flatten().try_for_each(|text| link.apply(text))?;
            Ok(link)
        };
        let resolved: Result<_, LinkError> =
            direction(&self.link_up).and_then(|up| Ok((up, direction(&self.link_down)?)));
        resolved.map_err(|error| error.to_string())
    }
}

/// The text of a valid link. It stays text because other options fill in the parts that it does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkText(String);

impl LinkText {
    /// Returns the text as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkText {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        text.parse::<LinkConfig>()?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LinkText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        link: LinkArgs,
    }

    fn resolve(words: &[&str]) -> (String, String) {
        let line = Line::try_parse_from([&["x"], words].concat()).unwrap();
        let (up, down) = line.link.resolve().unwrap();
        (up.to_string(), down.to_string())
    }

    fn texts(up: &str, down: &str) -> (String, String) {
        (up.to_owned(), down.to_owned())
    }

    #[test]
    fn the_default_is_a_perfect_link_in_both_directions() {
        assert_eq!(resolve(&[]), texts("none", "none"));
    }

    #[test]
    fn a_link_applies_to_both_directions_and_each_may_replace_its_parts() {
        assert_eq!(resolve(&["--link", "iid:.1+delay:1s"]), texts("iid:0.1+delay:1s", "iid:0.1+delay:1s"));
        let words =
            ["--link", "iid:.1+delay:1s", "--link-up", "gilbert:.2,3", "--link-down", "delay:2s mtu:99"];
        assert_eq!(resolve(&words), texts("gilbert:0.2,3+delay:1s", "iid:0.1+delay:2s+mtu:99"));
        assert_eq!(resolve(&["--link-down", "list:1,2"]), texts("none", "list:1-2"));
    }

    #[test]
    fn other_options_replace_the_parts_of_a_profile() {
        let words = ["--link-up", "none", "--profile", "dsl", "--link", "iid:0"];
        assert_eq!(resolve(&words), texts("none", "iid:0+delay:0.035s+rate:2mbit"));
    }

    #[test]
    fn an_invalid_link_is_a_usage_error_that_names_it() {
        for (option, text, part) in [
            ("--link", "bernoulli:.1", "`bernoulli` is not part of a link"),
            ("--link-up", "iid:1.5", "`1.5` is not a probability"),
            ("--link-down", "-1", "`-1` is not part of a link"),
            ("--profile", "5g", "`5g` is not a profile"),
        ] {
            let Err(error) = Line::try_parse_from(["x", option, text]) else { panic!("{option} {text}") };
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
