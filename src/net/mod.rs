//! The only code that touches a socket, a clock or a thread.
pub mod connect;
