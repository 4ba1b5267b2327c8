//! Queries a DNS server for the addresses of a name, and retries by a retry policy.
//!
//!     cargo run --example retry_dns -- SERVER:PORT NAME [POLICY [FIRST_TIMEOUT]]        such as 127.0.0.53:53 example.org dtls
#![expect(clippy::disallowed_methods, reason = "a program has a clock and chance")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::net::{Ipv4Addr, UdpSocket};
use std::{env, error::Error, io, process, time::Instant};

use sayagain::reliable::Backoff;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE, rdata::RData};

fn main() {
    if let Err(error) = ask(&env::args().skip(1).collect::<Vec<_>>()) {
        eprintln!("{error}");
        process::exit(1);
    }
}

fn ask(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [server, name, options @ ..] = words else { Err("say which SERVER:PORT to ask for which NAME")? };
    let policy = if options.is_empty() { "dns".to_owned() } else { options.join("+timeout:") };
    let policy: Backoff = policy.parse()?;
    let mut query = Packet::new_query(rand::random());
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    query.questions.push(Question::new(Name::new(name)?, TYPE::A.into(), CLASS::IN.into(), false));
    let socket = UdpSocket::bind(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.connect(server)?;
    let (begun, mut rng) = (Instant::now(), rand::rng());
    let mut attempts = policy.start(&mut rng);
    while let Some(failed_at) = attempts.send(Instant::now(), None, &mut rng) {
        println!("send {} after {:.3} s", attempts.sends(), begun.elapsed().as_secs_f64());
        let _ = socket.send(&query.build_bytes_vec()?); // The answer shows whether it arrived.
        if let Some(found) = answer(&socket, query.id(), failed_at)? {
            found.iter().for_each(|address| println!("{address}"));
            println!("{} addresses of {name} with {} sends", found.len(), attempts.sends());
            return Ok(());
        }
    }
    Err(format!("{server} answered none of {} sends: is it the right one?", attempts.sends()).into())
}

/// The answer to query `id`, received before the send counts as lost.
fn answer(socket: &UdpSocket, id: u16, failed_at: Instant) -> io::Result<Option<Vec<Ipv4Addr>>> {
    let mut buffer = [0; 65_535];
    while let Some(left) = failed_at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        // An error does not end the wait: a port that refuses now may be open for the next send.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let Ok(reply) = Packet::parse(&buffer[..length]) else { continue };
        if reply.id() == id && reply.has_flags(PacketFlag::RESPONSE) {
            let address = |data: &RData| if let RData::A(a) = data { Some(a.address.into()) } else { None };
            return Ok(Some(reply.answers.iter().filter_map(|record| address(&record.rdata)).collect()));
        }
    }
    Ok(None)
}
