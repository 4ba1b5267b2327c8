//! Sends runs of consecutive messages from one client to another in one step: under load they are most of a router's
//! input.
//!
//! The common parts of a run are checked once. The effect is the same as message by message: anything special, above
//! all a refusal, ends the run and is handled in `requests`.

use super::memory::MemoryUse;
use super::push::{FRAME_OVERHEAD, Load};
use super::session::Form;
use super::work::cost;
use super::{Hub, SessionKey};
use crate::names::{Name, is_room};
use crate::wire::{RcvHead, SHORT_LENGTH_MAX, SndArgs};

impl Hub {
    /// Queues the untagged messages at the front of `messages` that are for the client named by the first one and get
    /// no answer. Returns how many. `messages` are the bytes after SND and its space.
    pub fn send_burst<'m>(
        &mut self,
        from: SessionKey,
        mut messages: impl Iterator<Item = &'m [u8]>,
    ) -> usize {
        let Some(message) = messages.next() else { return 0 };
        let Some(first) = SndArgs::parse(message) else { return 0 };
        // The target with the space after it.
        let target = message.get(..=first.target.len()).unwrap_or(message);
        let Some((to, name)) = self.plain_pair(from, first.target) else { return 0 };
        let mut head = RcvHead::new(name.as_str().as_bytes(), b"", first.body, Vec::new());
        let config = &self.config;
        let (memory_room, mut taken) = (self.memory.room(), 0);
        let Some(receiver) = self.sessions.get_mut(to) else { return 0 };
        let (mut load, mut count, mut next) = (receiver.load(), 0, Some(first.body));
        let queue = &mut receiver.traffic_mut(config).queue;
        while let Some(body) = next {
            head.set(body);
            let cost = head.frame_len() + FRAME_OVERHEAD;
            let is_short = head.payload_len() <= SHORT_LENGTH_MAX;
            if !is_short || !config.may_hold(load, cost) || taken + cost > memory_room {
                break;
            }
            queue.widen(&mut self.buffer_pool);
            queue.join(|out| {
                out.reserve(head.frame_len());
                out.extend_from_slice(head.bytes());
                out.extend_from_slice(body);
            });
            load += Load { bytes: cost, shared: 0, messages: 1 };
            taken += cost;
            count += 1;
            next = messages.next().and_then(|message| message.strip_prefix(target));
        }
        self.memory.charge(MemoryUse::Queues, taken);
        if count > 0 {
            self.stats.queued += count as u64;
            self.stats.messages += count as u64;
            self.waiting += count;
            self.work.add(count, cost::MEMBER);
            self.wake(to);
        }
        count
    }

    /// Returns the receiver of a run and its sender's name; `None` if a message between them needs special handling.
    fn plain_pair(&mut self, from: SessionKey, target: &[u8]) -> Option<(SessionKey, Name)> {
        if is_room(target) {
            return None;
        }
        let to = self.find_target(target)?;
        let receiver = self.sessions.get(to)?;
        let is_plain = receiver.form == Form::Untagged && receiver.is_on_streams() && !receiver.is_over();
        let sender = self.sessions.get(from).filter(|sender| is_plain && !sender.echo)?;
        Some((to, sender.name.clone()))
    }
}
