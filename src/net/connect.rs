//! A client with its sockets for a command-line program: drives a [`Client`] and a [`Command`] until both have ended.
//!
//! The command decides what to request; [`run`] adds the socket, standard input and signals. Chat programs without
//! those take [`client`](super::client). One loop: read input, handle deadlines, send, hand out events; then wait for
//! the socket, a line, a signal or the next deadline.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use sayagain::client::{Client, Event};
//! use sayagain::config::{ClientConfig, Transport};
//! use sayagain::net::connect::{Command, Connect, Progress, run};
//! use sayagain::reliable::Backoff;
//!
//! struct Hello;
//!
//! impl Command for Hello {
//!     fn start(&mut self, _now: Instant, client: &mut Client) {
//!         client.send(b"bob", b"hello");
//!     }
//!     fn on_event(&mut self, _now: Instant, _client: &mut Client, event: Event) {
//!         println!("{event:?}");
//!     }
//!     fn progress(&self) -> Progress {
//!         Progress::Done
//!     }
//! }
//!
//! let policy = Backoff::new(Duration::from_secs(1)).with_max_sends(5);
//! let connect = Connect {
//!     host: "localhost".into(),
//!     port: 50_000,
//!     client: ClientConfig::new(Transport::Datagram, Some("ada"), policy),
//!     seed: 1,
//!     patience: Duration::from_secs(1),
//!     max_line: 1 << 20,
//! };
//! let finish = run(&connect, &mut Hello, Box::new(std::io::stdin()))?;
//! println!("{:?}", finish.closed);
//! # Ok::<(), std::io::Error>(())
//! ```

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

use super::drive::{ClientTransport, Driven};
use super::rt;
use crate::client::{Client, ClientStats, Closed, Event};
use crate::config::{ClientConfig, Transport};
use crate::service::Target;

mod lines;

pub use lines::Line;
use lines::Lines;

/// The exit code after a second signal, as a shell reports SIGINT.
const INTERRUPTED: i32 = 128 + SIGINT;

/// Whether a [`Command`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not done.
    Going,
    /// Done once its requests have ended; then BYE.
    Done,
    /// Done without waiting for a session: BYE if there is one, otherwise the end at once.
    Over,
}

/// The user of a client: a state machine that makes requests, and receives events and lines of standard
/// input. It knows nothing of sockets.
///
/// Early calls of `handle_timeout` and repeated calls of `progress` are harmless.
pub trait Command {
    /// Called once, before the client sends anything.
    fn start(&mut self, now: Instant, client: &mut Client);

    /// Handles an event. [`Event::Connect`], [`Event::Disconnect`] and [`Event::CheckPath`] are not passed on.
    fn on_event(&mut self, now: Instant, client: &mut Client, event: Event);

    /// Whether to go on. Anything but [`Progress::Going`] is final.
    fn progress(&self) -> Progress;

    /// Whether `on_line` wants the next line of standard input, which is not read before.
    fn wants_line(&self) -> bool {
        false
    }

    /// Handles a line of standard input.
    fn on_line(&mut self, now: Instant, client: &mut Client, line: Line) {
        let _ = (now, client, line);
    }

    /// When `handle_timeout` is to be called; `None` means never.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Handles a deadline.
    fn handle_timeout(&mut self, now: Instant, client: &mut Client) {
        let _ = (now, client);
    }

    /// Flushes printed output: nothing else happens for now.
    fn flush(&mut self) {}
}

/// What to connect to, and how.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The server's name or address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The client's settings.
    pub client: ClientConfig,
    /// The seed of the jitter, and of nothing else.
    pub seed: u64,
    /// How long an interrupted client waits for the answer to its BYE.
    pub patience: Duration,
    /// The longest line that is read from standard input, in bytes.
    pub max_line: usize,
}

/// How a client ended.
#[derive(Debug)]
pub struct Finish {
    /// Why the client closed; `None` if it never started, because the server's name has no address.
    pub closed: Option<Closed>,
    /// The client's counters.
    pub stats: ClientStats,
    /// Whether anything came from the server.
    pub heard: bool,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Why there was no connection, or no address.
    pub trouble: Option<io::Error>,
}

/// Runs a client for `command` until the command is done and BYE is answered, the server or the policy ends
/// it, or SIGINT or SIGTERM comes. A second signal ends the process at once, with exit code 130.
///
/// `input` is read on a thread of its own once the command wants a line. It may still be read after this returns.
///
/// # Errors
///
/// Fails if signals cannot be caught, or no socket can be created.
pub fn run(connect: &Connect, command: &mut impl Command, input: Box<dyn Read + Send>) -> io::Result<Finish> {
    rt::block_on(async {
        let mut signals = watch_signals()?;
        let (host, port) = (connect.host.clone(), connect.port);
        let transport = match connect.client.transport {
            Transport::Stream => Ok(ClientTransport::stream(Target::Tcp { host, port })),
            Transport::Datagram => select_biased! {
                _ = signals.next().fuse() => return Ok(Finish::early(true, None)),
                transport = ClientTransport::datagrams(&host, port, connect.client.policy.ack_timeout()).fuse() => transport,
            },
        };
        match transport {
            Ok(transport) => Ok(Driver::new(connect, transport, command, input, signals).run().await),
            Err(error) => Ok(Finish::early(false, Some(error))),
        }
    })
}

impl Finish {
    fn early(interrupted: bool, trouble: Option<io::Error>) -> Self {
        Self { closed: None, stats: ClientStats::default(), heard: false, interrupted, trouble }
    }
}

/// The first signal is an event. The second ends the process, even if it hangs in a write.
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
    bye_timeout: Duration,
    /// BYE is sent, or about to be.
    closing: bool,
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
        transport: ClientTransport,
        command: &'a mut C,
        input: Box<dyn Read + Send>,
        signals: Signals,
    ) -> Self {
        let secrets = Box::new(UnwrapErr(SysRng));
        let client = Client::new(Instant::now(), connect.client.clone(), connect.seed, secrets);
        let (ahead, max_line) = (VecDeque::new(), connect.max_line);
        Self {
            driven: Driven::new(client, transport),
            command,
            input: Input { unread: Some(input), max_line, lines: None, ahead },
            signals,
            bye_timeout: connect.patience,
            closing: false,
            interrupted: false,
            closed: None,
        }
    }

    async fn run(mut self) -> Finish {
        self.command.start(Instant::now(), &mut self.driven.client);
        loop {
            let now = Instant::now();
            self.driven.step(now, usize::MAX);
            if self.command.poll_timeout().is_some_and(|at| at <= now) {
                self.command.handle_timeout(now, &mut self.driven.client);
            }
            self.make_progress(now).await;
            if self.closed.is_some() {
                break;
            }
            if self.wait(now).await {
                self.interrupt();
            }
        }
        self.finish().await
    }

    /// Does everything that needs no waiting.
    async fn make_progress(&mut self, now: Instant) {
        while self.step(now).await {}
        self.command.flush();
        // The flush may have found that the output is closed.
        while self.step(now).await {}
        self.driven.write();
    }

    /// Does one piece of what needs no waiting. Returns whether there was one.
    async fn step(&mut self, now: Instant) -> bool {
        if let Some(event) = self.driven.poll() {
            self.handle_event(now, event);
            return true;
        }
        if self.close_when_done(now) {
            return true;
        }
        if self.command.wants_line()
            && !self.closing
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

    /// Closes the client when the command is done. Returns whether it just began to.
    fn close_when_done(&mut self, now: Instant) -> bool {
        if self.closing {
            return false;
        }
        match self.command.progress() {
            Progress::Going => return false,
            Progress::Over if !self.driven.client.is_ready() => {
                self.driven.client.abort(now, self.bye_timeout);
            }
            Progress::Done | Progress::Over => self.driven.client.close(),
        }
        self.closing = true;
        true
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.closing = true;
        self.driven.client.abort(Instant::now(), self.bye_timeout);
    }

    /// Waits until there is something to do. Returns whether that is a signal.
    async fn wait(&mut self, now: Instant) -> bool {
        let deadline = self.deadline(now);
        let wants_line = self.command.wants_line() && !self.closing && self.input.ahead.is_empty();
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
