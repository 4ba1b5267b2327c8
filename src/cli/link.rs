//! The flags that describe a simulated network, the same in every program that has one.

use std::fmt;
use std::str::FromStr;

use crate::link::{LinkConfig, LinkError, Profile};

/// What the network is to do to datagrams, as typed.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct LinkArgs {
    /// What each direction does to datagrams, by chance of its own: iid:.1+delay:50ms,10ms+rate:1mbit; docs/loss.md has
    /// all the parts
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    pub link: Option<LinkText>,

    /// The same for what goes from client to server only; its parts replace those of --link
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    pub link_up: Option<LinkText>,

    /// The same for what goes from server to client only; its parts replace those of --link
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    pub link_down: Option<LinkText>,

    /// A network by name, whose parts the others replace: 3g, edge, wifi, dsl or satellite
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub profile: Option<Profile>,
}

impl LinkArgs {
    /// The two directions: to the server, and from it.
    ///
    /// # Errors
    ///
    /// One sentence on parts that do not go together.
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

/// The text of a link that can be read. It stays a text, because what it does not name is left to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkText(String);

impl LinkText {
    /// As it was typed.
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
    fn nothing_typed_is_a_perfect_link_each_way() {
        assert_eq!(resolve(&[]), texts("none", "none"));
    }

    #[test]
    fn one_link_holds_for_both_directions_and_each_may_replace_parts_of_it() {
        assert_eq!(resolve(&["--link", "iid:.1+delay:1s"]), texts("iid:0.1+delay:1s", "iid:0.1+delay:1s"));
        let words =
            ["--link", "iid:.1+delay:1s", "--link-up", "gilbert:.2,3", "--link-down", "delay:2s mtu:99"];
        assert_eq!(resolve(&words), texts("gilbert:0.2,3+delay:1s", "iid:0.1+delay:2s+mtu:99"));
        assert_eq!(resolve(&["--link-down", "list:1,2"]), texts("none", "list:1-2"));
    }

    #[test]
    fn a_profile_is_what_the_others_replace() {
        let words = ["--link-up", "none", "--profile", "dsl", "--link", "iid:0"];
        assert_eq!(resolve(&words), texts("none", "iid:0+delay:0.035s+rate:2mbit"));
    }

    #[test]
    fn what_cannot_be_read_is_a_usage_error_that_names_it() {
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
