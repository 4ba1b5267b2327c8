//! The proxies of the API's tests, which only store their state.

use std::sync::{Mutex, MutexGuard};

use futures::FutureExt as _;
use futures::future::{BoxFuture, pending, ready};

use super::super::{Change, ControlError, NewProxy, Proxies, ProxyState};

/// Proxies without sockets. A listen address with port 1 is in use; one with port 2 is in use when a proxy is enabled
/// again. A lookup of the host `never` never ends.
#[derive(Default)]
pub(crate) struct Fake(Mutex<Vec<ProxyState>>);

impl Fake {
    pub(super) fn states(&self) -> MutexGuard<'_, Vec<ProxyState>> {
        self.0.lock().unwrap()
    }

    fn add(&self, wanted: NewProxy) -> Result<ProxyState, ControlError> {
        let name = wanted.name.unwrap();
        check(&wanted.listen)?;
        if self.states().iter().any(|state| state.name == name) {
            return Err(ControlError::Conflict(name));
        }
        let (listen, upstream) = (wanted.listen.replace(":0", ":50123"), wanted.upstream);
        let state =
            ProxyState { name, listen, upstream, enabled: wanted.enabled, up: wanted.up, down: wanted.down };
        self.states().push(state.clone());
        Ok(state)
    }

    fn change(&self, name: &str, change: Change) -> Result<ProxyState, ControlError> {
        assert_ne!(change, Change::default(), "nothing to do");
        change.listen.as_deref().map_or(Ok(()), check)?;
        let mut states = self.states();
        let state = states.iter_mut().find(|state| state.name == name).unwrap();
        if change.enabled == Some(true) && state.listen.ends_with(":2") {
            return Err(ControlError::Failed(format!("cannot listen on {}: in use", state.listen)));
        }
        state.listen = change.listen.unwrap_or_else(|| state.listen.clone());
        state.upstream = change.upstream.unwrap_or_else(|| state.upstream.clone());
        state.enabled = change.enabled.unwrap_or(state.enabled);
        state.up = change.up.unwrap_or_else(|| state.up.clone());
        state.down = change.down.unwrap_or_else(|| state.down.clone());
        Ok(state.clone())
    }
}

fn check(listen: &str) -> Result<(), ControlError> {
    match listen.ends_with(":1") {
        true => Err(ControlError::Failed(format!("cannot listen on {listen}: address already in use"))),
        false => Ok(()),
    }
}

impl Proxies for Fake {
    fn list(&self) -> Vec<ProxyState> {
        self.states().clone()
    }

    fn create(&self, wanted: NewProxy) -> BoxFuture<'_, Result<ProxyState, ControlError>> {
        match wanted.upstream.contains("://never:") {
            true => pending().boxed(),
            false => ready(self.add(wanted)).boxed(),
        }
    }

    fn update<'a>(
        &'a self,
        name: &'a str,
        change: Change,
    ) -> BoxFuture<'a, Result<ProxyState, ControlError>> {
        ready(self.change(name, change)).boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.states().retain(|state| state.name != name);
        ready(Ok(())).boxed()
    }
}
