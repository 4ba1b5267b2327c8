//! The settings of a point: network, policy and message, as flags, and as values that a sweep varies.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::cli::link::LinkArgs;
use crate::cli::policy::PolicyArgs;
use crate::escape::escape_short;
use crate::lab::sweep::axis::{Combination, Parameter};
use crate::lab::sweep::point::Point;
use crate::link::{LinkConfig, LossModel};
use crate::reliable::Backoff;
use crate::units::{ByteSize, Probability, Seconds};

/// Largest message: with frame and token it fits the datagrams that every path carries.
const MAX_SIZE: usize = 1_100;

/// The settings of a point on the command line.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SweepSettings {
    /// Loss each way, 0 to 1: independent, or in bursts if the link or --burst says so
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    loss: Option<Probability>,

    /// Loss to the server alone
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    loss_up: Option<Probability>,

    /// Loss from the server alone
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    loss_down: Option<Probability>,

    /// Mean length of the bursts that losses come in, in datagrams
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    burst: Option<f64>,

    /// Delay each way, as behind `delay:` in a link
    #[arg(long, value_name = "SECS", allow_hyphen_values = true)]
    delay: Option<String>,

    /// Length of the message, 1100 bytes at most
    #[arg(long, value_name = "SIZE", default_value = "64", allow_hyphen_values = true)]
    size: ByteSize,

    /// Time from the start of one request of a session to the next; 0 is the end of the one before [default: 0, and with a
    /// blackhole longer than any request takes]
    #[arg(long, value_name = "SECS", allow_hyphen_values = true)]
    interval: Option<Seconds>,

    #[command(flatten)]
    link: LinkArgs,

    /// The retry flags; last, because their heading applies to all following flags.
    #[command(flatten)]
    policy: PolicyArgs,
}

impl SweepSettings {
    /// Refuses a least measured timeout if no policy measures.
    pub(super) fn check_rto_min(&self, points: &[Point]) -> Result<(), String> {
        let is_measured = points.iter().any(|point| point.policy.adaptive());
        if self.policy.rto_min.is_none() || is_measured {
            return Ok(());
        }
        Err("--rto-min bounds measured timeouts, and none of these policies measures any; rto and quic-pto do".to_owned())
    }

    /// Whether the number of sends is set for all points.
    pub(super) fn sets_max_sends(&self) -> bool {
        self.policy.max_sends.is_some()
    }

    /// Whether a policy was chosen by name.
    pub(super) fn names_policy(&self) -> bool {
        self.policy.policy.is_some() || self.policy.expb
    }

    /// Returns the point of one combination of varied values.
    ///
    /// # Errors
    ///
    /// One sentence that names the parameter.
    pub(super) fn point(&self, combination: &Combination<'_>) -> Result<Point, String> {
        let mut settings = self.clone();
        for (parameter, value) in combination {
            settings.set(*parameter, value).map_err(|why| format!("{parameter}: {why}"))?;
        }
        let is_compared = combination.iter().any(|(parameter, _)| *parameter == Parameter::Policy);
        if is_compared && !settings.policy.chosen().backoff().adaptive() {
            // In a comparison the flag applies only to policies that measure.
            settings.policy.rto_min = None;
        }
        settings.resolve()
    }

    fn set(&mut self, parameter: Parameter, value: &str) -> Result<(), String> {
        match parameter {
            Parameter::Loss => self.loss = Some(parse(value)?),
            Parameter::LossUp => self.loss_up = Some(parse(value)?),
            Parameter::LossDown => self.loss_down = Some(parse(value)?),
            Parameter::Burst => self.burst = Some(parse(value)?),
            Parameter::Delay => self.delay = Some(value.to_owned()),
            Parameter::Link => self.link.link = Some(parse(value)?),
            Parameter::LinkUp => self.link.link_up = Some(parse(value)?),
            Parameter::LinkDown => self.link.link_down = Some(parse(value)?),
            Parameter::Policy => {
                self.policy.policy = Some(parse(value)?);
                self.policy.expb = false;
            }
            Parameter::Timeout => self.policy.timeout = Some(parse(value)?),
            Parameter::MaxSends => self.policy.max_sends = Some(max_sends(value)?),
            Parameter::MaxTimeout => self.policy.max_timeout = Some(parse(value)?),
            Parameter::Deadline => self.policy.deadline = Some(parse(value)?),
            Parameter::Jitter => self.policy.jitter = Some(parse(value)?),
            Parameter::Size => self.size = parse(value)?,
            Parameter::Interval => self.interval = Some(parse(value)?),
            Parameter::RtoMin => self.policy.rto_min = Some(parse(value)?),
        }
        Ok(())
    }

    fn resolve(&self) -> Result<Point, String> {
        self.check_losses()?;
        let (mut up, mut down) = self.link.resolve()?;
        self.impair(&mut up, self.loss_up.or(self.loss))?;
        self.impair(&mut down, self.loss_down.or(self.loss))?;
        let size = self.size.get();
        if size > MAX_SIZE {
            return Err(format!(
                "--size must be at most {MAX_SIZE} bytes, so that a message fits a datagram"
            ));
        }
        let (policy_name, policy) = (self.policy.name(), self.policy.resolve()?);
        let point = Point { policy_name, policy, up, down, size, interval: Duration::ZERO };
        let interval = self.interval.map_or_else(|| point.default_interval(), Seconds::as_duration);
        Ok(Point { interval, ..point })
    }

    /// Refuses a loss that is set twice, probably by mistake. A profile may be overridden, and a burst is kept.
    fn check_losses(&self) -> Result<(), String> {
        let is_set = |own: Option<Probability>| self.loss.or(own).is_some();
        let texts = [
            (&self.link.link, self.loss.is_some() || self.loss_up.is_some() || self.loss_down.is_some()),
            (&self.link.link_up, is_set(self.loss_up)),
            (&self.link.link_down, is_set(self.loss_down)),
        ];
        for (text, _) in texts.iter().filter(|(_, is_set)| *is_set) {
            let link: Option<LinkConfig> = text.as_ref().and_then(|text| text.as_str().parse().ok());
            let names = text.as_ref().is_some_and(|text| text.as_str().contains("none"));
            if names || link.is_some_and(|link| !matches!(link.loss, LossModel::None | LossModel::Gilbert(_)))
            {
                return Err(
                    "the loss is set twice, by a --loss and by a link; leave one of them out".to_owned()
                );
            }
        }
        Ok(())
    }

    /// Applies the flags to a link.
    fn impair(&self, link: &mut LinkConfig, loss: Option<Probability>) -> Result<(), String> {
        if let Some(delay) = &self.delay {
            if delay.contains(['+', ' ']) {
                return Err(format!("`{}` is more than a delay", escape_short(delay.as_bytes(), 40)));
            }
            link.apply(&format!("delay:{delay}")).map_err(|error| error.to_string())?;
        }
        let loss = match (&link.loss, self.burst) {
            (LossModel::None | LossModel::Bernoulli(_) | LossModel::Gilbert(_), Some(burst)) => {
                let rate = loss.or_else(|| link.loss.rate()).unwrap_or(Probability::ZERO);
                format!("gilbert:{rate},{burst}")
            }
            (_, Some(_)) => {
                let why = "--burst makes bursts of an independent loss; this link has a model of its own";
                return Err(why.to_owned());
            }
            (model, None) => match (model, loss) {
                (_, None) => return Ok(()),
                (LossModel::Gilbert(gilbert), Some(loss)) => format!("gilbert:{loss},{}", gilbert.burst()),
                (_, Some(loss)) => format!("iid:{loss}"),
            },
        };
        link.apply(&loss).map_err(|error| error.to_string())
    }
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn max_sends(text: &str) -> Result<u32, String> {
    let sends = text.parse().ok().filter(|sends| (1..=Backoff::MAX_SENDS).contains(sends));
    let shown = escape_short(text.as_bytes(), 40);
    sends.ok_or_else(|| format!("`{shown}` is not a number of sends; it must be 1 to {}", Backoff::MAX_SENDS))
}
