//! Retransmission on both sides: request ids, retries, the dedup window, ordered pushes.
//!
//! It stands between the frames of [`wire`](crate::wire) and the chat. In the order of the data path: the client's
//! [`Requests`] retransmits each request on the schedule of a [`Backoff`]. The server's [`Replies`] (the dedup window)
//! answers a repeat without a second effect. The server's [`Pushes`] are retransmitted on timeouts from an
//! [`RttEstimator`], and received by an [`Inbox`]. [`send_times`] and [`theory`] compute the properties of a policy.
//!
//! A program with a protocol of its own takes [`Retries`]: it is what [`Requests`] is made of, without ids and frames.
//!
//! ```
//! use std::time::Duration;
//! use sayagain::reliable::Preset;
//!
//! let coap = Preset::Coap.backoff();
//! assert_eq!(coap.give_up(), Duration::from_secs(62)); // 2 + 4 + 8 + 16 + 32 s, without jitter
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
pub mod send_times;
pub mod theory;

pub use attempts::Attempts;
pub use backoff::{Backoff, Growth, Jitter, Schedule, success};
pub use inbox::{Inbox, Receipt};
pub use names::PolicyName;
pub use presets::Preset;
pub use pushes::{MAX_WINDOW, PushTimeouts, Pushes};
pub use replies::{Replies, Seen, WINDOW};
pub use request_queue::MAX_SLOWED;
pub(crate) use request_queue::SlowedFor;
pub use requests::{AskedToWait, Ended, Outcome, RequestStats, Requests, Sent, Ticket};
pub use retries::{Finished, Retries, Transmission};
pub use rtt::RttEstimator;
