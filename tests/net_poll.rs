//! What a server does over real sockets, under the engine `poll`, with two loops.

mod suite;
mod support;
