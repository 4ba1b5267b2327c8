//! A bot: what it answers, and how it ends.

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use sayagain::config::ServerConfig;
use sayagain::net::blocking::{Client, Events};
use sayagain::net::client::Event;
use sayagain::net::{Engine, EngineKind, Listeners};
use sayagain::reliable::Outcome;
use sayagain::server::Server;

use super::start;
use crate::support::{STEP_TIMEOUT, TestServer, eventually};

/// The next message of the bot: where, and what.
fn next(events: &mut Events) -> (Option<String>, String) {
    loop {
        match events.next_timeout(STEP_TIMEOUT).expect("the bot says something") {
            Event::Message { sender, room, body } => {
                assert_eq!(sender, "parrot");
                return (room, String::from_utf8(body).unwrap());
            }
            Event::Retry { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn talk(url: &str) {
    let (ada, mut events) = Client::builder(url).name("ada").connect_blocking().unwrap();
    let (acked, lobby) = (Outcome::Acked(Vec::new()), Some("#lobby".to_owned()));
    assert_eq!(ada.join("#lobby"), acked);
    let bot = start("bot", &[url, "parrot"]);
    let usage = "I am a bot: say !echo TEXT, !who or !quit".to_owned();
    assert_eq!(next(&mut events), (lobby.clone(), usage));
    assert_eq!(ada.send("#lobby", "nothing for a bot"), acked);
    assert_eq!(ada.send("#lobby", "!echo  say it again "), acked);
    assert_eq!(next(&mut events), (lobby.clone(), " say it again".to_owned()));
    assert_eq!(ada.send("parrot", "!echo \u{fc}ber"), acked);
    assert_eq!(next(&mut events), (None, "\u{fc}ber".to_owned()));
    assert_eq!(ada.send("parrot", "!who"), acked);
    assert!(["ada parrot", "parrot ada"].contains(&next(&mut events).1.as_str()));
    assert_eq!(ada.send("#lobby", "!quit\r"), acked);
    let ended = bot.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    let heard = "* Acked([])\n* Acked([])\nada#lobby> nothing for a bot\nada#lobby> !echo  say it again \nada> !echo \u{fc}ber\nada> !who\n\
                 ada#lobby> !quit\\x0d\n* Done\n";
    assert_eq!(ended.out, heard);
    // It has sent BYE: its name is free.
    assert!(matches!(ada.send("parrot", "gone?"), Outcome::Rejected(404, _)));
    ada.close();
}

#[test]
fn it_answers_its_commands_and_leaves_when_it_is_told_to() {
    let server = TestServer::start(ServerConfig::default());
    for url in [format!("tcp://{}", server.addr), format!("udp://{}", server.addr), server.addr.to_string()] {
        talk(&url);
    }
    eventually("all have left", || server.report().sessions == 0);
    let place = tempfile::tempdir().unwrap();
    let url = format!("unix://{}/chat", place.path().display());
    let mut listeners = Listeners::default();
    listeners.add(&url.parse().unwrap()).unwrap();
    let rng = Box::new(ChaCha20Rng::seed_from_u64(1));
    let _engine =
        Engine::start(EngineKind::default(), listeners, |now| Server::new(now, ServerConfig::default(), rng));
    talk(&url);
}

#[test]
fn it_says_in_a_sentence_what_is_wrong_with_its_arguments() {
    for (args, said) in [
        (vec![], "say where the server is"),
        (vec!["line://localhost"], "line:// is not a listener for this client"),
        (vec!["tcp://localhost", "two words"], "is not a name"),
    ] {
        let ended = start("bot", &args).wait();
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.err.starts_with("error: ") && ended.err.contains(said), "{ended:?}");
    }
}
