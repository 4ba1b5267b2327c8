//! The hosts of a simulation: a client with its address, changes of that address, and datagrams in transit. The
//! streams are in `traffic`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::traffic::Pipe;
use crate::client::{Client, Event};
use crate::link::Payload;

/// A client, its network address and its stream connection.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) client: Client,
    /// The public address of its datagrams.
    pub(super) addr: SocketAddr,
    /// Earlier addresses under which it is still reachable.
    pub(super) earlier: Vec<SocketAddr>,
    /// Its socket has an address that its host has lost.
    pub(super) is_stranded: bool,
    pub(super) pipe: Option<Pipe>,
    /// Whether new connections succeed.
    pub(super) reachable: bool,
    pub(super) events: VecDeque<Event>,
}

impl Node {
    pub(super) fn new(client: Client, addr: SocketAddr) -> Self {
        Self {
            client,
            addr,
            earlier: Vec::new(),
            is_stranded: false,
            pipe: None,
            reachable: true,
            events: VecDeque::new(),
        }
    }

    pub(super) fn is_at(&self, addr: SocketAddr) -> bool {
        !self.is_stranded && (self.addr == addr || self.earlier.contains(&addr))
    }

    pub(super) fn relocate(&mut self, how: Move) {
        let before = self.addr;
        match how {
            Move::Port { .. } => self.addr.set_port(before.port().checked_add(1).unwrap_or(1_024)),
            Move::Address { .. } | Move::Host => self.addr = beside(before),
        }
        match how {
            Move::Port { old_lives } | Move::Address { old_lives } if old_lives => self.earlier.push(before),
            Move::Port { .. } | Move::Address { .. } => self.earlier.clear(),
            Move::Host => {
                self.earlier.clear();
                self.is_stranded = true;
            }
        }
    }
}

/// The reason for a new address of a client's datagrams.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A NAT assigns another port.
    Port {
        /// Whether datagrams to the old port still arrive.
        old_lives: bool,
    },
    /// A NAT assigns another address.
    Address {
        /// Whether datagrams to the old address still arrive.
        old_lives: bool,
    },
    /// The client's host has another address: its socket sends and receives nothing until it is replaced.
    Host,
}

/// A datagram in transit, and the address at the client's end.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) addr: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl Payload for Packet {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Another address of the same host.
fn beside(addr: SocketAddr) -> SocketAddr {
    let IpAddr::V4(ip) = addr.ip() else { return addr };
    let [net, high, mid, low] = ip.octets();
    SocketAddr::from((Ipv4Addr::new(net.wrapping_add(1), high, mid, low), addr.port()))
}

/// An address of a simulated host.
pub(super) fn address(host: usize, port: u16) -> SocketAddr {
    let [.., high, mid, low] = (host as u64 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, high, mid, low), 40_000 + port))
}
