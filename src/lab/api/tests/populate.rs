//! Tests of the requests for all proxies at once: populate and reset.

use serde_json::{Value, json};

use super::{Fixture, link};
use crate::lab::proxy::limits::MAX_PROXIES;
use crate::link::LinkConfig;

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
