//! The tests of the server over real sockets, run under every engine: the enclosing module names the engine of the
//! servers (`crate::support::server::engine`).

mod flags;
mod limits;
mod lines;
mod listeners;
mod many_clients;
mod rates;
mod rules;
mod server;
mod splits;
mod stuck;
