//! The client after the server has ended a connection or shut down: it resumes, reconnects, or reports why not.

use std::time::Duration;

use sayagain::client::{Closed, Event};
use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::Direction;
use sayagain::reliable::{Backoff, Outcome, Ticket};
use sayagain::service::Service as _;
use sayagain::sim::{ClientId, FilterAction, Sim};

use crate::support::{doubling, messages, ms, outcomes, quiet, secs, with_many_retries, with_server};

const TRANSPORTS: [Transport; 2] = [Transport::Stream, Transport::Datagram];

fn back_in(time: Option<Duration>) -> ServerConfig {
    ServerConfig { back_in: time, ..ServerConfig::default() }
}

fn ready(sim: &mut Sim, ids: &[ClientId]) {
    assert!(sim.run_until(secs(10), |sim| ids.iter().all(|id| sim.client(*id).is_ready())));
}

/// Shuts the server down, and restarts it after this time.
fn restart(sim: &mut Sim, ids: &[ClientId], away: Duration) {
    let now = sim.now();
    sim.server().shutdown(now);
    assert!(sim.run_until(secs(8), |sim| sim.server().is_finished()), "the drain ends");
    sim.set_filter(Box::new(|_, _, _| FilterAction::Drop));
    ids.iter().for_each(|id| sim.set_reachable(*id, false));
    sim.run_for(away);
    sim.restart_server(ServerConfig::default());
    sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
    ids.iter().for_each(|id| sim.set_reachable(*id, true));
}

fn draining(events: &[Event]) -> Vec<std::time::Instant> {
    let again = |event: &Event| match event {
        Event::Draining { again_at } => Some(*again_at),
        _ => None,
    };
    events.iter().filter_map(again).collect()
}

#[test]
fn clients_with_a_policy_reconnect_after_a_restart_rejoin_and_send_their_queued_requests() {
    for transport in TRANSPORTS {
        for announced in [None, Some(secs(5))] {
            let mut sim = with_server(back_in(announced));
            let policy = doubling(secs(1), secs(2), 20);
            let ids = ["ada", "bob"]
                .map(|name| sim.add_client(ClientConfig::new(transport, Some(name), policy.clone())));
            let [ada, bob] = ids;
            ready(&mut sim, &ids);
            for id in ids {
                sim.client(id).join(b"#lobby");
            }
            assert!(sim.run_until_idle(secs(10)));
            ids.iter().for_each(|id| drop(sim.take_events(*id)));
            let drained_at = sim.now();
            // At the shutdown one request is in flight, the others are queued.
            let tickets: Vec<Ticket> =
                (0..20).map(|n| sim.client(ada).send(b"#lobby", format!("{n}").as_bytes())).collect();
            restart(&mut sim, &ids, secs(2));
            assert!(sim.run_until_idle(secs(60)), "{transport:?}, {announced:?}");
            let (to_ada, to_bob) = (sim.take_events(ada), sim.take_events(bob));
            let again = draining(&to_ada);
            assert_eq!(again.len(), 1, "{to_ada:?}");
            let earliest = drained_at + announced.unwrap_or_else(|| secs(1));
            assert!(again[0] >= earliest && again[0] <= earliest + secs(4), "{transport:?}, {announced:?}");
            let outcomes = outcomes(&to_ada);
            assert!(
                tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())),
                "{transport:?}, {announced:?}: {outcomes:?}"
            );
            // Messages sent before bob had reconnected were rejected.
            let heard = messages(&to_bob);
            assert!(heard.is_sorted_by_key(|message| message["ada#lobby> ".len()..].parse::<u32>().unwrap()));
            sim.client(ada).send(b"#lobby", b"last");
            assert!(sim.run_until_idle(secs(60)));
            assert_eq!(messages(&sim.take_events(bob)), ["ada#lobby> last"], "both are in the room again");
        }
    }
}

#[test]
fn clients_with_the_same_announced_time_reconnect_at_different_times() {
    let mut sim = with_server(back_in(Some(secs(8))));
    let ids: Vec<ClientId> =
        (0..40).map(|n| sim.add_client(with_many_retries(Transport::Stream, &format!("c{n}")))).collect();
    ready(&mut sim, &ids);
    restart(&mut sim, &ids, ms(100));
    let mut again: Vec<_> = ids.iter().flat_map(|id| draining(&sim.take_events(*id))).collect();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), 40);
    assert!(*again.last().unwrap() - again[0] > secs(1), "they are spread over a quarter of the time");
}

#[test]
fn a_request_refused_by_a_shutdown_is_sent_again_in_the_next_session() {
    for transport in TRANSPORTS {
        let mut sim = with_server(back_in(Some(secs(1))));
        let ada = sim.add_client(with_many_retries(transport, "ada"));
        ready(&mut sim, &[ada]);
        sim.take_events(ada);
        // The BYE is delayed, so that the refusal arrives first.
        sim.set_filter(Box::new(|direction, _, bytes| {
            let is_bye = direction == Direction::Down && String::from_utf8_lossy(bytes).contains("BYE");
            if is_bye { FilterAction::Drop } else { FilterAction::Pass }
        }));
        let now = sim.now();
        sim.server().shutdown(now);
        let ticket = sim.client(ada).send(b"ada", b"hi");
        sim.run_for(ms(50));
        assert_eq!(outcomes(&sim.take_events(ada)).get(&ticket), None, "{transport:?}: it has not ended");
        sim.restart_server(ServerConfig::default());
        sim.set_filter(Box::new(|_, _, _| FilterAction::Pass));
        assert!(sim.run_until_idle(secs(60)));
        let events = sim.take_events(ada);
        assert_eq!(outcomes(&events)[&ticket], Outcome::Acked(Vec::new()), "{transport:?}: {events:?}");
        assert_eq!(messages(&events), ["ada> hi"]);
    }
}

#[test]
fn a_client_without_a_policy_ends_with_the_drain_and_reports_the_announced_time() {
    for transport in TRANSPORTS {
        for announced in [None, Some(secs(5))] {
            let mut sim = with_server(back_in(announced));
            let ada = sim.add_client(ClientConfig::new(
                transport,
                Some("ada"),
                Backoff::new(secs(1)).with_max_sends(1),
            ));
            ready(&mut sim, &[ada]);
            let now = sim.now();
            sim.server().shutdown(now);
            sim.run_for(ms(100));
            assert_eq!(sim.take_events(ada).last(), Some(&Event::Closed(Closed::Draining(announced))));
            assert!(sim.server().is_finished(), "{transport:?}: it has acknowledged the BYE");
        }
    }
}

#[test]
fn a_client_does_not_wait_for_a_server_longer_than_its_deadline_or_an_hour() {
    for (announced, deadline, comes_back) in [
        (secs(9), Some(secs(10)), true),
        (secs(10), Some(secs(10)), false),
        (secs(3_599), None, true),
        (secs(3_600), None, false),
        (Duration::from_millis(u64::MAX), None, false),
    ] {
        let mut sim = with_server(back_in(Some(announced)));
        let policy = doubling(ms(100), secs(1), 50).with_deadline(deadline);
        let ada = sim.add_client(ClientConfig::new(Transport::Stream, Some("ada"), policy));
        ready(&mut sim, &[ada]);
        let now = sim.now();
        sim.server().shutdown(now);
        sim.run_for(ms(100));
        let events = sim.take_events(ada);
        assert_eq!(draining(&events).len(), usize::from(comes_back), "{announced:?}, {deadline:?}");
        let closed = Event::Closed(Closed::Draining(Some(announced)));
        assert_eq!(events.contains(&closed), !comes_back, "{announced:?}, {deadline:?}: {events:?}");
    }
}

#[test]
fn a_client_with_only_a_bye_pending_does_not_reconnect() {
    for transport in TRANSPORTS {
        let mut sim = quiet();
        let ada = sim.add_client(with_many_retries(transport, "ada"));
        ready(&mut sim, &[ada]);
        let ticket = sim.client(ada).send(b"ada", b"hi");
        sim.client(ada).close();
        // The message is lost, and the client's BYE waits for its answer when the server sends its own BYE.
        sim.set_filter(Box::new(|_, _, bytes| {
            if String::from_utf8_lossy(bytes).contains("SND") {
                FilterAction::Drop
            } else {
                FilterAction::Pass
            }
        }));
        let now = sim.now();
        sim.server().shutdown(now);
        sim.run_for(secs(3));
        let events = sim.take_events(ada);
        assert_eq!(outcomes(&events)[&ticket], Outcome::Unknown, "{transport:?}: {events:?}");
        assert_eq!(events.last(), Some(&Event::Closed(Closed::Done)), "{transport:?}");
    }
}

/// The bytes of a request stop in the middle of a frame for longer than the frame timeout.
#[test]
fn a_stream_that_stalls_in_the_middle_of_a_frame_loses_no_request() {
    let mut sim = quiet();
    let mut config = with_many_retries(Transport::Stream, "ada");
    config.window = 1_000;
    let ada = sim.add_client(config);
    let bob = sim.add_client(with_many_retries(Transport::Stream, "bob"));
    ready(&mut sim, &[ada, bob]);
    let tickets: Vec<Ticket> =
        (0..2_000).map(|n| sim.client(ada).send(b"bob", format!("{n}").as_bytes())).collect();
    // Half a frame arrives, and nothing after it on this connection.
    let (stalled, from) = (std::rc::Rc::new(std::cell::Cell::new(false)), sim.address_of(ada));
    let seen = stalled.clone();
    let mut sent = 0;
    sim.set_filter(Box::new(move |direction, addr, bytes| {
        if direction == Direction::Down && String::from_utf8_lossy(bytes).contains("waiting") {
            seen.set(true);
        }
        if direction == Direction::Down || addr != from || seen.get() {
            return FilterAction::Pass;
        }
        sent += 1;
        if sent <= 50 { FilterAction::Pass } else { FilterAction::Drop }
    }));
    sim.run_for(ms(100));
    sim.inject_stream(ada, b"@4000 SND 00");
    assert!(sim.run_until_idle(secs(600)));
    assert!(stalled.get(), "the server has cut the connection off");
    let events = sim.take_events(ada);
    let outcomes = outcomes(&events);
    assert!(tickets.iter().all(|ticket| outcomes[ticket] == Outcome::Acked(Vec::new())));
    assert!(events.contains(&Event::Registered { resumed: true }) && !events.contains(&Event::SessionLost));
    let expected: Vec<String> = (0..2_000).map(|n| format!("ada> {n}")).collect();
    let mut heard = messages(&sim.take_events(bob));
    heard.sort_by_key(|message| message["ada> ".len()..].parse::<u32>().unwrap());
    assert_eq!(heard, expected);
}

#[test]
fn a_killed_client_gets_its_name_back_once_its_session_has_ended() {
    for (transport, wait) in [(Transport::Stream, secs(30)), (Transport::Datagram, secs(90))] {
        let mut sim = quiet();
        // The simulated process continues, but must not take another port.
        let killed = ClientConfig { checks_path: false, ..with_many_retries(transport, "ada") };
        let first = sim.add_client(killed);
        ready(&mut sim, &[first]);
        // Killed: it sends nothing more, and its system closes the connection.
        let dead = sim.address_of(first);
        sim.set_filter(Box::new(
            move |_, addr, _| if addr == dead { FilterAction::Drop } else { FilterAction::Pass },
        ));
        sim.set_reachable(first, false);
        sim.cut(first);
        let begun = sim.now();
        let second = sim.add_client(with_many_retries(transport, "ada"));
        assert!(sim.run_until(secs(200), |sim| sim.client(second).is_ready()), "{transport:?}");
        let waited = sim.now() - begun;
        assert!(waited >= wait && waited <= wait + wait / 2, "{transport:?}: {waited:?}");
        let events = sim.take_events(second);
        assert!(events.iter().any(|event| matches!(event, Event::NameTaken { .. })), "{events:?}");
    }
}

#[test]
fn a_name_with_a_live_owner_is_refused_after_one_wait_at_most_and_at_once_without_a_policy() {
    for (transport, waits) in [(Transport::Stream, 0), (Transport::Datagram, 1)] {
        let mut sim = quiet();
        let first = sim.add_client(with_many_retries(transport, "ada"));
        ready(&mut sim, &[first]);
        let second = sim.add_client(with_many_retries(transport, "ada"));
        let third = sim.add_client(ClientConfig::new(
            transport,
            Some("ada"),
            Backoff::new(secs(1)).with_max_sends(1),
        ));
        let short = with_many_retries(transport, "ada").policy.with_deadline(Some(secs(60)));
        let fourth = sim.add_client(ClientConfig::new(transport, Some("ada"), short));
        sim.run_for(secs(2));
        for id in [third, fourth] {
            let events = sim.take_events(id);
            assert!(
                matches!(&events[..], [Event::Closed(Closed::Refused(409, text))] if text.starts_with("Name taken!")),
                "{transport:?}: {events:?}"
            );
        }
        sim.run_for(secs(300));
        let events = sim.take_events(second);
        let waited = events.iter().filter(|event| matches!(event, Event::NameTaken { .. })).count();
        assert_eq!(waited, waits, "{transport:?}");
        assert!(matches!(events.last(), Some(Event::Closed(Closed::Refused(409, _)))), "{events:?}");
    }
}
