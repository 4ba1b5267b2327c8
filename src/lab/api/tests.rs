//! Tests of the API with proxies that only store their state.

use futures::FutureExt as _;
use futures::executor::block_on;

use super::*;
use crate::lab::proxy::limits::MAX_PROXIES;
use crate::link::LinkConfig;

mod any_request;
mod fake;
mod populate;

pub(crate) use fake::Fake;

struct Fixture {
    fake: Arc<Fake>,
    api: Api,
}

impl Fixture {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        Self { api: Api::new(fake.clone()), fake }
    }

    /// With a UDP proxy `dns` that drops each third datagram to its upstream.
    fn with_dns() -> Self {
        let mut fixture = Self::new();
        let dns = json!({"name": "dns", "listen": "udp://127.0.0.1:6000", "upstream": "127.0.0.1:53", "link_up": "list:3"});
        fixture.ask("POST", "/proxies", dns, 201);
        fixture
    }

    fn names(&self) -> Vec<String> {
        self.fake.states().iter().map(|state| state.name.clone()).collect()
    }

    fn ask(&mut self, method: &str, path: &str, body: Value, status: u16) -> Value {
        self.raw(method, path, &body.to_string(), status)
    }

    fn get(&mut self, path: &str) -> Value {
        self.raw("GET", path, "", 200)
    }

    fn raw(&mut self, method: &str, path: &str, body: &str, status: u16) -> Value {
        let answer = block_on(self.api.answer(method, path, body.as_bytes()));
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        let body = answer.body.unwrap_or(Value::Null);
        if status >= 400 {
            assert_eq!(body["status"], status);
        }
        body
    }

    fn error(&mut self, method: &str, path: &str, body: Value, status: u16) -> String {
        let answer = self.ask(method, path, body, status);
        answer["error"].as_str().unwrap().to_owned()
    }

    /// Returns the actual links of a proxy, as texts.
    fn links(&self, name: &str) -> (String, String) {
        let states = self.fake.states();
        let state = states.iter().find(|state| state.name == name).unwrap();
        (state.up.to_string(), state.down.to_string())
    }
}

fn link(text: &str) -> LinkConfig {
    text.parse().unwrap()
}

#[test]
fn a_proxy_is_created_shown_and_deleted_in_toxiproxys_form() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get("/proxies"), json!({}));
    let web = json!({"name": "web", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:80"});
    let made = fixture.ask("POST", "/proxies", web.clone(), 201);
    assert_eq!(made["listen"], "127.0.0.1:50123", "as TCP clients parse it");
    assert_eq!((&made["enabled"], &made["toxics"]), (&json!(true), &json!([])));
    assert_eq!(fixture.fake.states()[0].listen, "tcp://127.0.0.1:50123");
    assert_eq!(fixture.get("/proxies/web"), made);
    assert_eq!(fixture.get("/proxies"), json!({ "web": made }));
    assert_eq!(fixture.error("POST", "/proxies", web, 409), "proxy already exists");
    assert_eq!(fixture.raw("DELETE", "/proxies/web", "", 204), Value::Null);
    assert_eq!(fixture.error("GET", "/proxies/web", json!({}), 404), "proxy not found");
    assert_eq!(fixture.error("DELETE", "/proxies/web", json!({}), 404), "proxy not found");
}

#[test]
fn a_udp_proxy_is_shown_with_its_scheme_which_its_upstream_shares() {
    let mut fixture = Fixture::with_dns();
    let dns = fixture.get("/proxies/dns");
    assert_eq!(
        (&dns["listen"], &dns["upstream"]),
        (&json!("udp://127.0.0.1:6000"), &json!("udp://127.0.0.1:53"))
    );
    let changed = fixture.ask("PATCH", "/proxies/dns", json!({"upstream": "127.0.0.1:54"}), 200);
    assert_eq!(changed["upstream"], "udp://127.0.0.1:54");
}

#[test]
fn a_proxy_is_created_with_its_toxics_or_not_at_all() {
    let mut fixture = Fixture::new();
    let toxics = json!([
        {"type": "loss", "stream": "upstream", "attributes": {"rate": 0.25}},
        {"type": "latency", "attributes": {"latency": 20}},
    ]);
    let made =
        fixture.ask("POST", "/proxies", json!({"name": "a", "upstream": "h:1", "toxics": toxics}), 201);
    assert_eq!(made["toxics"][1]["name"], "latency_downstream");
    assert_eq!(fixture.links("a"), (link("iid:.25").to_string(), link("delay:20ms").to_string()));
    for toxics in
        [json!([{"type": "loss"}, {"type": "loss"}]), json!([{"type": "slicer"}]), json!([7]), json!("x")]
    {
        fixture.ask(
            "POST",
            "/proxies",
            json!({"name": "b", "upstream": "h:1", "toxics": toxics}),
            if toxics[1].is_null() { 400 } else { 409 },
        );
    }
    let error = fixture.error(
        "POST",
        "/proxies",
        json!({"name": "b", "upstream": "h:1", "listen": "127.0.0.1:1"}),
        500,
    );
    assert_eq!(error, "cannot listen on tcp://127.0.0.1:1: address already in use");
    assert_eq!(fixture.fake.states().len(), 1);
    // As the Go client sends it.
    fixture.ask(
        "POST",
        "/proxies",
        json!({"name": "c", "upstream": "h:1", "listen": "", "enabled": true, "toxics": null}),
        201,
    );
}

#[test]
fn toxics_are_added_and_removed_on_top_of_the_base_link() {
    let mut fixture = Fixture::with_dns();
    let base = link("list:3").to_string();
    let latency = json!({"type": "latency", "stream": "upstream", "attributes": {"latency": 100}});
    let made = fixture.ask("POST", "/proxies/dns/toxics", latency.clone(), 200);
    assert_eq!(made["name"], "latency_upstream");
    assert_eq!(fixture.links("dns").0, link("list:3+delay:100ms").to_string());
    assert_eq!(fixture.error("POST", "/proxies/dns/toxics", latency, 409), "toxic already exists");
    let path = "/proxies/dns/toxics/latency_upstream";
    let changed = fixture.ask("PATCH", path, json!({"attributes": {"latency": 50}}), 200);
    assert_eq!(changed["attributes"], json!({"latency": 50, "jitter": 0}));
    assert_eq!(fixture.get(path), changed);
    assert_eq!(fixture.get("/proxies/dns/toxics"), json!([changed]));
    let shown = fixture.get("/proxies/dns");
    assert_eq!(shown["link_up"], base);
    assert_eq!(shown["effective_up"], link("list:3+delay:50ms").to_string());
    fixture.raw("DELETE", path, "", 204);
    assert_eq!(fixture.links("dns").0, base);
    for method in ["GET", "DELETE", "PATCH"] {
        assert_eq!(fixture.error(method, path, json!({}), 404), "toxic not found");
    }
}

#[test]
fn toxicity_multiplies_probabilities_and_0_disables_a_toxic() {
    let mut fixture = Fixture::new();
    let loss = json!({"name": "l", "type": "loss", "toxicity": 0.5, "attributes": {"rate": 0.5}});
    fixture.ask("POST", "/proxies", json!({"name": "a", "upstream": "h:1", "toxics": [loss]}), 201);
    let down = |fixture: &Fixture| fixture.links("a").1;
    assert_eq!(down(&fixture), link("iid:.25").to_string());
    fixture.ask("PATCH", "/proxies/a/toxics/l", json!({"toxicity": 0}), 200);
    assert_eq!(down(&fixture), LinkConfig::perfect().to_string());
    let reset = json!({"name": "r", "type": "reset_peer", "toxicity": 0});
    fixture.ask("POST", "/proxies/a/toxics", reset, 200);
    assert_eq!(down(&fixture), LinkConfig::perfect().to_string());
    let error = fixture.error("PATCH", "/proxies/a/toxics/r", json!({"toxicity": 0.5}), 400);
    assert_eq!(
        error,
        "bad request body: r: its toxicity is 0 or 1: nothing here is decided once per connection"
    );
    assert_eq!(fixture.get("/proxies/a/toxics/r")["toxicity"], 0, "a refused change changes nothing");
}

#[test]
fn toxics_that_cannot_be_combined_are_refused_and_change_nothing() {
    let mut fixture = Fixture::with_dns();
    let before = fixture.get("/proxies/dns");
    let error = fixture.error(
        "POST",
        "/proxies/dns/toxics",
        json!({"type": "loss", "stream": "upstream", "attributes": {"rate": 0.1}}),
        400,
    );
    assert_eq!(
        error,
        "bad request body: loss_upstream: its stream has a loss model already, and the two do not add up"
    );
    assert_eq!(fixture.get("/proxies/dns"), before);
    fixture.ask("POST", "/proxies/dns/toxics", json!({"type": "loss", "attributes": {"rate": 0.5}}), 200);
    fixture.ask(
        "POST",
        "/proxies/dns/toxics",
        json!({"name": "more", "type": "loss", "attributes": {"rate": 0.5}}),
        200,
    );
    assert_eq!(fixture.links("dns").1, link("iid:.75").to_string());
}

#[test]
fn an_update_changes_only_the_given_fields_and_ignores_toxics_which_may_be_outdated() {
    let mut fixture = Fixture::with_dns();
    fixture.ask("POST", "/proxies/dns/toxics", json!({"type": "loss", "attributes": {"rate": 0.1}}), 200);
    // The request of the Go client to disable a proxy: all fields that it received when it created it.
    let all = json!({"name": "dns", "listen": "udp://127.0.0.1:6000", "upstream": "udp://127.0.0.1:53", "enabled": false, "toxics": []});
    let off = fixture.ask("POST", "/proxies/dns", all, 200);
    assert_eq!((&off["enabled"], off["toxics"].as_array().unwrap().len()), (&json!(false), 1));
    assert_eq!(off["link_up"], link("list:3").to_string());
    let moved = fixture.ask(
        "PATCH",
        "/proxies/dns",
        json!({"listen": "127.0.0.1:6001", "link_down": "delay:1ms"}),
        200,
    );
    assert_eq!((&moved["listen"], &moved["enabled"]), (&json!("udp://127.0.0.1:6001"), &json!(false)));
    assert_eq!(moved["effective_down"], link("iid:.1+delay:1ms").to_string());
    let error = fixture.error("PATCH", "/proxies/dns", json!({"name": "other"}), 400);
    assert_eq!(error, "bad request body: the name of a proxy cannot change; delete it and make another");
}

#[test]
fn an_answer_can_be_sent_back_and_changes_nothing() {
    let mut fixture = Fixture::with_dns();
    fixture.ask("POST", "/proxies/dns/toxics", json!({"type": "loss", "attributes": {"rate": 0.1}}), 200);
    let shown = fixture.get("/proxies/dns");
    assert_eq!(fixture.ask("PATCH", "/proxies/dns", shown.clone(), 200), shown);
    let toxic = fixture.get("/proxies/dns/toxics/loss_downstream");
    assert_eq!(fixture.ask("PATCH", "/proxies/dns/toxics/loss_downstream", toxic.clone(), 200), toxic);
}

#[test]
fn a_proxy_in_creation_is_never_shown_without_its_toxics() {
    let fixture = Fixture::new();
    let toxics = json!([{"type": "loss", "attributes": {"rate": 1}}]);
    let body = json!({"name": "a", "upstream": "never:1", "toxics": toxics}).to_string();
    let mut change = fixture.api.answer("POST", "/proxies", body.as_bytes()).boxed();
    assert!(change.as_mut().now_or_never().is_none(), "it is under way");
    let state = ProxyState {
        name: "a".to_owned(),
        listen: "tcp://127.0.0.1:4".to_owned(),
        upstream: "tcp://never:1".to_owned(),
        enabled: true,
        up: link("none"),
        down: link("iid:1"),
    };
    fixture.fake.states().push(state);
    let shown = block_on(fixture.api.answer("GET", "/proxies/a", b"")).body.unwrap();
    assert_eq!((&shown["link_down"], &shown["effective_down"]), (&json!("none"), &json!("iid:1")));
    assert_eq!(shown["toxics"][0]["type"], "loss");
}

#[test]
fn a_proxy_of_the_command_line_has_its_links_as_base_links() {
    let mut fixture = Fixture::new();
    let (listen, upstream) = ("udp://127.0.0.1:1234".to_owned(), "udp://h:1".to_owned());
    let state = ProxyState {
        name: "udp1".to_owned(),
        listen,
        upstream,
        enabled: true,
        up: link("iid:.1"),
        down: link("iid:.2"),
    };
    fixture.fake.states().push(state);
    let shown = fixture.get("/proxies/udp1");
    assert_eq!(
        (&shown["link_up"], &shown["link_down"]),
        (&json!(link("iid:.1").to_string()), &json!(link("iid:.2").to_string()))
    );
    fixture.raw("POST", "/reset", "", 204);
    assert_eq!(fixture.get("/proxies/udp1"), shown);
}

#[test]
fn invalid_bodies_are_refused_in_one_line() {
    let mut fixture = Fixture::with_dns();
    for (path, body) in [
        ("/proxies", ""),
        ("/proxies", "{"),
        ("/proxies", "[]"),
        ("/proxies", "\u{1b}[2J"),
        ("/proxies", r#"{"name": 7, "upstream": "h:1"}"#),
        ("/proxies", r#"{"name": "x", "upstream": "h:1", "enabled": "yes"}"#),
        ("/proxies", r#"{"name": "x", "upstream": "h:1", "link_up": "iid:2"}"#),
        ("/proxies", r#"{"name": "x", "upstream": "h:1", "link_up": "duplicate:.5"}"#),
        (
            "/proxies",
            r#"{"name": "x", "upstream": "udp://h:1", "listen": "udp://h:2", "link_down": "reset:.5"}"#,
        ),
        ("/proxies", r#"{"name": "x\u001b[2J", "upstream": "h:1"}"#),
        ("/proxies/dns/toxics", r#"{"type": "loss", "attributes": {"rate": 1.5}}"#),
        ("/proxies/dns/toxics", r#"{"type": "loss", "attributes": {"rate": 1e400}}"#),
        ("/proxies/dns/toxics", r#"{"type": "loss", "attributes": {"model": "delay:1s"}}"#),
        ("/proxies/dns/toxics", r#"{"type": "loss", "attributes": []}"#),
        ("/proxies/dns/toxics", r#"{"type": "latency", "attributes": {"latency": -1}}"#),
        ("/proxies/dns/toxics", r#"{"type": "latency", "attributes": {"latency": 1e300}}"#),
        ("/proxies/dns/toxics", r#"{"type": "bandwidth"}"#),
        ("/proxies/dns/toxics", r#"{"type": "drop"}"#),
        ("/proxies/dns/toxics", r#"{"type": "drop", "attributes": {"list": "0"}}"#),
        ("/proxies/dns/toxics", r#"{"type": "link", "attributes": {"spec": "wormhole"}}"#),
        ("/populate", "7"),
    ] {
        let answer = fixture.raw("POST", path, body, 400);
        let error = answer["error"].as_str().unwrap();
        assert!(!error.chars().any(char::is_control), "{body}: {error:?}");
    }
    assert_eq!(fixture.fake.states().len(), 1);
}

#[test]
fn the_numbers_of_proxies_and_toxics_are_bounded() {
    let mut fixture = Fixture::new();
    for n in 0..MAX_PROXIES {
        fixture.ask("POST", "/proxies", json!({"name": n.to_string(), "upstream": "h:1"}), 201);
    }
    fixture.ask("POST", "/proxies", json!({"name": "one more", "upstream": "h:1"}), 503);
    for n in 0..32 {
        fixture.ask("POST", "/proxies/0/toxics", json!({"name": n.to_string(), "type": "latency"}), 200);
    }
    fixture.ask("POST", "/proxies/0/toxics", json!({"type": "latency"}), 400);
}

#[test]
fn the_version_names_this_program() {
    let version = Fixture::new().get("/version");
    assert_eq!(
        (version["version"].as_str(), version["program"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), Some("sayagain lab"))
    );
}
