//! The lab: reproducible experiments with packet loss, on the same objects as the server and the client.
//!
//! ```text
//! sweep     varies parameters, runs trials in virtual time or over sockets, writes a CSV
//! plot      plots of that CSV
//! report    one HTML page of it
//! ladder    one exchange, datagram by datagram, as text and SVG
//! proxy     relays for datagrams and streams, and the control of them
//! load      workloads for a server, and their results
//! api       the control of proxies over HTTP
//! baseline  connection patterns of a server that only moves bytes
//! sockets   the sockets and the clock of all of these
//! numbers   numbers as text
//! svg       elements of SVG as text
//! files     atomic writing of files
//! ```

pub mod files;
pub mod ladder;
mod numbers;
pub mod plot;
pub mod report;
mod svg;
pub mod sweep;

// The parts of the `lab` commands besides experiments: used by `cli` alone.
pub(crate) mod api;
#[doc(hidden)]
pub mod baseline;
#[doc(hidden)]
pub mod load;
#[doc(hidden)]
pub mod proxy;
#[doc(hidden)]
pub mod sockets;
