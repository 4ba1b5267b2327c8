//! TCP peers that vanished while output to them was in flight. Closes them after [`DEAD_AFTER`] without an answer.
//!
//! TCP_USER_TIMEOUT would find them. But it also closes a peer that reads nothing for that long, although its system
//! answers every window probe (RFC 9293 section 3.8.6.1). So the engine reads TCP_INFO. A peer is dead if nothing came
//! from it for [`DEAD_AFTER`] although something is unacknowledged, or a window probe was sent meanwhile. A connection
//! is watched from a write until all of it is acknowledged. Without TCP_INFO, the system's limit of retransmissions
//! holds, about 15 minutes. Idle connections are left to TCP keepalive.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::connection::Socket;
use crate::service::ConnId;

/// Longest time for which sent data may stay unanswered.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(60);

/// The least time between two checks of a connection.
const CHECK_EVERY: Duration = Duration::from_secs(15);

/// The least time between two sweeps.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two retransmissions or window probes: TCP_RTO_MAX of Linux.
const LONGEST_INTERVAL: Duration = Duration::from_secs(120);

/// Longest delay of an answer beyond that interval.
const SLACK: Duration = Duration::from_secs(10);

/// Connections with output in flight, in the order in which they are checked.
#[derive(Debug, Default)]
pub(super) struct PeerWatch {
    queue: VecDeque<Watched>,
    sweep_at: Option<Instant>,
}

/// A watched connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) conn: ConnId,
    /// Time of the first write while nothing was unacknowledged.
    pub(super) since: Instant,
    check_at: Instant,
}

impl PeerWatch {
    /// Watches a connection that was written to.
    pub(super) fn watch(&mut self, now: Instant, conn: ConnId) {
        self.watch_on(now, Watched { conn, since: now, check_at: now });
    }

    /// Keeps watching a connection.
    pub(super) fn watch_on(&mut self, now: Instant, watched: Watched) {
        let check_at = now + CHECK_EVERY;
        self.queue.push_back(Watched { check_at, ..watched });
        self.sweep_at.get_or_insert(check_at);
    }

    /// Due time of the next check.
    pub(super) fn next(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// The next connection to check now. It is not watched any more.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Watched> {
        if self.sweep_at.is_none_or(|at| at > now) {
            return None;
        }
        let due = self.queue.pop_front_if(|watched| watched.check_at <= now);
        if due.is_none() {
            self.sweep_at = self.queue.front().map(|watched| watched.check_at.max(now + SWEEP_PAUSE));
            crate::queue_capacity::shrink_sparse(&mut self.queue);
        }
        due
    }
}

/// The system's view of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpState {
    /// Whether segments are unacknowledged.
    pub(super) is_unacknowledged: bool,
    /// Whether the peer's window is closed and output waits for it.
    pub(super) is_probing: bool,
    /// For how long no ACK has come.
    pub(super) silent_for: Duration,
    /// The present interval between two retransmissions or two probes.
    pub(super) interval: Duration,
}

impl TcpState {
    /// Reads TCP_INFO; `None` where the system has none, and for other sockets.
    #[cfg(target_os = "linux")]
    pub(super) fn of(socket: &Socket) -> Option<Self> {
        let info = nix::sys::socket::getsockopt(socket, tcp_info::TcpInfo).ok()?;
        let is_unacknowledged = info.tcpi_unacked > 0;
        let rto = Duration::from_micros(info.tcpi_rto.into());
        // Probes back off from the retransmission timeout, which does not change meanwhile
        // (`tcp_probe0_when`).
        let doublings = if is_unacknowledged { 0 } else { info.tcpi_backoff.min(20) };
        Some(Self {
            is_unacknowledged,
            is_probing: info.tcpi_probes > 0 || info.tcpi_backoff > 0,
            silent_for: Duration::from_millis(info.tcpi_last_ack_recv.into()),
            interval: (rto * (1 << doublings)).min(LONGEST_INTERVAL),
        })
    }

    /// Reads TCP_INFO; `None` where the system has none, and for other sockets.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_: &Socket) -> Option<Self> {
        None
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_unacknowledged && !self.is_probing
    }

    /// Whether the peer is dead, given how long output to it has been in flight.
    pub(super) fn is_dead(&self, watched_for: Duration) -> bool {
        let silent_for = self.silent_for.min(watched_for);
        !self.is_idle() && silent_for > DEAD_AFTER.max(self.interval + SLACK)
    }
}

#[cfg(target_os = "linux")]
mod tcp_info {
    use nix::libc;
    use nix::sys::socket::sockopt::GetStruct;

    /// TCP_INFO, tcp(7).
    #[derive(Clone, Copy, Debug)]
    pub(super) struct TcpInfo;

    nix::getsockopt_impl!(
        TcpInfo,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        libc::tcp_info,
        GetStruct<libc::tcp_info>
    );
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::rt;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_peer_is_dead_after_a_minute_and_a_full_probe_interval_without_an_answer() {
        let state = |unacknowledged, probing, silent, interval| TcpState {
            is_unacknowledged: unacknowledged,
            is_probing: probing,
            silent_for: secs(silent),
            interval: secs(interval),
        };
        for (state, watched, dead) in [
            (state(true, true, 61, 51), 61, false),
            (state(true, true, 62, 51), 62, true),
            (state(true, false, 61, 1), 61, true),
            (state(true, false, 60, 1), 600, false),
            // Silent for long, and written to just now.
            (state(true, false, 3_600, 1), 15, false),
            // A closed window: a probe every two minutes, each answered.
            (state(false, true, 121, 120), 3_600, false),
            (state(false, true, 131, 120), 3_600, true),
            // Nothing is on its way.
            (state(false, false, 3_600, 1), 3_600, false),
        ] {
            assert_eq!(state.is_dead(secs(watched)), dead, "{state:?} watched for {watched} s");
        }
    }

    #[test]
    fn connections_are_checked_in_order_and_at_most_once_a_second() {
        let (start, mut watch) = (rt::now(), PeerWatch::default());
        let conns = |watch: &mut PeerWatch, now| -> Vec<u64> {
            std::iter::from_fn(|| watch.pop_due(now)).map(|watched| watched.conn.0).collect()
        };
        assert_eq!(watch.next(), None);
        for n in 0..4_u32 {
            watch.watch(start + Duration::from_millis(400) * n, ConnId(n.into()));
        }
        assert_eq!((watch.next(), conns(&mut watch, start + secs(14))), (Some(start + secs(15)), vec![]));
        assert_eq!(conns(&mut watch, start + secs(15)), [0]);
        assert_eq!(watch.next(), Some(start + secs(16)));
        assert_eq!(conns(&mut watch, start + secs(16)), [1, 2]);
        assert_eq!(conns(&mut watch, start + secs(17)), [3]);
        assert_eq!(watch.next(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_paused_reader_is_probed_and_one_that_has_read_everything_is_idle() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut writer, _) = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut written = 0;
        // Until the window has been closed long enough to be probed.
        let probed = loop {
            match writer.write(&[0; 64 << 10]) {
                Ok(count) => written += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let state = TcpState::of(socket2::SockRef::from(&writer).try_clone().as_ref().unwrap()).unwrap();
            if state.is_probing && !state.is_unacknowledged && state.interval >= Duration::from_millis(800) {
                break state;
            }
            std::thread::yield_now();
        };
        assert!(probed.silent_for < secs(5) && !probed.is_dead(secs(3_600)), "{probed:?}");
        writer.set_nonblocking(false).unwrap();
        let mut buffer = vec![0; 1 << 20];
        while written > 0 {
            written -= reader.read(&mut buffer).unwrap();
        }
        let socket = Socket::from(writer);
        let settled = || TcpState::of(&socket).unwrap();
        while !settled().is_idle() {
            std::thread::yield_now();
        }
        assert!(!settled().is_dead(secs(3_600)));
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(TcpState::of(&Socket::from(unix)), None);
    }
}
