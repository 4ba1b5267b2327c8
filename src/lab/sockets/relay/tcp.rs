//! Operations on one TCP connection of a proxy: connect, keep alive, check, reset and close. The relayed bytes are in
//! `streams`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use async_io::Async;
use socket2::{SockRef, TcpKeepalive};

use super::rt;
use crate::net::happy_eyeballs;

/// Limit on the time to connect, for all addresses of the upstream together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Keepalive: idle time before the first probe, interval, number of probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// Connects to the first address that answers.
pub(super) async fn connect(upstream: &[SocketAddr]) -> io::Result<Async<TcpStream>> {
    let connected = rt::before(rt::now() + CONNECT_TIMEOUT, happy_eyeballs::connect(upstream)).await;
    connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map(|(socket, _)| socket)
}

/// Disables Nagle's algorithm, and enables keepalive.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    socket.set_tcp_keepalive(&keepalive)
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
