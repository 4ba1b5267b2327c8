//! The delivery promise on a virtual clock: servers, clients and lossy links without a socket.
//!
//! Every test here is deterministic; one that draws from seeds prints the seed that failed and the command that
//! replays it.

#![allow(clippy::disallowed_methods, reason = "the virtual clock needs an instant to count from")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod chaos;
mod client;
mod cuts;
mod datagrams;
mod desk;
mod farewell;
mod floods;
mod limits;
mod lines;
mod links;
mod long;
mod loss_doc;
mod nasty;
mod noise;
mod packing;
mod protocol_doc;
mod rates;
mod roaming;
mod rooms;
mod rules;
mod share;
mod slow;
mod streams;
mod support;
mod turns;
