//! What a server does over real sockets: one matrix, under every engine. The binaries `net_poll`, `net_tasks` and `net_threads`
//! are these tests; the name of a binary says which engine its servers have (`support::server::engine`).

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
