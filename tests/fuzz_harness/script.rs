//! Bytes as a script of two clients and a server on the virtual clock, and the promises of delivery at its end.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sayagain::client::Event;
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::reliable::{Backoff, Growth, Outcome, Ticket};
use sayagain::sim::{ClientId, FilterAction, Sim};
use sayagain::units::Factor;

/// So many bytes are played; what is behind them would only take time.
const MAX_SCRIPT: usize = 600;

/// Time after the script by which everything must have ended: sessions linger and idle out meanwhile.
const AT_MOST: Duration = Duration::from_secs(36_000);

const NAMES: [&str; 2] = ["ada", "bob"];

/// One play.
struct Play<'a> {
    sim: Sim,
    clients: [ClientId; 2],
    /// The messages of each, in their order.
    sent: [Vec<Ticket>; 2],
    /// Fates of the next things sent; everything else passes.
    fates: Rc<RefCell<VecDeque<FilterAction>>>,
    script: &'a [u8],
}

/// Plays a script. Whatever is lost, cut, moved or injected by others: every request ends once, what is acked arrives once or is
/// counted as undelivered, what is refused does not arrive, nothing arrives twice or out of order.
pub fn two_clients(bytes: &[u8]) {
    let script = bytes.get(..MAX_SCRIPT).unwrap_or(bytes);
    let Some((kind, script)) = script.split_first() else { return };
    let mut play = Play::new(*kind, script);
    while let Some(op) = play.next() {
        play.act(op);
    }
    play.heal();
    play.judge();
}

impl<'a> Play<'a> {
    fn new(kind: u8, script: &'a [u8]) -> Self {
        let perfect = LinkConfig::perfect;
        let mut sim = Sim::new(start(), ServerConfig::default(), perfect(), perfect(), u64::from(kind));
        let fates: Rc<RefCell<VecDeque<FilterAction>>> = Rc::default();
        let upcoming = Rc::clone(&fates);
        let transports =
            [1, 2].map(|bit| if kind & bit == 0 { Transport::Datagram } else { Transport::Stream });
        sim.set_filter(Box::new(move |_, client, _| {
            let fate = upcoming.borrow_mut().pop_front().unwrap_or(FilterAction::Pass);
            // A stream loses nothing but its connection.
            if fate == FilterAction::Drop && is_stream(client, transports) {
                FilterAction::Pass
            } else {
                fate
            }
        }));
        let policy = Backoff::new(Duration::from_millis(100))
            .with_growth(Growth::Exponential { factor: Factor::TWO })
            .with_max_timeout(Duration::from_secs(1))
            .with_max_sends(2 + u32::from(kind >> 2));
        let clients =
            [0, 1].map(|n| sim.add_client(ClientConfig::new(transports[n], Some(NAMES[n]), policy.clone())));
        Self { sim, clients, sent: Default::default(), fates, script }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.script.split_first()?;
        self.script = rest;
        Some(*first)
    }

    /// So many bytes of the script, as far as it has them.
    fn take(&mut self, count: u8) -> Vec<u8> {
        let count = usize::from(count).min(self.script.len());
        let (taken, rest) = self.script.split_at(count);
        self.script = rest;
        taken.to_vec()
    }

    fn act(&mut self, op: u8) {
        let who = usize::from(op & 1);
        let id = self.clients[who];
        let argument = if (op >> 1) % 12 > 1 { self.next().unwrap_or(0) } else { 0 };
        match (op >> 1) % 12 {
            0 => self.send(who),
            1 => drop(self.sim.client(id).ping()),
            2 => self.sim.run_for(Duration::from_millis(u64::from(argument))),
            3 => self.sim.run_for(Duration::from_millis(500) * u32::from(argument)),
            4 => self.plan(argument, FilterAction::Drop),
            5 => self.plan(argument, FilterAction::Cut),
            6 => self.sim.move_client(id),
            7 => self.sim.cut(id),
            8 => self.sim.set_reachable(id, argument % 2 == 0),
            9 => self.room(id, argument),
            10 => {
                // Another host, possibly with the client's address as a forged source.
                let bytes = self.take(argument);
                let mut from = self.sim.address_of(id);
                from.set_port(from.port() + u16::from(argument & 1));
                self.sim.inject(from, &bytes);
            }
            _ => {
                let bytes = self.take(argument);
                if self.sim.client(id).transport() == Transport::Datagram {
                    self.sim.inject_to_client(id, &bytes);
                }
            }
        }
    }

    fn send(&mut self, who: usize) {
        let body = format!("message {}", self.sent[who].len());
        let ticket = self.sim.client(self.clients[who]).send(NAMES[1 - who].as_bytes(), body.as_bytes());
        self.sent[who].push(ticket);
    }

    /// Lets each of the next eight things that are sent pass, or not.
    fn plan(&mut self, bits: u8, fate: FilterAction) {
        let fates = (0..8).map(|bit| if bits >> bit & 1 == 0 { FilterAction::Pass } else { fate });
        self.fates.borrow_mut().extend(fates);
    }

    fn room(&mut self, id: ClientId, what: u8) {
        let client = self.sim.client(id);
        match what % 4 {
            0 => client.join(b"#room"),
            1 => client.leave(b"#room"),
            2 => client.list(Some(b"#room")),
            _ => client.send(b"#room", b"to the room"),
        };
    }

    /// From here on nothing is lost.
    fn heal(&mut self) {
        self.fates.borrow_mut().clear();
        self.clients.iter().for_each(|id| self.sim.set_reachable(*id, true));
        if !self.sim.run_until_idle(AT_MOST) {
            let clients = self.clients.map(|id| {
                let client = self.sim.client(id);
                format!(
                    "ready {}, idle {}, closed {}",
                    client.is_ready(),
                    client.is_idle(),
                    client.is_closed()
                )
            });
            panic!("something never ends: {clients:?}, server settled {}", self.sim.server().is_settled());
        }
    }

    fn judge(mut self) {
        let events = self.clients.map(|id| self.sim.take_events(id));
        let undelivered = self.sim.server().totals().hub.undelivered;
        let missing: u64 =
            [0, 1].map(|who| judge(&self.sent[who], &events[who], &events[1 - who])).iter().sum();
        assert!(missing <= undelivered, "{missing} acked messages never came, {undelivered} are counted");
    }
}

/// Checks the messages of one to the other; returns how many were acked and did not come.
fn judge(sent: &[Ticket], sender: &[Event], receiver: &[Event]) -> u64 {
    let outcomes = outcomes(sender);
    let mut copies: BTreeMap<usize, u64> = BTreeMap::new();
    let mut last = None;
    for number in receiver.iter().filter_map(number) {
        assert!(last.is_none_or(|last| last < number), "message {number} came behind {last:?}");
        last = Some(number);
        *copies.entry(number).or_default() += 1;
    }
    let mut missing = 0;
    for (number, ticket) in sent.iter().enumerate() {
        match (outcomes.get(ticket), copies.get(&number).copied().unwrap_or(0)) {
            (Some(Outcome::Acked(_)), 0) => missing += 1,
            (Some(Outcome::Acked(_)), 1) | (Some(Outcome::Unknown), 0 | 1) => {}
            (Some(Outcome::Rejected(..) | Outcome::NeverSent), 0) => {}
            (outcome, copies) => panic!("message {number} is {outcome:?} and came {copies} times"),
        }
    }
    missing
}

/// The outcome of each request; there is one.
fn outcomes(events: &[Event]) -> BTreeMap<Ticket, Outcome> {
    let mut outcomes = BTreeMap::new();
    for event in events {
        if let Event::Ended(ended) = event {
            let second = outcomes.insert(ended.ticket, ended.outcome.clone());
            assert_eq!(second, None, "{:?} ended twice", ended.ticket);
        }
    }
    outcomes
}

fn number(event: &Event) -> Option<usize> {
    let Event::Message { body, .. } = event else { return None };
    std::str::from_utf8(body).ok()?.strip_prefix("message ")?.parse().ok()
}

/// Whether this is the address of a client on a stream: hosts are numbered from 1.
fn is_stream(client: SocketAddr, transports: [Transport; 2]) -> bool {
    let IpAddr::V4(ip) = client.ip() else { return false };
    let [.., host] = ip.octets();
    transports.get(usize::from(host) - 1) == Some(&Transport::Stream)
}

#[expect(clippy::disallowed_methods, reason = "the virtual clock needs an instant to count from")]
fn start() -> Instant {
    Instant::now()
}
