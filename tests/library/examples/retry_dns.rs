//! A query that is repeated, against a server of the test's.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, ResourceRecord};

use super::{run, socket, start};

/// The next query, and its sender.
fn receive(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 1_500];
    let (length, client) = server.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), client)
}

/// The answer to a query for one name: these addresses.
fn reply(query: &[u8], addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut packet = Packet::parse(query).unwrap().into_reply();
    let name = packet.questions[0].qname.clone();
    packet.answers.extend(addresses.iter().map(|address| {
        let data = RData::A(Ipv4Addr::from(*address).into());
        ResourceRecord::new(name.clone(), CLASS::IN, 60, data)
    }));
    packet.build_bytes_vec_compressed().unwrap()
}

#[test]
fn a_query_is_repeated_until_it_is_answered() {
    let (server, addr) = socket();
    let program = start("retry_dns", &[&addr, "chat.example", "sip", "20ms"]);
    let (first, second) = (receive(&server), receive(&server));
    assert_eq!(first, second, "a repeat has the same bytes and comes from the same port");
    let (query, client) = receive(&server);
    server.send_to(b"no DNS", client).unwrap();
    server.send_to(&query, client).unwrap();
    let answer = reply(&query, &[[192, 0, 2, 1], [192, 0, 2, 2]]);
    server.send_to(&answer, client).unwrap();
    let ended = program.wait();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    let sends = ended.out.lines().filter(|line| line.starts_with("send ")).count();
    let expected = format!("192.0.2.1\n192.0.2.2\n2 addresses of chat.example with {sends} sends\n");
    assert!(sends >= 3 && ended.out.ends_with(&expected), "{}", ended.out);
}

#[test]
fn a_policy_of_no_protocol_is_one_too() {
    let (_silent, addr) = socket();
    let ended = run("retry_dns", &[&addr, "chat.example", "once", "5ms"]);
    let sentence = format!("{addr} answered none of 1 sends: is it the right one?\n");
    assert_eq!((ended.code, ended.err), (1, sentence));
}

#[test]
fn it_gives_up_with_a_sentence_when_the_policy_allows_no_further_send() {
    let (_silent, addr) = socket();
    let ended = run("retry_dns", &[&addr, "chat.example", "dns", "5ms"]);
    let sentence = format!("{addr} answered none of 3 sends: is it the right one?\n");
    assert_eq!((ended.code, ended.err), (1, sentence));
}

#[test]
fn an_unknown_policy_is_refused_with_the_ones_there_are() {
    let ended = run("retry_dns", &["127.0.0.1:53", "chat.example", "hope"]);
    let sentence = "`hope` is not a retry policy: it must be once, expb, fixed, linear, coap, sip, sip-invite, dns, rto, \
                    quic-pto or dtls\n";
    assert_eq!((ended.code, ended.err.as_str()), (1, sentence));
}
