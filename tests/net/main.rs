//! Sockets: the engines, the library's client and handlers, hosts of several addresses, `lab proxy`. Real programs on
//! loopback.
//!
//! The tests of [`suite`](poll::suite) run under each engine: the first part of a test's name says which one its servers
//! have ([`support::server::engine`]).

#![cfg(unix)]

mod addresses;
mod api;
mod client;
mod host;
mod proxy;
mod proxy_programs;
mod proxy_rate;
#[path = "../support/mod.rs"]
mod support;

/// With two loops: where they hand something to each other is where they can fail.
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
