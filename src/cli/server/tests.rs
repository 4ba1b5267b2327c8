//! The options of the server: what they resolve to, and which are refused.

use std::num::NonZeroUsize;

use clap::{CommandFactory as _, Parser as _};

use super::connection_limit::allowed_connections;
use super::serve::shown;
use super::{Args, ServerPlan};
use crate::config::ServerConfig;
use crate::hub::SlowPolicy;
use crate::net::{EngineKind, open_files};
use crate::reliable::PushTimeouts;

fn resolve(words: &[&str]) -> Result<ServerPlan, clap::Error> {
    Args::try_parse_from([&["server"], words].concat())?.resolve(77)
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn without_options_the_server_has_the_defaults_of_the_library() {
    let ServerPlan { config, max_connections, engine, .. } = resolve(&[]).unwrap();
    assert_eq!((max_connections, engine), (None, EngineKind::default()));
    assert_eq!(format!("{config:?}"), format!("{:?}", ServerConfig { seed: 77, ..ServerConfig::default() }));
}

#[test]
fn success_is_the_complement_of_the_loss() {
    let config = resolve(&["--success", ".75", "--loss-out", ".5", "--seed", "1"]).unwrap().config;
    assert_eq!((config.link_in.to_string(), config.link_out.to_string()), texts("iid:0.25", "iid:0.5"));
    assert_eq!(config.seed, 1);
}

fn texts(up: &str, down: &str) -> (String, String) {
    (up.to_owned(), down.to_owned())
}

#[test]
fn a_link_of_one_direction_combines_with_the_short_form_of_the_other() {
    let links = |line: &[&str]| {
        let config = resolve(line).unwrap().config;
        (config.link_in.to_string(), config.link_out.to_string())
    };
    assert_eq!(links(&["--link", "iid:.1", "--link-up", "delay:1s"]), texts("iid:0.1+delay:1s", "iid:0.1"));
    assert_eq!(links(&["--link-up", "list:1", "--loss-out", ".5"]), texts("list:1", "iid:0.5"));
    assert_eq!(links(&["--success", ".5", "--link-down", "delay:1s"]), texts("iid:0.5", "delay:1s"));
    assert_eq!(links(&["--profile", "wifi"]).0, "iid:0.002+delay:0.02s+rate:30mbit");
}

#[test]
fn a_plain_loss_is_logged_in_per_cent_and_any_other_link_as_its_text() {
    let shown = |spec: &str| shown(&spec.parse().unwrap());
    assert_eq!(shown("none"), "0.0 %");
    assert_eq!(shown("iid:.5"), "50.0 %");
    assert_eq!(shown("gilbert:.1,5"), "gilbert:0.1,5");
    assert_eq!(shown("iid:.5+mtu:900"), "iid:0.5+mtu:900");
}

#[test]
fn bare_udp_takes_a_list_of_any_length() {
    let nets = |text: &str| resolve(&["--bare-udp", text]).unwrap().config.bare_udp;
    assert_eq!(nets(""), []);
    assert_eq!(nets("10.0.0.0/8, ::1"), ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert!(resolve(&["--bare-udp", "10.0.0.0/8,home"]).unwrap_err().to_string().contains("`home`"));
}

#[test]
fn every_invalid_number_is_a_usage_error_that_names_it() {
    let timed = ["--timeout", "--max-timeout", "--idle", "--register-timeout", "--frame-timeout"];
    let wrong = ["0", "-1", "-1e-300", "NaN", "inf", "1e300", "x"];
    let mut lines: Vec<[&str; 2]> = Vec::new();
    lines.extend(timed.iter().flat_map(|option| wrong.map(|text| [*option, text])));
    lines.extend(["-1", "NaN", "1e300"].map(|text| ["--linger", text]));
    for option in ["--success", "--loss-out"] {
        lines.extend(["-0.1", "1.1", "NaN", "-inf", "1e300"].map(|text| [option, text]));
    }
    for option in ["--max-message", "--max-pending", "--max-memory", "--max-datagram"] {
        lines.extend(["-1", "1e300", "NaN", "99999999999G"].map(|text| [option, text]));
    }
    for option in ["--max-connections", "--max-per-host", "--max-pending-messages", "--max-sessions"] {
        lines.extend(["-1", "1e300", "", "-", "+1", "99999999999999999999"].map(|text| [option, text]));
    }
    for line in lines {
        let error = resolve(&line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("`{}` is not a", line[1])), "{line:?}: {text}");
    }
    for option in ["--max-connections", "--max-pending-messages", "--max-sessions"] {
        let text = resolve(&[option, "0"]).unwrap_err().to_string();
        assert!(
            text.contains(&format!("'{option} <N>': `0` is not enough: it must be at least 1")),
            "{text}"
        );
    }
}

#[test]
fn the_user_limits_connections_and_otherwise_the_system_does() {
    let ServerPlan { config, max_connections, .. } =
        resolve(&["--max-connections", "7", "--max-per-host", "0"]).unwrap();
    assert_eq!((max_connections, config.max_per_host), (NonZeroUsize::new(7), 0));
    assert_eq!(resolve(&["--max-sessions", "9"]).unwrap().config.hub.max_sessions, 9);
    for engine in EngineKind::ALL {
        assert_eq!(allowed_connections(NonZeroUsize::new(7), engine), 7);
    }
    let room = allowed_connections(None, EngineKind::Poll);
    assert!(room > 0 && room == open_files::connections_within(open_files::raise_open_files()));
    let by_threads = allowed_connections(NonZeroUsize::new(usize::MAX), EngineKind::Threads);
    assert_eq!(by_threads, open_files::connections_by_threads());
}

#[test]
fn the_policy_for_slow_consumers_is_chosen_by_name() {
    let hub = |line: &[&str]| resolve(line).unwrap().config.hub;
    assert_eq!(hub(&["--slow", "drop-old"]).slow, SlowPolicy::DropOld);
    assert_eq!(hub(&["--slow", "block", "--max-pending-messages", "1"]).max_pending_messages, 1);
    for line in [["--slow", "drop"], ["--slow", ""], ["--max-pending-messages", "0"]] {
        let error = resolve(&line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line:?}");
        assert!(error.to_string().contains(line[0]), "{error}");
    }
    let error = resolve(&["--slow", "drop"]).unwrap_err().to_string();
    assert!(
        error.contains("`drop` is not a policy; write drop-new, drop-old, disconnect or block"),
        "{error}"
    );
}

#[test]
fn options_that_contradict_each_other_are_usage_errors() {
    let lines: [&[&str]; 9] = [
        &["--success", ".5", "--link", "delay:1s"],
        &["--success", ".5", "--link-up", "iid:.1"],
        &["--success", ".5", "--profile", "3g"],
        &["--loss-out", ".5", "--link-down", "iid:.1"],
        &["--loss-out", "0", "--profile", "3g"],
        &["--timeout", "1s", "--max-timeout", "500ms"],
        &["--max-datagram", "575"],
        &["--max-datagram", "65508"],
        &["-v", "-q"],
    ];
    for line in lines {
        assert_eq!(resolve(line).unwrap_err().exit_code(), 2, "{line:?}");
    }
}

#[test]
fn the_longest_timeout_defaults_to_one_second_or_the_first_if_that_is_more() {
    let timeouts = |line: &[&str]| {
        let PushTimeouts { first, longest } = resolve(line).unwrap().config.hub.push_timeouts;
        (first.as_millis(), longest.as_millis())
    };
    assert_eq!(timeouts(&[]), (100, 1_000));
    assert_eq!(timeouts(&["--timeout", "2"]), (2_000, 2_000));
    assert_eq!(timeouts(&["--timeout", "1.5", "--max-timeout", "2"]), (1_500, 2_000));
}
