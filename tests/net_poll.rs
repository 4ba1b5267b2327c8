//! What a server does over real sockets, under the engine `poll`.

mod suite;
mod support;
