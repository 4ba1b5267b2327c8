//! A UDP echo server behind a simulated link that drops, delays and duplicates datagrams: a `Link` around a plain socket.
//!
//!     cargo run --example lossy -- ADDRESS:PORT [LINK [SEED]]        such as 127.0.0.1:7000 iid:.3+delay:20ms 7
#![expect(clippy::disallowed_methods, reason = "a program has a clock and chance")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::convert::Infallible;
use std::net::{SocketAddr, UdpSocket};
use std::{env, error::Error, process, time::Instant};

use sayagain::link::{Direction, Flows, Link, LinkConfig, LinkStats};

/// The number of datagrams between two reports.
const REPORT_EVERY: u64 = 100;

fn main() {
    let Err(error) = serve(&env::args().skip(1).collect::<Vec<_>>());
    eprintln!("{error}");
    process::exit(1);
}

fn serve(words: &[String]) -> Result<Infallible, Box<dyn Error>> {
    let address = words.first().ok_or("say at which ADDRESS:PORT to listen")?;
    let config: LinkConfig = words.get(1).map_or("iid:.1", String::as_str).parse()?;
    let seed = words.get(2).map_or_else(
        || Ok(rand::random()),
        |seed| seed.parse().map_err(|_| "a seed is a whole number below 2^64"),
    )?;
    let socket = UdpSocket::bind(address)?;
    println!("listening on {}, link {config}, seed {seed}", socket.local_addr()?);
    let mut link: Link<(SocketAddr, Vec<u8>)> = Link::new(config, seed, Direction::Up);
    let (mut flows, mut buffer) = (Flows::new(), [0; 65_535]);
    loop {
        let now = Instant::now();
        while let Some((peer, bytes)) = link.recv(now) {
            // Answers are not impaired, but the system may refuse them.
            let _ = socket.send_to(&bytes, peer);
        }
        // The next deadline is later than now, so this is never zero, which would be refused.
        socket.set_read_timeout(link.poll_timeout().map(|due| due - now))?;
        // An error is a timeout, or reports that an earlier peer is gone.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let place = flows.next(&peer, Direction::Up);
            link.send_at(Instant::now(), place, (peer, buffer[..length].to_vec()));
            report(link.stats());
        }
    }
}

fn report(stats: LinkStats) {
    if stats.sent.is_multiple_of(REPORT_EVERY) {
        println!("{} datagrams: {} lost, {} doubled", stats.sent, stats.lost, stats.duplicated);
    }
}
