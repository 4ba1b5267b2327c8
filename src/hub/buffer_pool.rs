//! A pool of written buffers for the next large output: new ones would be taken from the system and returned to it
//! page by page.

/// The most buffers that are kept.
const MOST: usize = 16;

/// The least and the greatest capacity of a kept buffer, in bytes.
const ROOM: (usize, usize) = (64 << 10, 256 << 10);

/// Empty buffers with capacity.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Vec<Vec<u8>>);

impl BufferPool {
    /// Keeps a buffer if its capacity is worth it.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < MOST && (ROOM.0..=ROOM.1).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }

    /// Returns a buffer with a capacity of at least 64 KiB, if there is one.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.0.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_buffers_are_kept_and_none_that_is_small_or_huge() {
        let mut pool = BufferPool::default();
        for room in [0, 100, 1 << 20, 100_000] {
            pool.give(vec![0; room]);
        }
        let kept = pool.take().unwrap();
        assert!(kept.is_empty() && kept.capacity() == 100_000);
        assert_eq!(pool.take(), None);
        (0..100).for_each(|_| pool.give(Vec::with_capacity(64 << 10)));
        assert_eq!(std::iter::from_fn(|| pool.take()).count(), MOST);
    }
}
