//! Chat over TCP and lossy UDP, with a client that says it again until it is heard.

pub mod cli;
pub mod client;
pub mod config;
pub mod error;
pub mod escape;
pub mod hub;
pub mod link;
pub mod net;
pub mod reliable;
pub mod server;
pub mod service;
pub mod sim;
pub mod timers;
pub mod units;
pub mod wire;
