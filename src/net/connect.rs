//! A client with its sockets: drives [`Client`] and a [`Command`], which is whoever uses it, until both have ended.
//!
//! One loop: hand in what has come, do what is due, send what wants to be sent, hand out events; then wait for the
//! socket, a line of input, a signal or the next deadline, whichever comes first.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "drivers own the clock, the thread that reads standard input, and the source of nonces"
)]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures::future::pending;
use futures::{FutureExt as _, StreamExt as _, select_biased};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_async_std::Signals;

use super::drive::{ClientTransport, Driven, StreamAddr};
use super::rt;
use crate::client::{Client, ClientStats, Closed, Event};
use crate::config::{ClientConfig, Transport};

mod lines;

pub use lines::Line;
use lines::Lines;

/// The exit code of a process that a second signal ends: what a shell makes of SIGINT.
const INTERRUPTED: i32 = 128 + SIGINT;

/// How a [`Command`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is not done.
    Going,
    /// It is done as soon as what it asked has ended; goodbye after that.
    Done,
    /// It waits no longer for a session either: goodbye if there is one, else the end at once.
    Over,
}

/// Who uses a client: a state machine that asks it, is handed its events and the lines of standard input, and knows
/// nothing of sockets.
///
/// A call of `handle_timeout` that comes early is harmless; so is a `progress` that is asked often.
pub trait Command {
    /// The client is there; it has not sent anything yet.
    fn start(&mut self, now: Instant, client: &mut Client);

    /// Something happened. [`Event::Connect`], [`Event::Disconnect`] and [`Event::CheckPath`] are not handed on.
    fn on_event(&mut self, now: Instant, client: &mut Client, event: Event);

    /// Whether to go on. What is not [`Progress::Going`] once counts for good.
    fn progress(&self) -> Progress;

    /// Whether to call `on_line` with the next line of standard input, which is read only once somebody wants it.
    fn wants_line(&self) -> bool {
        false
    }

    /// A line of standard input.
    fn on_line(&mut self, now: Instant, client: &mut Client, line: Line) {
        let _ = (now, client, line);
    }

    /// When `handle_timeout` is to be called; `None` means never.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant, client: &mut Client) {
        let _ = (now, client);
    }

    /// Nothing happens for a while: what was printed should be seen.
    fn flush(&mut self) {}
}

/// Where to and how.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The server's name or address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The client's behaviour.
    pub client: ClientConfig,
    /// The seed of the jitter, and of nothing else.
    pub seed: u64,
    /// How long an interrupted client waits for the answer to its goodbye.
    pub patience: Duration,
    /// The longest line that is read from standard input, in bytes.
    pub max_line: usize,
}

/// How it went.
#[derive(Debug)]
pub struct Finish {
    /// Why the client is through; `None` when it never began, because the server's name has no address.
    pub closed: Option<Closed>,
    /// What the client counted.
    pub stats: ClientStats,
    /// Whether anything at all came from the server.
    pub heard: bool,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Why there was no connection, or no address.
    pub trouble: Option<io::Error>,
}

/// Runs a client for `command` until it has ended: the command is done and goodbye said, the server or the policy has
/// ended it, or a SIGINT or SIGTERM came. A second signal ends the process at once, with exit code 130.
///
/// `input` is read on a thread of its own once the command wants a line, and may still be read when this returns.
///
/// # Errors
///
/// Signals cannot be waited for, or there is no socket to be had.
pub fn run(connect: &Connect, command: &mut impl Command, input: Box<dyn Read + Send>) -> io::Result<Finish> {
    rt::block_on(async {
        let mut signals = watch_signals()?;
        let host = (connect.host.clone(), connect.port);
        let way = match connect.client.transport {
            Transport::Stream => Ok(ClientTransport::stream(StreamAddr::Tcp(host))),
            Transport::Datagram => select_biased! {
                _ = signals.next().fuse() => return Ok(Finish::early(true, None)),
                way = ClientTransport::datagrams(host, connect.client.policy.ack_timeout()).fuse() => way,
            },
        };
        match way {
            Ok(way) => Ok(Driver::new(connect, way, command, input, signals).run().await),
            Err(error) => Ok(Finish::early(false, Some(error))),
        }
    })
}

impl Finish {
    fn early(interrupted: bool, trouble: Option<io::Error>) -> Self {
        Self { closed: None, stats: ClientStats::default(), heard: false, interrupted, trouble }
    }
}

/// The first signal is an event, the second one ends the process, even if it hangs in a write.
fn watch_signals() -> io::Result<Signals> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&again))?;
        signal_hook::flag::register(signal, Arc::clone(&again))?;
    }
    Signals::new([SIGINT, SIGTERM])
}

struct Driver<'a, C> {
    driven: Driven,
    command: &'a mut C,
    input: Input,
    signals: Signals,
    patience: Duration,
    /// Goodbye is said, or about to be.
    parting: bool,
    interrupted: bool,
    closed: Option<Closed>,
}

/// Standard input: not read yet, being read, or at its end.
struct Input {
    unread: Option<Box<dyn Read + Send>>,
    max_line: usize,
    lines: Option<Lines>,
    ahead: VecDeque<Line>,
}

impl Input {
    async fn wait(&mut self) {
        if let Some(input) = self.unread.take() {
            self.lines = Some(Lines::read(input, self.max_line));
        }
        match &mut self.lines {
            Some(lines) => match lines.next().await {
                Some(batch) => self.ahead.extend(batch),
                None => self.lines = None,
            },
            None => pending().await,
        }
    }
}

impl<'a, C: Command> Driver<'a, C> {
    fn new(
        connect: &Connect,
        way: ClientTransport,
        command: &'a mut C,
        input: Box<dyn Read + Send>,
        signals: Signals,
    ) -> Self {
        let secrets = Box::new(UnwrapErr(SysRng));
        let client = Client::new(Instant::now(), connect.client.clone(), connect.seed, secrets);
        let (ahead, max_line) = (VecDeque::new(), connect.max_line);
        Self {
            driven: Driven::new(client, way),
            command,
            input: Input { unread: Some(input), max_line, lines: None, ahead },
            signals,
            patience: connect.patience,
            parting: false,
            interrupted: false,
            closed: None,
        }
    }

    async fn run(mut self) -> Finish {
        self.command.start(Instant::now(), &mut self.driven.client);
        loop {
            let now = Instant::now();
            self.driven.work(now, usize::MAX);
            if self.command.poll_timeout().is_some_and(|at| at <= now) {
                self.command.handle_timeout(now, &mut self.driven.client);
            }
            self.settle(now).await;
            if self.closed.is_some() {
                break;
            }
            if self.wait(now).await {
                self.interrupt();
            }
        }
        self.finish().await
    }

    /// Does everything that can be done without waiting.
    async fn settle(&mut self, now: Instant) {
        while self.step(now).await {}
        self.command.flush();
        // That nobody reads what was printed may have come out just now.
        while self.step(now).await {}
        self.driven.write();
    }

    /// Everything that can be done without waiting, piece by piece. Returns whether there was anything.
    async fn step(&mut self, now: Instant) -> bool {
        if let Some(event) = self.driven.poll() {
            self.handle_event(now, event);
            return true;
        }
        if self.part(now) {
            return true;
        }
        if self.command.wants_line()
            && !self.parting
            && let Some(line) = self.input.ahead.pop_front()
        {
            self.command.on_line(now, &mut self.driven.client, line);
            return true;
        }
        self.driven.transmit(now).await
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connect | Event::Disconnect | Event::CheckPath { .. } => {}
            event => {
                if let Event::Closed(why) = &event {
                    self.closed = Some(why.clone());
                }
                self.command.on_event(now, &mut self.driven.client, event);
            }
        }
    }

    /// Says goodbye when the command is done. Returns whether it has just begun to.
    fn part(&mut self, now: Instant) -> bool {
        if self.parting {
            return false;
        }
        match self.command.progress() {
            Progress::Going => return false,
            Progress::Over if !self.driven.client.is_ready() => self.driven.client.abort(now, self.patience),
            Progress::Done | Progress::Over => self.driven.client.close(),
        }
        self.parting = true;
        true
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.parting = true;
        self.driven.client.abort(Instant::now(), self.patience);
    }

    /// Waits until there is something to do. Returns whether that is a signal.
    async fn wait(&mut self, now: Instant) -> bool {
        let deadline = self.deadline(now);
        let wants_line = self.command.wants_line() && !self.parting && self.input.ahead.is_empty();
        let lines = async {
            match wants_line {
                true => self.input.wait().await,
                false => pending().await,
            }
        };
        select_biased! {
            _ = self.signals.next().fuse() => true,
            () = self.driven.ready(true).fuse() => false,
            () = Box::pin(lines).fuse() => false,
            () = Box::pin(rt::until(deadline)).fuse() => false,
        }
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        [self.driven.deadline(now), self.command.poll_timeout()].into_iter().flatten().min()
    }

    async fn finish(mut self) -> Finish {
        let trouble = self.driven.finish().await;
        self.command.flush();
        Finish {
            closed: self.closed,
            stats: self.driven.client.stats(),
            heard: self.driven.client.has_heard(),
            interrupted: self.interrupted,
            trouble,
        }
    }
}
