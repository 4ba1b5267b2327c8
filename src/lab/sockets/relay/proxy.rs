//! One proxy: its sockets and links can change, its counters stay. The set of all proxies is in `proxies`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::datagrams::Datagrams;
use super::rt::Task;
use super::sockets::Sockets;
use super::streams::Streams;
use crate::lab::proxy::address::Address;
use crate::lab::proxy::control::{ControlError, ProxyState};
use crate::lab::proxy::totals::ProxyTotals;
use crate::link::{Direction, LinkConfig};

/// A proxy, enabled or disabled.
pub(super) struct Proxy {
    pub(super) name: Arc<str>,
    /// The listening address, with the bound port.
    pub(super) listen: Address,
    /// The same as text.
    pub(super) shown: String,
    pub(super) upstream: Address,
    pub(super) addrs: Arc<[SocketAddr]>,
    pub(super) up: LinkConfig,
    pub(super) down: LinkConfig,
    pub(super) body: Body,
    /// `None` if the proxy is disabled.
    pub(super) running: Option<Running>,
}

/// The flows and counters, by kind of proxy.
#[derive(Clone)]
pub(super) enum Body {
    Datagrams(Arc<Datagrams>),
    Streams(Arc<Streams>),
}

/// The tasks and sockets of an enabled proxy.
pub(super) struct Running {
    pub(super) sockets: Sockets,
    pub(super) tasks: Vec<Task>,
}

/// The new sockets and addresses of a proxy.
pub(super) struct Next {
    pub(super) listen: Address,
    pub(super) upstream: Address,
    pub(super) addrs: Arc<[SocketAddr]>,
    pub(super) enabled: bool,
    /// New sockets, unless the old ones are kept.
    pub(super) sockets: Option<Sockets>,
}

impl Proxy {
    pub(super) fn state(&self) -> ProxyState {
        ProxyState {
            name: self.name.to_string(),
            listen: self.shown.clone(),
            upstream: self.upstream.to_string(),
            enabled: self.running.is_some(),
            up: self.up.clone(),
            down: self.down.clone(),
        }
    }

    pub(super) fn totals(&self) -> ProxyTotals {
        let kind = match &self.body {
            Body::Datagrams(datagrams) => datagrams.totals(),
            Body::Streams(streams) => streams.totals(),
        };
        ProxyTotals { name: self.name.to_string(), kind }
    }

    /// Whether it listens at `wanted`, as requested or as bound.
    pub(super) fn is_at(&self, wanted: &Address) -> bool {
        *wanted == self.listen || wanted.to_string() == self.shown
    }

    /// Enables the proxy.
    pub(super) fn run(&mut self, running: Running) {
        if let Some(first) = running.sockets.endpoints.first() {
            self.listen.at.port = first.addr.port();
            self.shown = first.to_string();
        }
        self.running = Some(running);
    }

    /// Replaces sockets and upstream, or disables the proxy. Returns the tasks to stop.
    pub(super) fn replace(&mut self, next: Next) -> Result<Option<(Body, Running)>, ControlError> {
        let kept =
            self.running.as_ref().map(|running| running.sockets.try_clone()).transpose().map_err(no_room)?;
        let sockets = next.sockets.or(kept).filter(|_| next.enabled);
        let started = sockets.map(|sockets| {
            let tasks = self.body.start(&sockets, &next.addrs)?;
            Ok(Running { sockets, tasks })
        });
        let started = started.transpose().map_err(no_room)?;
        if self.listen != next.listen {
            self.shown = next.listen.to_string();
        }
        (self.listen, self.upstream, self.addrs) = (next.listen, next.upstream, next.addrs);
        let old = self.running.take();
        if let Some(started) = started {
            self.run(started);
        }
        Ok(old.map(|old| (self.body.clone(), old)))
    }

    /// Changes the links. Returns the previous ones.
    pub(super) fn set_links(
        &mut self,
        up: Option<LinkConfig>,
        down: Option<LinkConfig>,
    ) -> (LinkConfig, LinkConfig) {
        let old = (self.up.clone(), self.down.clone());
        if let Some(up) = up.filter(|up| *up != self.up) {
            self.body.set_config(Direction::Up, up.clone());
            self.up = up;
        }
        if let Some(down) = down.filter(|down| *down != self.down) {
            self.body.set_config(Direction::Down, down.clone());
            self.down = down;
        }
        old
    }
}

impl Body {
    /// Starts to relay over copies of these sockets.
    pub(super) fn start(&self, sockets: &Sockets, addrs: &Arc<[SocketAddr]>) -> io::Result<Vec<Task>> {
        let sockets = sockets.try_clone()?;
        match self {
            Self::Datagrams(datagrams) => {
                let upstream = *addrs.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
                datagrams.start(sockets.udp, upstream)
            }
            Self::Streams(streams) => streams.start(sockets.tcp, addrs),
        }
    }

    pub(super) fn set_config(&self, direction: Direction, config: LinkConfig) {
        match self {
            Self::Datagrams(datagrams) => datagrams.set_config(direction, config),
            Self::Streams(streams) => streams.set_config(direction, config),
        }
    }

    pub(super) fn close_all(&self) {
        match self {
            Self::Datagrams(datagrams) => datagrams.close_all(),
            Self::Streams(streams) => streams.close_all(),
        }
    }
}

/// Stops the tasks, closes the sockets and then the flows.
pub(super) async fn stop(body: &Body, running: Running) {
    for task in running.tasks {
        task.cancel().await;
    }
    drop(running.sockets);
    body.close_all();
}

pub(super) fn no_room(error: io::Error) -> ControlError {
    ControlError::Failed(format!(
        "cannot wait for another socket: {error}; raise the limit of open files (ulimit -n)"
    ))
}
