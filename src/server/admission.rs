//! Limits on the number of connections and sessions: in total, and per [`Host`].
//!
//! Each host has a count of its connections and of its sessions that have no connection: sessions that linger, and
//! sessions over UDP. A session with a connection counts as that connection. A small share of the totals is reserved
//! for peers on this machine, so that a flood from elsewhere does not lock out the operator. The limits of what each
//! peer may send are in `rate_limit`.

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

/// The error for a connection from a host that is at its limit.
const TOO_MANY: &str = "too many connections from your address";

/// Bounds of the share of a total that is reserved for peers on this machine: a sixteenth, within these, ..
const KEPT: (usize, usize) = (8, 64);

/// .. and at most this fraction of the total.
const KEPT_AT_MOST: usize = 4;

/// Returns how many of `total` only peers on this machine may take.
pub(super) fn kept_for_this_machine(total: usize) -> usize {
    let (least, most) = KEPT;
    (total / 16).clamp(least, most).min(total / KEPT_AT_MOST)
}

/// Returns the part of `total` that a peer may take.
fn share(total: usize, host: Option<Host>) -> usize {
    if host.is_some() { total - kept_for_this_machine(total) } else { total }
}

/// The most connections that are being told why they are refused. Each holds a file descriptor, beyond those of the
/// admitted connections, until its peer has closed it. Further refused connections are closed without an ERR.
pub(super) const MAX_REFUSED_OPEN: usize = 16;

/// The admission or refusal of a connection, until it is [closed](Admission::leave).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmissionClass {
    /// Admitted, and counted for its host.
    Counted,
    /// Admitted; it has no host, or hosts are not counted.
    Free,
    /// Refused with an ERR.
    Refused,
    /// Refused and closed at once.
    RefusedAtOnce,
}

/// The connections and sessions of one host.
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

/// The counts by host.
pub(super) type HostCounts = PartedMap<Host, Count>;

/// The counts, for at most as many hosts as there are connections and sessions.
#[derive(Debug, Default)]
pub(super) struct Admission {
    connections: usize,
    /// Connections that are being told why they are refused.
    refused: usize,
    by_host: HostCounts,
    refusal_log: LogLimiter,
}

impl Admission {
    /// Admits a connection.
    ///
    /// # Errors
    ///
    /// The text for its peer, if a limit is reached.
    pub(super) fn enter(
        &mut self,
        config: &ServerConfig,
        from: Remote,
    ) -> Result<AdmissionClass, &'static str> {
        let host = Host::of(from);
        if self.connections >= share(config.max_connections, host) {
            return Err(Refusal::ServerFull.text());
        }
        if !self.has_room(config, from) {
            return Err(TOO_MANY);
        }
        self.connections += 1;
        let Some(host) = host.filter(|_| config.max_per_host > 0) else { return Ok(AdmissionClass::Free) };
        self.by_host.get_or_default(host).connections += 1;
        Ok(AdmissionClass::Counted)
    }

    /// Counts a refused connection.
    pub(super) fn refuse(&mut self) -> AdmissionClass {
        if self.refused >= MAX_REFUSED_OPEN {
            return AdmissionClass::RefusedAtOnce;
        }
        self.refused += 1;
        AdmissionClass::Refused
    }

    /// Uncounts a closed connection.
    pub(super) fn leave(&mut self, class: AdmissionClass, from: Remote) {
        match class {
            AdmissionClass::Counted | AdmissionClass::Free => self.connections -= 1,
            AdmissionClass::Refused => self.refused -= 1,
            AdmissionClass::RefusedAtOnce => {}
        }
        if let Some(host) = Host::of(from).filter(|_| class == AdmissionClass::Counted) {
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

    /// Uncounts a session without a connection that has ended, moved or been resumed.
    fn release(&mut self, from: Remote) {
        if let Some(host) = Host::of(from) {
            self.change(host, |count| count.sessions = count.sessions.saturating_sub(1));
        }
    }

    /// Changes the count of a host, and removes a host whose count is zero.
    fn change(&mut self, host: Host, change: impl FnOnce(&mut Count)) {
        let Some(count) = self.by_host.get_mut(&host) else { return };
        change(count);
        if *count == Count::default() {
            self.by_host.remove(&host);
        }
    }

    /// Returns the counts by host when all sessions are about to end and no peer is admitted any more; they are not
    /// needed again.
    pub(super) fn release_all(&mut self) -> HostCounts {
        std::mem::take(&mut self.by_host)
    }

    /// Logs that a connection or a session was refused: at most one line a second.
    pub(super) fn log_refused(&mut self, now: Instant, what: &str, from: Remote, why: &str) {
        let Some(times) = self.refusal_log.count(now) else { return };
        let others = match times - 1 {
            0 => String::new(),
            others => format!("; before it, {}", counted(others, "other")),
        };
        log::warn!("refused a {what} from {from}: {why}{others}");
    }

    /// Returns how many hosts have a count.
    pub(super) fn hosts(&self) -> usize {
        self.by_host.len()
    }
}

/// Sessions.
impl Server {
    /// Checks that another session may begin on this path, from this address.
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

    /// Counts a session for its host, unless its connection is counted.
    pub(super) fn hold_host(&mut self, path: Path, from: Remote) {
        if is_without_connection(path) {
            self.admission.hold(&self.config, from);
        }
    }

    /// Uncounts a session that has ended, or is about to leave this path.
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
        let classes = ips.map(|ip| (admission.enter(&config, from(ip)).unwrap(), from(ip)));
        ips.iter().for_each(|ip| admission.hold(&config, from(ip)));
        assert_eq!((admission.connections, admission.hosts()), (4, 2));
        classes.into_iter().for_each(|(class, from)| admission.leave(class, from));
        assert_eq!((admission.connections, admission.hosts()), (0, 2));
        ips[1..].iter().for_each(|ip| admission.release(from(ip)));
        assert_eq!(admission.hosts(), 1);
        assert_eq!(admission.release_all().len(), 1);
        assert_eq!(admission.hosts(), 0);
    }

    #[test]
    fn a_sixteenth_is_reserved_for_this_machine_within_8_and_64_and_at_most_a_quarter() {
        for (total, kept) in
            [(1, 0), (3, 0), (4, 1), (31, 7), (32, 8), (128, 8), (160, 10), (1_024, 64), (1 << 20, 64)]
        {
            assert_eq!(kept_for_this_machine(total), kept, "{total}");
        }
    }
}
