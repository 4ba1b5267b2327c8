//! From observed datagrams to a [`Ladder`]: matches arrivals with sends, and finds the effect of each. Drawing is
//! elsewhere.

use std::time::Instant;

use super::{Arrow, Effect, End, Ladder, MAX_LABEL, Step, What, cut};
use crate::link::{Direction, Fate, Passage};
use crate::reliable::{Ended, Outcome};
use crate::sim::Sighting;
use crate::units::later;
use crate::wire::{Datagram, ErrArgs, Frame, Id, Verb};

/// Longest payload that is parsed: no datagram has a longer one.
const MAX_PAYLOAD: usize = 65_535;

/// An observed send or arrival.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) direction: Direction,
    pub(super) bytes: Vec<u8>,
    pub(super) sighting: Sighting,
}

/// A copy of a datagram in flight.
#[derive(Debug)]
struct UnderWay {
    arrow: usize,
    due: Instant,
    copy: bool,
}

/// A ladder under construction.
#[derive(Debug)]
pub(super) struct Notes {
    /// The first send of the request.
    zero: Instant,
    ended_at: Instant,
    ended: Ended,
    /// Expiry of the timeout of each send of the request.
    dues: Vec<Instant>,
    /// The request's id after its first send, and the times of its sends.
    id: Option<Id>,
    sends: Vec<Instant>,
    under_way: Vec<UnderWay>,
    is_answered: bool,
    arrows: Vec<Arrow>,
    steps: Vec<Step>,
}

impl Notes {
    pub(super) fn new(zero: Instant, ended_at: Instant, ended: Ended, dues: Vec<Instant>) -> Self {
        Self {
            zero,
            ended_at,
            ended,
            dues,
            id: None,
            sends: Vec::new(),
            under_way: Vec::new(),
            is_answered: false,
            arrows: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Handles the next observation.
    pub(super) fn take(&mut self, seen: &Seen) {
        if seen.at > self.ended_at {
            self.give_up();
        }
        match seen.sighting {
            Sighting::Sent(decision) => self.sent(seen, decision.fate),
            Sighting::Arrived { executed, repeats } => self.arrived(seen, executed, repeats),
        }
    }

    /// Ends the observations.
    pub(super) fn finish(mut self) -> Ladder {
        self.give_up();
        let Ended { outcome, sends, elapsed, .. } = self.ended;
        let end = End { outcome, sends, elapsed: elapsed.unwrap_or_default() };
        Ladder { arrows: self.arrows, steps: self.steps, end }
    }

    fn push(&mut self, at: Instant, what: What) {
        self.steps.push(Step { at: at.saturating_duration_since(self.zero), what });
    }

    fn sent(&mut self, seen: &Seen, fate: Fate) {
        let label = match self.send_of_request(seen) {
            Some((id, send)) => {
                self.time_out(seen.at);
                self.sends.push(seen.at);
                format!("{} @{id}, send {send}", self.ended.verb)
            }
            None => label(&seen.bytes),
        };
        let arrow = self.arrows.len();
        let label = cut(&(label + damage(fate)), MAX_LABEL);
        self.arrows.push(Arrow { direction: seen.direction, label, fate });
        self.push(seen.at, What::Sent(arrow));
        if let Fate::Passed(Passage { delay, duplicate, .. }) = fate {
            self.under_way.push(UnderWay { arrow, due: later(seen.at, delay), copy: false });
            let copy = duplicate.map(|delay| UnderWay { arrow, due: later(seen.at, delay), copy: true });
            self.under_way.extend(copy);
        }
    }

    /// Returns the request's id and the ordinal of the send, if the datagram is a send of the request.
    fn send_of_request(&mut self, seen: &Seen) -> Option<(Id, usize)> {
        let frame = only_frame(&seen.bytes)?;
        if seen.direction == Direction::Down || frame.1 != self.ended.verb {
            return None;
        }
        let id = *self.id.get_or_insert(frame.0?);
        Some((id, self.sends.len() + 1))
    }

    /// Adds the expiry of the latest send's timeout, if it is due.
    fn time_out(&mut self, now: Instant) {
        let Some(last) = self.sends.len().checked_sub(1) else { return };
        let wait = |n: usize| {
            let (sent, due) = (self.sends.get(n)?, self.dues.get(n)?);
            Some(due.saturating_duration_since(*sent))
        };
        let Some(timeout) = wait(last) else { return };
        let before = last.checked_sub(1).and_then(wait).filter(|before| !before.is_zero());
        let growth = before.map(|before| timeout.as_secs_f64() / before.as_secs_f64());
        self.push(now, What::TimedOut { timeout, growth });
    }

    /// Adds the end of an unanswered request, once.
    fn give_up(&mut self) {
        let is_noted = self.is_answered || self.steps.iter().any(|step| step.what == What::GaveUp);
        if self.ended.outcome == Outcome::Unknown && !is_noted {
            self.time_out(self.ended_at);
            self.push(self.ended_at, What::GaveUp);
        }
    }

    fn arrived(&mut self, seen: &Seen, executed: u64, repeats: u64) {
        let is_it = |way: &UnderWay| way.due == seen.at && self.direction(way.arrow) == Some(seen.direction);
        let Some(place) = self.under_way.iter().position(is_it) else { return };
        let UnderWay { arrow, copy, .. } = self.under_way.remove(place);
        let effect = match seen.direction {
            Direction::Up if executed > 0 => Effect::Executed,
            Direction::Up if repeats > 0 => Effect::Repeated,
            Direction::Up => self.damaged(arrow),
            Direction::Down if self.is_answer(&seen.bytes) => self.answer(seen.at),
            Direction::Down => self.damaged(arrow),
        };
        self.push(seen.at, What::Arrived { arrow, copy, effect });
    }

    fn direction(&self, arrow: usize) -> Option<Direction> {
        self.arrows.get(arrow).map(|arrow| arrow.direction)
    }

    fn damaged(&self, arrow: usize) -> Effect {
        let fate = self.arrows.get(arrow).map(|arrow| arrow.fate);
        if fate.is_some_and(|fate| !damage(fate).is_empty()) { Effect::Damaged } else { Effect::Taken }
    }

    fn is_answer(&self, bytes: &[u8]) -> bool {
        let answer = |(id, verb): (Option<Id>, Verb)| id == self.id && matches!(verb, Verb::Ack | Verb::Err);
        self.id.is_some() && only_frame(bytes).is_some_and(answer)
    }

    fn answer(&mut self, at: Instant) -> Effect {
        match &self.ended.outcome {
            _ if self.is_answered => Effect::Again,
            // An answer that the client ignored, so it was damaged.
            _ if at < self.ended_at => Effect::Damaged,
            _ if at > self.ended_at => Effect::TooLate,
            Outcome::Acked(_) => {
                self.is_answered = true;
                Effect::Acked
            }
            Outcome::Rejected(code, _) => {
                self.is_answered = true;
                Effect::Rejected(*code)
            }
            Outcome::Unknown | Outcome::NeverSent => Effect::TooLate,
        }
    }
}

/// Returns tag and verb of the only frame in a datagram.
fn only_frame(bytes: &[u8]) -> Option<(Option<Id>, Verb)> {
    match Datagram::parse(bytes, MAX_PAYLOAD).ok()?.frames.as_slice() {
        [Frame { id, verb, .. }] => Some((*id, *verb)),
        _ => None,
    }
}

/// Returns a short text of a datagram's content: `ACK @2`, `ERR @1 428`.
fn label(bytes: &[u8]) -> String {
    let Ok(datagram) = Datagram::parse(bytes, MAX_PAYLOAD) else { return "unreadable".to_owned() };
    let frame = |frame: &Frame<'_>| {
        let id = frame.id.map(|id| format!(" @{id}")).unwrap_or_default();
        let code = ErrArgs::parse(frame.args()).filter(|_| frame.verb == Verb::Err);
        format!("{}{id}{}", frame.verb, code.map(|err| format!(" {:03}", err.code)).unwrap_or_default())
    };
    let frames = datagram.frames.iter().map(frame).collect::<Vec<_>>().join(" + ");
    let is_proven = datagram.token.is_some() && datagram.frames.iter().any(|frame| frame.verb == Verb::Reg);
    if is_proven { frames + ", cookie" } else { frames }
}

/// Returns the suffix of the label of a damaged datagram.
fn damage(fate: Fate) -> &'static str {
    match fate {
        Fate::Passed(Passage { truncated: Some(_), .. }) => ", cut",
        Fate::Passed(Passage { corrupted: Some(_), .. }) => ", bit flipped",
        _ => "",
    }
}
