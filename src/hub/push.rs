//! Pushes, which the server sends on its own initiative: messages, gaps and the BYE, their cost and their encoding
//! in each form. The queue in which they wait is in `queue`; a message before it is queued is in `message`.

use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use bytes::Bytes;

use super::Form;
use crate::output::Output;
use crate::wire::{ByeArgs, Id, Verb, encode_args, encode_gap, encode_rcv, encode_tag};

/// The cost of a queued frame beside its bytes: its entry in the queue or among the pushes in flight, and the
/// allocator's header. An entry takes 88 bytes, and a quarter of that more where the queue has just grown. Counting it
/// keeps a queue of tiny messages within the memory limit.
pub const FRAME_OVERHEAD: usize = 128;

/// The longest gap, or BYE, in words, rounded up.
const GAP_MAX: usize = 96;

/// The load of a queue, as its limits count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes, [`FRAME_OVERHEAD`] per message included.
    pub bytes: usize,
    /// The part of `bytes` that other queues may hold, too: the bodies of long messages, stored once.
    pub shared: usize,
    /// Messages.
    pub messages: usize,
}

impl Load {
    /// Returns the bytes that this queue alone holds.
    #[must_use]
    pub const fn own(self) -> usize {
        self.bytes - self.shared
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.shared += other.shared;
        self.messages += other.messages;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.shared -= other.shared;
        self.messages -= other.messages;
    }
}

/// A message as it is sent, encoded once without a tag and shared by all receivers of the same [`Form`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// An RCV, or a line of text with its end.
    Short(Arc<[u8]>),
    /// A long RCV.
    Long(Arc<LongText>),
}

/// An RCV whose body is shared even with receivers of another form.
#[derive(Debug, PartialEq, Eq)]
pub struct LongText {
    /// Everything before the body.
    pub head: Vec<u8>,
    /// The body, which the hub counts once for all holders.
    pub body: Bytes,
}

impl Text {
    /// Returns its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Short(bytes) => bytes.len(),
            Self::Long(text) => text.head.len() + text.body.len(),
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many of its bytes other holders may share, counted once for all.
    fn shared_len(&self) -> usize {
        match self {
            Self::Short(_) => 0,
            Self::Long(text) => text.body.len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Short(bytes) => out.extend_from_slice(bytes),
            Self::Long(text) => {
                out.extend_from_slice(&text.head);
                out.extend_from_slice(&text.body);
            }
        }
    }
}

/// A frame or line that the server sends on its own initiative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A message.
    Message {
        /// The encoded message.
        text: Text,
        /// Its sender was told that it is kept. A message to a room may still be dropped into a gap.
        is_direct: bool,
    },
    /// Several messages in one buffer, for an unacknowledged stream. None of them may be dropped into a gap.
    Run {
        /// Their bytes.
        bytes: Vec<u8>,
        /// Their number.
        messages: usize,
    },
    /// The number of messages that were dropped here.
    Gap(u64),
    /// The session ends, and why; the last push.
    Bye(ByeArgs),
}

impl Push {
    /// Returns what this push counts as: its messages, or nothing.
    pub fn load(&self) -> Load {
        match self {
            Self::Message { text, .. } => {
                Load { bytes: text.len() + FRAME_OVERHEAD, shared: text.shared_len(), messages: 1 }
            }
            Self::Run { bytes, messages } => {
                Load { bytes: bytes.len() + messages * FRAME_OVERHEAD, shared: 0, messages: *messages }
            }
            Self::Gap(_) | Self::Bye(_) => Load::default(),
        }
    }

    /// Returns the most bytes that [`Push::encode`] appends without a tag, whatever the form.
    pub fn max_len(&self) -> usize {
        match self {
            Self::Message { text, .. } => text.len(),
            Self::Run { bytes, .. } => bytes.len(),
            Self::Gap(_) | Self::Bye(_) => GAP_MAX,
        }
    }

    pub(super) fn is_hole(&self) -> bool {
        matches!(self, Self::Gap(0))
    }

    /// Whether it may still be dropped into a gap: a message to a room.
    pub(super) fn is_droppable(&self) -> bool {
        matches!(self, Self::Message { is_direct: false, .. })
    }

    /// Appends the push in this form: a frame, tagged with `id` if there is one, or a line.
    pub fn encode(&self, form: Form, id: Option<Id>, out: &mut Vec<u8>) {
        if let (Some(id), Self::Message { .. } | Self::Gap(_)) = (id, self) {
            encode_tag(id, out);
        }
        match (self, form) {
            (Self::Message { text, .. }, _) => text.write(out),
            (Self::Run { bytes, .. }, _) => out.extend_from_slice(bytes),
            (Self::Gap(count), Form::Tagged) => encode_gap(*count, out),
            (Self::Gap(count), Form::Untagged) => encode_rcv(b"*", gap_in_words(*count).as_bytes(), out),
            (Self::Gap(count), Form::Lines) => out.extend_from_slice(line(&gap_in_words(*count)).as_bytes()),
            (Self::Bye(bye), Form::Tagged) => bye.encode(id, out),
            (Self::Bye(_), Form::Untagged) => encode_args(id, Verb::Bye, &[], out),
            (Self::Bye(bye), Form::Lines) => out.extend_from_slice(line(&bye_in_words(*bye)).as_bytes()),
        }
    }

    /// Does the same for a stream, without copying a long body.
    pub fn write(&self, form: Form, id: Option<Id>, out: &mut Output) {
        let Self::Message { text: Text::Long(text), .. } = self else {
            return self.encode(form, id, out.tail());
        };
        if let Some(id) = id {
            encode_tag(id, out.tail());
        }
        out.tail().extend_from_slice(&text.head);
        out.share(&text.body);
    }
}

/// Returns a gap in words, for protocols without GAP: four words, as the word count of the RCV says.
fn gap_in_words(count: u64) -> String {
    let messages = if count == 1 { "message" } else { "messages" };
    format!("you missed {count} {messages}")
}

/// Returns a BYE in words, for line clients.
pub fn bye_in_words(bye: ByeArgs) -> String {
    match bye {
        ByeArgs::Draining(None) => "goodbye: the server is shutting down".to_owned(),
        ByeArgs::Draining(Some(time)) => {
            let secs = time.as_millis().div_ceil(1_000);
            format!("goodbye: the server is shutting down, and expects to be back in {secs} s")
        }
        ByeArgs::Ended | ByeArgs::Elsewhere | ByeArgs::Waiting(_) => "goodbye".to_owned(),
    }
}

/// Returns a line of the server's own: no name begins with `*`.
pub fn line(text: &str) -> String {
    format!("* {text}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_gap_and_a_bye_are_encoded_for_each_form() {
        let encoded = |push: Push, form, id| {
            let mut out = Vec::new();
            push.encode(form, id, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (push, untagged, tagged, line) in [
            (
                Push::Gap(12),
                "RCV 0030 * 0004 you missed 12 messages",
                "@3 GAP 0003 12",
                "* you missed 12 messages\n",
            ),
            (
                Push::Gap(1),
                "RCV 0028 * 0004 you missed 1 message",
                "@3 GAP 0002 1",
                "* you missed 1 message\n",
            ),
            (
                Push::Gap(u64::MAX),
                "RCV 0048 * 0004 you missed 18446744073709551615 messages",
                "@3 GAP 0021 18446744073709551615",
                "* you missed 18446744073709551615 messages\n",
            ),
            (
                Push::Bye(ByeArgs::Draining(Some(Duration::from_millis(1_001)))),
                "BYE 0000",
                "@3 BYE 0014 draining 1001",
                "* goodbye: the server is shutting down, and expects to be back in 2 s\n",
            ),
        ] {
            assert_eq!(encoded(push.clone(), Form::Untagged, None), untagged);
            assert!(untagged.len() <= push.max_len());
            assert_eq!(encoded(push.clone(), Form::Tagged, Id::new(3)), tagged);
            assert_eq!(encoded(push, Form::Lines, None), line);
        }
    }
}
