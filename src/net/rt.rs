//! The async runtime: tasks, timers and the clock. The only file that names async-std.
//!
//! smol has each function under the same or a similar name.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{AbortHandle, Either, abortable, select};

/// A task. Dropping the handle does not stop it.
#[derive(Debug)]
pub(crate) struct Task(async_std::task::JoinHandle<()>);

impl Task {
    /// Ends the task at its next await. Returns once everything it held is dropped.
    pub(crate) async fn cancel(self) {
        self.0.cancel().await;
    }
}

/// Starts a task on the runtime's threads, as many as there are processors.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(async_std::task::spawn(future))
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    async_std::task::block_on(future)
}

/// Resolves all addresses of a host, without blocking this thread.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(async_std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).await?.collect())
}

/// Runs blocking `work` on a thread of its own. It runs to its end even if this future is dropped.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    async_std::task::spawn_blocking(work).await
}

/// Lets other tasks of this thread run.
pub(crate) async fn yield_now() {
    async_std::task::yield_now().await;
}

/// The present time, for everything driven by sockets.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for `length`.
pub(crate) async fn sleep(length: Duration) {
    async_io::Timer::after(length).await;
}

/// Waits until `at`; `None` means for ever.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => drop(async_io::Timer::at(at).await),
        None => std::future::pending().await,
    }
}

/// The result of `future`, or `None` if it is not ready by `at`.
pub(crate) async fn before<T>(at: Instant, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), async_io::Timer::at(at)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

/// Ends its task on drop, at the task's next await.
#[derive(Debug)]
pub(crate) struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task that lives as long as its guard.
pub(crate) fn spawn_guarded(future: impl Future<Output = ()> + Send + 'static) -> Guard {
    let (future, handle) = abortable(future);
    drop(spawn(async {
        let _ = future.await;
    }));
    Guard(handle)
}
