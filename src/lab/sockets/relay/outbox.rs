//! Datagrams collected into a batch, which is sent once it is large enough or nothing follows. Which datagrams, is
//! decided in `datagrams`.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;

use async_io::Async;

use crate::net::batch::{self, Outgoing};

/// A batch of so many bytes is sent.
const ENOUGH: usize = 256 << 10;

/// The socket that a datagram is sent through.
#[derive(Clone, Debug)]
pub(super) enum Through {
    /// The listening socket of this ordinal.
    Listener(usize),
    /// The socket of a flow.
    Flow(Arc<Async<UdpSocket>>),
}

impl Through {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Listener(one), Self::Listener(other)) => one == other,
            (Self::Flow(one), Self::Flow(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// A batch of datagrams in order, in one buffer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

#[derive(Debug)]
struct Head {
    through: Through,
    to: SocketAddr,
    local: Option<IpAddr>,
    range: Range<usize>,
}

/// One datagram of a batch.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// The destination.
    pub(super) to: SocketAddr,
    local: Option<IpAddr>,
    is_connected: bool,
    bytes: &'a [u8],
}

impl Outgoing for Item<'_> {
    fn to(&self) -> Option<SocketAddr> {
        (!self.is_connected).then_some(self.to)
    }

    fn local(&self) -> Option<IpAddr> {
        self.local
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

impl Outbox {
    /// Adds a datagram to `to`, from the address `local` where the socket has several. Returns whether the batch is
    /// large enough to be sent.
    pub(super) fn push(
        &mut self,
        through: Through,
        (to, local): (SocketAddr, Option<IpAddr>),
        bytes: &[u8],
    ) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.heads.push(Head { through, to, local, range: start..self.bytes.len() });
        self.heads.len() >= batch::COUNT || self.bytes.len() >= ENOUGH
    }

    /// Sends the batch. Datagrams that cannot be sent are reported and dropped.
    pub(super) fn send(
        &mut self,
        listeners: &[Async<UdpSocket>],
        mut failed: impl FnMut(&Item<'_>, &io::Error),
    ) {
        let same = |one: &Head, other: &Head| one.through.is_same(&other.through);
        for run in self.heads.chunk_by(same) {
            let socket = match run.first().map(|head| &head.through) {
                Some(Through::Listener(listener)) => listeners.get(*listener),
                Some(Through::Flow(socket)) => Some(&**socket),
                None => None,
            };
            let items: Vec<Item<'_>> = run.iter().map(|head| head.item(&self.bytes)).collect();
            let done =
                socket.map_or(0, |socket| batch::send(socket.get_ref(), &items, |item, e| failed(item, e)));
            let full = io::ErrorKind::WouldBlock.into();
            items.iter().skip(done).for_each(|item| failed(item, &full));
        }
        self.heads.clear();
        self.bytes.clear();
    }
}

impl Head {
    fn item<'a>(&self, bytes: &'a [u8]) -> Item<'a> {
        let is_connected = matches!(self.through, Through::Flow(_));
        Item {
            to: self.to,
            local: self.local,
            is_connected,
            bytes: bytes.get(self.range.clone()).unwrap_or_default(),
        }
    }
}
