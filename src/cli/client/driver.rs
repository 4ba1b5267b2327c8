//! Runs a command on a client with its socket, standard input and signals.

use std::future::Future;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, select_biased};

use super::commands::ClientCommand;
use super::resolve::ClientPlan;
use super::{CommandRunner, exit};
use crate::client::{Client, ClientStats, Closed, Event};
use crate::net::drive::{Application, Driven};
use crate::net::program_input::ProgramInput;
use crate::net::rt;

/// Whether a command continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not done.
    Going,
    /// Done once its requests have ended; then BYE.
    Done,
    /// Done without waiting for a session: BYE if there is one, otherwise the end at once.
    Over,
}

/// The end of a client.
#[derive(Debug, Default)]
pub(super) struct Finish {
    /// Why the client closed; `None` if it never started, because the server's name has no address.
    pub(super) closed: Option<Closed>,
    pub(super) stats: ClientStats,
    /// Whether anything came from the server.
    pub(super) heard: bool,
    /// Whether a signal ended it.
    pub(super) interrupted: bool,
    /// Why there was no connection, or no address.
    pub(super) connect_error: Option<io::Error>,
}

/// Runs the command until it is done and BYE is answered, the server or the policy ends it, or SIGINT or SIGTERM comes. A
/// second signal ends the process at once, with exit code 130. Returns the exit code.
pub(super) fn drive(
    plan: &ClientPlan,
    mut runner: CommandRunner<'_, impl ClientCommand>,
    input: Box<dyn Read + Send>,
) -> u8 {
    match rt::block_on(run(plan, &mut runner, input)) {
        Ok(finish) => runner.finish(plan, &finish),
        Err(error) => {
            runner.tracker.console.error(&format!("cannot begin: {error}"));
            exit::FAILED
        }
    }
}

/// Fails if signals cannot be caught.
async fn run(
    plan: &ClientPlan,
    runner: &mut CommandRunner<'_, impl ClientCommand>,
    input: Box<dyn Read + Send>,
) -> io::Result<Finish> {
    let mut input = ProgramInput::new(input, plan.max_line)?;
    let opening = Driven::open(&plan.server, plan.config.clone(), plan.seed);
    let opened = select_biased! {
        opened = Box::pin(opening).fuse() => opened,
        () = Box::pin(input.changed(false)).fuse() => {
            return Ok(Finish { interrupted: true, ..Finish::default() });
        }
    };
    let mut driven = match opened {
        Ok(driven) => driven,
        Err(error) => return Ok(Finish { connect_error: Some(error), ..Finish::default() }),
    };
    runner.command.start(&mut runner.tracker, rt::now(), driven.client());
    let bye_timeout = plan.config.policy.ack_timeout();
    let mut running = RunningCommand { runner, input, bye_timeout, is_closing: false, interrupted: false };
    let (closed, connect_error) = driven.run(&mut running).await;
    let interrupted = running.interrupted;
    runner.tracker.console.flush();
    let (stats, heard) = (driven.stats(), driven.has_heard());
    Ok(Finish { closed: Some(closed), stats, heard, interrupted, connect_error })
}

/// A command with its input.
struct RunningCommand<'r, 'a, T> {
    runner: &'r mut CommandRunner<'a, T>,
    input: ProgramInput,
    /// Longest wait of an interrupted client for the answer to its BYE.
    bye_timeout: Duration,
    /// BYE is sent, or about to be.
    is_closing: bool,
    interrupted: bool,
}

impl<T: ClientCommand> RunningCommand<'_, '_, T> {
    /// Closes the client when the command is done. Returns whether it just began to.
    fn close_when_done(&mut self, now: Instant, client: &mut Client) -> bool {
        if self.is_closing {
            return false;
        }
        match self.runner.progress() {
            Progress::Going => return false,
            Progress::Over if !client.is_ready() => client.abort(now, self.bye_timeout),
            Progress::Done | Progress::Over => client.close(),
        }
        self.is_closing = true;
        true
    }

    fn wants_line(&self) -> bool {
        !self.is_closing && self.runner.command.wants_line(&self.runner.tracker)
    }
}

impl<T: ClientCommand> Application for RunningCommand<'_, '_, T> {
    fn handle_wakeup(&mut self, now: Instant, client: &mut Client) {
        if self.input.take_signal() {
            (self.interrupted, self.is_closing) = (true, true);
            client.abort(now, self.bye_timeout);
        }
        let CommandRunner { tracker, command } = &mut *self.runner;
        if command.poll_timeout().is_some_and(|at| at <= now) {
            command.handle_timeout(tracker, now, client);
        }
    }

    fn on_event(&mut self, now: Instant, _client: &mut Client, event: Event) {
        self.runner.on_event(now, event);
    }

    fn ask(&mut self, now: Instant, client: &mut Client) -> bool {
        if self.close_when_done(now, client) {
            return true;
        }
        let line = if self.wants_line() { self.input.next_line() } else { None };
        let is_any = line.is_some();
        line.into_iter().for_each(|line| self.runner.on_line(now, client, line));
        is_any
    }

    fn flush(&mut self, _client: &Client) {
        self.runner.tracker.console.flush();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.runner.command.poll_timeout()
    }

    fn changed(&mut self) -> impl Future<Output = ()> {
        let wants_line = self.wants_line();
        self.input.changed(wants_line)
    }
}
