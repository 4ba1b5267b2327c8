//! Requests of a protocol of its own, against a server of the test's and against the example `lossy`.

use std::collections::BTreeMap;

use super::{run, socket, start, wait_for};

#[test]
fn a_request_is_repeated_with_its_id_until_it_is_answered() {
    let (server, addr) = socket();
    let program = start("udp_retries", &[&addr, "fixed+timeout:20ms+max-sends:1000", "dig", "fill"]);
    let mut sends: BTreeMap<String, u32> = BTreeMap::new();
    let mut buffer = [0; 100];
    // The first two sends of each are lost; an answer from another address and one without an id are ignored.
    while sends.len() < 2 || sends.values().any(|count| *count < 3) {
        let (length, client) = server.recv_from(&mut buffer).unwrap();
        let request = String::from_utf8(buffer[..length].to_vec()).unwrap();
        let count = sends.entry(request.clone()).or_default();
        *count += 1;
        server.send_to(b"7 another's", client).unwrap();
        server.send_to(b"none", client).unwrap();
        if *count >= 3 {
            let answer = request.replace("dig", "dug").replace("fill", "filled");
            server.send_to(answer.as_bytes(), client).unwrap();
        }
    }
    let ended = program.wait();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert_eq!(sends.keys().collect::<Vec<_>>(), ["1 dig", "2 fill"]);
    let mut lines: Vec<&str> = ended.out.lines().collect();
    lines.sort_unstable();
    let [dig, fill] = lines[..] else { panic!("{lines:?}") };
    assert!(dig.starts_with("dig: dug after ") && fill.starts_with("fill: filled after "), "{lines:?}");
}

#[test]
fn a_request_without_an_answer_is_unknown_after_the_sends_of_its_policy() {
    let (_silent, addr) = socket();
    let ended = run("udp_retries", &[&addr, "fixed+timeout:5ms+max-sends:3", "dig"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "dig: unknown after 3 sends\n"), "{}", ended.err);
}

#[test]
fn every_request_is_answered_through_a_link_that_loses_30_percent() {
    let server = start("lossy", &["127.0.0.1:0", "iid:.3", "7"]);
    let greeting = wait_for(&server, "listening on ");
    let (addr, _) = greeting.split_once(", ").unwrap();
    let words: Vec<String> = (0..50).map(|n| format!("w{n}")).collect();
    let mut args = vec![addr, "fixed+timeout:50ms+max-sends:1000"];
    args.extend(words.iter().map(String::as_str));
    let ended = run("udp_retries", &args);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for word in &words {
        let line = format!("{word}: {word} after ");
        assert_eq!(ended.out.lines().filter(|found| found.starts_with(&line)).count(), 1, "{}", ended.out);
    }
    assert!(ended.out.lines().any(|line| !line.ends_with("after 1 sends")), "nothing was lost");
}

#[test]
fn a_policy_that_is_none_is_refused_with_a_sentence() {
    let ended = run("udp_retries", &["127.0.0.1:9", "expb+sends:5", "dig"]);
    assert_eq!((ended.code, ended.err.lines().count()), (1, 1), "{}", ended.err);
    assert!(ended.err.starts_with("`sends` is not a parameter of a retry policy: "), "{}", ended.err);
}
