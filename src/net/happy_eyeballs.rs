//! TCP connections to a host with several addresses: Happy Eyeballs, RFC 8305.
//!
//! An address may not answer because its family is not routed or its path drops packets. It delays the others by
//! [`DELAY`] and hides none of them. Resolving the name is left to the caller.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use async_io::Async;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::rt;

/// Time between the attempts with one address and the next: the Connection Attempt Delay of RFC 8305 section 5.
const DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that answers. They are tried in order, the next one when the last
/// has failed or after [`DELAY`]. Attempts go on until one succeeds.
///
/// # Errors
///
/// Returns the last error if all have failed. There is no other limit of time.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<(Async<TcpStream>, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let (mut waiting, mut attempts) = (addresses.iter().copied(), FuturesUnordered::new());
    loop {
        attempts.extend(waiting.next().map(attempt));
        let ended = match waiting.len() {
            0 => Some(attempts.next().await),
            _ => rt::before(rt::now() + DELAY, attempts.next()).await,
        };
        match ended {
            Some(Some((address, Ok(socket)))) => return Ok((socket, address)),
            Some(Some((_, Err(error)))) => last = error,
            // None is left.
            Some(None) => return Err(last),
            None => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<Async<TcpStream>>) {
    (address, Async::<TcpStream>::connect(address).await)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener whose backlog is full, so that it answers no SYN, and the sockets that fill it.
    #[cfg(target_os = "linux")]
    fn silent(host: &str) -> (socket2::Socket, Vec<socket2::Socket>) {
        use socket2::{Domain, Socket, Type};
        let addr: SocketAddr = format!("{host}:0").parse().unwrap();
        let listener = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        listener.bind(&addr.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let fill = |_| {
            let socket = Socket::new(addr.domain(), Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&addr);
            socket
        };
        let filling = (0..4).map(fill).collect();
        (listener, filling)
    }

    #[cfg(target_os = "linux")]
    fn addr_of(listener: &socket2::Socket) -> SocketAddr {
        listener.local_addr().unwrap().as_socket().unwrap()
    }

    fn refused() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn connected(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        rt::block_on(async {
            let end = rt::now() + Duration::from_secs(10);
            rt::before(end, connect(addresses)).await.expect("no address hides the others")
        })
        .map(|(_, address)| address)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn addresses_behind_one_that_drops_packets_or_refuses_are_reached() {
        let (silent, _filling) = silent("127.0.0.2");
        let live = TcpListener::bind("127.0.0.1:0").unwrap();
        let (silent, live) = (addr_of(&silent), live.local_addr().unwrap());
        for addresses in [vec![silent, live], vec![refused(), silent, refused(), live], vec![live, silent]] {
            assert_eq!(connected(&addresses).unwrap(), live, "{addresses:?}");
        }
    }

    #[test]
    fn the_error_is_that_of_the_last_address_or_that_there_is_none() {
        let error = connected(&[refused(), refused()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connected(&[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
