//! An echo server, the smallest service: `echo raw://127.0.0.1:7000`, then `nc 127.0.0.1 7000`.
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::env;
use std::error::Error;

use sayagain::host::{Context, Handler, Settings};
use sayagain::net::Engine;
use sayagain::service::ConnId;

struct Echo;

impl Handler for Echo {
    fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        match cx.send(conn, bytes) {
            Ok(()) => bytes.len(),
            // Without room in the queue, the bytes stay unread until there is room.
            Err(_) => {
                cx.pause(conn);
                0
            }
        }
    }

    fn drained(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        cx.resume(conn);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "raw://127.0.0.1:7000".to_owned());
    let engine = Engine::host(&[&url], Settings::default(), Echo)?;
    for addr in engine.listen_addrs() {
        println!("listening on {addr}");
    }
    engine.wait();
    Ok(())
}
