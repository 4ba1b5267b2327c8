//! CPU time and memory of a process, from Linux's `/proc`; unknown on other systems.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(pub(super) u32);

impl Process {
    /// Whether there is a process with this id.
    pub(super) fn exists(self) -> bool {
        use nix::errno::Errno;

        // EPERM means that the process exists.
        let id = i32::try_from(self.0).ok().map(nix::unistd::Pid::from_raw);
        id.is_some_and(|id| nix::sys::signal::kill(id, None) != Err(Errno::ESRCH))
    }

    /// Returns the CPU time used, ended threads included.
    pub(super) fn cpu(self) -> Option<Duration> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0).ok()?);
        time(clock_of(pid)?)
    }

    /// Returns the resident memory and its peak, in bytes.
    pub(super) fn memory(self) -> Option<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        Some((kibibytes(&status, "VmRSS:")?, kibibytes(&status, "VmHWM:")?))
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn clock_of(pid: nix::unistd::Pid) -> Option<ClockId> {
    nix::time::clock_getcpuclockid(pid).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn clock_of(_: nix::unistd::Pid) -> Option<ClockId> {
    None
}

/// Returns the CPU time of this process.
pub(super) fn own_cpu() -> Duration {
    time(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

fn time(clock: ClockId) -> Option<Duration> {
    clock_gettime(clock).ok().map(Duration::from)
}

/// Returns the number behind a label, converted from kibibytes to bytes.
fn kibibytes(status: &str, label: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_the_systems_format() {
        let status = "VmPeak:\t  9 kB\nVmHWM:\t   1904 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(1_904 << 10));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
        assert_eq!(kibibytes("VmRSS: x kB", "VmRSS:"), None);
    }

    #[test]
    fn an_impossible_process_id_does_not_exist() {
        assert!(Process(std::process::id()).exists());
        assert!(!Process(i32::MAX.cast_unsigned()).exists() && !Process(u32::MAX).exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_can_be_measured_by_its_own_id() {
        let own = Process(std::process::id());
        assert!(own.cpu().unwrap() <= own_cpu());
        let (resident, most) = own.memory().unwrap();
        assert!(0 < resident && resident <= most);
    }
}
