//! The property of any series of requests, valid or not: a refused one changes nothing.

use futures::executor::block_on;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::Fixture;

/// A value that a client could send for a field, valid or not.
fn some_value() -> impl Strategy<Value = Value> {
    let sound = [
        json!("dns"),
        json!("web"),
        json!("udp://h:1"),
        json!("127.0.0.1:1"),
        json!(true),
        json!(0.5),
        json!(1),
    ];
    let odd = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!(""),
        json!("\u{1b}"),
        json!([]),
        json!({}),
        json!("iid:.1"),
    ];
    let toxics = [
        json!([{"type": "loss", "attributes": {"rate": 0.5}}]),
        json!({"rate": 0.1, "latency": 5, "timeout": 0}),
        json!({"latency": 5, "jitter": 1}),
        json!({"spec": "delay:1ms+iid:.2"}),
    ];
    select([sound.as_slice(), &odd, &toxics].concat())
}

/// A request, valid more often than a random one would be.
fn some_request() -> impl Strategy<Value = (&'static str, &'static str, Value)> {
    let methods = select(vec!["GET", "POST", "PATCH", "DELETE"]);
    let paths = vec![
        "/proxies",
        "/proxies/dns",
        "/proxies/dns/toxics",
        "/proxies/dns/toxics/dns",
        "/populate",
        "/reset",
    ];
    let fields = vec![
        "name",
        "listen",
        "upstream",
        "enabled",
        "toxics",
        "type",
        "stream",
        "toxicity",
        "attributes",
        "link_up",
    ];
    let body = prop::collection::btree_map(select(fields), some_value(), 0..6);
    let kinds = select(vec!["loss", "latency", "link", "timeout", "reset_peer", "slicer"]);
    (methods, select(paths), body, kinds, any::<bool>()).prop_map(|(method, path, body, kind, typed)| {
        let mut body = serde_json::to_value(body).unwrap();
        if typed {
            body["type"] = json!(kind);
            body["name"] = json!("dns");
            body["upstream"] = json!("h:1");
        }
        (method, path, body)
    })
}

proptest! {
    #[test]
    fn a_refused_request_changes_nothing_and_answers_match_the_state(
        requests in prop::collection::vec(some_request(), 1..30),
    ) {
        let mut fixture = Fixture::new();
        for (method, path, body) in requests {
            let before = fixture.get("/proxies");
            let answer = block_on(fixture.api.answer(method, path, body.to_string().as_bytes()));
            prop_assert!([200, 201, 204, 400, 404, 405, 409, 500].contains(&answer.status), "{answer:?}");
            let after = fixture.get("/proxies");
            if answer.status >= 400 {
                prop_assert_eq!(&after, &before, "{} {} {}", method, path, body);
            }
            for shown in after.as_object().unwrap().values() {
                let (up, down) = fixture.links(shown["name"].as_str().unwrap());
                prop_assert_eq!((&shown["effective_up"], &shown["effective_down"]), (&json!(up), &json!(down)));
                let toxics = shown["toxics"].as_array().unwrap();
                prop_assert!(!toxics.is_empty() || shown["effective_up"] == shown["link_up"], "{}", shown);
            }
        }
    }
}
