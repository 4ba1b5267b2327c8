//! The UDP transport of a client: a connected socket, and which address of the host it sends to.
//!
//! Requests are retransmitted by the client. Here a request moves on to the next address of its host while none has
//! answered. A changed local address needs a new socket.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use async_io::Async;

use super::missing_address;
use crate::client::Client;
use crate::net::udp;

/// Delay between a failed send and another socket.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Datagrams to one address of the host at a time.
#[derive(Debug)]
pub(in crate::net::drive) struct Datagrams {
    socket: Async<UdpSocket>,
    /// The other addresses of the host.
    others: VecDeque<SocketAddr>,
    /// Time that each of several addresses has to answer, before the server has answered at all.
    share: Duration,
    unanswered: Option<Unanswered>,
    /// Time to try another socket, after a failure of the local address or its routes.
    retry_at: Option<Instant>,
}

/// A datagram that goes to the next address too if the present one does not answer.
#[derive(Debug)]
struct Unanswered {
    bytes: Vec<u8>,
    /// End of the present address's share of the time.
    due: Instant,
    /// Number of addresses that have not been tried.
    left: usize,
}

impl Datagrams {
    pub(super) fn new(addresses: Vec<SocketAddr>, time: Duration) -> io::Result<Self> {
        let share = time / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut others: VecDeque<SocketAddr> = addresses.into();
        let first = others.pop_front().ok_or_else(missing_address)?;
        Ok(Self { socket: connected_to(first)?, others, share, unanswered: None, retry_at: None })
    }

    pub(super) async fn send(&mut self, now: Instant, bytes: Vec<u8>, heard: bool) {
        // Any failure counts as a loss, also an ICMP answer to an earlier datagram.
        if let Err(error) = self.socket.send(&bytes).await {
            log::debug!("a datagram was not sent: {error}");
            if is_path_error(&error) {
                self.retry_at.get_or_insert(now + RETRY_PAUSE);
            }
        }
        let left = self.others.len();
        self.unanswered = (!heard && left > 0).then(|| Unanswered { bytes, due: now + self.share, left });
    }

    /// Waits until there is something to receive.
    pub(super) async fn readable(&self) {
        // The next read reports an error.
        let _ = self.socket.readable().await;
    }

    /// End of the present address's share of the time, or the time to try another socket.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let share_over = self.unanswered.as_ref().map(|unanswered| unanswered.due);
        share_over.into_iter().chain(self.retry_at).min()
    }

    /// Sends the unanswered datagram to the next address, once the present one has had its share of the time.
    pub(super) fn resend_to_next(&mut self, now: Instant, heard: bool) {
        if heard {
            self.unanswered = None;
        }
        let Some(mut unanswered) = self.unanswered.take_if(|unanswered| unanswered.due <= now) else {
            return;
        };
        self.try_next();
        if let Err(error) = self.socket.get_ref().send(&unanswered.bytes) {
            log::debug!("a datagram was not sent: {error}");
        }
        unanswered.left -= 1;
        unanswered.due = now + self.share;
        self.unanswered = Some(unanswered).filter(|unanswered| unanswered.left > 0);
    }

    /// Tries another socket, if that is due.
    pub(super) fn retry(&mut self, now: Instant, client: &mut Client) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            if self.check_path(true) {
                client.handle_moved(now);
            }
        }
    }

    /// Replaces the socket if the host has another address now, or `replace` is set. Without a route to the
    /// server's address, tries the others of its host. Returns whether there is a new socket.
    pub(super) fn check_path(&mut self, replace: bool) -> bool {
        let here = self.socket.get_ref().local_addr().map(|addr| addr.ip()).ok();
        let Ok(server) = self.socket.get_ref().peer_addr() else { return false };
        let new = match connected_to(server) {
            Ok(socket) if !replace && socket.get_ref().local_addr().map(|addr| addr.ip()).ok() == here => {
                return false;
            }
            Ok(socket) => Some(socket),
            Err(error) => {
                log::debug!("no route to {server}: {error}");
                self.route_to_another(server)
            }
        };
        let Some(socket) = new else { return false };
        log::info!("datagrams leave from a new socket");
        self.socket = socket;
        true
    }

    /// Creates a socket connected to another address of the host, which this one replaces in the list.
    fn route_to_another(&mut self, server: SocketAddr) -> Option<Async<UdpSocket>> {
        self.others.iter_mut().find_map(|other| {
            let socket = connected_to(*other).ok()?;
            *other = server;
            Some(socket)
        })
    }

    pub(super) fn receive(&mut self, now: Instant, client: &mut Client, most: usize, buffer: &mut [u8]) {
        for _ in 0..most {
            match self.socket.get_ref().recv(buffer) {
                Ok(n) => client.handle_datagram(now, buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // "Connection refused" means that no server is there yet, or any more: the schedule
                // continues.
                Err(error) => {
                    log::debug!("nothing received: {error}");
                    if error.kind() == io::ErrorKind::ConnectionRefused && !client.has_heard() {
                        return self.try_next();
                    }
                }
            }
        }
    }

    /// Moves to the next address of the host. The first follows the last, as the server may be started later.
    fn try_next(&mut self) {
        let here = self.socket.get_ref().peer_addr();
        if let Some(next) = self.others.pop_front()
            && let Ok(socket) = connected_to(next)
        {
            self.socket = socket;
            self.others.extend(here);
        }
    }
}

fn connected_to(server: SocketAddr) -> io::Result<Async<UdpSocket>> {
    Async::new(udp::connected_to(server)?)
}

/// Whether a send failed because of the local address or its routes; another socket may have better ones.
fn is_path_error(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, InvalidInput, NetworkDown, NetworkUnreachable};
    matches!(
        error.kind(),
        AddrNotAvailable | HostUnreachable | InvalidInput | NetworkDown | NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::rt;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Takes the datagrams that wait at a socket, and returns their number.
    fn count(socket: &UdpSocket) -> usize {
        std::iter::from_fn(|| socket.recv(&mut [0; 16]).ok()).count()
    }

    /// Number of datagrams that each socket has received since the last call.
    fn counts<const N: usize>(sockets: &[UdpSocket; N]) -> [usize; N] {
        sockets.each_ref().map(count)
    }

    fn datagrams<const N: usize>(sockets: &[UdpSocket; N], time: Duration) -> Datagrams {
        Datagrams::new(sockets.iter().map(|socket| socket.local_addr().unwrap()).collect(), time).unwrap()
    }

    #[test]
    fn each_address_of_a_host_gets_its_share_of_the_time_to_answer() {
        let (sockets, now, second) = ([socket(), socket(), socket()], rt::now(), Duration::from_secs(1));
        let mut datagrams = datagrams(&sockets, 3 * second);
        rt::block_on(datagrams.send(now, b"REG".to_vec(), false));
        for (millis, expected) in
            [(0, [1, 0, 0]), (999, [0, 0, 0]), (1_000, [0, 1, 0]), (2_100, [0, 0, 1]), (9_000, [0, 0, 0])]
        {
            datagrams.resend_to_next(now + Duration::from_millis(millis), false);
            assert_eq!(counts(&sockets), expected, "after {millis} ms");
        }
        // The next datagram begins at the address of the last, and the first follows again.
        rt::block_on(datagrams.send(now + 9 * second, b"REG".to_vec(), false));
        datagrams.resend_to_next(now + 10 * second, false);
        assert_eq!(counts(&sockets), [1, 0, 1]);
        datagrams.resend_to_next(now + 10 * second, true);
        assert!(datagrams.unanswered.is_none(), "it was heard");
    }

    #[test]
    fn an_address_that_answered_and_a_single_address_are_kept() {
        let (sockets, now, time) = ([socket(), socket()], rt::now(), Duration::from_secs(1));
        let (mut heard, mut alone) = (datagrams(&sockets, time), datagrams(&[socket()], time));
        rt::block_on(heard.send(now, b"SND".to_vec(), true));
        rt::block_on(alone.send(now, b"REG".to_vec(), false));
        assert!(heard.unanswered.is_none() && alone.unanswered.is_none());
        heard.resend_to_next(now + time, true);
        assert_eq!(counts(&sockets), [1, 0]);
    }
}
