//! What is known of each connection, found by its [`ConnId`] without hashing: the id says the place.

use crate::segmented_vec::SegmentedVec;
use crate::service::ConnId;

/// Values by connection. It has as many places as connections lived at once, if whoever gives the ids uses the places of
/// those that are gone again.
#[derive(Debug)]
pub struct Table<T> {
    places: SegmentedVec<Option<(ConnId, T)>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: SegmentedVec::default(), len: 0 }
    }
}

impl<T> Table<T> {
    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is known of a connection.
    pub fn get(&self, conn: ConnId) -> Option<&T> {
        self.places.get(conn.place())?.as_ref().filter(|(id, _)| *id == conn).map(|(_, value)| value)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        self.places.get_mut(conn.place())?.as_mut().filter(|(id, _)| *id == conn).map(|(_, value)| value)
    }

    /// Whether there is such a connection.
    pub fn contains(&self, conn: ConnId) -> bool {
        self.get(conn).is_some()
    }

    /// Puts a connection into its place; who had that is gone.
    pub fn insert(&mut self, conn: ConnId, value: T) {
        let place = conn.place();
        for _ in self.places.len()..=place {
            self.places.push(None);
        }
        if let Some(entry) = self.places.get_mut(place)
            && entry.replace((conn, value)).is_none()
        {
            self.len += 1;
        }
    }

    /// Takes a connection out.
    pub fn remove(&mut self, conn: ConnId) -> Option<T> {
        let entry = self.places.get_mut(conn.place())?;
        let (_, value) = entry.take_if(|(id, _)| *id == conn)?;
        self.len -= 1;
        Some(value)
    }

    /// How many places there are: those of all connections are below.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// The connection that has a place.
    pub fn at(&self, place: usize) -> Option<(ConnId, &T)> {
        self.places.get(place)?.as_ref().map(|(conn, value)| (*conn, value))
    }

    /// All connections, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.places.iter().flatten().map(|(conn, value)| (*conn, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_place_of_another_is_not_taken_for_it() {
        let (old, new) = (ConnId::new(3, 1), ConnId::new(3, 2));
        let mut table = Table::default();
        table.insert(old, "old");
        assert_eq!((table.get(old), table.get(new), table.len()), (Some(&"old"), None, 1));
        assert_eq!(table.remove(new), None);
        assert_eq!(table.remove(old), Some("old"));
        table.insert(new, "new");
        assert_eq!((table.get(old), table.len()), (None, 1));
        assert_eq!(table.get_mut(new), Some(&mut "new"));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(new, &"new")]);
        assert!(table.get(ConnId::new(u32::MAX, 0)).is_none());
    }
}
