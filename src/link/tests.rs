//! Tests of the link's impairments, on a virtual clock.

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn origin() -> Instant {
    Instant::now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn p(value: f64) -> Probability {
    Probability::new(value).unwrap()
}

/// A datagram with a number that damage to its bytes does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    number: u64,
    bytes: Vec<u8>,
}

impl Payload for Item {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

fn item(number: u64) -> Item {
    Item { number, bytes: Vec::new() }
}

fn link(spec: &str) -> LinkConfig {
    spec.parse().unwrap()
}

/// Sends 0 to `n` - 1 in flow 0 at once, and returns the arrivals with their delays.
fn carry(link: &mut Link<Item>, n: u64) -> Vec<(u64, Duration)> {
    let start = origin();
    for number in 0..n {
        link.send(start, 0, item(number));
    }
    let mut arrived = Vec::new();
    while let Some(due) = link.poll_timeout() {
        assert!(due == start || link.recv(due - Duration::from_nanos(1)).is_none());
        while let Some(item) = link.recv(due) {
            arrived.push((item.number, due - start));
        }
    }
    arrived
}

#[test]
fn a_perfect_link_delivers_everything_at_once_and_in_order() {
    let mut link = Link::new(LinkConfig::perfect(), 1, Direction::Up);
    let arrived = carry(&mut link, 100);
    assert!(arrived.iter().map(|(item, _)| *item).eq(0..100));
    assert!(arrived.iter().all(|(_, took)| took.is_zero()));
    assert_eq!(link.stats(), LinkStats { sent: 100, ..LinkStats::default() });
}

#[test]
fn nothing_arrives_before_it_is_due() {
    let mut link = Link::new(link("delay:20ms"), 1, Direction::Up);
    let now = origin();
    assert_eq!((link.recv(now), link.poll_timeout()), (None, None));
    link.send(now, 0, b"a".to_vec());
    link.send(now + ms(5), 0, b"b".to_vec());
    assert_eq!(link.poll_timeout(), Some(now + ms(20)));
    assert_eq!(link.recv(now + ms(19)), None);
    assert_eq!(link.recv(now + ms(20)), Some(b"a".to_vec()));
    assert_eq!(link.recv(now + ms(20)), None);
    assert_eq!(link.recv(now + ms(60)), Some(b"b".to_vec()));
    assert_eq!(link.poll_timeout(), None);
}

#[test]
fn a_delay_that_varies_reorders_and_arrivals_are_in_order_of_time() {
    let config = link("delay:27.5ms,22.5ms");
    let arrived = carry(&mut Link::new(config, 1, Direction::Up), 1000);
    assert_eq!(arrived.len(), 1000);
    assert!(arrived.is_sorted_by_key(|(_, took)| *took));
    assert!(!arrived.is_sorted_by_key(|(item, _)| *item));
    assert!(arrived.iter().all(|(_, took)| (ms(5)..=ms(50)).contains(took)));
    let mean = arrived.iter().map(|(_, took)| took.as_secs_f64()).sum::<f64>() / 1000.0;
    assert!((mean - 0.0275).abs() < 3.0 * 0.045 / 12_f64.sqrt() / 1000_f64.sqrt(), "{mean}");
}

#[test]
fn datagrams_due_at_one_instant_arrive_in_the_order_they_were_sent() {
    let config = link("delay:7ms");
    let arrived = carry(&mut Link::new(config, 1, Direction::Up), 1000);
    assert!(arrived.iter().map(|(item, _)| *item).eq(0..1000));
}

#[test]
fn duplicates_come_at_their_rate_each_after_its_own_delay() {
    let config = link("delay:27.5ms,22.5ms+duplicate:.2");
    let mut link = Link::new(config, 3, Direction::Down);
    let arrived = carry(&mut link, 20_000);
    let duplicated = link.stats().duplicated;
    let error = (0.2 * 0.8 * 20_000_f64).sqrt();
    assert!((duplicated as f64 - 4_000.0).abs() < 3.0 * error, "{duplicated}");
    assert_eq!(arrived.len() as u64, 20_000 + duplicated);
    let mut times: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    arrived.iter().for_each(|(item, took)| times.entry(*item).or_default().push(*took));
    assert!(times.values().filter(|t| t.len() == 2).all(|t| t[0] != t[1]));
}

#[test]
fn a_duplicate_probability_of_1_doubles_everything() {
    let config = LinkConfig { duplicate: Probability::ONE, ..LinkConfig::perfect() };
    let arrived = carry(&mut Link::new(config, 3, Direction::Down), 3);
    assert!(arrived.iter().map(|(item, _)| *item).eq([0, 0, 1, 1, 2, 2]));
}

#[test]
fn the_realised_loss_is_the_fraction_that_did_not_arrive() {
    let config = LinkConfig { loss: LossModel::Bernoulli(p(0.3)), ..LinkConfig::perfect() };
    let mut link = Link::new(config, 5, Direction::Up);
    assert_eq!(link.realised_loss(), None);
    let arrived = carry(&mut link, 50_000);
    let stats = link.stats();
    assert_eq!(arrived.len() as u64, stats.sent - stats.lost);
    assert_eq!(link.realised_loss(), Some(stats.lost as f64 / 50_000.0));
    assert!((link.realised_loss().unwrap() - 0.3).abs() < 3.0 * (0.3 * 0.7 / 50_000_f64).sqrt());
}

#[test]
fn delay_and_duplication_do_not_change_what_is_lost() {
    let loss = LossModel::Bernoulli(p(0.3));
    let plain = LinkConfig { loss, ..LinkConfig::perfect() };
    let busy = link("iid:.3+delay:5ms,4ms+duplicate:.5");
    let arrivals = |config| {
        let mut items: Vec<u64> =
            carry(&mut Link::new(config, 8, Direction::Up), 2000).into_iter().map(|(item, _)| item).collect();
        items.sort_unstable();
        items.dedup();
        items
    };
    assert_eq!(arrivals(plain), arrivals(busy));
}

#[test]
fn a_link_loses_what_verdicts_alone_would_lose() {
    let loss = LossModel::Bernoulli(p(0.4));
    let mut verdicts = Verdicts::new(loss.clone(), 11, Direction::Down);
    let survivors: Vec<u64> = (0..1000).filter(|index| !verdicts.lost(origin(), 0, *index)).collect();
    let mut link = Link::new(LinkConfig { loss, ..LinkConfig::perfect() }, 11, Direction::Down);
    assert!(carry(&mut link, 1000).into_iter().map(|(item, _)| item).eq(survivors));
}

#[test]
fn the_fate_of_a_flow_does_not_depend_on_other_flows() {
    let config = LinkConfig { loss: LossModel::Bernoulli(p(0.4)), ..LinkConfig::perfect() };
    let now = origin();
    let arrivals = |others: u64| {
        let mut link = Link::new(config.clone(), 2, Direction::Up);
        for number in 0..500 {
            for other in 0..others {
                link.send(now, other + 1, item(u64::MAX));
            }
            link.send(now, 0, item(number));
        }
        let arrived = std::iter::from_fn(|| link.recv(now)).map(|item| item.number);
        arrived.filter(|number| *number != u64::MAX).collect::<Vec<_>>()
    };
    assert_eq!(arrivals(0), arrivals(7));
}

#[test]
fn no_state_grows_beyond_its_bound() {
    let config = link("delay:27.5ms,22.5ms+duplicate:1");
    let mut link = Link::new(config, 1, Direction::Up);
    let now = origin();
    for flow in 0..200_000 {
        link.send(now, flow, Vec::new());
    }
    assert_eq!(link.flows.len(), MAX_FLOWS);
    assert_eq!(link.under_way.len(), MAX_UNDER_WAY);
    assert_eq!(link.stats().overflowed, 400_000 - MAX_UNDER_WAY as u64);
    assert_eq!(link.stats().lost, 0);
}

/// A script with these fates for the datagrams of flow 0.
fn script(fate: Fate) -> Script {
    [(Direction::Up, Decision { place: Place { flow: 0, index: 0 }, fate })].into_iter().collect()
}

#[test]
fn a_delay_beyond_any_clock_counts_as_ten_years() {
    let passage = Passage { delay: Duration::MAX, ..Passage::default() };
    let mut link = Link::with_script(script(Fate::Passed(passage)), Direction::Up);
    let now = origin();
    link.send(now, 0, Vec::new());
    assert_eq!(link.poll_timeout(), Some(now + ms(10 * 365 * 24 * 60 * 60 * 1000)));
}

#[test]
fn corruption_flips_exactly_one_bit_evenly_chosen() {
    let mut link = Link::new(link("corrupt:1"), 5, Direction::Up);
    let (now, mut flipped) = (origin(), [0_u32; 32]);
    for _ in 0..16_000 {
        let decision = link.send(now, 0, vec![0xa5; 4]);
        let bytes: [u8; 4] = link.recv(now).unwrap().try_into().unwrap();
        let difference = u32::from_be_bytes(bytes) ^ 0xa5a5_a5a5;
        assert_eq!(difference.count_ones(), 1);
        let Fate::Passed(Passage { corrupted: Some(bit), .. }) = decision.fate else {
            panic!("{decision:?}")
        };
        assert_eq!(u64::from(difference.leading_zeros()), bit);
        flipped[usize::try_from(bit).unwrap()] += 1;
    }
    // 500 each, with a standard error of 22.
    assert!(flipped.iter().all(|count| (410..590).contains(count)), "{flipped:?}");
    assert_eq!(link.stats().corrupted, 16_000);
    link.send(now, 0, Vec::new());
    assert_eq!((link.recv(now), link.stats().corrupted), (Some(Vec::new()), 16_000));
}

#[test]
fn truncation_is_uniform_over_shorter_lengths_and_corruption_hits_the_rest() {
    let mut link = Link::new(link("truncate:1+corrupt:1"), 5, Direction::Up);
    let (now, mut left) = (origin(), [0_u32; 4]);
    for _ in 0..4_000 {
        link.send(now, 0, vec![0; 4]);
        let bytes = link.recv(now).unwrap();
        left[bytes.len()] += 1;
        let flipped: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(flipped, u32::from(!bytes.is_empty()));
    }
    // 1,000 each, with a standard error of 27.
    assert!(left.iter().all(|count| (900..1_100).contains(count)), "{left:?}");
    assert_eq!((link.stats().truncated, link.stats().corrupted), (4_000, u64::from(4_000 - left[0])));
}

#[test]
fn damage_comes_at_its_rate_and_changes_no_loss() {
    let mut link = Link::new(link("iid:.2+corrupt:.1+truncate:.05"), 5, Direction::Up);
    let now = origin();
    let lost: Vec<bool> = (0..50_000).map(|_| link.send(now, 0, vec![1; 100]).fate == Fate::Lost).collect();
    let mut verdicts = Verdicts::new(LossModel::Bernoulli(p(0.2)), 5, Direction::Up);
    assert!((0..).zip(&lost).all(|(index, lost)| verdicts.lost(now, 0, index) == *lost));
    let stats = link.stats();
    let passed = (stats.sent - stats.lost) as f64;
    for (count, rate) in [(stats.corrupted, 0.1), (stats.truncated, 0.05)] {
        assert!((count as f64 - passed * rate).abs() < 3.0 * (passed * rate * (1.0 - rate)).sqrt());
    }
}

#[test]
fn larger_than_the_mtu_is_dropped_and_counted_apart() {
    let mut link = Link::new(link("mtu:1200"), 1, Direction::Up);
    let now = origin();
    assert_eq!(link.send(now, 0, vec![0; 1_201]).fate, Fate::TooLarge);
    assert!(link.send(now, 0, vec![0; 1_200]).fate.is_passed());
    let stats = link.stats();
    assert_eq!((stats.sent, stats.lost, stats.too_large, stats.overflowed), (2, 0, 1, 0));
    assert_eq!(link.realised_loss(), Some(0.0));
}

#[test]
fn a_rate_limit_spaces_what_it_passes_and_drops_what_its_queue_cannot_hold() {
    let mut link = Link::new(link("rate:1mbit,10KiB+delay:20ms"), 1, Direction::Up);
    let start = origin();
    let fates: Vec<Fate> = (0..12).map(|_| link.send(start, 0, vec![0; 1_024]).fate).collect();
    assert!(fates[..10].iter().all(Fate::is_passed));
    assert_eq!(fates[10..], [Fate::QueueFull; 2]);
    assert_eq!((link.stats().overflowed, link.stats().lost), (2, 0));
    let mut due = Vec::new();
    while let Some(at) = link.poll_timeout() {
        link.recv(at);
        due.push(at - start);
    }
    // 1,024 bytes take 8.192 ms at 1 Mbit/s.
    assert!(due.iter().copied().eq((1..=10).map(|n| ms(20) + Duration::from_micros(8_192) * n)));
}

#[test]
fn without_reordering_no_datagram_overtakes_another_of_its_flow() {
    let config = link("delay:50ms,45ms+reorder:off+duplicate:.3");
    let mut one = Link::new(config, 7, Direction::Up);
    assert!(carry(&mut one, 1_000).is_sorted_by_key(|(number, _)| *number));
    // Another flow does not wait for this one: its shortest delay is as short as without.
    let start = origin();
    let mut link = Link::new(link("delay:50ms,45ms+reorder:off"), 7, Direction::Up);
    let mut delays = [Vec::new(), Vec::new()];
    for _ in 0..200 {
        for (flow, delays) in (0..).zip(&mut delays) {
            let Fate::Passed(passage) = link.send(start, flow, item(0)).fate else {
                panic!("nothing is lost")
            };
            delays.push(passage.delay);
        }
    }
    assert!(delays.iter().all(|flow| flow.is_sorted()));
    assert!(delays[1][0] < *delays[0].last().unwrap());
}

#[test]
fn a_script_repeats_every_decision_of_a_link_and_knows_nothing_of_others() {
    let spec =
        "gilbert:.2,3+delay:normal,20ms,9ms+duplicate:.1+corrupt:.1+truncate:.1+mtu:90+rate:750kbit,1KiB";
    let run = |link: &mut Link<Vec<u8>>| {
        let start = origin();
        let mut made = Vec::new();
        for n in 0..3_000_u32 {
            let bytes = n.to_be_bytes().repeat(5 + usize::from(n.to_be_bytes()[3] % 20));
            made.push(link.send(start + Duration::from_micros(300) * n, u64::from(n % 3), bytes));
        }
        let mut arrived = Vec::new();
        while let Some(at) = link.poll_timeout() {
            arrived.push((at - start, link.recv(at).unwrap()));
        }
        (made, arrived, link.stats())
    };
    let recorded = run(&mut Link::new(link(spec), 3, Direction::Up));
    let script: Script = recorded.0.iter().map(|decision| (Direction::Up, *decision)).collect();
    assert_eq!(script.len(), 3_000);
    assert_eq!(run(&mut Link::with_script(script.clone(), Direction::Up)), recorded);
    let stats = recorded.2;
    let seen =
        [stats.lost, stats.too_large, stats.corrupted, stats.truncated, stats.duplicated, stats.overflowed];
    assert!(seen.iter().all(|count| *count > 0), "the record holds every fate: {stats:?}");
    let other = run(&mut Link::with_script(script, Direction::Down));
    assert!(other.0.iter().all(|decision| decision.fate == Fate::Passed(Passage::default())));
}

#[test]
fn a_script_for_longer_datagrams_is_applied_as_far_as_possible() {
    let passage = Passage { corrupted: Some(u64::MAX), truncated: Some(9), ..Passage::default() };
    let mut link = Link::with_script(script(Fate::Passed(passage)), Direction::Up);
    let now = origin();
    link.send(now, 0, vec![1, 2, 3]);
    assert_eq!(link.recv(now), Some(vec![1, 2, 3]));
}

#[test]
fn a_changed_link_keeps_datagrams_in_transit_counters_and_indices() {
    let mut changed = Link::new(link("delay:20ms"), 4, Direction::Up);
    let now = origin();
    for number in 0..100 {
        changed.send(now, 0, item(number));
    }
    changed.set_config(now, link("gilbert:.5,3"));
    assert_eq!(changed.config(), &link("gilbert:.5,3"));
    let mut always = Link::new(link("gilbert:.5,3"), 4, Direction::Up);
    let decisions: Vec<Decision> = (0..200).map(|number| always.send(now, 0, item(number))).collect();
    for (number, decision) in (100..200).zip(&decisions[100..]) {
        assert_eq!(changed.send(now, 0, item(number)), *decision);
    }
    assert_eq!(changed.stats().sent, 200);
    let later: Vec<u64> = std::iter::from_fn(|| changed.recv(now + ms(20)))
        .map(|item| item.number)
        .filter(|n| *n < 100)
        .collect();
    assert!(later.into_iter().eq(0..100));
}

#[test]
fn datagrams_in_transit_are_bounded_in_bytes_too() {
    let mut link = Link::new(link("delay:1s"), 4, Direction::Up);
    let (now, mut passed) = (origin(), 0);
    while link.send(now, 0, vec![0; 1 << 20]).fate.is_passed() {
        passed += 1;
    }
    assert_eq!(passed, MAX_BYTES_UNDER_WAY >> 20);
    assert!(link.recv(now + ms(1_000)).is_some());
    assert!(link.send(now, 0, vec![0; 1 << 20]).fate.is_passed());
}

#[test]
fn a_raised_rate_does_not_delay_later_datagrams() {
    let (now, mut raised) = (origin(), Link::new(link("rate:1kbit"), 4, Direction::Up));
    raised.send(now, 0, vec![0; 1_000]);
    raised.set_config(now, link("rate:1mbit"));
    raised.send(now, 0, vec![1; 1_000]);
    assert_eq!(raised.recv(now + ms(15)), None);
    assert_eq!(raised.recv(now + ms(16)), Some(vec![1; 1_000]));
}

#[test]
fn a_truncated_datagram_holds_no_more_memory_than_it_counts_for() {
    let (now, mut link) = (origin(), Link::new(link("truncate:1"), 4, Direction::Up));
    link.send(now, 0, vec![0; 60_000]);
    let left = link.recv(now).unwrap();
    assert!(left.capacity() <= left.len() + 64, "{} for {}", left.capacity(), left.len());
}
