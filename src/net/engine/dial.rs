//! Outgoing connections that a service asks for, over TCP or a UNIX socket.
//!
//! Each attempt is a task of the runtime, under every engine, so that resolving a name blocks no thread. Its result
//! goes to the engine: an error, or a socket like an accepted one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use async_io::Async;

use super::connection::{Socket, prepare};
use crate::door::Framing;
use crate::net::listen::unix;
use crate::net::{happy_eyeballs, rt};
use crate::service::{Remote, Target};

/// How long an attempt may take, for all addresses of a name together.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// Connects to `to`.
pub(super) async fn connect(to: Target) -> io::Result<(Socket, Remote)> {
    let attempt = async {
        match to {
            Target::Tcp { host, port } => tcp(&host, port).await,
            Target::Unix { path } => unix_socket(path).await,
        }
    };
    rt::before(rt::now() + DIAL_TIME, attempt).await.unwrap_or_else(|| Err(late()))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody answered in time")
}

async fn tcp(host: &str, port: u16) -> io::Result<(Socket, Remote)> {
    let (socket, address) = happy_eyeballs::connect(&rt::resolve(host, port).await?).await?;
    let socket = blocking(socket.into_inner()?)?;
    // Dialled peers are programs, so large writes pay.
    prepare(&socket, Framing::Bytes)?;
    Ok((socket, Remote::Ip(address)))
}

async fn unix_socket(path: PathBuf) -> io::Result<(Socket, Remote)> {
    let socket = blocking(Async::<UnixStream>::connect(path).await?.into_inner()?)?;
    let remote = unix::peer(&socket)?;
    Ok((socket, remote))
}

/// Blocking, as accepted sockets are: engines say at each read and write whether it may wait.
fn blocking(socket: impl Into<OwnedFd>) -> io::Result<Socket> {
    let socket = Socket::from(socket.into());
    socket.set_nonblocking(false)?;
    Ok(socket)
}
