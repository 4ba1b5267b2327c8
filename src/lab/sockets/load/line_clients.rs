//! Trio Chat's two clients at a line door: one that says all it can (`lab load spam`), one that hardly listens (`lab load slow`).

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::sockets::{PATIENCE, connect, is_timeout};
use super::{Interrupt, LoadError};
use crate::escape::escape_short;
use crate::lab::load::line_clients::{Answers, line};

/// How long is waited at once: interrupts are looked for as often.
const TICK: Duration = Duration::from_millis(20);

/// What is read at once, of what nobody reads.
const READ: usize = 16 << 10;

/// What the system takes of what is said and is not on its way yet, in bytes.
const SEND_BUFFER: usize = 4 << 10;

/// A person at a line door.
#[derive(Debug)]
pub struct LineClient {
    stream: TcpStream,
}

impl LineClient {
    /// Connects, waits for the question, answers with this name, and waits until it is taken.
    ///
    /// # Errors
    ///
    /// Nobody is there, or nobody asks.
    pub fn enter(addr: SocketAddr, name: &str, interrupt: &Interrupt) -> Result<Self, LoadError> {
        let stream = connect(addr)?;
        // So that a line that has to wait waits here, where it is seen. What the system does not grant is no harm.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let mut client = Self { stream };
        client.impatient().map_err(broken)?;
        let (mut answers, begun) = (Answers::default(), Instant::now());
        let mut buffer = [0; READ];
        while !answers.is_named() {
            interrupt.check()?;
            if begun.elapsed() > PATIENCE {
                return Err(not_asked(name, answers.heard()));
            }
            let n = client.read(&mut buffer)?;
            if answers.hears_question(buffer.get(..n).unwrap_or_default()) {
                client.stream.write_all(format!("{name}\n").as_bytes()).map_err(broken)?;
            }
        }
        Ok(client)
    }

    /// Nothing waits for longer than a tick.
    fn impatient(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(TICK))?;
        self.stream.set_write_timeout(Some(TICK))
    }

    /// What has come, within a tick; nothing is 0.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LoadError> {
        match self.stream.read(buffer) {
            Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if is_over(&error) => Ok(0),
            read => read.map_err(broken),
        }
    }

    /// Says line after line, each as soon as the last is taken, and drops what it hears. `sent` is told of each: its number and how
    /// long it took. Returns how many were taken.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn spam(
        mut self,
        (count, length): (u64, Duration),
        size: usize,
        interrupt: &Interrupt,
        sent: &mut dyn FnMut(u64, Duration) -> io::Result<()>,
    ) -> Result<u64, LoadError> {
        let (begun, mut buffer) = (Instant::now(), [0; READ]);
        for number in 1..=count {
            let (text, since) = (line(number, size), Instant::now());
            let mut left = text.as_slice();
            while !left.is_empty() {
                interrupt.check()?;
                if begun.elapsed() >= length {
                    return Ok(number - 1);
                }
                self.hear_all(&mut buffer)?;
                match self.stream.write(left) {
                    Ok(n) => left = left.get(n..).unwrap_or_default(),
                    Err(error) if is_over(&error) => {}
                    Err(error) => return Err(broken(error)),
                }
            }
            sent(number, since.elapsed()).map_err(broken)?;
        }
        Ok(count)
    }

    /// Drops what has come, without waiting.
    fn hear_all(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        self.stream.set_nonblocking(true).map_err(broken)?;
        while self.read(buffer)? > 0 {}
        self.stream.set_nonblocking(false).map_err(broken)
    }

    /// Reads so many bytes at most, pauses, and again. `received` is told of each. Returns how many there were in all.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub fn listen_slowly(
        mut self,
        (length, pause): (Duration, Duration),
        bytes: usize,
        interrupt: &Interrupt,
        received: &mut dyn FnMut(usize) -> io::Result<()>,
    ) -> Result<u64, LoadError> {
        let (begun, mut buffer, mut all) = (Instant::now(), vec![0; bytes], 0);
        while begun.elapsed() < length {
            interrupt.check()?;
            let n = self.read(&mut buffer)?;
            if n == 0 {
                continue;
            }
            all += n as u64;
            received(n).map_err(broken)?;
            let next = Instant::now() + pause;
            while Instant::now() < next && begun.elapsed() < length {
                interrupt.check()?;
                std::thread::sleep(TICK.min(next.saturating_duration_since(Instant::now())));
            }
        }
        Ok(all)
    }
}

/// Nobody has asked for the name, or nobody has taken it.
fn not_asked(name: &str, heard: &[u8]) -> LoadError {
    let said = match escape_short(heard, 80) {
        said if said.is_empty() => "said nothing".to_owned(),
        said => format!("said `{said}` and no more"),
    };
    let why = format!("the server {said} for {} s; is this a line listener?", PATIENCE.as_secs());
    LoadError::Greeting { who: name.to_owned(), why }
}

fn is_over(error: &io::Error) -> bool {
    is_timeout(error) || error.kind() == io::ErrorKind::Interrupted
}

fn broken(error: io::Error) -> LoadError {
    LoadError::Connection { doing: "talking at the line listener".to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_asks_nothing_is_told_of_as_no_line_door() {
        let silent = not_asked("spam", b"").to_string();
        assert_eq!(
            silent,
            "`spam` was not let in: the server said nothing for 10 s; is this a line listener?"
        );
        assert!(not_asked("spam", b"hi\n").to_string().contains(r"said `hi\x0a` and no more for 10 s"));
    }
}
