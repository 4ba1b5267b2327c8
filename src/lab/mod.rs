//! The lab: loss experiments one can trust, look at and repeat, on the objects that server and client are made of.
//!
//! ```text
//! sweep    what is varied, trials in virtual time and over sockets, what they came to: a CSV
//! theory   what the mathematics say of a request under a policy
//! policy   when a policy sends and gives up at the latest, and what that costs
//! plot     pictures of a CSV
//! report   one page of it
//! ladder   one exchange, datagram by datagram, as text and picture
//! proxy    relays for datagrams and streams, and what can be asked of them
//! load     what a server is loaded with, and what came of it
//! api      the same over HTTP
//! bare     who gets what in the least of servers, for comparison
//! files    files that are written whole or not at all
//! ```

pub mod files;
pub mod ladder;
pub mod plot;
pub mod policy;
pub mod report;
pub mod sweep;
pub mod theory;

// What the commands of `lab` are made of besides experiments: public for `cli` and `net` alone.
pub(crate) mod api;
#[doc(hidden)]
pub mod bare;
#[doc(hidden)]
pub mod load;
#[doc(hidden)]
pub mod proxy;
