//! What is done to one TCP connection of a proxy: made, kept, looked after, and ended with or without a reset. What it carries
//! is in `streams`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use async_io::Async;
use socket2::{SockRef, TcpKeepalive};

use super::rt;
use crate::net::happy_eyeballs;

/// How long the upstream may take to answer, all of its addresses together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After how much silence a peer is asked whether it is still there, how often, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// The first address that answers.
pub(super) async fn connect(upstream: &[SocketAddr]) -> io::Result<Async<TcpStream>> {
    let connected = rt::before(rt::now() + CONNECT_TIMEOUT, happy_eyeballs::connect(upstream)).await;
    connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map(|(socket, _)| socket)
}

/// Sends small segments at once, and notices peers that have vanished.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    socket.set_tcp_keepalive(&keepalive)
}

/// Closes with a reset, once the socket is dropped.
pub(super) fn reset(socket: &Async<TcpStream>) {
    // Where that is refused, the connection is gone already.
    let _ = SockRef::from(socket.get_ref()).set_linger(Some(Duration::ZERO));
}

/// Closes without a reset, once the socket is dropped: the system sends what it still holds.
pub(super) fn close(socket: &Async<TcpStream>) {
    // Where that is refused, the connection is gone already.
    let _ = SockRef::from(socket.get_ref()).set_linger(None);
}

/// Whether that end of a connection is still there.
pub(super) fn check(socket: &Async<TcpStream>) -> io::Result<()> {
    socket.get_ref().take_error()?.map_or(Ok(()), Err)
}
