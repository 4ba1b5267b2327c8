//! Values that most of very many owners do not have: they take a pointer until there is something to keep, and give the
//! memory back when there is not. So does a queue that was long once.

use std::collections::VecDeque;

/// A queue keeps room for so many.
const FEW: usize = 32;

/// Gives room back that a queue has no use for any more; called whenever some are taken out, it moves each once on
/// average. What is counted of a queue is what is in it: its peer decides how long it once was.
pub(crate) fn give_room_back<T>(queue: &mut VecDeque<T>) {
    if queue.len() < queue.capacity() / 4 && queue.capacity() > 2 * FEW {
        queue.shrink_to((2 * queue.len()).max(FEW));
    }
}

/// Makes room for one more in a queue: in a long one for a quarter of what is in it, where it would double otherwise. What
/// is counted of a queue is what is in it.
pub(crate) fn grow_gently<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() && queue.len() >= FEW {
        queue.reserve_exact(queue.len() / 4);
    }
}

/// What has a state that needs no memory.
pub(crate) trait Vacant: Default + 'static {
    /// That state, for those who look at it.
    const VACANT: &'static Self;

    /// Whether this is that state.
    fn is_vacant(&self) -> bool;
}

/// A value that is vacant for most of its owners.
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Vacant> Rare<T> {
    /// What it is.
    pub(crate) fn get(&self) -> &T {
        self.0.as_deref().unwrap_or(T::VACANT)
    }

    /// The same, to change, if it is not vacant.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The same, to put something in.
    pub(crate) fn fill(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// Changes it, and gives its memory back if it is vacant then.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut T)) {
        change(self.fill());
        self.tidy();
    }

    /// Takes it away.
    pub(crate) fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |value| *value)
    }

    /// Gives its memory back if it is vacant.
    pub(crate) fn tidy(&mut self) {
        self.0.take_if(|value| value.is_vacant());
    }
}

impl<T: Vacant> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((!value.is_vacant()).then(|| Box::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Vacant for u64 {
        const VACANT: &'static Self = &0;

        fn is_vacant(&self) -> bool {
            *self == 0
        }
    }

    #[test]
    fn what_is_vacant_takes_no_memory_and_what_becomes_so_gives_it_back() {
        let mut rare = Rare::from(0);
        assert_eq!(rare.get(), &0);
        assert_eq!(rare.get_mut(), None);
        *rare.fill() += 7;
        rare.tidy();
        assert_eq!(rare.get_mut(), Some(&mut 7));
        rare.update(|value| *value -= 7);
        assert!(rare.0.is_none());
        assert_eq!(Rare::from(3).take(), 3);
    }
}
