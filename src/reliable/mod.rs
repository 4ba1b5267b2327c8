//! Retransmission on both sides: request ids, retries, the dedup window, ordered pushes.
//!
//! It stands between the frames of [`wire`](crate::wire) and the chat. In the order of the data path: the client's
//! `Requests` retransmits each request on the schedule of a [`Backoff`]. The server's [`Replies`] (the dedup window)
//! answers a repeat without a second effect. The server's [`Pushes`] are retransmitted on timeouts from an
//! [`RttEstimator`], and received by an `Inbox`. `send_times` and `theory` compute the properties of a policy.
//!
//! A program with a protocol of its own takes [`Retries`]: it is what `Requests` is made of, without ids and frames.
//!
//! ```
//! use std::time::Duration;
//! use sayagain::reliable::Backoff;
//!
//! let coap: Backoff = "coap".parse()?;
//! assert_eq!(coap.give_up(), Duration::from_secs(62)); // 2 + 4 + 8 + 16 + 32 s, without jitter
//! # Ok::<(), sayagain::units::UnitError>(())
//! ```

mod attempts;
mod backoff;
mod inbox;
mod names;
mod policy_spec;
mod presets;
mod pushes;
mod replies;
mod request_queue;
mod requests;
mod retries;
mod rtt;
pub(crate) mod send_times;
pub(crate) mod theory;

pub use attempts::Attempts;
pub use backoff::{Backoff, Growth, Jitter, Schedule};
pub(crate) use inbox::{Inbox, Receipt};
pub(crate) use names::PolicyName;
pub(crate) use request_queue::SlowedFor;
pub use requests::{AskedToWait, Ended, Outcome, Sent, Ticket};
pub(crate) use requests::{RequestStats, Requests};
pub use retries::{Finished, Retries, Transmission};
pub use rtt::RttEstimator;

// Hidden: not part of the public API, without a promise of stability; for the tests and benches of this project.
#[doc(hidden)]
pub use {
    backoff::success,
    presets::Preset,
    pushes::{MAX_WINDOW, PushTimeouts, Pushes},
    replies::{Replies, Seen, WINDOW},
};
