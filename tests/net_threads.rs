//! What a server does over real sockets, under the engine `threads`.

mod suite;
mod support;
