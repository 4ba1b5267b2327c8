//! Outgoing stream connections, over TCP or a UNIX socket: those of clients, of services that dial, and of proxies.
//!
//! The sockets are nonblocking. Which options a TCP connection gets is left to its user.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use async_io::Async;
use socket2::Socket;

use super::{happy_eyeballs, rt};
use crate::service::Target;

/// The limit of [`in_time`], for all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `target`, to the address that answers first if it has several. They are tried in order, beginning with
/// that of index `first`; the last is followed by the first. Returns the address, if it is a TCP connection.
///
/// # Errors
///
/// Fails if the name has no address, or with the error of the last address. There is no limit of time.
pub(crate) async fn connect(target: &Target, first: usize) -> io::Result<(Socket, Option<SocketAddr>)> {
    match target {
        Target::Tcp { host, port } => {
            let mut addresses = rt::resolve(host, *port).await?;
            let first = first % addresses.len().max(1);
            addresses.rotate_left(first);
            let (socket, address) = happy_eyeballs::connect(&addresses).await?;
            Ok((socket.into_inner()?.into(), Some(address)))
        }
        Target::Unix { path } => {
            let socket = Async::<UnixStream>::connect(path).await?;
            Ok((socket.into_inner()?.into(), None))
        }
    }
}

/// Waits for an attempt to connect, at most 10 s.
///
/// # Errors
///
/// Fails as the attempt does, or with [`io::ErrorKind::TimedOut`].
pub(crate) async fn in_time<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    rt::before(rt::now() + CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|| Err(late()))
}
