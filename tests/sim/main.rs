//! The delivery promise on a virtual clock: servers, clients and lossy links, without sockets.
//!
//! Every test is deterministic. A test that draws from seeds prints the seed that failed and the command that replays
//! it. Tests with sockets are in `tests/net`.

#![allow(clippy::disallowed_methods, reason = "the virtual clock needs an instant to count from")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod alike;
mod chaos;
mod client;
mod cuts;
mod datagrams;
mod drains;
mod endings;
mod fairness;
mod floods;
mod fuzz;
#[path = "../fuzz_harness/mod.rs"]
mod fuzz_harness;
mod fuzz_seeds;
mod harness;
mod hostile_text;
mod hosts;
mod limits;
mod lines;
mod links;
mod long;
mod loss_doc;
mod memory;
mod noise;
mod packing;
mod promises;
mod protocol_doc;
mod rates;
mod roaming;
mod rooms;
mod rules;
mod server_bye;
mod share;
mod slow_consumers;
mod streams;
mod support;
mod text_cuts;
