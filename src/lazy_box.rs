//! Optional state, boxed because most owners lack it.
//!
//! A [`LazyBox`] takes the size of a pointer while its value is empty. It allocates on the first change and frees the
//! memory when the value is empty again. Millions of sessions and connections keep rare state in it.

/// A type with one value that needs no memory.
pub(crate) trait IsEmpty: Default + 'static {
    /// That value, for readers.
    const EMPTY: &'static Self;

    /// Whether this is that value.
    fn is_empty(&self) -> bool;
}

/// A value on the heap, or nothing while the value is empty.
#[derive(Debug)]
pub(crate) struct LazyBox<T>(Option<Box<T>>);

impl<T> Default for LazyBox<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: IsEmpty> LazyBox<T> {
    /// The value.
    pub(crate) fn get(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }

    /// The value, to change, if memory is allocated for it.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The value, to change; allocates memory for it if there is none.
    pub(crate) fn get_or_default(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// Changes the value, and frees its memory if it is empty afterwards.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut T)) {
        change(self.get_or_default());
        self.free_if_empty();
    }

    /// Removes the value, and leaves the empty one.
    pub(crate) fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |value| *value)
    }

    /// Frees the memory of the value if it is empty.
    pub(crate) fn free_if_empty(&mut self) {
        self.0.take_if(|value| value.is_empty());
    }
}

impl<T: IsEmpty> From<T> for LazyBox<T> {
    fn from(value: T) -> Self {
        Self((!value.is_empty()).then(|| Box::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl IsEmpty for u64 {
        const EMPTY: &'static Self = &0;

        fn is_empty(&self) -> bool {
            *self == 0
        }
    }

    #[test]
    fn an_empty_value_takes_no_memory() {
        let mut lazy = LazyBox::from(0);
        assert_eq!(lazy.get(), &0);
        assert_eq!(lazy.get_mut(), None);
        *lazy.get_or_default() += 7;
        lazy.free_if_empty();
        assert_eq!(lazy.get_mut(), Some(&mut 7));
        lazy.update(|value| *value -= 7);
        assert!(lazy.0.is_none());
        assert_eq!(LazyBox::from(3).take(), 3);
    }
}
