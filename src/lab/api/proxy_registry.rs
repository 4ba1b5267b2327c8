//! The toxic sets of all proxies, by name. They can be read at any time, also during a change; only `Api` changes
//! proxies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ApiError;
use super::toxic_set::ToxicSet;
use crate::lab::proxy::control::{Proxies, ProxyState};

/// The proxies, each with its toxic set.
pub(super) struct ProxyRegistry {
    proxies: Arc<dyn Proxies>,
    sets: Mutex<ToxicSets>,
}

#[derive(Debug, Default)]
struct ToxicSets {
    /// By the name of the proxy.
    known: BTreeMap<String, ToxicSet>,
    /// The toxic set of a proxy that is being created or changed.
    pending: Option<(String, ToxicSet)>,
}

impl ProxyRegistry {
    pub(super) fn new(proxies: Arc<dyn Proxies>) -> Self {
        Self { proxies, sets: Mutex::default() }
    }

    /// Returns the current proxies, each with the toxic set that matches its state.
    pub(super) fn view(&self) -> Vec<(ProxyState, ToxicSet)> {
        let sets = self.lock();
        let view = |state: ProxyState| {
            let toxics = sets.of(&state);
            (state, toxics)
        };
        self.proxies.list().into_iter().map(view).collect()
    }

    /// Returns one proxy in its current state.
    pub(super) fn find(&self, name: &str) -> Result<(ProxyState, ToxicSet), ApiError> {
        self.view().into_iter().find(|(state, _)| state.name == name).ok_or_else(ApiError::no_proxy)
    }

    /// Returns the current proxies, and updates the sets: one for each of them and for no other.
    pub(super) fn refresh(&self) -> Vec<ProxyState> {
        let mut sets = self.lock();
        let states = self.proxies.list();
        sets.known = states.iter().map(|state| (state.name.clone(), sets.of(state))).collect();
        states
    }

    /// Returns the toxic set of a proxy.
    pub(super) fn toxics(&self, name: &str) -> Result<ToxicSet, ApiError> {
        self.lock().known.get(name).cloned().ok_or_else(ApiError::no_proxy)
    }

    /// Announces the toxic set that a proxy is about to get.
    pub(super) fn begin(&self, name: &str, toxics: ToxicSet) {
        self.lock().pending = Some((name.to_owned(), toxics));
    }

    /// Ends the announced change, which was executed or not.
    pub(super) fn end(&self, is_done: bool) {
        let mut sets = self.lock();
        if let Some((name, toxics)) = sets.pending.take().filter(|_| is_done) {
            sets.known.insert(name, toxics);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ToxicSets> {
        // A set is replaced as a whole, so it stays consistent after a panic.
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ToxicSets {
    /// Returns the toxic set of a proxy in `state`. A proxy without one has its current links as its base links.
    fn of(&self, state: &ProxyState) -> ToxicSet {
        let pending =
            self.pending.as_ref().filter(|(name, toxics)| *name == state.name && toxics.is_of(state));
        let known = pending.map(|(_, toxics)| toxics).or_else(|| self.known.get(&state.name));
        known.cloned().unwrap_or_else(|| ToxicSet::of(state))
    }
}

impl fmt::Debug for ProxyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyRegistry").field("sets", &self.sets).finish_non_exhaustive()
    }
}
