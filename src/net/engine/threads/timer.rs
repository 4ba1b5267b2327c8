//! The timer thread: handles deadlines, and does I/O that other threads left in its [`TimerQueue`].

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{ThreadPort, Threaded, drive, write_all};
use crate::net::engine::pending_io::PendingIo;
use crate::net::rt;
use crate::service::Service;

/// The least pause of the timer thread, so that others get the lock even if much is due.
const MIN_PAUSE: Duration = Duration::from_micros(100);

/// Most entries in the queue of the timer thread. Many threads fill it and one empties it, and nothing else bounds what
/// they take from the service.
const MAX_QUEUED: usize = 64;

/// The queue of the timer thread.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    queued: Mutex<Queued>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queued {
    /// A deadline is earlier than the one that the timer waits for.
    is_woken: bool,
    /// The engine has ended: nothing more is queued.
    is_over: bool,
    pending: Vec<PendingIo<ThreadPort>>,
}

impl TimerQueue {
    /// Reports that a deadline is earlier than the one that the timer waits for.
    pub(super) fn wake(&self) {
        self.update(|queued| queued.is_woken = true);
    }

    /// Queues I/O, whatever is in the queue.
    pub(super) fn push(&self, pending: PendingIo<ThreadPort>) {
        self.update(|queued| queued.pending.push(pending));
    }

    /// Queues I/O. Returns it if the queue is full, or the engine has ended.
    pub(super) fn try_push(&self, pending: PendingIo<ThreadPort>) -> Option<PendingIo<ThreadPort>> {
        let Ok(mut queued) = self.queued.lock() else { return Some(pending) };
        if queued.is_over || queued.pending.len() >= MAX_QUEUED {
            return Some(pending);
        }
        queued.pending.push(pending);
        drop(queued);
        self.changed.notify_one();
        None
    }

    /// Ends the timer thread once it has done this I/O.
    pub(super) fn stop(&self, pending: PendingIo<ThreadPort>) {
        self.update(|queued| {
            queued.is_over = true;
            queued.pending.push(pending);
        });
    }

    /// Drops what is queued.
    pub(super) fn clear(&self) {
        self.update(|queued| queued.pending.clear());
    }

    fn update(&self, change: impl FnOnce(&mut Queued)) {
        if let Ok(mut queued) = self.queued.lock() {
            change(&mut queued);
        }
        self.changed.notify_one();
    }

    /// Waits for an entry or a deadline; returns at once if `is_busy`. `None` if a thread has panicked with the queue
    /// locked.
    fn wait(&self, deadline: Option<Instant>, is_busy: bool) -> Option<MutexGuard<'_, Queued>> {
        let queued = self.queued.lock().ok()?;
        let is_idle = |queued: &mut Queued| {
            !is_busy && !queued.is_woken && !queued.is_over && queued.pending.is_empty()
        };
        let Some(at) = deadline else { return self.changed.wait_while(queued, is_idle).ok() };
        let time = at.saturating_duration_since(rt::now()).max(MIN_PAUSE);
        self.changed.wait_timeout_while(queued, time, is_idle).ok().map(|(queued, _)| queued)
    }
}

/// Handles deadlines one after the other, and does the queued I/O, until the engine ends.
pub(super) fn run_timer<S: Service + 'static>(core: &Threaded<S>) {
    let mut pending = PendingIo::default();
    loop {
        let deadline = core.with(|shared, now| {
            shared.tick(now, &mut pending);
            shared.collect(now, &mut pending);
            shared.set_alarm()
        });
        if !pending.is_empty() {
            write_all(core, &mut pending);
        }
        let Some(mut queued) = core.backend.timer_queue.wait(deadline, !pending.is_empty()) else { return };
        queued.is_woken = false;
        for mut more in std::mem::take(&mut queued.pending) {
            pending.append(&mut more);
        }
        if queued.is_over {
            drop(queued);
            return drive(core, pending);
        }
    }
}
