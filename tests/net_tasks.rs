//! What a server does over real sockets, under the engine `tasks`.

mod suite;
mod support;
