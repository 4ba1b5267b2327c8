//! Tests over sockets on loopback: the engines, the library's client and handlers, hosts with several addresses, `lab
//! proxy`.
//!
//! The tests of [`suite`](poll::suite) run under each engine: the first part of a test's name is the engine of its
//! servers ([`support::server::engine`]).

#![cfg(unix)]
#![allow(clippy::duplicate_mod, reason = "one suite under each engine")]

mod addresses;
mod api;
mod client;
mod host;
mod proxy;
mod proxy_programs;
mod proxy_rate;
#[path = "../support/mod.rs"]
mod support;

/// With two loops, so that handing over between loops is tested.
#[path = "."]
mod poll {
    mod suite;
}

#[path = "."]
mod tasks {
    mod suite;
}

#[path = "."]
mod threads {
    mod suite;
}
