//! Retransmission.

pub mod backoff;
pub mod presets;
pub mod rtt;

pub use backoff::{Attempts, Backoff, Growth, Jitter, Schedule, success};
pub use presets::Preset;
pub use rtt::RttEstimator;
