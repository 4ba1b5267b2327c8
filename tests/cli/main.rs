//! The programs `client` and `lab` from outside, each command and exit code; and the story of client and server together.

#![cfg(unix)]

mod client;
mod client_trouble;
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
