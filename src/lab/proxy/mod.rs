//! A lossy relay for programs nobody here wrote, without its sockets.

pub mod control;
