//! Standard input and signals, for the program `client`.
//!
//! Standard input is read on a thread of its own, once a line is wanted. It may still be read at the end of the program.

#![expect(clippy::disallowed_methods, reason = "drivers own the thread that reads standard input")]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures::future::pending;
use futures::{FutureExt as _, StreamExt as _, select_biased};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_async_std::Signals;

mod lines;

pub(crate) use lines::Line;
use lines::Lines;

/// The exit code after a second signal, as a shell reports SIGINT.
const INTERRUPTED: i32 = 128 + SIGINT;

/// Standard input and signals.
pub(crate) struct ProgramInput {
    signals: Signals,
    is_signalled: bool,
    /// Standard input, as long as no line was wanted.
    unread: Option<Box<dyn Read + Send>>,
    max_line: usize,
    /// Standard input while it is read.
    lines: Option<Lines>,
    ahead: VecDeque<Line>,
}

impl ProgramInput {
    /// Catches SIGINT and SIGTERM from now on. A second signal ends the process at once with exit code 130, even if it
    /// hangs in a write. A line of `input` has at most `max_line` bytes.
    ///
    /// # Errors
    ///
    /// Fails if signals cannot be caught.
    pub(crate) fn new(input: Box<dyn Read + Send>, max_line: usize) -> io::Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&again))?;
            signal_hook::flag::register(signal, Arc::clone(&again))?;
        }
        Ok(Self {
            signals: Signals::new([SIGINT, SIGTERM])?,
            is_signalled: false,
            unread: Some(input),
            max_line,
            lines: None,
            ahead: VecDeque::new(),
        })
    }

    /// Whether a signal came since the last call.
    pub(crate) fn take_signal(&mut self) -> bool {
        std::mem::take(&mut self.is_signalled)
    }

    /// The next line, if it was read already.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        self.ahead.pop_front()
    }

    /// Waits for a signal, and for lines if one is wanted. Can be dropped at any await without loss.
    pub(crate) async fn changed(&mut self, wants_line: bool) {
        let Self { signals, unread, max_line, lines, ahead, .. } = self;
        let more = async {
            if !wants_line || !ahead.is_empty() {
                return pending().await;
            }
            if let Some(input) = unread.take() {
                *lines = Some(Lines::read(input, *max_line));
            }
            match lines {
                Some(reading) => match reading.next().await {
                    Some(batch) => ahead.extend(batch),
                    None => *lines = None,
                },
                None => pending().await,
            }
        };
        select_biased! {
            _ = signals.next().fuse() => self.is_signalled = true,
            () = Box::pin(more).fuse() => (),
        }
    }
}
