//! Two clients of a line listener, after Trio Chat's: a fast sender (`lab load spam`) and a slow consumer
//! (`lab load slow`). The lines themselves are in `lab::load::line_clients`.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::sockets::{ANSWER_TIMEOUT, connect, is_timeout};
use super::{Interrupt, LoadError};
use crate::escape::escape_short;
use crate::lab::load::line_clients::{Answers, line};

/// The longest wait: interrupts are checked as often.
const TICK: Duration = Duration::from_millis(20);

/// Bytes of one read.
const READ: usize = 16 << 10;

/// Size of the send buffer, in bytes.
const SEND_BUFFER: usize = 4 << 10;

/// A client of a line listener.
#[derive(Debug)]
pub(crate) struct LineClient {
    stream: TcpStream,
}

impl LineClient {
    /// Connects, waits for the question, answers with this name, and waits until it is accepted.
    ///
    /// # Errors
    ///
    /// The server is not reachable, or does not ask.
    pub(crate) fn enter(addr: SocketAddr, name: &str, interrupt: &Interrupt) -> Result<Self, LoadError> {
        let stream = connect(addr)?;
        // A small send buffer makes a delayed line wait here, where it is measured. The system may refuse the size.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let mut client = Self { stream };
        client.set_timeouts().map_err(broken)?;
        let (mut answers, begun) = (Answers::default(), Instant::now());
        let mut buffer = [0; READ];
        while !answers.is_named() {
            interrupt.check()?;
            if begun.elapsed() > ANSWER_TIMEOUT {
                return Err(not_asked(name, answers.heard()));
            }
            let n = client.read(&mut buffer)?;
            if answers.hears_question(buffer.get(..n).unwrap_or_default()) {
                client.stream.write_all(format!("{name}\n").as_bytes()).map_err(broken)?;
            }
        }
        Ok(client)
    }

    /// Limits every read and write to a tick.
    fn set_timeouts(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(TICK))?;
        self.stream.set_write_timeout(Some(TICK))
    }

    /// Reads within a tick; 0 if nothing came.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LoadError> {
        match self.stream.read(buffer) {
            Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if is_over(&error) => Ok(0),
            read => read.map_err(broken),
        }
    }

    /// Sends line after line, each as soon as the previous one is accepted, and discards what it receives. `sent` gets
    /// the number of each and the time it took. Returns the number of accepted lines.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub(crate) fn spam(
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

    /// Discards received bytes, without waiting.
    fn hear_all(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        self.stream.set_nonblocking(true).map_err(broken)?;
        while self.read(buffer)? > 0 {}
        self.stream.set_nonblocking(false).map_err(broken)
    }

    /// Reads so many bytes at most, pauses, and repeats. `received` gets the length of each read. Returns the total.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub(crate) fn listen_slowly(
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

/// The error that no name was asked for, or none was accepted.
fn not_asked(name: &str, heard: &[u8]) -> LoadError {
    let received = match escape_short(heard, 80) {
        text if text.is_empty() => "no answer".to_owned(),
        text => format!("only `{text}`"),
    };
    let why = format!("{received} within {} s; is this a line listener?", ANSWER_TIMEOUT.as_secs());
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
    fn a_listener_that_asks_nothing_is_reported_as_no_line_listener() {
        let silent = not_asked("spam", b"").to_string();
        assert_eq!(silent, "the handshake of `spam` failed: no answer within 10 s; is this a line listener?");
        assert!(not_asked("spam", b"hi\n").to_string().contains(r"failed: only `hi\x0a` within 10 s"));
    }
}
