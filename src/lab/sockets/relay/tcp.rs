//! Operations on one TCP connection of a proxy: connect, keep alive, check, reset and close. The relayed bytes are in
//! `streams`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use async_io::Async;
use socket2::SockRef;

use crate::net::tcp::{self, Keepalive};
use crate::net::{happy_eyeballs, outgoing};

/// Connects to the first address that answers.
pub(super) async fn connect(upstream: &[SocketAddr]) -> io::Result<Async<TcpStream>> {
    outgoing::in_time(happy_eyeballs::connect(upstream)).await.map(|(socket, _)| socket)
}

/// Disables Nagle's algorithm, and enables keepalive.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    tcp::set_options(socket, Keepalive::SERVER)
}

/// Makes the close of the socket a reset.
pub(super) fn reset(socket: &Async<TcpStream>) {
    // Fails only if the connection is already gone.
    let _ = SockRef::from(socket.get_ref()).set_linger(Some(Duration::ZERO));
}

/// Makes the close of the socket an orderly one: the system sends the bytes that it still holds.
pub(super) fn close(socket: &Async<TcpStream>) {
    // Fails only if the connection is already gone.
    let _ = SockRef::from(socket.get_ref()).set_linger(None);
}

/// Checks that the connection has not failed.
pub(super) fn check(socket: &Async<TcpStream>) -> io::Result<()> {
    socket.get_ref().take_error()?.map_or(Ok(()), Err)
}
