//! Retransmission on both sides: ids, repeats, the window of remembered answers, ordered delivery.
//!
//! In path order: a [`Requests`] asker repeats what it asks on the schedule of a [`Backoff`]; the answerer's
//! [`Replies`] keeps a repeat from having a second effect; what the answerer has to say on its own goes out through
//! [`Pushes`], on timeouts that [`RttEstimator`] measures, and comes in through an [`Inbox`]. [`send_times`] and [`theory`]
//! compute what a policy does without playing it.

mod attempts;
pub mod backoff;
pub mod inbox;
pub mod names;
pub mod presets;
pub mod pushes;
pub mod replies;
pub mod requests;
pub mod rtt;
pub mod send_times;
pub mod theory;
mod waiting;

pub use attempts::Attempts;
pub use backoff::{Backoff, Growth, Jitter, Schedule, success};
pub use inbox::{Inbox, Receipt};
pub use names::PolicyName;
pub use presets::Preset;
pub use pushes::{PushTimeouts, Pushes};
pub use replies::{Replies, Seen, WINDOW};
pub use requests::{AskedToWait, Ended, Outcome, RequestStats, Requests, Sent, Ticket};
pub use rtt::RttEstimator;
pub use waiting::MAX_SLOWED;
pub(crate) use waiting::SlowedFor;
