//! What a server does over real sockets: one matrix, under every engine. Each is a module around these tests, whose name
//! says which engine their servers have (`crate::support::server::engine`).

mod crowds;
mod doors;
mod flags;
mod limits;
mod lines;
mod rates;
mod rules;
mod server;
mod splits;
mod stuck;
