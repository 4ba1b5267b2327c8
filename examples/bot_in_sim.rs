//! A chat bot, tested in the simulator where 30 % of all datagrams are lost each way: `bot_in_sim [SEED]`.
//!
//! [`answer`] is the whole bot: `net::Client` hands it the same events, as in the example `bot`.
#![expect(clippy::disallowed_methods, reason = "the simulated time begins at some instant")]
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::time::{Duration, Instant};
use std::{env, error::Error};

use sayagain::config::{ClientConfig, ServerConfig, Transport};
use sayagain::link::LinkConfig;
use sayagain::net::client::Event;
use sayagain::reliable::Backoff;
use sayagain::sim::Sim;

const QUESTIONS: usize = 100;

/// The bot's answer to an event, and its target: the room or the sender.
fn answer(event: &Event) -> Option<(&str, &[u8])> {
    let Event::Message { sender, room, body } = event else { return None };
    let text = body.strip_prefix(b"!echo ")?;
    Some((room.as_deref().unwrap_or(sender), text))
}

fn main() -> Result<(), Box<dyn Error>> {
    let seed = env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    let link: LinkConfig = "iid:.3+delay:20ms".parse()?;
    let mut sim = Sim::new(Instant::now(), ServerConfig::default(), link.clone(), link, seed);
    let policy: Backoff = "expb+timeout:100ms+max-sends:20".parse()?;
    let [bot, ada] = ["bot", "ada"]
        .map(|name| sim.add_client(ClientConfig::new(Transport::Datagram, Some(name), policy.clone())));
    sim.client(bot).join(b"#lobby");
    sim.client(ada).join(b"#lobby");
    sim.run_until_idle(Duration::from_secs(600));
    let (mut asked, mut answers) = (0, Vec::new());
    let is_done = sim.run_until(Duration::from_secs(3_600), |sim| {
        let now = sim.now();
        for event in sim.take_events(bot) {
            if let Some((to, text)) = Event::from_client(event, now).as_ref().and_then(answer) {
                sim.client(bot).send(to.as_bytes(), text);
            }
        }
        let heard = sim.take_events(ada).into_iter().filter_map(|event| Event::from_client(event, now));
        answers.extend(heard.filter_map(|event| match event {
            Event::Message { body, .. } => String::from_utf8(body).ok(),
            _ => None,
        }));
        if asked == answers.len() && asked < QUESTIONS && sim.client(ada).is_idle() {
            sim.client(ada).send(b"#lobby", format!("!echo {asked}").as_bytes());
            asked += 1;
        }
        answers.len() == QUESTIONS
    });
    assert!(is_done && answers.iter().map(String::as_str).eq((0..QUESTIONS).map(|n| n.to_string())));
    let (elapsed, lost) = (sim.elapsed().as_secs_f64(), sim.link_stats().0.lost);
    println!(
        "{QUESTIONS} answers in {elapsed:.1} s of virtual time, with {lost} datagrams to the server lost"
    );
    Ok(())
}
