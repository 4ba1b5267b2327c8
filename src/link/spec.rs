//! The text form of links: parsing, formatting, and one sentence per error.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::link::bursts::{FourState, Gilbert};
use crate::link::config::LinkConfig;
use crate::link::delay::Delay;
use crate::link::drops::DropList;
use crate::link::error::{LinkError, shown};
use crate::link::loss::{LossModel, survival};
use crate::link::profile::Profile;
use crate::link::rate::{BIT_UNITS, DEFAULT_QUEUE, RateLimit};
use crate::units::{ByteSize, Probability, Seconds, UnitError};

/// The loss models, with their values.
pub(super) const MODELS: [(&str, &str); 6] = [
    ("iid", "iid:P"),
    ("gilbert", "gilbert:RATE,BURST"),
    ("ge", "ge:P[,R[,H[,K]]]"),
    ("state4", "state4:P13[,P31[,P32[,P23[,P14]]]]"),
    ("list", "list:1,3,5-8"),
    ("blackhole", "blackhole:ON,OFF"),
];

/// The other parts, with their values.
pub(super) const PARTS: [(&str, &str); 10] = [
    ("delay", "delay:[const|uniform|normal|pareto,]TIME[,JITTER]"),
    ("jitter", "jitter:TIME"),
    ("reorder", "reorder:on or reorder:off"),
    ("duplicate", "duplicate:P"),
    ("corrupt", "corrupt:P"),
    ("truncate", "truncate:P"),
    ("mtu", "mtu:SIZE"),
    ("rate", "rate:BITS[,QUEUE]"),
    ("reset", "reset:P"),
    ("profile", "profile:NAME"),
];

/// Splits a list of links at the commas: `iid:.1,gilbert:.1,5,profile:3g` is three. A comma followed by a letter
/// separates links; any other belongs to the link.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    let is_start = |at: usize| text[at + 1..].trim_start().starts_with(|c: char| c.is_ascii_alphabetic());
    cut_at(text, ',', is_start)
}

/// `text` split at those one-byte `sign`s for whose position `is_cut` holds, without white space around the pieces.
fn cut_at(text: &str, sign: char, is_cut: impl Fn(usize) -> bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut begun = 0;
    for (at, _) in text.match_indices(sign).filter(|(at, _)| is_cut(*at)) {
        pieces.push(text[begun..at].trim());
        begun = at + 1;
    }
    pieces.push(text[begun..].trim());
    pieces
}

/// The parts that a text names; the others are `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    /// It is `none`.
    perfect: bool,
    profile: Option<Profile>,
    loss: Option<LossModel>,
    delay: Option<Delay>,
    jitter: Option<Seconds>,
    reorder: Option<bool>,
    duplicate: Option<Probability>,
    corrupt: Option<Probability>,
    truncate: Option<Probability>,
    reset: Option<Probability>,
    mtu: Option<usize>,
    rate: Option<RateLimit>,
}

impl Spec {
    pub(super) fn parse(text: &str) -> Result<Self, LinkError> {
        let begins_a_part = |at: usize| text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic());
        let pieces = cut_at(text, '+', begins_a_part);
        let words = pieces.into_iter().flat_map(str::split_whitespace);
        let words: Vec<&str> = words.filter(|word| *word != "+").collect();
        match words.as_slice() {
            [] => Err(LinkError::Empty),
            ["none"] => Ok(Self { perfect: true, ..Self::default() }),
            words if words.contains(&"none") => Err(LinkError::NotAlone),
            words => {
                let mut spec = Self::default();
                words.iter().try_for_each(|word| spec.read(word))?;
                Ok(spec)
            }
        }
    }

    /// Replaces the named parts in `link`, those of the profile first.
    pub(super) fn apply_to(self, link: &mut LinkConfig) -> Result<(), LinkError> {
        if self.perfect {
            *link = LinkConfig::perfect();
        }
        if let Some(profile) = self.profile {
            link.apply(profile.spec())?;
        }
        replace(&mut link.loss, self.loss);
        replace(&mut link.delay, self.delay);
        let delay = link.delay;
        replace(&mut link.delay, self.jitter.map(|jitter| delay.with_jitter(jitter)));
        replace(&mut link.reorder, self.reorder);
        replace(&mut link.duplicate, self.duplicate);
        replace(&mut link.corrupt, self.corrupt);
        replace(&mut link.truncate, self.truncate);
        replace(&mut link.reset, self.reset);
        replace(&mut link.mtu, self.mtu.map(Some));
        replace(&mut link.rate, self.rate.map(Some));
        Ok(())
    }

    fn read(&mut self, text: &str) -> Result<(), LinkError> {
        let (name, values) = text.split_once(':').unwrap_or((text, ""));
        let known = MODELS.iter().chain(&PARTS).find(|(known, _)| *known == name);
        let Some((name, form)) = known else {
            return Err(LinkError::UnknownPart { text: shown(name) });
        };
        let part = Part { name, form, text, values };
        match *name {
            "delay" => set(&mut self.delay, "delay", part.delay()?),
            "jitter" => set(&mut self.jitter, "jitter", part.only()?),
            "reorder" => set(&mut self.reorder, "reorder", part.switch()?),
            "duplicate" => set(&mut self.duplicate, "duplicate", part.only()?),
            "corrupt" => set(&mut self.corrupt, "corrupt", part.only()?),
            "truncate" => set(&mut self.truncate, "truncate", part.only()?),
            "reset" => set(&mut self.reset, "reset", part.only()?),
            "mtu" => set(&mut self.mtu, "mtu", part.only::<ByteSize>()?.get()),
            "rate" => set(&mut self.rate, "rate", part.rate()?),
            "profile" => set(&mut self.profile, "profile", values.parse()?),
            _ => set(&mut self.loss, "the loss model", part.model()?),
        }?;
        match (self.delay, self.jitter) {
            (Some(delay), Some(_)) if delay.varies() => Err(LinkError::Twice { what: "the jitter" }),
            _ => Ok(()),
        }
    }
}

fn replace<T>(place: &mut T, by: Option<T>) {
    if let Some(new) = by {
        *place = new;
    }
}

fn set<T>(slot: &mut Option<T>, what: &'static str, value: T) -> Result<(), LinkError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(LinkError::Twice { what }),
    }
}

/// One part as typed.
#[derive(Clone, Copy)]
struct Part<'a> {
    name: &'static str,
    form: &'static str,
    /// All of it.
    text: &'a str,
    /// The text after its colon.
    values: &'a str,
}

impl Part<'_> {
    fn malformed(&self) -> LinkError {
        LinkError::Form { text: shown(self.text), form: self.form }
    }

    fn value<T: FromStr<Err = UnitError>>(&self, text: &str) -> Result<T, LinkError> {
        text.parse().map_err(|source| LinkError::Value { part: self.name, source })
    }

    fn wrong(&self, text: &str, wanted: &'static str, why: &'static str) -> LinkError {
        LinkError::Value { part: self.name, source: UnitError::new(text, wanted, why) }
    }

    /// Its values, exactly this many.
    fn fields(&self, count: RangeInclusive<usize>) -> Result<Vec<&str>, LinkError> {
        let fields: Vec<&str> = self.values.split(',').collect();
        let is_whole = count.contains(&fields.len()) && fields.iter().all(|field| !field.is_empty());
        is_whole.then_some(fields).ok_or_else(|| self.malformed())
    }

    /// Its single value.
    fn only<T: FromStr<Err = UnitError>>(&self) -> Result<T, LinkError> {
        match self.fields(1..=1)?.as_slice() {
            [field] => self.value(field),
            _ => Err(self.malformed()),
        }
    }

    fn probabilities(&self, count: RangeInclusive<usize>) -> Result<Vec<Probability>, LinkError> {
        self.fields(count)?.into_iter().map(|field| self.value(field)).collect()
    }

    fn switch(&self) -> Result<bool, LinkError> {
        match self.values {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(self.malformed()),
        }
    }

    fn model(&self) -> Result<LossModel, LinkError> {
        match self.name {
            "iid" => Ok(LossModel::Bernoulli(self.only()?)),
            "gilbert" => self.gilbert(),
            "ge" => self.elliott(),
            "state4" => self.four_state(),
            "list" => self.list(),
            _ => self.blackhole(),
        }
    }

    fn gilbert(&self) -> Result<LossModel, LinkError> {
        match self.fields(2..=2)?.as_slice() {
            [rate, burst] => {
                let rate = self.value(rate)?;
                let burst =
                    burst.parse().map_err(|_| self.wrong(burst, "a mean burst", "it is not a number"));
                Gilbert::new(rate, burst?).map(LossModel::Gilbert)
            }
            _ => Err(self.malformed()),
        }
    }

    /// As in tc-netem: h and k are the survival probabilities in the bad and in the good state.
    fn elliott(&self) -> Result<LossModel, LinkError> {
        let given = self.probabilities(1..=4)?;
        let Some(p) = given.first().copied() else { return Err(self.malformed()) };
        let or = |at: usize, usual: Probability| given.get(at).copied().unwrap_or(usual);
        let (h, k) = (or(2, Probability::ZERO), or(3, Probability::ONE));
        let r = or(1, survival(p));
        Ok(LossModel::GilbertElliott { p, r, loss_good: survival(k), loss_bad: survival(h) })
    }

    fn four_state(&self) -> Result<LossModel, LinkError> {
        let given = self.probabilities(1..=5)?;
        let Some(p13) = given.first().copied() else { return Err(self.malformed()) };
        let or = |at: usize, usual: Probability| given.get(at).copied().unwrap_or(usual);
        let (p31, p32) = (or(1, survival(p13)), or(2, Probability::ZERO));
        let (p23, p14) = (or(3, Probability::ONE), or(4, Probability::ZERO));
        FourState::new(p13, p31, p32, p23, p14).map(LossModel::FourState)
    }

    fn list(&self) -> Result<LossModel, LinkError> {
        let ranges = self.fields(1..=usize::MAX)?.into_iter().map(|field| {
            let (first, last) = field.split_once('-').unwrap_or((field, field));
            Ok(self.ordinal(first)?..=self.ordinal(last)?)
        });
        DropList::new(ranges.collect::<Result<Vec<_>, LinkError>>()?).map(LossModel::List)
    }

    fn ordinal(&self, text: &str) -> Result<u64, LinkError> {
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| self.wrong(text, "the number of a datagram", "it must be digits"))
    }

    fn blackhole(&self) -> Result<LossModel, LinkError> {
        match self.fields(2..=2)?.as_slice() {
            [on, off] => match (self.value(on)?, self.value(off)?) {
                (Seconds::ZERO, Seconds::ZERO) => {
                    Err(self.wrong(self.values, "a rhythm", "both times are zero"))
                }
                (on, off) => Ok(LossModel::Blackhole { on, off }),
            },
            _ => Err(self.malformed()),
        }
    }

    fn delay(&self) -> Result<Delay, LinkError> {
        match self.fields(1..=3)?.as_slice() {
            [mean] | ["const", mean] => Ok(Delay::Constant(self.value(mean)?)),
            [mean, jitter] | ["uniform", mean, jitter] => {
                Ok(Delay::Uniform { mean: self.value(mean)?, jitter: self.value(jitter)? })
            }
            ["normal", mean, deviation] => {
                Ok(Delay::Normal { mean: self.value(mean)?, deviation: self.value(deviation)? })
            }
            ["pareto", mean, jitter] => {
                Ok(Delay::Pareto { mean: self.value(mean)?, jitter: self.value(jitter)? })
            }
            _ => Err(self.malformed()),
        }
    }

    fn rate(&self) -> Result<RateLimit, LinkError> {
        let fields = self.fields(1..=2)?;
        let queue = match fields.get(1) {
            Some(queue) => self.value::<ByteSize>(queue)?.get(),
            None => DEFAULT_QUEUE,
        };
        let text = fields.first().copied().unwrap_or_default();
        let bits = bits_per_second(text).and_then(std::num::NonZeroU64::new);
        let refusal =
            || self.wrong(text, "a rate", "it must be at least 1 bit per second, like 1mbit or 750kbit");
        Ok(RateLimit { bits_per_second: bits.ok_or_else(refusal)?, queue })
    }
}

fn bits_per_second(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let unit = BIT_UNITS.iter().find_map(|(suffix, bits)| Some((lower.strip_suffix(suffix)?, *bits)));
    let (number, bits) = unit.unwrap_or((&lower, 1));
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.parse::<u64>().ok()?.checked_mul(bits);
    }
    let whole = (number.parse::<f64>().ok()? * bits as f64).round();
    #[expect(clippy::cast_possible_truncation, reason = "within what both hold exactly")]
    (1.0..=9e15).contains(&whole).then_some(whole as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<LinkConfig>().unwrap_err().to_string()
    }

    fn canonical(text: &str) -> String {
        text.parse::<LinkConfig>().unwrap().to_string()
    }

    #[test]
    fn every_part_is_read_and_written() {
        for (text, written) in [
            ("none", "none"),
            ("iid:.1", "iid:0.1"),
            ("gilbert:.1,5", "gilbert:0.1,5"),
            ("ge:.1", "ge:0.1,0.9,0,1"),
            ("ge:.01,.3,.2,.99", "ge:0.01,0.3,0.2,0.99"),
            ("state4:.1", "state4:0.1,0.9,0,1,0"),
            ("list:8,1,3,5-7", "list:1,3,5-8"),
            ("blackhole:5,2", "blackhole:5s,2s"),
            ("delay:50ms", "delay:0.05s"),
            ("delay:const,50ms", "delay:0.05s"),
            ("delay:50ms,10ms", "delay:0.05s,0.01s"),
            ("delay:uniform,50ms,10ms", "delay:0.05s,0.01s"),
            ("delay:normal,50ms,10ms", "delay:normal,0.05s,0.01s"),
            ("delay:pareto,50ms,10ms", "delay:pareto,0.05s,0.01s"),
            ("jitter:10ms+delay:50ms", "delay:0.05s,0.01s"),
            ("reorder:off", "reorder:off"),
            ("reorder:on", "none"),
            (
                "duplicate:.1 corrupt:.2 truncate:.3 reset:.4",
                "duplicate:0.1+corrupt:0.2+truncate:0.3+reset:0.4",
            ),
            ("mtu:1KiB", "mtu:1024"),
            ("rate:1.5Mbit", "rate:1500kbit"),
            ("rate:1000001,20KiB", "rate:1000001bit,20KiB"),
            ("rate:1gbit,65536", "rate:1gbit"),
            ("iid:1e-3+delay:1e+0", "iid:0.001+delay:1s"),
            ("profile:dsl+delay:1s", "iid:0.02+delay:1s+rate:2mbit"),
        ] {
            assert_eq!(canonical(text), written, "{text}");
            assert_eq!(canonical(written), written);
        }
    }

    #[test]
    fn an_error_is_one_sentence_with_the_part_and_its_expected_form() {
        for (text, sentence) in [
            ("", "a link has at least one part, like iid:.1; a perfect one is none"),
            ("iid:1.5", "iid: `1.5` is not a probability: it must not be above 1"),
            ("iid:", "`iid:` is not of the form iid:P"),
            ("iid:.1,.2", "`iid:.1,.2` is not of the form iid:P"),
            ("gilbert:.1", "`gilbert:.1` is not of the form gilbert:RATE,BURST"),
            ("gilbert:.1,x", "gilbert: `x` is not a mean burst: it is not a number"),
            ("gilbert:.1,.5", "a mean burst of 0.5 datagrams is not possible: it is a number from 1 on"),
            ("gilbert:.9,2", "no chain loses 0.9 of all datagrams in bursts of 2: the least burst is 9"),
            ("ge:.1,.2,.3,-.4", "ge: `-.4` is not a probability: it must not be below 0"),
            ("state4:.6,.4,.2,.1,.6", "p13 + p14 is 1.2: more than 1 cannot leave a state"),
            ("list:1,a", "list: `a` is not the number of a datagram: it must be digits"),
            ("blackhole:0,0", "blackhole: `0,0` is not a rhythm: both times are zero"),
            ("delay:-1", "delay: `-1` is not a duration: it must not be negative"),
            (
                "delay:1,2,3",
                "`delay:1,2,3` is not of the form delay:[const|uniform|normal|pareto,]TIME[,JITTER]",
            ),
            ("reorder:maybe", "`reorder:maybe` is not of the form reorder:on or reorder:off"),
            (
                "rate:0",
                "rate: `0` is not a rate: it must be at least 1 bit per second, like 1mbit or 750kbit",
            ),
            ("iid:.1+ge:.1", "the loss model is given twice; give each part of a link once"),
            ("delay:1,1+jitter:1", "the jitter is given twice; give each part of a link once"),
            ("mtu:1 mtu:1", "mtu is given twice; give each part of a link once"),
            ("none+iid:.1", "`none` is the perfect link; it cannot be combined with other parts"),
            ("profile:5g", "`5g` is not a profile; there are 3g, edge, wifi, dsl, satellite"),
        ] {
            assert_eq!(refusal(text), sentence, "{text:?}");
        }
        assert!(refusal("list:0-3").starts_with("0-3 is not a range of datagrams"));
        assert!(refusal("list:3-2").starts_with("3-2 is not a range of datagrams"));
    }

    #[test]
    fn an_unknown_part_is_refused_with_the_known_ones_and_shown_escaped_and_cut() {
        let sentence = refusal("bernoulli:.1");
        assert_eq!(
            sentence,
            "`bernoulli` is not part of a link; loss models are iid, gilbert, ge, state4, list, blackhole; other parts \
             are delay, jitter, reorder, duplicate, corrupt, truncate, mtu, rate, reset, profile; or all of it is none"
        );
        let hostile = refusal(&format!("\u{1b}[2J{}", "x".repeat(100_000)));
        assert!(hostile.starts_with("`\\x1b[2J") && hostile.len() < 300 && hostile.lines().count() == 1);
    }

    #[test]
    fn a_text_replaces_the_named_parts_and_nothing_if_it_is_malformed() {
        let mut link: LinkConfig = "profile:3g".parse().unwrap();
        link.apply("iid:.5 jitter:5ms").unwrap();
        assert_eq!(link.to_string(), "iid:0.5+delay:0.125s,0.005s+rate:750kbit");
        let before = link.clone();
        link.apply("iid:.1+delay:x").unwrap_err();
        assert_eq!(link, before);
        link.apply("none").unwrap();
        assert_eq!(link, LinkConfig::perfect());
    }

    #[test]
    fn a_list_is_split_where_a_new_link_begins() {
        assert_eq!(split_list("iid:.1,gilbert:.1,5,profile:3g"), ["iid:.1", "gilbert:.1,5", "profile:3g"]);
        assert_eq!(split_list("none, list:1,3,5-8 , delay:normal"), ["none", "list:1,3,5-8", "delay:normal"]);
        assert_eq!(split_list(""), [""]);
    }

    #[test]
    fn every_profile_is_a_link() {
        for profile in Profile::ALL {
            let link: LinkConfig = profile.spec().parse().unwrap();
            assert_eq!(format!("profile:{}", profile.name()).parse(), Ok(link));
        }
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![Just("0".to_owned()), Just("1".to_owned()), (0.0..=1.0_f64).prop_map(|p| p.to_string())]
    }

    fn part() -> impl Strategy<Value = String> {
        let time = || {
            prop_oneof![
                (0..10_000_u32).prop_map(|ms| format!("{ms}ms")),
                (0.0..1e6_f64).prop_map(|s| s.to_string())
            ]
        };
        prop_oneof![
            number().prop_map(|p| format!("iid:{p}")),
            (number(), 1.0..1e20_f64).prop_map(|(p, burst)| format!("gilbert:{p},{burst}")),
            (number(), number(), number(), number()).prop_map(|(p, r, h, k)| format!("ge:{p},{r},{h},{k}")),
            (number(), number(), number()).prop_map(|(a, b, c)| format!("state4:{a},{b},0,{c}")),
            prop::collection::vec((1..99_u64, 0..9_u64), 1..9).prop_map(|ranges| {
                let ranges: Vec<String> = ranges.iter().map(|(a, n)| format!("{a}-{}", a + n)).collect();
                format!("list:{}", ranges.join(","))
            }),
            (time(), 1..99_u32).prop_map(|(on, off)| format!("blackhole:{on},{off}")),
            (prop::sample::select(vec!["", "normal,", "pareto,", "uniform,"]), time(), time())
                .prop_map(|(shape, mean, jitter)| format!("delay:{shape}{mean},{jitter}")),
            time().prop_map(|mean| format!("delay:{mean}")),
            time().prop_map(|jitter| format!("jitter:{jitter}")),
            (prop::sample::select(vec!["duplicate", "corrupt", "truncate", "reset"]), number())
                .prop_map(|(name, p)| format!("{name}:{p}")),
            any::<u32>().prop_map(|size| format!("mtu:{size}")),
            (1..u64::MAX, any::<u32>()).prop_map(|(bits, queue)| format!("rate:{bits},{queue}")),
            Just("reorder:off".to_owned()),
            prop::sample::select(Profile::ALL.to_vec())
                .prop_map(|profile| format!("profile:{}", profile.name())),
        ]
    }

    proptest! {
        #[test]
        fn the_text_of_a_link_parses_to_the_same_link(parts in prop::collection::vec(part(), 1..6)) {
            let mut link = LinkConfig::perfect();
            for part in &parts {
                // Not every burst is possible at every rate.
                let _ = link.apply(part);
            }
            let written = link.to_string();
            prop_assert_eq!(written.parse::<LinkConfig>(), Ok(link), "{}", written);
        }

        #[test]
        fn no_text_is_more_than_refused(text in "\\PC*|[a-z0-9:,.+ -]{0,40}") {
            if let Ok(link) = text.parse::<LinkConfig>() {
                prop_assert_eq!(link.to_string().parse(), Ok(link));
            }
            prop_assert!(!split_list(&text).is_empty());
        }
    }
}
