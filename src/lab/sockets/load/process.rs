//! What the system knows of a process: processor time, memory. On Linux; elsewhere, nothing is known.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(pub(super) u32);

impl Process {
    /// Whether there is one of this id.
    pub(super) fn exists(self) -> bool {
        use nix::errno::Errno;

        // A process of somebody else may not be signalled, but it is there.
        let id = i32::try_from(self.0).ok().map(nix::unistd::Pid::from_raw);
        id.is_some_and(|id| nix::sys::signal::kill(id, None) != Err(Errno::ESRCH))
    }

    /// The processor time that it has taken, ended threads included.
    pub(super) fn cpu(self) -> Option<Duration> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0).ok()?);
        time(clock_of(pid)?)
    }

    /// Its resident memory, and the most that it was, in bytes.
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

/// The processor time that this process has taken.
pub(super) fn own_cpu() -> Duration {
    time(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

fn time(clock: ClockId) -> Option<Duration> {
    clock_gettime(clock).ok().map(Duration::from)
}

/// The number behind a label, which is in kibibytes, in bytes.
fn kibibytes(status: &str, label: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_system_writes_it() {
        let status = "VmPeak:\t  9 kB\nVmHWM:\t   1904 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(1_904 << 10));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
        assert_eq!(kibibytes("VmRSS: x kB", "VmRSS:"), None);
    }

    #[test]
    fn an_id_that_no_process_can_have_is_known_as_nobodys() {
        assert!(Process(std::process::id()).exists());
        assert!(!Process(i32::MAX.cast_unsigned()).exists() && !Process(u32::MAX).exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known_as_it_knows_itself() {
        let own = Process(std::process::id());
        assert!(own.cpu().unwrap() <= own_cpu());
        let (resident, most) = own.memory().unwrap();
        assert!(0 < resident && resident <= most);
    }
}
