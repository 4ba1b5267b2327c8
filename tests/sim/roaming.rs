//! Clients whose address changes at any datagram, in either direction: no acked message is lost.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sayagain::client::Event;
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::{Direction, LinkConfig};
use sayagain::reliable::{Outcome, Ticket};
use sayagain::sim::{ClientId, FilterAction, Move, Sim};

use crate::harness::{ServerHarness, addr, nonce, register};
use crate::support::{doubling, messages, ms, outcomes, quiet, secs, with_many_retries};

const MOVES: [Move; 5] = [
    Move::Port { old_lives: false },
    Move::Port { old_lives: true },
    Move::Address { old_lives: false },
    Move::Address { old_lives: true },
    Move::Host,
];

/// The clients, by the order in which they were added.
const BOB: u8 = 2;

/// The client that an address belongs to, or belonged to.
fn host(addr: SocketAddr) -> u8 {
    let IpAddr::V4(ip) = addr.ip() else { panic!("{addr}") };
    ip.octets()[3]
}

/// Whether and how the client moves at its n-th datagram, counted from 1 over both directions.
type Mover = Box<dyn FnMut(u8, usize) -> Option<Move>>;

/// All datagrams sent by clients, with their source addresses.
type Sent = Rc<RefCell<Vec<(SocketAddr, Vec<u8>)>>>;

/// Ada and bob on a network that may drop and duplicate their datagrams; bob moves.
struct Story {
    sim: Sim,
    ada: ClientId,
    bob: ClientId,
    rng: ChaCha8Rng,
    sent: Sent,
    /// The number of datagrams to and from each client.
    counts: Rc<RefCell<[usize; 256]>>,
    /// Whether late copies arrive, some of them after a move.
    late_copies: bool,
}

impl Story {
    fn new(seed: u64, link: &str, late_copies: bool, mut mover: Mover) -> Self {
        let link: LinkConfig = link.parse().unwrap();
        let mut sim = Sim::new(Instant::now(), ServerConfig::default(), link.clone(), link, seed);
        let (sent, counts) = (Sent::default(), Rc::new(RefCell::new([0; 256])));
        let (recorded, counted) = (Rc::clone(&sent), Rc::clone(&counts));
        sim.set_filter(Box::new(move |direction, addr, bytes| {
            let client = host(addr);
            if direction == Direction::Up {
                recorded.borrow_mut().push((addr, bytes.to_vec()));
            }
            let count = &mut counted.borrow_mut()[usize::from(client)];
            *count += 1;
            mover(client, *count).map_or(FilterAction::Pass, FilterAction::Move)
        }));
        let config =
            |name| ClientConfig::new(Transport::Datagram, Some(name), doubling(ms(100), secs(1), 200));
        let (ada, bob) = (sim.add_client(config("ada")), sim.add_client(config("bob")));
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { sim, ada, bob, rng, sent, counts, late_copies }
    }

    /// Runs until the clients are idle, while copies of earlier datagrams arrive.
    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..5_000 {
            if self.sim.run_until_idle(ms(700)) {
                return Ok(());
            }
            let sent = self.sent.borrow();
            if self.late_copies && !sent.is_empty() {
                let (from, copy) = sent[self.rng.random_range(0..sent.len())].clone();
                drop(sent);
                self.sim.inject(from, &copy);
            }
        }
        Err("not idle after an hour: something that was acked never arrives".to_owned())
    }

    fn send(&mut self, from: ClientId, to: &str, bodies: std::ops::Range<usize>) -> Vec<Ticket> {
        bodies.map(|n| self.sim.client(from).send(to.as_bytes(), n.to_string().as_bytes())).collect()
    }

    /// Sends messages in both directions, some while the other side only acknowledges. Returns all received messages.
    fn tell(mut self) -> Result<(u64, usize), String> {
        let ready = |sim: &mut Sim, id| sim.client(id).is_ready();
        let (ada, bob) = (self.ada, self.bob);
        if !self.sim.run_until(secs(600), |sim| ready(sim, ada) && ready(sim, bob)) {
            return Err("not registered after ten minutes".to_owned());
        }
        let mut to_bob = self.send(ada, "bob", 0..8);
        self.rest()?;
        let to_ada = self.send(bob, "ada", 0..4);
        to_bob.extend(self.send(ada, "bob", 8..12));
        self.rest()?;
        let (at_ada, at_bob) = (self.sim.take_events(ada), self.sim.take_events(bob));
        judge(&to_bob, &at_ada, "ada", &at_bob)?;
        judge(&to_ada, &at_bob, "bob", &at_ada)?;
        let totals = self.sim.server().totals();
        if totals.hub.undelivered != 0 || totals.hub.sessions != 2 {
            return Err(format!("{} sessions, {} undelivered", totals.hub.sessions, totals.hub.undelivered));
        }
        let of_bob = self.counts.borrow()[usize::from(BOB)];
        Ok((to_bob.len() as u64 + to_ada.len() as u64, of_bob))
    }
}

/// Checks that every message is acked and arrives once and in order.
fn judge(sent: &[Ticket], sender: &[Event], name: &str, receiver: &[Event]) -> Result<(), String> {
    let ended = outcomes(sender);
    if let Some(ticket) = sent.iter().find(|ticket| ended.get(ticket) != Some(&Outcome::Acked(Vec::new()))) {
        return Err(format!("{ticket:?} is {:?}", ended.get(ticket)));
    }
    let expected: Vec<String> = (0..sent.len()).map(|n| format!("{name}> {n}")).collect();
    let heard = messages(receiver);
    if heard != expected {
        return Err(format!("heard {heard:?} of {} acked", sent.len()));
    }
    if sender.contains(&Event::SessionLost) {
        return Err("a session was lost".to_owned());
    }
    Ok(())
}

/// Bob moves at his n-th datagram only.
fn once(at: usize, how: Move) -> Mover {
    Box::new(move |client, n| (client == BOB && n == at).then_some(how))
}

#[test]
fn a_client_may_move_at_any_datagram_in_either_direction_without_losing_an_acked_message() {
    for link in ["delay:20ms", "iid:.1+delay:27.5ms,22.5ms+duplicate:.05"] {
        let (_, datagrams) = Story::new(7, link, false, once(usize::MAX, Move::Host)).tell().unwrap();
        assert!(datagrams > 25, "{datagrams}");
        for at in 1..=datagrams {
            for how in MOVES {
                if let Err(why) = Story::new(7, link, true, once(at, how)).tell() {
                    panic!("{link}, {how:?} at datagram {at}: {why}");
                }
            }
        }
    }
}

/// Both clients move at random, over a random network, both drawn from the seed.
fn wander(seed: u64) -> Result<(u64, usize), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    let loss = [0.0, 0.1, 0.3][rng.random_range(0..3)];
    let (often, mut left) = (rng.random_range(0.02..0.2), 12);
    let mover = Box::new(move |_, _| {
        let moves = left > 0 && rng.random_bool(often);
        left -= usize::from(moves);
        moves.then(|| MOVES[rng.random_range(0..MOVES.len())])
    });
    Story::new(seed, &format!("iid:{loss}+delay:27.5ms,22.5ms+duplicate:.05"), true, mover).tell()
}

fn check(seeds: std::ops::RangeInclusive<u64>) {
    let (mut acked, mut lost) = (0, Vec::new());
    for seed in seeds.clone() {
        match wander(seed) {
            Ok((count, _)) => acked += count,
            Err(why) => lost.push(format!("seed {seed}: {why}")),
        }
    }
    println!("seeds {seeds:?}: {acked} acked messages, {} seeds with a loss", lost.len());
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn clients_that_move_repeatedly_under_loss_lose_no_acked_message() {
    check(1..=40);
}

/// `cargo test --test sim -- --ignored a_thousand_seeds_of_moves --nocapture`
#[test]
#[ignore = "for its figure; see docs/testing.md"]
fn a_thousand_seeds_of_moves() {
    check(1..=1_000);
}

#[test]
fn a_client_that_only_acknowledges_still_sends_pings() {
    let mut sim = quiet();
    let (ada, bob) = (
        sim.add_client(with_many_retries(Transport::Datagram, "ada")),
        sim.add_client(with_many_retries(Transport::Datagram, "bob")),
    );
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
    let pings = Rc::new(RefCell::new(0));
    let (counted, at_bob) = (Rc::clone(&pings), sim.address_of(bob));
    sim.set_filter(Box::new(move |direction, addr, bytes| {
        let is_ping = bytes.windows(5).any(|bytes| bytes == b" PNG ");
        *counted.borrow_mut() += u32::from(direction == Direction::Up && addr == at_bob && is_ping);
        FilterAction::Pass
    }));
    for _ in 0..100 {
        sim.client(ada).send(b"bob", b"hi");
        sim.run_for(secs(1));
    }
    assert_eq!(messages(&sim.take_events(bob)).len(), 100);
    assert!((4..=5).contains(&*pings.borrow()), "one in 20 to 25 s: {}", pings.borrow());
}

#[test]
fn a_receiving_client_whose_port_changes_gets_acked_messages_within_a_keepalive() {
    for old_lives in [false, true] {
        let mut sim = quiet();
        let (ada, bob) = (
            sim.add_client(with_many_retries(Transport::Datagram, "ada")),
            sim.add_client(with_many_retries(Transport::Datagram, "bob")),
        );
        assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready() && sim.client(bob).is_ready()));
        sim.relocate(bob, Move::Port { old_lives });
        let begun = sim.now();
        for _ in 0..20 {
            sim.client(ada).send(b"bob", b"hi");
        }
        assert!(sim.run_until_idle(secs(60)));
        let limit = if old_lives { secs(1) } else { secs(27) };
        assert!(sim.now() - begun < limit, "{:?}", sim.now() - begun);
        assert_eq!(messages(&sim.take_events(bob)).len(), 20);
    }
}

#[test]
fn a_client_whose_hosts_address_changes_takes_a_new_socket_after_silence() {
    let mut sim = quiet();
    let ada = sim.add_client(with_many_retries(Transport::Datagram, "ada"));
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.relocate(ada, Move::Host);
    let begun = sim.now();
    let ticket = sim.client(ada).send(b"ada", b"me");
    assert!(sim.run_until_idle(secs(60)));
    let (events, took) = (sim.take_events(ada), sim.now() - begun);
    assert_eq!(outcomes(&events)[&ticket], Outcome::Acked(Vec::new()));
    assert!((secs(10)..secs(12)).contains(&took), "{took:?}");
    assert!(events.contains(&Event::Registered { resumed: true }));
}

#[test]
fn any_datagram_from_another_address_is_challenged_but_at_most_ten_times_a_second() {
    let mut harness = ServerHarness::open();
    let (home, away) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, home, "ada", &nonce(1));
    let challenged = |harness: &mut ServerHarness, from, frames: &str| {
        let heard = harness.datagram(from, format!("~{token} {frames}"));
        assert!(
            heard.iter().all(|answer| answer.starts_with(&format!("~{token} ERR 0027 428 "))),
            "{heard:?}"
        );
        heard.len()
    };
    for frames in ["ACK 0002 1", "@2 PNG 0000", "XYZ 0000", "ACK 0002 1@2 BYE 0000"] {
        assert_eq!(challenged(&mut harness, away, frames), 1, "{frames}");
    }
    let times: usize = (0..100).map(|_| challenged(&mut harness, away, "ACK 0002 1")).sum();
    assert_eq!(times, 6, "ten with those before");
    assert_eq!(
        challenged(&mut harness, addr(1, 3), "ACK 0002 1"),
        1,
        "another address is challenged at once"
    );
    harness.pass(Duration::from_secs(1));
    assert_eq!((0..100).map(|_| challenged(&mut harness, away, "ACK 0002 1")).sum::<usize>(), 10);
    // Verbs of the server do not count as input of the client, and nothing is executed.
    for frames in ["ERR 0004 401", "@1 RCV 0012 bob 0001 hi", "GAP 0002 1", "@2 ACK 0000"] {
        assert_eq!(challenged(&mut harness, addr(1, 4), frames), 0, "{frames}");
    }
    assert_eq!(harness.datagram(home, format!("~{token} @2 PNG 0000")), [format!("~{token} @2 ACK 0000")]);
}

#[test]
fn a_session_with_datagrams_from_another_address_is_not_idle() {
    let mut harness = ServerHarness::open();
    let (home, away) = (addr(1, 1), addr(1, 2));
    let token = register(&mut harness, home, "ada", &nonce(1));
    for _ in 0..10 {
        harness.pass(secs(80));
        harness.datagram(away, format!("~{token} ACK 0002 1"));
    }
    assert_eq!(harness.server.sessions(), 1);
    harness.pass(secs(91));
    assert_eq!(harness.server.sessions(), 0);
}

#[test]
fn a_move_that_the_policy_gives_up_keeps_the_session_and_the_next_request_retries() {
    let mut sim = quiet();
    let config = ClientConfig::new(Transport::Datagram, Some("ada"), doubling(ms(100), secs(1), 1));
    let ada = sim.add_client(config);
    assert!(sim.run_until(secs(10), |sim| sim.client(ada).is_ready()));
    sim.move_client(ada);
    // The REG that would move the session is lost, and the policy allows one send.
    let mut regs = 0;
    sim.set_filter(Box::new(move |direction, _, bytes| {
        let is_reg = direction == Direction::Up && bytes.windows(5).any(|bytes| bytes == b" REG ");
        regs += u32::from(is_reg);
        if is_reg && regs == 1 { FilterAction::Drop } else { FilterAction::Pass }
    }));
    sim.run_for(secs(60));
    assert!(sim.client(ada).is_ready() && !sim.client(ada).is_closed());
    let ticket = sim.client(ada).send(b"ada", b"me");
    assert!(sim.run_until_idle(secs(10)));
    let events = sim.take_events(ada);
    assert_eq!(outcomes(&events)[&ticket], Outcome::Acked(Vec::new()));
    assert_eq!(messages(&events), ["ada> me"]);
    assert_eq!(sim.server().totals().hub.sessions, 1);
}
