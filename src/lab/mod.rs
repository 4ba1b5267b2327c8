//! The lab: loss experiments one can trust, look at and repeat, on the objects that server and client are made of.
//!
//! ```text
//! sweep    what is varied, trials in virtual time and over sockets, what they came to: a CSV
//! plot     pictures of a CSV
//! report   one page of it
//! ladder   one exchange, datagram by datagram, as text and picture
//! proxy    relays for datagrams and streams, and what can be asked of them
//! load     what a server is loaded with, and what came of it
//! api      the same over HTTP
//! bare     who gets what in the least of servers, for comparison
//! sockets  the sockets and the clock of all these
//! files    files that are written whole or not at all
//! ```

pub mod files;
pub mod ladder;
pub mod plot;
pub mod report;
pub mod sweep;

// What the commands of `lab` are made of besides experiments: public for `cli` alone.
pub(crate) mod api;
#[doc(hidden)]
pub mod bare;
#[doc(hidden)]
pub mod load;
#[doc(hidden)]
pub mod proxy;
#[doc(hidden)]
pub mod sockets;
