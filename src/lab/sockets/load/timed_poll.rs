//! A poll whose timeout has microseconds, where the system has timers that are files. Elsewhere a wait ends up to a
//! millisecond late, which latencies at a rate then include.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Token};

/// The timer's token; no connection has so high a number.
pub(super) const TIMER: Token = Token(usize::MAX);

/// Bound on the events of one poll.
const EVENTS: usize = 1_024;

/// The longest wait: interrupts are checked as often.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A poll and a timer.
#[derive(Debug)]
pub(super) struct TimedPoll {
    pub(super) poll: Poll,
    pub(super) events: Events,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    timer: nix::sys::timerfd::TimerFd,
}

impl TimedPoll {
    /// Creates a poll without sockets.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn new() -> io::Result<Self> {
        use std::os::fd::{AsFd as _, AsRawFd as _};

        use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

        let poll = Poll::new()?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let file = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut mio::unix::SourceFd(&file), TIMER, mio::Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS), timer })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(EVENTS) })
    }

    /// Waits for readiness, at most so long and never longer than a [`TICK`]. A signal ends the wait.
    pub(super) fn wait(&mut self, longest: Duration) -> io::Result<()> {
        if !longest.is_zero() && longest < TICK {
            self.set(longest)?;
        }
        wait(&mut self.poll, &mut self.events, longest.min(TICK))
    }

    /// Sets the timer, whose expiry is an event: `poll` itself counts in milliseconds.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn set(&self, after: Duration) -> io::Result<()> {
        use nix::sys::time::TimeSpec;
        use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};

        let once = Expiration::OneShot(TimeSpec::from_duration(after));
        Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "there is no such timer here")]
    fn set(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for readiness, at most so long. A signal ends the wait.
pub(super) fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    match poll.poll(events, Some(longest)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        waited => waited,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_is_never_shorter_than_its_timeout() {
        let mut waiting = TimedPoll::new().unwrap();
        for micros in [200, 1_300, 700] {
            let (begun, wanted) = (Instant::now(), Duration::from_micros(micros));
            while begun.elapsed() < wanted {
                waiting.wait(wanted.saturating_sub(begun.elapsed())).unwrap();
            }
            assert!(waiting.events.iter().all(|event| event.token() == TIMER));
        }
    }
}
