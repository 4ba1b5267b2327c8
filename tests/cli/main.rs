//! The programs `client` and `lab` as processes: each command and exit code, and whole scenarios of client and server.

#![cfg(unix)]

mod client;
mod client_trouble;
mod docs;
mod lab_baseline;
mod lab_compare;
mod lab_ladder;
mod lab_load;
mod lab_plot;
mod lab_policy;
mod lab_sweep;
mod story;
#[path = "../support/mod.rs"]
mod support;
