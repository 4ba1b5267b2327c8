//! The running proxies and the operations on them: create, change, remove. One proxy alone is in `proxy`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::datagrams::Datagrams;
use super::lock;
use super::proxy::{Body, Next, Proxy, Running, no_room, stop};
use super::recorder::Recorder;
use super::rt;
use super::sockets::{Sockets, check_loop, resolve};
use super::streams::Streams;
use crate::escape::escape_short;
use crate::lab::proxy::address::Address;
use crate::lab::proxy::control::{Change, ControlError, NewProxy, Proxies, ProxyState};
use crate::lab::proxy::datagram_path::DatagramPath;
use crate::lab::proxy::datagrams::Relay;
use crate::lab::proxy::limits::{MAX_PROXIES, address, addresses, check_name, check_same};
use crate::lab::proxy::record::Replay;
use crate::lab::proxy::rule::Rule;
use crate::lab::proxy::segment_model::SegmentModel;
use crate::lab::proxy::totals::ProxyTotals;
use crate::link::{Direction, LinkConfig};
use crate::net::TOTALS;
use crate::net::listen::{Endpoint, Scheme};

/// Limit on the time of a host lookup.
const MAX_LOOKUP: Duration = Duration::from_secs(5);

/// Settings shared by all proxies.
#[derive(Clone, Debug)]
pub(crate) struct ProxySettings {
    /// The seed of all random draws.
    pub(crate) seed: u64,
    /// Bound on the clients or connections of each proxy at once.
    pub(crate) max_flows: usize,
    /// Time without datagrams in both directions after which a flow expires.
    pub(crate) idle: Duration,
    /// Rules that select the datagrams to impair: all must hold.
    pub(crate) rules: Vec<Rule>,
    /// The recorder of decisions.
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// Recorded decisions, by proxy, which replace links and random draws.
    pub(crate) replay: Option<BTreeMap<String, Replay>>,
}

/// A proxy that is bound and does not relay yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    wanted: NewProxy,
    listen: Address,
    upstream: Address,
    addrs: Arc<[SocketAddr]>,
    sockets: Option<Sockets>,
}

/// The running proxies.
pub(crate) struct Relays {
    settings: ProxySettings,
    proxies: Mutex<Vec<Proxy>>,
    /// Held during a change, from the first check to the end.
    change_lock: futures::lock::Mutex<()>,
}

impl fmt::Debug for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relays").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Binds the sockets of a proxy.
    ///
    /// # Errors
    ///
    /// An address is invalid, unknown, or cannot be bound; nothing is bound then.
    pub(crate) async fn bind(wanted: NewProxy) -> Result<Self, ControlError> {
        let (listen, upstream) = addresses(&wanted.listen, &wanted.upstream)?;
        if let Some(name) = &wanted.name {
            check_name(name)?;
        }
        let addrs = found(MAX_LOOKUP, &upstream, resolve(&upstream)).await?;
        let sockets = if wanted.enabled { Some(bind(&listen).await?) } else { None };
        sockets.as_ref().map_or(Ok(()), |sockets| check_loop(sockets, &addrs))?;
        Ok(Self { wanted, listen, upstream, addrs, sockets })
    }

    /// Returns the addresses that it listens on.
    #[must_use]
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.sockets.as_ref().map(|sockets| sockets.endpoints.as_slice()).unwrap_or_default()
    }
}

impl Relays {
    /// Creates an empty set of proxies.
    #[must_use]
    pub(crate) fn new(settings: ProxySettings) -> Self {
        Self { settings, proxies: Mutex::default(), change_lock: futures::lock::Mutex::new(()) }
    }

    /// Returns the counters of each, in the order of creation.
    #[must_use]
    pub(crate) fn totals(&self) -> Vec<ProxyTotals> {
        self.lock().iter().map(Proxy::totals).collect()
    }

    /// Starts to relay.
    pub(super) fn start(&self, prepared: Prepared) -> Result<ProxyState, ControlError> {
        let Prepared { wanted, listen, upstream, addrs, sockets } = prepared;
        let mut proxies = self.lock();
        if proxies.len() >= MAX_PROXIES {
            return Err(ControlError::Failed(format!("there are {MAX_PROXIES} proxies already")));
        }
        let name = name(&proxies, wanted.name, listen.scheme)?;
        let body = self.body(&name, listen.scheme, &wanted.up, &wanted.down);
        let mut proxy = Proxy {
            name,
            shown: listen.to_string(),
            listen,
            upstream,
            addrs,
            up: wanted.up,
            down: wanted.down,
            body,
            running: None,
        };
        if let Some(sockets) = sockets {
            let tasks = proxy.body.start(&sockets, &proxy.addrs).map_err(no_room)?;
            proxy.run(Running { sockets, tasks });
        }
        let state = proxy.state();
        proxies.push(proxy);
        Ok(state)
    }

    fn body(&self, name: &Arc<str>, scheme: Scheme, up: &LinkConfig, down: &LinkConfig) -> Body {
        let ProxySettings { seed, max_flows, idle, rules, recorder, replay } = self.settings.clone();
        let replay = replay.map(|mut replay| replay.remove(&**name).unwrap_or_default());
        match scheme {
            Scheme::Udp => {
                let path = |config: &LinkConfig, direction| match &replay {
                    Some(replay) => {
                        DatagramPath::with_script(direction, rules.clone(), replay.script.clone())
                    }
                    None => DatagramPath::new(direction, rules.clone(), config.clone(), seed),
                };
                let relay = Relay::new(max_flows, idle, path(up, Direction::Up), path(down, Direction::Down));
                Body::Datagrams(Arc::new(Datagrams::new(name.clone(), relay, recorder)))
            }
            Scheme::Tcp => {
                let noting = recorder.is_some();
                let model = |config: &LinkConfig, direction| match &replay {
                    Some(replay) => SegmentModel::with_replay(replay.clone(), direction, noting),
                    None => SegmentModel::new(config.clone(), seed, direction, noting),
                };
                let models = (model(up, Direction::Up), model(down, Direction::Down));
                Body::Streams(Arc::new(Streams::new(name.clone(), max_flows, models, recorder)))
            }
        }
    }

    async fn change(&self, name: &str, change: Change) -> Result<ProxyState, ControlError> {
        let _held = self.change_lock.lock().await;
        let next = self.next(name, &change).await?;
        let old = {
            let mut proxies = self.lock();
            let proxy = find(&mut proxies, name)?;
            // First, so that the new sockets never relay over the old links.
            let (up, down) = proxy.set_links(change.up, change.down);
            let replaced = next.map(|next| proxy.replace(next)).transpose();
            if replaced.is_err() {
                proxy.set_links(Some(up), Some(down));
            }
            replaced?.flatten()
        };
        if let Some((body, old)) = old {
            stop(&body, old).await;
        }
        let mut proxies = self.lock();
        find(&mut proxies, name).map(|proxy| proxy.state())
    }

    /// Returns the sockets that a change needs; `None` if they stay.
    async fn next(&self, name: &str, change: &Change) -> Result<Option<Next>, ControlError> {
        let (mut listen, mut upstream, mut addrs, was_enabled, moved) = {
            let mut proxies = self.lock();
            let proxy = find(&mut proxies, name)?;
            let wanted = change.listen.as_deref().map(address).transpose()?;
            let moved = wanted.filter(|wanted| !proxy.is_at(wanted));
            (
                proxy.listen.clone(),
                proxy.upstream.clone(),
                proxy.addrs.clone(),
                proxy.running.is_some(),
                moved,
            )
        };
        let turned =
            change.upstream.as_deref().map(address).transpose()?.filter(|wanted| *wanted != upstream);
        let enabled = change.enabled.unwrap_or(was_enabled);
        if moved.is_none() && turned.is_none() && enabled == was_enabled {
            return Ok(None);
        }
        let is_moved = moved.is_some();
        let scheme = listen.scheme;
        if let Some(moved) = moved {
            check_same(scheme, &moved)?;
            listen = moved;
        }
        if let Some(turned) = turned {
            check_same(scheme, &turned)?;
            addrs = found(MAX_LOOKUP, &turned, resolve(&turned)).await?;
            upstream = turned;
        }
        // A proxy that does not move keeps its sockets.
        let sockets = if enabled && (is_moved || !was_enabled) { Some(bind(&listen).await?) } else { None };
        sockets.as_ref().map_or(Ok(()), |sockets| check_loop(sockets, &addrs))?;
        Ok(Some(Next { listen, upstream, addrs, enabled, sockets }))
    }

    async fn remove(&self, name: &str) -> Result<(), ControlError> {
        let _held = self.change_lock.lock().await;
        let mut removed = {
            let mut proxies = self.lock();
            let at = proxies.iter().position(|proxy| &*proxy.name == name);
            proxies.remove(at.ok_or_else(|| not_found(name))?)
        };
        if let Some(running) = removed.running.take() {
            stop(&removed.body, running).await;
        }
        // The removed proxy's counters would be lost otherwise.
        log::info!(target: TOTALS, "{}", removed.totals());
        Ok(())
    }

    /// Stops all proxies and closes their flows. A change in progress is not waited for: a host lookup may take long,
    /// and the program is ending.
    pub(crate) async fn stop_all(&self) {
        let running: Vec<_> = {
            let mut proxies = self.lock();
            let take = |proxy: &mut Proxy| Some((proxy.body.clone(), proxy.running.take()?));
            proxies.iter_mut().filter_map(take).collect()
        };
        for (body, running) in running {
            stop(&body, running).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Proxy>> {
        lock(&self.proxies)
    }
}

impl Proxies for Relays {
    fn list(&self) -> Vec<ProxyState> {
        self.lock().iter().map(Proxy::state).collect()
    }

    fn totals(&self, name: &str) -> Option<ProxyTotals> {
        find(&mut self.lock(), name).ok().map(|proxy| proxy.totals())
    }

    fn create(&self, wanted: NewProxy) -> BoxFuture<'_, Result<ProxyState, ControlError>> {
        async move {
            let _held = self.change_lock.lock().await;
            if let Some(taken) = wanted.name.as_ref().filter(|name| find(&mut self.lock(), name).is_ok()) {
                return Err(conflict(taken));
            }
            self.start(Prepared::bind(wanted).await?)
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        name: &'a str,
        change: Change,
    ) -> BoxFuture<'a, Result<ProxyState, ControlError>> {
        self.change(name, change).boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.remove(name).boxed()
    }
}

/// Returns the result of a lookup, or an error after `limit`.
async fn found<T>(
    limit: Duration,
    address: &Address,
    given: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    rt::before(rt::now() + limit, given).await.unwrap_or_else(|| {
        let host = escape_short(address.at.host.as_bytes(), 80);
        Err(ControlError::Failed(format!(
            "cannot find the host `{host}`: no answer within {limit:?}; check its name, or give an address"
        )))
    })
}

/// Binds sockets for an address. The lookup of its host may block.
async fn bind(listen: &Address) -> Result<Sockets, ControlError> {
    let own = listen.clone();
    found(MAX_LOOKUP, listen, rt::blocking(move || Sockets::bind(&own))).await
}

/// Returns the requested name if it is free, or the next free one.
fn name(proxies: &[Proxy], wanted: Option<String>, scheme: Scheme) -> Result<Arc<str>, ControlError> {
    let is_taken = |name: &str| proxies.iter().any(|proxy| &*proxy.name == name);
    match wanted {
        Some(name) if is_taken(&name) => Err(conflict(&name)),
        Some(name) => Ok(name.into()),
        None => {
            let free = (1..=MAX_PROXIES + 1).map(|n| format!("{scheme}{n}")).find(|name| !is_taken(name));
            Ok(free.unwrap_or_default().into())
        }
    }
}

fn find<'a>(proxies: &'a mut [Proxy], name: &str) -> Result<&'a mut Proxy, ControlError> {
    proxies.iter_mut().find(|proxy| &*proxy.name == name).ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> ControlError {
    ControlError::NotFound(escape_short(name.as_bytes(), 80).into_owned())
}

fn conflict(name: &str) -> ControlError {
    ControlError::Conflict(escape_short(name.as_bytes(), 80).into_owned())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::units::later;

    #[test]
    fn a_host_lookup_that_takes_too_long_is_one_sentence() {
        let address = address("slow:1").unwrap();
        let slow = found::<()>(Duration::from_millis(1), &address, pending());
        let error = rt::block_on(slow).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot find the host `slow`: no answer within 1ms; check its name, or give an address"
        );
    }

    #[test]
    fn stopping_does_not_wait_for_a_slow_change() {
        let idle = Duration::from_secs(60);
        let (rules, recorder, replay) = (Vec::new(), None, None);
        let relays = Relays::new(ProxySettings { seed: 1, max_flows: 9, idle, rules, recorder, replay });
        let ended = rt::block_on(async {
            let _held = relays.change_lock.lock().await;
            rt::before(later(rt::now(), idle), relays.stop_all()).await
        });
        assert_eq!(ended, Some(()));
    }
}
