//! The lab: reproducible experiments with packet loss, on the same objects as the server and the client.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
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

pub(crate) mod api;
pub(crate) mod baseline;
pub(crate) mod files;
pub(crate) mod ladder;
pub(crate) mod load;
mod numbers;
pub(crate) mod plot;
pub(crate) mod report;
pub(crate) mod sockets;
mod svg;

// Public for the fuzz harness alone, which reads hostile tables and records.
#[doc(hidden)]
pub mod proxy;
#[doc(hidden)]
pub mod sweep;
