//! Rate limits of the real program's listeners: a flooding client is blocked by back-pressure without effect on others;
//! the client obeys 429 over UDP.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "a real program takes real time")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::program::Program as Client;
use crate::support::server::{Conn, ServerProgram as Program, port_of};

/// A registered connection to the nth listener.
fn enter(program: &Program, nth: usize, name: &str) -> Conn {
    let mut conn = Conn::to(SocketAddr::from(([127, 0, 0, 1], port_of(&program.listening[nth]))));
    conn.send(&format!("REG {:04} {name}", name.len() + 1));
    conn.prove();
    conn
}

/// Writes until the socket is full. Returns the number of bytes written.
fn spam(socket: &mut TcpStream, message: &str) -> usize {
    socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (batch, mut written) = (message.repeat(1_000), 0);
    while written < 1 << 28 {
        match socket.write(batch.as_bytes()) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return written;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{written} bytes and no end");
}

/// A message from Eve.
const HEY: &str = "RCV 0013 eve 0001 hey";

/// Number of them that arrive before Ada's message.
fn heys_before_ada(conn: &mut Conn) -> usize {
    let (mut count, mut read) = (0, [0; HEY.len()]);
    loop {
        conn.0.read_exact(&mut read).unwrap();
        match std::str::from_utf8(&read).unwrap() {
            HEY => count += 1,
            "RCV 0013 ada 0001 now" => return count,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_flooding_client_is_blocked_and_others_are_not() {
    let listeners = ["tcp://127.0.0.1:0?rate=5/s", "tcp://127.0.0.1:0"];
    let program = Program::with_listeners(&listeners, &[]);
    let [mut eve, mut ada, mut bob] =
        [(0, "eve"), (0, "ada"), (1, "bob")].map(|(listener, name)| enter(&program, listener, name));
    let written = spam(&mut eve.0, "SND 0008 bob hey");
    // The rest is in the system's buffers: the server holds no more than one read.
    assert!(written > 1 << 16, "{written}");
    let mut times = Vec::new();
    for n in 0..10 {
        let asked = Instant::now();
        bob.send(&format!("SND 0006 ada {n}"));
        ada.expect(&format!("RCV 0011 bob 0001 {n}"));
        times.push(asked.elapsed());
    }
    times.sort();
    println!("a message of another client took {times:?}");
    // Ada's message is sent after all input of Eve, and arrives before nearly all of it.
    ada.send("SND 0008 bob now");
    let heard = heys_before_ada(&mut bob);
    println!("Eve wrote {written} bytes, and Bob had heard {heard} messages");
    assert!(heard < written / HEY.len() / 2, "{heard} of {written} bytes");
    bob.expect(&HEY.repeat(5_usize.saturating_sub(heard)));
    drop((eve, ada, bob));
    program.end();
}

#[test]
fn the_client_obeys_429_over_udp_and_loses_nothing() {
    let listeners = ["udp://127.0.0.1:0?rate=10/s", "tcp://127.0.0.1:0"];
    let program = Program::with_listeners(&listeners, &[]);
    let mut bob = enter(&program, 1, "bob");
    let host = format!("127.0.0.1:{}", port_of(&program.listening[0]));
    let options = ["--mode", "udp", "--host", &host, "--name", "ada", "send", "-v", "bob", "-"];
    let mut client = Client::start(env!("CARGO_BIN_EXE_client"), &options);
    client.write((0..14).map(|n| format!("{n}\n")).collect::<String>().as_bytes());
    client.close_stdin();
    let ended = client.wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("slow down: SND @"), "{ended:?}");
    assert!(ended.err.contains("14 sent, 14 acked, 0 unknown, "), "{ended:?}");
    let expected: String =
        (0..14).map(|n: u32| format!("RCV {:04} ada 0001 {n}", 10 + n.to_string().len())).collect();
    let mut heard = vec![0; expected.len()];
    bob.0.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), expected);
    drop(bob);
    program.end();
}
