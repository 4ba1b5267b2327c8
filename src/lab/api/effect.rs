//! The effect of toxics on a link: each toxic is the text of a link, and links add up. The JSON form of toxics is in
//! `toxic`.
//!
//! A toxic of toxicity 0 has no effect. A toxicity between 0 and 1 multiplies the probability of a toxic that draws
//! for each datagram: `loss` at a rate, `duplicate`, `corrupt`. toxiproxy draws once per connection instead, which our
//! links cannot do, so other toxics refuse such a toxicity. A toxic that would have no effect, or another one than it
//! says, is refused too.

use std::fmt;

use super::error::ApiError;
use super::toxic::{Kind, Toxic};
use crate::escape::escape_short;
use crate::link::{Delay, LinkConfig, LossModel, RateLimit};
use crate::units::{Probability, Seconds};

/// The longest time in an attribute: a day, in milliseconds.
const MAX_MILLIS: f64 = 86_400_000.0;

/// Returns `link` of a proxy with `toxic` added.
///
/// # Errors
///
/// 400 for invalid attributes, for an effect that the proxy cannot have, and for one that cannot be combined with the
/// link.
pub(super) fn add(link: &LinkConfig, toxic: &Toxic, is_stream: bool) -> Result<LinkConfig, ApiError> {
    let spec = spec(toxic, is_stream)?;
    let own: LinkConfig = spec.parse().map_err(|error| refused(toxic, error))?;
    let only_loss = LinkConfig { loss: own.loss.clone(), ..LinkConfig::perfect() };
    if matches!(toxic.kind, Kind::Loss | Kind::Drop) && own != only_loss {
        return Err(refused(toxic, "this takes a loss model and nothing else; a `link` takes all"));
    }
    if let Some(idle) = idle_part(&own, is_stream) {
        return Err(refused(toxic, idle));
    }
    match toxic.toxicity {
        Probability::ZERO => Ok(link.clone()),
        toxicity if toxicity < Probability::ONE && !is_thinned(toxic) => {
            Err(refused(toxic, "its toxicity is 0 or 1: nothing here is decided once per connection"))
        }
        _ => sum(link, &own).map_err(|what| {
            refused(toxic, format_args!("its stream has {what} already, and the two do not add up"))
        }),
    }
}

/// Returns the text of the link that has the toxic's effect.
fn spec(toxic: &Toxic, is_stream: bool) -> Result<String, ApiError> {
    Ok(match toxic.kind {
        Kind::Latency => format!("delay:{}ms,{}ms", millis(toxic, "latency")?, millis(toxic, "jitter")?),
        Kind::Bandwidth => bandwidth(toxic)?,
        Kind::Timeout => timeout(toxic, is_stream)?,
        Kind::ResetPeer => reset(toxic)?,
        Kind::Loss => loss_model(toxic)?,
        Kind::Drop => format!("list:{}", required(toxic, "list")?),
        Kind::Duplicate => format!("duplicate:{}", share(toxic)?),
        Kind::Corrupt => format!("corrupt:{}", share(toxic)?),
        Kind::Link => required(toxic, "spec")?.to_owned(),
    })
}

/// Whether a toxicity between 0 and 1 multiplies the toxic's own probability.
fn is_thinned(toxic: &Toxic) -> bool {
    match toxic.kind {
        Kind::Duplicate | Kind::Corrupt => true,
        Kind::Loss => toxic.text("model").is_none(),
        _ => false,
    }
}

/// Returns why a part of a link would have no effect on what the proxy carries, if there is such a part.
pub(super) fn idle_part(link: &LinkConfig, is_stream: bool) -> Option<&'static str> {
    let datagrams_only =
        [link.duplicate, link.corrupt, link.truncate] != [Probability::ZERO; 3] || link.mtu.is_some();
    match is_stream {
        true if datagrams_only => {
            Some("only datagrams are duplicated, corrupted, cut or too large; this proxy is TCP")
        }
        false if link.reset != Probability::ZERO => Some("only connections are reset; this proxy is UDP"),
        _ => None,
    }
}

/// `rate` in kilobytes (1,000 bytes) per second.
fn bandwidth(toxic: &Toxic) -> Result<String, ApiError> {
    match toxic.number("rate") {
        rate if rate > 0.0 => Ok(format!("rate:{}kbit", rate * 8.0)),
        _ => Err(refused(
            toxic,
            "the rate must be more than 0; for a link that passes nothing there is `timeout`",
        )),
    }
}

/// A blackhole without an end. A datagram proxy ignores the time: it has no connection to close.
fn timeout(toxic: &Toxic, is_stream: bool) -> Result<String, ApiError> {
    if millis(toxic, "timeout")? > 0.0 && is_stream {
        return Err(refused(
            toxic,
            "its timeout is 0: connections stall, and nothing here closes them after a time",
        ));
    }
    Ok("iid:1".to_owned())
}

/// Connections are reset at the next segment they send.
fn reset(toxic: &Toxic) -> Result<String, ApiError> {
    if millis(toxic, "timeout")? > 0.0 {
        return Err(refused(toxic, "its timeout is 0: connections are reset at once, not after a time"));
    }
    Ok("reset:1".to_owned())
}

/// Loss at a rate, or by a model.
fn loss_model(toxic: &Toxic) -> Result<String, ApiError> {
    match toxic.text("model") {
        None => Ok(format!("iid:{}", share(toxic)?)),
        Some(_) if toxic.number("rate") != 0.0 => Err(refused(toxic, "it takes a rate or a model, not both")),
        Some(model) => Ok(model.to_owned()),
    }
}

/// Returns the product of `rate` and toxicity.
fn share(toxic: &Toxic) -> Result<Probability, ApiError> {
    let rate = Probability::new(toxic.number("rate")).map_err(|error| refused(toxic, error))?;
    Probability::new(rate.get() * toxic.toxicity.get()).map_err(|error| refused(toxic, error))
}

/// Reads a number of milliseconds.
fn millis(toxic: &Toxic, name: &str) -> Result<f64, ApiError> {
    match toxic.number(name) {
        value @ 0.0..=MAX_MILLIS => Ok(value),
        value => Err(refused(toxic, format_args!("{name} is {value:e} ms; it must be from 0 to a day"))),
    }
}

/// Reads a required text.
fn required<'a>(toxic: &'a Toxic, name: &str) -> Result<&'a str, ApiError> {
    toxic.text(name).ok_or_else(|| refused(toxic, format_args!("it needs the attribute `{name}`")))
}

/// The error that a toxic is refused.
fn refused(toxic: &Toxic, why: impl fmt::Display) -> ApiError {
    ApiError::bad(format_args!("{}: {why}", escape_short(toxic.name.as_bytes(), 40)))
}

/// Returns one link that has the effect of two in sequence, or the part that cannot be combined.
fn sum(one: &LinkConfig, other: &LinkConfig) -> Result<LinkConfig, &'static str> {
    Ok(LinkConfig {
        loss: losses(&one.loss, &other.loss).ok_or("a loss model")?,
        delay: delays(one.delay, other.delay).ok_or("a delay that varies")?,
        reorder: one.reorder && other.reorder,
        duplicate: either(one.duplicate, other.duplicate),
        corrupt: either(one.corrupt, other.corrupt),
        truncate: either(one.truncate, other.truncate),
        reset: either(one.reset, other.reset),
        mtu: one.mtu.into_iter().chain(other.mtu).min(),
        rate: slower(one.rate, other.rate),
    })
}

fn losses(one: &LossModel, other: &LossModel) -> Option<LossModel> {
    match (one, other) {
        (LossModel::None, only) | (only, LossModel::None) => Some(only.clone()),
        (LossModel::Bernoulli(one), LossModel::Bernoulli(other)) => Some(either(*one, *other).into()),
        _ => None,
    }
}

/// Adds delays, of which at most one may vary.
fn delays(one: Delay, other: Delay) -> Option<Delay> {
    let (varying, constant) = if one.varies() { (one, other) } else { (other, one) };
    if constant.varies() {
        return None;
    }
    let sum = constant.mean().as_duration() + varying.mean().as_duration();
    let mean = Seconds::new(sum).unwrap_or(Seconds::MAX);
    Some(match varying {
        _ if !varying.varies() => Delay::Constant(mean),
        Delay::Constant(_) => Delay::Constant(mean),
        Delay::Uniform { jitter, .. } => Delay::Uniform { mean, jitter },
        Delay::Normal { deviation, .. } => Delay::Normal { mean, deviation },
        Delay::Pareto { jitter, .. } => Delay::Pareto { mean, jitter },
    })
}

/// Returns the narrower of two bottlenecks, with its queue.
fn slower(one: Option<RateLimit>, other: Option<RateLimit>) -> Option<RateLimit> {
    one.into_iter().chain(other).min_by_key(|rate| rate.bits_per_second)
}

/// Returns the probability that at least one of two independent events happens.
fn either(one: Probability, other: Probability) -> Probability {
    match (one, other) {
        // A single probability keeps its text form.
        (Probability::ZERO, only) | (only, Probability::ZERO) => only,
        _ => Probability::new(1.0 - one.complement().get() * other.complement().get())
            .unwrap_or(Probability::ONE),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fields::Fields;
    use super::*;

    fn added(
        link: &str,
        kind: &str,
        attributes: serde_json::Value,
        is_stream: bool,
    ) -> Result<String, ApiError> {
        let toxic =
            Toxic::new(Fields::of(json!({"name": "t", "type": kind, "attributes": attributes})).unwrap());
        add(&link.parse().unwrap(), &toxic.unwrap(), is_stream).map(|link| link.to_string())
    }

    fn on_both(kind: &str, attributes: serde_json::Value, expected: &str) {
        let expected = expected.parse::<LinkConfig>().unwrap().to_string();
        for is_stream in [false, true] {
            assert_eq!(
                added("none", kind, attributes.clone(), is_stream),
                Ok(expected.clone()),
                "{kind} {attributes}"
            );
        }
    }

    fn refusal(kind: &str, attributes: serde_json::Value, is_stream: bool) -> String {
        added("none", kind, attributes, is_stream).unwrap_err().to_string()
    }

    #[test]
    fn every_toxic_is_a_link() {
        on_both("latency", json!({"latency": 100}), "delay:100ms");
        on_both("latency", json!({"latency": 100, "jitter": 20}), "delay:uniform,100ms,20ms");
        on_both("latency", json!({}), "none");
        on_both("bandwidth", json!({"rate": 125}), "rate:1mbit");
        on_both("timeout", json!({"timeout": 0}), "iid:1");
        on_both("loss", json!({"rate": 0.1}), "iid:.1");
        on_both("loss", json!({"model": "gilbert:.1,5"}), "gilbert:.1,5");
        on_both("drop", json!({"list": "1,2"}), "list:1,2");
        on_both("link", json!({"spec": "iid:.1+delay:50ms"}), "iid:.1+delay:50ms");
        assert_eq!(added("none", "timeout", json!({"timeout": 100}), false).unwrap(), "iid:1");
        assert_eq!(added("none", "reset_peer", json!({}), true).unwrap(), "reset:1");
        assert_eq!(added("none", "duplicate", json!({"rate": 0.5}), false).unwrap(), "duplicate:0.5");
        assert_eq!(added("none", "corrupt", json!({"rate": 0.5}), false).unwrap(), "corrupt:0.5");
    }

    #[test]
    fn links_add_up_as_one_behind_the_other() {
        let link = |spec: &str| json!({ "spec": spec });
        for (one, other, both) in [
            ("iid:.5", "iid:.5", "iid:.75"),
            ("iid:1", "iid:.5", "iid:1"),
            ("delay:10ms", "delay:normal,5ms,1ms", "delay:normal,15ms,1ms"),
            ("delay:pareto,5ms,1ms", "delay:10ms", "delay:pareto,15ms,1ms"),
            ("rate:1mbit", "rate:2mbit,1KiB", "rate:1mbit"),
            ("rate:2mbit", "rate:1mbit,1KiB", "rate:1mbit,1KiB"),
            ("mtu:1000", "mtu:500+reorder:off", "mtu:500+reorder:off"),
            ("duplicate:.5+corrupt:.1", "duplicate:.5+truncate:.1", "duplicate:.75+corrupt:.1+truncate:.1"),
        ] {
            let both = both.parse::<LinkConfig>().unwrap().to_string();
            assert_eq!(added(one, "link", link(other), false), Ok(both.clone()), "{one} and {other}");
        }
        for (one, other, what) in [
            ("gilbert:.1,5", "iid:.1", "a loss model"),
            ("list:1", "list:2", "a loss model"),
            ("delay:9ms,1ms", "delay:9ms,1ms", "a delay that varies"),
        ] {
            let error = added(one, "link", link(other), false).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("bad request body: t: its stream has {what} already, and the two do not add up")
            );
        }
    }

    #[test]
    fn an_effect_that_a_proxy_cannot_have_is_refused_in_one_sentence() {
        assert!(refusal("timeout", json!({"timeout": 1}), true).contains("nothing here closes them"));
        assert!(refusal("reset_peer", json!({"timeout": 1}), true).contains("reset at once"));
        assert!(refusal("reset_peer", json!({}), false).contains("this proxy is UDP"));
        assert!(refusal("duplicate", json!({"rate": 0.1}), true).contains("this proxy is TCP"));
        assert!(refusal("link", json!({"spec": "mtu:100"}), true).contains("this proxy is TCP"));
        assert!(refusal("loss", json!({"rate": 0.1, "model": "iid:.1"}), true).contains("not both"));
        assert!(
            refusal("loss", json!({"model": "iid:.1+delay:1ms"}), true)
                .contains("a loss model and nothing else")
        );
        assert!(refusal("bandwidth", json!({}), true).contains("more than 0"));
        assert!(refusal("bandwidth", json!({"rate": 1e300}), true).contains("t: "));
        assert!(refusal("latency", json!({"latency": -1}), true).contains("latency is -1e0 ms"));
        assert!(refusal("drop", json!({}), true).contains("needs the attribute `list`"));
    }
}
