//! The runtime: the one file that names async-std. What is here exists in smol under the same or a similar name.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{AbortHandle, Either, abortable, select};

/// A task that runs by itself; dropping this handle lets it run on.
#[derive(Debug)]
pub(crate) struct Task(async_std::task::JoinHandle<()>);

impl Task {
    /// Ends the task at its next wait, and returns once everything it held is dropped.
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

/// Every address of a host, without blocking this thread.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(async_std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).await?.collect())
}

/// What `work` gives, which may block: it has a thread of its own, and goes on there if this is dropped.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    async_std::task::spawn_blocking(work).await
}

/// Lets the other tasks of this thread have their turn.
pub(crate) async fn yield_now() {
    async_std::task::yield_now().await;
}

/// The clock of everything that is driven by sockets.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for so long.
pub(crate) async fn sleep(length: Duration) {
    async_io::Timer::after(length).await;
}

/// Waits until then; `None` means for ever.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => drop(async_io::Timer::at(at).await),
        None => std::future::pending().await,
    }
}

/// What `future` gives, unless it takes until `at`.
pub(crate) async fn before<T>(at: Instant, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), async_io::Timer::at(at)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

/// A task that ends when this is dropped, at its next wait at the latest.
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
