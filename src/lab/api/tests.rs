//! Tests of the API with proxies that only store their state.

use std::sync::{Mutex, MutexGuard};

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::{BoxFuture, pending, ready};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::lab::proxy::limits::MAX_PROXIES;
use crate::link::LinkConfig;

/// Proxies without sockets. A listen address with port 1 is in use; one with port 2 is in use when a proxy is enabled
/// again. A lookup of the host `never` never ends.
#[derive(Default)]
pub(crate) struct Fake(Mutex<Vec<ProxyState>>);

impl Fake {
    fn states(&self) -> MutexGuard<'_, Vec<ProxyState>> {
        self.0.lock().unwrap()
    }

    fn add(&self, wanted: NewProxy) -> Result<ProxyState, ControlError> {
        let name = wanted.name.unwrap();
        check(&wanted.listen)?;
        if self.states().iter().any(|state| state.name == name) {
            return Err(ControlError::Conflict(name));
        }
        let (listen, upstream) = (wanted.listen.replace(":0", ":50123"), wanted.upstream);
        let state =
            ProxyState { name, listen, upstream, enabled: wanted.enabled, up: wanted.up, down: wanted.down };
        self.states().push(state.clone());
        Ok(state)
    }

    fn change(&self, name: &str, change: Change) -> Result<ProxyState, ControlError> {
        assert_ne!(change, Change::default(), "nothing to do");
        change.listen.as_deref().map_or(Ok(()), check)?;
        let mut states = self.states();
        let state = states.iter_mut().find(|state| state.name == name).unwrap();
        if change.enabled == Some(true) && state.listen.ends_with(":2") {
            return Err(ControlError::Failed(format!("cannot listen on {}: in use", state.listen)));
        }
        state.listen = change.listen.unwrap_or_else(|| state.listen.clone());
        state.upstream = change.upstream.unwrap_or_else(|| state.upstream.clone());
        state.enabled = change.enabled.unwrap_or(state.enabled);
        state.up = change.up.unwrap_or_else(|| state.up.clone());
        state.down = change.down.unwrap_or_else(|| state.down.clone());
        Ok(state.clone())
    }
}

fn check(listen: &str) -> Result<(), ControlError> {
    match listen.ends_with(":1") {
        true => Err(ControlError::Failed(format!("cannot listen on {listen}: address already in use"))),
        false => Ok(()),
    }
}

impl Proxies for Fake {
    fn list(&self) -> Vec<ProxyState> {
        self.states().clone()
    }

    fn create(&self, wanted: NewProxy) -> BoxFuture<'_, Result<ProxyState, ControlError>> {
        match wanted.upstream.contains("://never:") {
            true => pending().boxed(),
            false => ready(self.add(wanted)).boxed(),
        }
    }

    fn update<'a>(
        &'a self,
        name: &'a str,
        change: Change,
    ) -> BoxFuture<'a, Result<ProxyState, ControlError>> {
        ready(self.change(name, change)).boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        self.states().retain(|state| state.name != name);
        ready(Ok(())).boxed()
    }
}

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
fn reset_enables_all_proxies_and_removes_all_toxics_but_no_base_link() {
    let mut fixture = Fixture::with_dns();
    fixture.ask(
        "POST",
        "/proxies/dns/toxics",
        json!({"type": "latency", "stream": "upstream", "attributes": {"latency": 1}}),
        200,
    );
    fixture.ask("PATCH", "/proxies/dns", json!({"enabled": false}), 200);
    assert_eq!(fixture.raw("POST", "/reset", "", 204), Value::Null);
    let dns = fixture.get("/proxies/dns");
    assert_eq!((&dns["enabled"], &dns["toxics"]), (&json!(true), &json!([])));
    assert_eq!(fixture.links("dns").0, link("list:3").to_string());
}

#[test]
fn populate_creates_and_replaces_and_checks_all_before_the_first() {
    let mut fixture = Fixture::with_dns();
    let made = fixture.ask(
        "POST",
        "/populate",
        json!([
            {"name": "web", "upstream": "h:80", "toxics": [{"type": "latency", "attributes": {"latency": 5}}]},
            {"name": "dns", "listen": "udp://127.0.0.1:6000", "upstream": "udp://127.0.0.1:5353"},
        ]),
        201,
    );
    assert_eq!(made["proxies"].as_array().unwrap().len(), 2);
    assert_eq!(made["proxies"][1]["upstream"], "udp://127.0.0.1:5353");
    assert_eq!(fixture.links("dns").0, LinkConfig::perfect().to_string());
    for (bad, why) in [
        (
            json!([{"name": "x", "upstream": "h:1"}, {"name": "x", "upstream": "h:1"}]),
            "duplicate proxy name `x`",
        ),
        (json!([{"name": "x", "upstream": "h:1"}, {"name": "y"}]), "missing required field: upstream"),
        (json!([{"name": "x", "upstream": "h:1"}, {"upstream": "h:1"}]), "missing required field: name"),
        (json!({"name": "x"}), "missing required field: proxies"),
    ] {
        let error = fixture.error("POST", "/populate", bad, 400);
        assert!(error.contains(why), "{error}");
    }
    let half = json!({"proxies": [{"name": "x", "upstream": "h:1"}, {"name": "y", "upstream": "h:1", "listen": "127.0.0.1:1"}]});
    let answer = fixture.ask("POST", "/populate", half, 500);
    assert_eq!(answer["proxies"][0]["name"], "x");
    assert_eq!(fixture.fake.states().len(), 3);
}

#[test]
fn populate_creates_none_if_one_is_invalid() {
    for (bad, why) in [
        (json!({"name": "b c", "upstream": "h:1"}), "`b c` is not a name"),
        (json!({"name": "b", "upstream": "nonsense"}), "nonsense"),
        (json!({"name": "b", "listen": "nonsense", "upstream": "h:1"}), "nonsense"),
        (
            json!({"name": "b", "listen": "udp://127.0.0.1:0", "upstream": "tcp://h:1"}),
            "both must be udp or both tcp",
        ),
        (json!({"name": "b", "upstream": "h:0"}), "its port is 0"),
        (json!({"name": "dns", "upstream": "h:1"}), "both must be udp or both tcp"),
        (
            json!({"name": "dns", "listen": "127.0.0.1:0", "upstream": "h:1"}),
            "a proxy of udp:// cannot become",
        ),
    ] {
        let mut fixture = Fixture::with_dns();
        let error = fixture.error(
            "POST",
            "/populate",
            json!([{"name": "good", "upstream": "h:1"}, bad.clone()]),
            400,
        );
        assert!(error.contains(why), "{bad}: {error}");
        assert_eq!(fixture.names(), ["dns"], "{bad}");
    }
}

#[test]
fn populate_creates_none_if_there_is_no_room_for_all() {
    let mut fixture = Fixture::with_dns();
    let many = |count: usize| -> Value {
        let dns = json!({"name": "dns", "upstream": "udp://h:1"});
        let rest = (1..count).map(|n| json!({"name": n.to_string(), "upstream": "h:1"}));
        std::iter::once(dns).chain(rest).collect()
    };
    fixture.ask("POST", "/populate", many(MAX_PROXIES + 1), 503);
    assert_eq!(fixture.names(), ["dns"]);
    fixture.ask("POST", "/populate", many(MAX_PROXIES), 201);
    assert_eq!(fixture.names().len(), MAX_PROXIES, "one of them was there already");
}

#[test]
fn a_reset_that_cannot_enable_one_proxy_handles_the_others_and_says_so() {
    let mut fixture = Fixture::with_dns();
    let off = |name: &str, port: u16| {
        json!({
            "name": name, "listen": format!("127.0.0.1:{port}"), "upstream": "h:1", "enabled": false,
            "toxics": [{"type": "latency", "attributes": {"latency": 5}}],
        })
    };
    fixture.ask("POST", "/proxies", off("taken", 2), 201);
    fixture.ask("POST", "/proxies", off("free", 3), 201);
    let error = fixture.error("POST", "/reset", json!({}), 500);
    assert_eq!(
        error,
        "all toxics are gone, but `taken` stays off: cannot listen on tcp://127.0.0.1:2: in use"
    );
    for (name, enabled) in [("taken", false), ("free", true), ("dns", true)] {
        let shown = fixture.get(&format!("/proxies/{name}"));
        assert_eq!((&shown["enabled"], &shown["toxics"]), (&json!(enabled), &json!([])), "{name}");
        assert_eq!(shown["effective_down"], "none", "{name}");
    }
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
