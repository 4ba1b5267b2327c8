//! The bodies of long messages: each is stored once and counted once, however many queues hold it.
//!
//! The count is tied to the bytes and falls when the last piece of a body is dropped. That may be in a queue, on an
//! acknowledgement, at the end of a session, or in an engine after a write. So no code path can forget to release it,
//! or release it twice. A table of holders in the hub would have to be updated on each of these paths, and would not
//! see the engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The total length of all bodies.
#[derive(Debug, Default)]
pub(super) struct SharedBodies(Arc<AtomicUsize>);

impl SharedBodies {
    /// Returns the total length now, in bytes.
    pub(super) fn bytes(&self) -> usize {
        // Relaxed: it orders nothing, and engines may drop a body at any time.
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the same bytes, counted until the last holder of any of them is gone.
    pub(super) fn count(&self, body: Bytes) -> Bytes {
        self.0.fetch_add(body.len(), Ordering::Relaxed);
        Bytes::from_owner(Counted { body, all: Arc::clone(&self.0) })
    }
}

/// A body that is part of the count.
struct Counted {
    body: Bytes,
    all: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.body.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn a_body_counts_once_until_its_last_byte_is_dropped() {
        let bodies = SharedBodies::default();
        let body = bodies.count(Bytes::from(vec![b'x'; 5_000]));
        let other = bodies.count(Bytes::from_static(b"other"));
        assert_eq!((&body[..], bodies.bytes()), (&[b'x'; 5_000][..], 5_005));
        let mut outs = [Output::default(), Output::default()];
        outs.iter_mut().for_each(|out| out.share(&body));
        let part = body.slice(1..2);
        drop((body, other));
        let [first, mut second] = outs;
        drop(first);
        second.advance(4_999);
        drop(part);
        assert_eq!(bodies.bytes(), 5_000, "the last byte is not written");
        second.advance(1);
        assert_eq!(bodies.bytes(), 0);
    }
}
