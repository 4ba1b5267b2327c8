//! Requests of a protocol of its own over UDP, all at once, each retried by a retry policy until it is answered.
//!
//!     cargo run --example udp_retries -- SERVER:PORT POLICY WORD..        such as 127.0.0.1:7000 expb+timeout:50ms a b c
//!
//! A request is `ID WORD`, and its answer `ID ANSWER`. The example `lossy`, an echo server, is a server of it.
#![expect(clippy::disallowed_methods, reason = "a program has a clock and chance")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::net::UdpSocket;
use std::{env, error::Error, process, time::Instant};

use sayagain::escape::escape;
use sayagain::reliable::{Backoff, Retries};

fn main() {
    if let Err(error) = ask(&env::args().skip(1).collect::<Vec<_>>()) {
        eprintln!("{error}");
        process::exit(1);
    }
}

fn ask(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [server, policy, words @ ..] = words else { Err("say SERVER:PORT, a POLICY and some words")? };
    let socket = UdpSocket::bind(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(server)?;
    let (mut rng, mut buffer) = (rand::rng(), [0; 65_535]);
    let mut retries = Retries::new(policy.parse::<Backoff>()?);
    for (id, word) in (1_u32..).zip(words) {
        retries.ask(id, word).map_err(|_| "every request has an id of its own")?;
    }
    while !retries.is_idle() {
        let now = Instant::now();
        while let Some(send) = retries.poll_transmit(now, &mut rng) {
            // A send that the system refuses is lost like any other.
            let _ = socket.send(format!("{} {}", send.key, send.request).as_bytes());
        }
        while let Some(lost) = retries.poll_unknown(now) {
            println!("{}: unknown after {} sends", lost.request, lost.sends);
        }
        let wait = retries.poll_timeout().map(|due| due.saturating_duration_since(Instant::now()));
        let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { continue };
        socket.set_read_timeout(Some(wait))?;
        // An error is a timeout, or reports that nothing listens there now.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        if let Some((id, answer)) = parse(&buffer[..length])
            && let Some(done) = retries.answered(Instant::now(), id)
        {
            println!("{}: {} after {} sends", done.request, escape(answer), done.sends);
        }
    }
    Ok(())
}

/// The id and the text of an answer.
fn parse(datagram: &[u8]) -> Option<(u32, &[u8])> {
    let space = datagram.iter().position(|byte| *byte == b' ')?;
    Some((std::str::from_utf8(&datagram[..space]).ok()?.parse().ok()?, &datagram[space + 1..]))
}
