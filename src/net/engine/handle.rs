//! [`EngineHandle`]: the engine, for handlers and their threads.

use std::fmt::{self, Debug};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::{WeakDriver, returned};
use crate::host::{Context, Handler, Host};
use crate::service::Service;

/// The driver of an engine; `None` if the engine did not start.
type Slot<S> = OnceLock<Option<Box<dyn WeakDriver<S>>>>;

/// A handle of an [`Engine`](super::Engine), for any thread. It does not keep the engine alive.
///
/// [`Engine::handle`](super::Engine::handle) and [`Engine::host_with`](super::Engine::host_with) make one. Its methods
/// wait for the engine's lock. A callback holds it, and so would wait for itself: it gives the handle to a thread.
pub struct EngineHandle<S: Service>(Arc<Slot<S>>);

impl<S: Service> Clone for EngineHandle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Service> Default for EngineHandle<S> {
    /// A handle of an engine that is about to start.
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: Service> Debug for EngineHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").finish_non_exhaustive()
    }
}

impl<S: Service> EngineHandle<S> {
    pub(super) fn of(driver: Box<dyn WeakDriver<S>>) -> Self {
        let slot = Slot::new();
        let _ = slot.set(Some(driver));
        Self(Arc::new(slot))
    }

    /// Returns the value that ends the wait of this handle.
    pub(super) fn pending(&self) -> Pending<S> {
        Pending(self.0.clone())
    }

    /// Changes the service under the lock, and writes what became sendable. `None` if the engine has ended. Waits while
    /// the engine starts.
    ///
    /// # Panics
    ///
    /// Panics if the service has panicked before.
    pub fn change<R>(&self, act: impl FnOnce(&mut S, Instant) -> R) -> Option<R> {
        let driver = self.0.wait().as_ref()?.upgrade()?;
        let (mut act, mut result) = (Some(act), None);
        driver.change(&mut |service, now| result = act.take().map(|act| act(service, now)));
        Some(returned(result))
    }
}

impl<H: Handler> EngineHandle<Host<H>> {
    /// Calls `act` with the handler and a context, as in a callback. `None` if the engine has ended. Waits while the
    /// engine starts.
    ///
    /// # Panics
    ///
    /// Panics if the handler has panicked before.
    pub fn with<R>(&self, act: impl FnOnce(&mut H, &mut Context<'_>) -> R) -> Option<R> {
        self.change(|host, now| host.with(now, act))
    }
}

/// Ends the wait of a handle, also if the engine does not start.
#[derive(Debug)]
pub(super) struct Pending<S: Service>(Arc<Slot<S>>);

impl<S: Service> Pending<S> {
    pub(super) fn started(self, driver: Box<dyn WeakDriver<S>>) {
        let _ = self.0.set(Some(driver));
    }
}

impl<S: Service> Drop for Pending<S> {
    fn drop(&mut self) {
        let _ = self.0.set(None);
    }
}
