//! The simulated transport: moves bytes from both ends into links and pipes, and out of them.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::Instant;

use rand::Rng;

use super::network::Network;
use super::node::{Move, Node, Packet};
use super::{ClientId, FilterAction, Sighting, Sim};
use crate::client::Event;
use crate::config::Transport;
use crate::link::Direction;
use crate::output::Output;
use crate::server::{Executions, Server, StreamIntake};
use crate::service::{CloseReason, ConnId, Decoder, Flow, Origin, Peer, Remote, Service, Transmit};

/// A stream connection between one client and the server.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) conn: ConnId,
    decoder: StreamIntake,
    pub(super) up: VecDeque<(Instant, Vec<u8>)>,
    pub(super) down: VecDeque<(Instant, Vec<u8>)>,
    /// The server closes it once everything has arrived.
    closing: bool,
    /// The server reads it; otherwise its input waits.
    pub(super) reading: bool,
    /// The server knows that the stream has ended.
    ended: bool,
}

impl Pipe {
    fn new(conn: ConnId, decoder: StreamIntake) -> Self {
        let (up, down) = (VecDeque::new(), VecDeque::new());
        Self { conn, decoder, up, down, closing: false, reading: true, ended: false }
    }

    /// The time at which the server has input.
    pub(super) fn next_up(&self) -> Option<Instant> {
        self.up.front().filter(|_| self.reading).map(|(at, _)| *at)
    }

    /// The time at which the client has input.
    pub(super) fn next_down(&self) -> Option<Instant> {
        self.down.front().map(|(at, _)| *at)
    }
}

impl Network for Sim {
    fn parts(&mut self) -> (&mut Server, Instant) {
        (&mut self.server, self.now)
    }

    fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    fn send(&mut self, transmit: Transmit) {
        self.send_down(transmit.peer.addr, transmit.bytes);
    }

    /// Sends a write of the server to its client, or discards it if the client has dropped the connection.
    fn write(&mut self, conn: ConnId, out: Output, flow: Flow) -> bool {
        if self.dropped.iter().any(|pipe| pipe.conn == conn) {
            return true;
        }
        let is_its = |node: &Node| node.pipe.as_ref().is_some_and(|pipe| pipe.conn == conn);
        let Some(id) = self.nodes.iter().position(is_its) else { return false };
        if let Some(pipe) = &mut self.nodes[id].pipe {
            pipe.reading = flow.reading;
        }
        self.server_writes(id, out.to_vec(), flow.closing && !flow.more);
        true
    }

    fn wake(&mut self, conn: ConnId) {
        match self.dropped.iter().position(|pipe| pipe.conn == conn) {
            Some(at) => self.finish_dropped(at),
            None => {
                self.fill(conn);
            }
        }
    }

    fn send_others(&mut self) -> bool {
        let mut is_any = false;
        for id in 0..self.nodes.len() {
            while let Some(event) = self.nodes[id].client.poll() {
                is_any = true;
                self.handle_event(id, event);
            }
            while let Some(bytes) = self.nodes[id].client.poll_transmit(self.now) {
                is_any = true;
                self.client_sends(id, bytes);
            }
        }
        is_any
    }

    fn next_event(&self) -> Option<Instant> {
        let pipes = self.nodes.iter().filter_map(|node| node.pipe.as_ref());
        let pipes = pipes.flat_map(|pipe| [pipe.next_up(), pipe.next_down()]).flatten();
        let clients = self.nodes.iter().filter_map(|node| node.client.poll_timeout());
        let links = [self.up.poll_timeout(), self.down.poll_timeout()];
        pipes.chain(clients).chain(links.into_iter().flatten()).min()
    }

    fn arrive(&mut self) {
        self.arrive_as_datagrams();
        for id in 0..self.nodes.len() {
            self.arrive_on_stream(id);
        }
    }

    fn time_out_others(&mut self) {
        for node in &mut self.nodes {
            node.client.handle_timeout(self.now);
        }
    }
}

/// Output: from the clients and the server into links and pipes.
impl Sim {
    fn handle_event(&mut self, id: usize, event: Event) {
        match event {
            Event::Connect => self.connect(id),
            Event::Disconnect => self.hang_up(id),
            Event::CheckPath { replace } => self.check_path(id, replace),
            Event::Closed(_) => {
                self.hang_up(id);
                self.nodes[id].events.push_back(event);
            }
            event => self.nodes[id].events.push_back(event),
        }
    }

    fn connect(&mut self, id: usize) {
        self.hang_up(id);
        let node = &mut self.nodes[id];
        if !node.reachable {
            return node.client.handle_disconnected(self.now);
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let decoder =
            self.server.opened(self.now, conn, Origin { listener: 0, from: Remote::Ip(node.addr) }.into());
        node.pipe = Some(Pipe::new(conn, decoder));
        node.client.handle_connected(self.now);
    }

    /// Checks whether the client's host still has the address of its socket.
    fn check_path(&mut self, id: usize, replace: bool) {
        let node = &mut self.nodes[id];
        if !std::mem::take(&mut node.is_stranded) {
            if !replace {
                return;
            }
            node.relocate(Move::Port { old_lives: false });
        }
        node.client.handle_moved(self.now);
    }

    /// Drops a connection on the client's side: the server still reads the bytes sent before, and then the end.
    fn hang_up(&mut self, id: usize) {
        if let Some(pipe) = self.nodes[id].pipe.take() {
            self.dropped.push(pipe);
            self.finish_dropped(self.dropped.len() - 1);
        }
    }

    /// Delivers the rest of a connection that its client has dropped, as far as the server reads it. The connection is
    /// removed once the server has handled all of it.
    fn finish_dropped(&mut self, at: usize) {
        let (conn, now) = (self.dropped[at].conn, self.now);
        loop {
            let flow = self.fill(conn);
            let pipe = &mut self.dropped[at];
            pipe.reading = flow.reading;
            if flow.closing || (pipe.ended && !flow.busy) {
                self.dropped.remove(at);
                return self.server.closed(now, conn, CloseReason::Peer);
            }
            match pipe.up.pop_front_if(|_| pipe.reading) {
                Some((_, bytes)) => {
                    let batch = pipe.decoder.received(now, &bytes);
                    self.server.received(now, conn, batch);
                }
                None if pipe.up.is_empty() && !std::mem::replace(&mut pipe.ended, true) => {
                    self.server.ended(now, conn);
                }
                None => return,
            }
        }
    }

    fn client_sends(&mut self, id: usize, bytes: Vec<u8>) {
        let addr = self.nodes[id].addr;
        if self.nodes[id].client.transport() == Transport::Datagram {
            return self.client_sends_datagram(id, bytes);
        }
        match self.judge(Direction::Up, addr, &bytes) {
            FilterAction::Pass | FilterAction::Move(_) => {
                let (pieces, due) = (self.pieces(&bytes), self.now + self.stream_delay);
                if let Some(pipe) = &mut self.nodes[id].pipe {
                    pipe.up.extend(pieces.into_iter().map(|piece| (due, piece)));
                }
            }
            FilterAction::Drop => {}
            FilterAction::Cut => self.cut(ClientId(id)),
        }
    }

    fn client_sends_datagram(&mut self, id: usize, bytes: Vec<u8>) {
        match self.judge(Direction::Up, self.nodes[id].addr, &bytes) {
            FilterAction::Pass => {}
            FilterAction::Move(how) => self.nodes[id].relocate(how),
            FilterAction::Drop | FilterAction::Cut => return,
        }
        if !self.nodes[id].is_stranded {
            self.observed_send(Direction::Up, self.nodes[id].addr, bytes);
        }
    }

    fn server_writes(&mut self, id: usize, out: Vec<u8>, closing: bool) {
        let fate = if out.is_empty() {
            FilterAction::Drop
        } else {
            self.judge(Direction::Down, self.nodes[id].addr, &out)
        };
        let (pieces, due) = (self.pieces(&out), self.now + self.stream_delay);
        if let Some(pipe) = &mut self.nodes[id].pipe {
            pipe.closing |= closing;
            match fate {
                FilterAction::Pass | FilterAction::Move(_) => {
                    pipe.down.extend(pieces.into_iter().map(|piece| (due, piece)))
                }
                FilterAction::Drop if closing => pipe.down.push_back((due, Vec::new())),
                FilterAction::Drop => {}
                FilterAction::Cut => self.cut(ClientId(id)),
            }
        }
    }

    /// Splits a write into up to four pieces, as a network may.
    fn pieces(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while pieces.len() < 3 && rest.len() > 1 && self.rng.next_u32().is_multiple_of(4) {
            let at = 1 + self.rng.next_u32() as usize % (rest.len() - 1);
            let (piece, after) = rest.split_at(at);
            pieces.push(piece.to_vec());
            rest = after;
        }
        pieces.push(rest.to_vec());
        pieces
    }

    pub(super) fn send_up(&mut self, addr: SocketAddr, bytes: Vec<u8>) {
        if self.judge(Direction::Up, addr, &bytes) == FilterAction::Pass {
            self.observed_send(Direction::Up, addr, bytes);
        }
    }

    fn send_down(&mut self, addr: SocketAddr, bytes: Vec<u8>) {
        match self.judge(Direction::Down, addr, &bytes) {
            FilterAction::Pass => {}
            FilterAction::Move(how) => {
                if let Some(node) = self.nodes.iter_mut().find(|node| node.is_at(addr)) {
                    node.relocate(how);
                }
            }
            FilterAction::Drop | FilterAction::Cut => return,
        }
        self.observed_send(Direction::Down, addr, bytes);
    }

    fn observed_send(&mut self, direction: Direction, addr: SocketAddr, bytes: Vec<u8>) {
        let flow = self.flow(addr);
        let shown = self.observer.is_some().then(|| bytes.clone());
        let link = if direction == Direction::Up { &mut self.up } else { &mut self.down };
        let decision = link.send(self.now, flow, Packet { addr, bytes });
        if let (Some(observer), Some(shown)) = (&mut self.observer, shown) {
            observer(self.now, direction, addr, &shown, Sighting::Sent(decision));
        }
    }

    /// The ordinal in which an address first appeared.
    fn flow(&mut self, addr: SocketAddr) -> u64 {
        let next = self.flows.len() as u64;
        *self.flows.entry(addr).or_insert(next)
    }

    fn judge(&mut self, direction: Direction, addr: SocketAddr, bytes: &[u8]) -> FilterAction {
        self.trace.write_u128((self.now - self.start).as_nanos());
        self.trace.write_u8(u8::from(direction == Direction::Up));
        self.trace.write_u16(addr.port());
        self.trace.write(bytes);
        self.filter.as_mut().map_or(FilterAction::Pass, |filter| filter(direction, addr, bytes))
    }
}

/// Input: from links and pipes into the clients and the server.
impl Sim {
    fn arrive_as_datagrams(&mut self) {
        while let Some(Packet { addr, bytes }) = self.up.recv(self.now) {
            let before = self.server.executions();
            self.server.datagram(self.now, Peer::new(0, addr), &bytes);
            let Executions { executed, repeats } = self.server.executions().since(before);
            if let Some(observer) = &mut self.observer {
                observer(self.now, Direction::Up, addr, &bytes, Sighting::Arrived { executed, repeats });
            }
        }
        while let Some(packet) = self.down.recv(self.now) {
            if let Some(observer) = &mut self.observer {
                let sighting = Sighting::Arrived { executed: 0, repeats: 0 };
                observer(self.now, Direction::Down, packet.addr, &packet.bytes, sighting);
            }
            match self.nodes.iter_mut().find(|node| node.is_at(packet.addr)) {
                Some(node) => node.client.handle_datagram(self.now, &packet.bytes),
                None => self.strays.entry(packet.addr).or_default().push(packet.bytes),
            }
        }
    }

    fn arrive_on_stream(&mut self, id: usize) {
        let now = self.now;
        while let Some(pipe) = self.nodes[id].pipe.as_mut().filter(|pipe| pipe.reading)
            && let Some((_, bytes)) = pipe.up.pop_front_if(|(at, _)| *at <= now)
        {
            let (conn, batch) = (pipe.conn, pipe.decoder.received(now, &bytes));
            self.server.received(now, conn, batch);
            if !self.server.is_reading(conn) {
                // Its flow afterwards says whether the next piece is still read.
                self.wake(conn);
            }
        }
        let node = &mut self.nodes[id];
        let Some(pipe) = &mut node.pipe else { return };
        while let Some((_, bytes)) = pipe.down.pop_front_if(|(at, _)| *at <= now) {
            node.client.handle_bytes(now, &bytes);
        }
        if pipe.closing && pipe.down.is_empty() {
            let conn = pipe.conn;
            node.pipe = None;
            self.server.closed(now, conn, CloseReason::Lost);
            node.client.handle_disconnected(now);
        }
    }
}
