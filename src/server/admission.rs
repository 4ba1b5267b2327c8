//! Limits on how many peers there may be: connections and sessions in total, and from one [`Host`].
//!
//! Each host has a count of its connections and of its sessions that have no connection: sessions that linger, and
//! sessions over UDP. A session that has a connection is counted by that. A small share of the totals is kept for peers
//! on this machine, so that a flood from elsewhere does not lock out the operator.

use std::time::Instant;

use super::Server;
use super::hosts::Host;
use crate::config::ServerConfig;
use crate::error::Refusal;
use crate::hub::Path;
use crate::log_limiter::LogLimiter;
use crate::parted_map::PartedMap;
use crate::service::Remote;
use crate::units::counted;

/// The text for a connection from a host that has as many as it may.
const TOO_MANY: &str = "too many connections from your address";

/// The share of a total that is kept for peers on this machine is a sixteenth, within these bounds, ..
const KEPT: (usize, usize) = (8, 64);

/// .. and at most a quarter of the total.
const KEPT_AT_MOST: usize = 4;

/// How many of `total` only peers on this machine may take.
pub(super) fn kept_for_this_machine(total: usize) -> usize {
    let (least, most) = KEPT;
    (total / 16).clamp(least, most).min(total / KEPT_AT_MOST)
}

/// The part of `total` that a peer may take.
fn share(total: usize, host: Option<Host>) -> usize {
    if host.is_some() { total - kept_for_this_machine(total) } else { total }
}

/// Most connections that are being told why they are refused. Each holds a file descriptor until its peer has closed it,
/// beyond those of the connections that may be: peers refused beyond these are closed without a word.
pub(super) const MAX_TOLD: usize = 16;

/// What a connection counts as, until it is [closed](Admission::leave).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It may stay, and counts for its host.
    Counted,
    /// It may stay, and has no host, or hosts are not counted.
    Free,
    /// It is refused, and told so.
    Told,
    /// It is refused, and closed at once.
    Untold,
}

/// What one host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    connections: usize,
    /// Sessions without a connection.
    sessions: usize,
}

impl Count {
    const fn sum(self) -> usize {
        self.connections + self.sessions
    }
}

/// What each host has.
pub(super) type HostCounts = PartedMap<Host, Count>;

/// The counts: of at most as many hosts as there are connections and sessions.
#[derive(Debug, Default)]
pub(super) struct Admission {
    connections: usize,
    /// Connections that are being told why they are refused.
    told: usize,
    by_host: HostCounts,
    complaints: LogLimiter,
}

impl Admission {
    /// Takes a seat for a connection.
    ///
    /// # Errors
    ///
    /// There is none left: why, in words for its peer.
    pub(super) fn enter(&mut self, config: &ServerConfig, from: Remote) -> Result<Seat, &'static str> {
        let host = Host::of(from);
        if self.connections >= share(config.max_connections, host) {
            return Err(Refusal::ServerFull.text());
        }
        if !self.has_room(config, from) {
            return Err(TOO_MANY);
        }
        self.connections += 1;
        let Some(host) = host.filter(|_| config.max_per_host > 0) else { return Ok(Seat::Free) };
        self.by_host.get_or_default(host).connections += 1;
        Ok(Seat::Counted)
    }

    /// Counts a connection that is refused.
    pub(super) fn refuse(&mut self) -> Seat {
        if self.told >= MAX_TOLD {
            return Seat::Untold;
        }
        self.told += 1;
        Seat::Told
    }

    /// A connection from there is closed.
    pub(super) fn leave(&mut self, seat: Seat, from: Remote) {
        match seat {
            Seat::Counted | Seat::Free => self.connections -= 1,
            Seat::Told => self.told -= 1,
            Seat::Untold => {}
        }
        if let Some(host) = Host::of(from).filter(|_| seat == Seat::Counted) {
            self.change(host, |count| count.connections = count.connections.saturating_sub(1));
        }
    }

    /// Whether a host may have another connection or session.
    fn has_room(&self, config: &ServerConfig, from: Remote) -> bool {
        let count = Host::of(from).and_then(|host| self.by_host.get(&host)).copied().unwrap_or_default();
        config.max_per_host == 0 || count.sum() < config.max_per_host
    }

    /// Counts a session without a connection.
    fn hold(&mut self, config: &ServerConfig, from: Remote) {
        if let Some(host) = Host::of(from).filter(|_| config.max_per_host > 0) {
            self.by_host.get_or_default(host).sessions += 1;
        }
    }

    /// A session without a connection has ended, has moved, or has a connection again.
    fn release(&mut self, from: Remote) {
        if let Some(host) = Host::of(from) {
            self.change(host, |count| count.sessions = count.sessions.saturating_sub(1));
        }
    }

    /// Changes the count of a host, and forgets a host that has nothing.
    fn change(&mut self, host: Host, change: impl FnOnce(&mut Count)) {
        let Some(count) = self.by_host.get_mut(&host) else { return };
        change(count);
        if *count == Count::default() {
            self.by_host.remove(&host);
        }
    }

    /// All sessions are about to end, and no peer is admitted any more. Returns the counts, which nothing asks for again.
    pub(super) fn release_all(&mut self) -> HostCounts {
        std::mem::take(&mut self.by_host)
    }

    /// Logs that a connection or a session was refused: a line a second at most.
    pub(super) fn log_refused(&mut self, now: Instant, what: &str, from: Remote, why: &str) {
        let Some(times) = self.complaints.count(now) else { return };
        let others = match times - 1 {
            0 => String::new(),
            others => format!("; before it, {}", counted(others, "other")),
        };
        log::warn!("refused a {what} from {from}: {why}{others}");
    }

    /// How many hosts are remembered.
    pub(super) fn hosts(&self) -> usize {
        self.by_host.len()
    }
}

/// Sessions.
impl Server {
    /// Whether another session may begin on this path, from there.
    ///
    /// # Errors
    ///
    /// [`Refusal::ServerFull`], or for a session without a connection [`Refusal::HostFull`].
    pub(super) fn has_room(&mut self, now: Instant, path: Path, from: Remote) -> Result<(), Refusal> {
        let most = share(self.config.hub.max_sessions, Host::of(from));
        let refusal = if self.hub.len() >= most {
            Refusal::ServerFull
        } else if is_without_connection(path) && !self.admission.has_room(&self.config, from) {
            Refusal::HostFull
        } else {
            return Ok(());
        };
        self.totals.refused_sessions += 1;
        self.admission.log_refused(now, "session", from, refusal.text());
        Err(refusal)
    }

    /// Counts a session for its host, if it has no connection that is counted.
    pub(super) fn hold_host(&mut self, path: Path, from: Remote) {
        if is_without_connection(path) {
            self.admission.hold(&self.config, from);
        }
    }

    /// The same for a session that has ended, or is about to leave this path.
    pub(super) fn release_host(&mut self, path: Path, from: Remote) {
        if is_without_connection(path) {
            self.admission.release(from);
        }
    }
}

const fn is_without_connection(path: Path) -> bool {
    matches!(path, Path::Stream(None) | Path::Datagram(_))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn from(ip: &str) -> Remote {
        Remote::Ip((ip.parse::<IpAddr>().unwrap(), 4_000).into())
    }

    #[test]
    fn a_host_without_connections_and_sessions_is_forgotten() {
        let (config, mut admission) = (ServerConfig::default(), Admission::default());
        let ips = ["192.0.2.1", "192.0.2.1", "::1", "2001:db8::1"];
        let seats = ips.map(|ip| (admission.enter(&config, from(ip)).unwrap(), from(ip)));
        ips.iter().for_each(|ip| admission.hold(&config, from(ip)));
        assert_eq!((admission.connections, admission.hosts()), (4, 2));
        seats.into_iter().for_each(|(seat, from)| admission.leave(seat, from));
        assert_eq!((admission.connections, admission.hosts()), (0, 2));
        ips[1..].iter().for_each(|ip| admission.release(from(ip)));
        assert_eq!(admission.hosts(), 1);
        assert_eq!(admission.release_all().len(), 1);
        assert_eq!(admission.hosts(), 0);
    }

    #[test]
    fn a_sixteenth_is_kept_for_this_machine_but_8_at_least_64_at_most_and_never_more_than_a_quarter() {
        for (total, kept) in
            [(1, 0), (3, 0), (4, 1), (31, 7), (32, 8), (128, 8), (160, 10), (1_024, 64), (1 << 20, 64)]
        {
            assert_eq!(kept_for_this_machine(total), kept, "{total}");
        }
    }
}
