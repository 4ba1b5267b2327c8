//! The bodies of long messages: each is in memory once, however many wait for it, and is counted once.
//!
//! The count goes along with the bytes: who lets go of the last piece of a body gives it back, be that a queue, an
//! acknowledgement, a session that ends, or an engine that has written it. So no way out can forget it or do it twice. A
//! table of holders in the hub would have to be told on each of these ways, and would know nothing of the engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// How many bytes all bodies together have.
#[derive(Debug, Default)]
pub(super) struct SharedBodies(Arc<AtomicUsize>);

impl SharedBodies {
    /// How many bytes they have now.
    pub(super) fn bytes(&self) -> usize {
        // It orders nothing: engines may be about to let go of one at any time.
        self.0.load(Ordering::Relaxed)
    }

    /// The same bytes, counted for as long as anybody holds any of them.
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
    fn a_body_counts_once_until_its_last_byte_is_let_go_of() {
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
