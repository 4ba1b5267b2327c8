//! A map from [`ConnId`] to state of a connection, for services that keep some for each.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! It does not hash: the low half of the id is the index into a vector.

use crate::segmented_vec::SegmentedVec;
use crate::service::ConnId;

/// Values by connection. It has as many slots as connections were open at once, if the engine reuses the slots of
/// closed connections in its ids.
#[derive(Debug)]
pub struct ConnMap<T> {
    slots: SegmentedVec<Option<(ConnId, T)>>,
    len: usize,
}

impl<T> Default for ConnMap<T> {
    fn default() -> Self {
        Self { slots: SegmentedVec::default(), len: 0 }
    }
}

impl<T> ConnMap<T> {
    /// The number of connections.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a connection.
    pub fn get(&self, conn: ConnId) -> Option<&T> {
        self.slots.get(conn.place())?.as_ref().filter(|(id, _)| *id == conn).map(|(_, value)| value)
    }

    /// The value of a connection, to change.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        self.slots.get_mut(conn.place())?.as_mut().filter(|(id, _)| *id == conn).map(|(_, value)| value)
    }

    /// Whether a connection has a value.
    pub fn contains(&self, conn: ConnId) -> bool {
        self.get(conn).is_some()
    }

    /// Inserts a connection, in place of an earlier one in the same slot.
    pub fn insert(&mut self, conn: ConnId, value: T) {
        let place = conn.place();
        for _ in self.slots.len()..=place {
            self.slots.push(None);
        }
        if let Some(entry) = self.slots.get_mut(place)
            && entry.replace((conn, value)).is_none()
        {
            self.len += 1;
        }
    }

    /// Removes a connection.
    pub fn remove(&mut self, conn: ConnId) -> Option<T> {
        let entry = self.slots.get_mut(conn.place())?;
        let (_, value) = entry.take_if(|(id, _)| *id == conn)?;
        self.len -= 1;
        Some(value)
    }

    /// The number of slots: each connection has one below it.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The connection in a slot.
    pub fn at(&self, slot: usize) -> Option<(ConnId, &T)> {
        self.slots.get(slot)?.as_ref().map(|(conn, value)| (*conn, value))
    }

    /// All connections, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.slots.iter().flatten().map(|(conn, value)| (*conn, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_does_not_find_a_later_connection_in_its_slot() {
        let (old, new) = (ConnId::new(3, 1), ConnId::new(3, 2));
        let mut map = ConnMap::default();
        map.insert(old, "old");
        assert_eq!((map.get(old), map.get(new), map.len()), (Some(&"old"), None, 1));
        assert_eq!(map.remove(new), None);
        assert_eq!(map.remove(old), Some("old"));
        map.insert(new, "new");
        assert_eq!((map.get(old), map.len()), (None, 1));
        assert_eq!(map.get_mut(new), Some(&mut "new"));
        assert_eq!(map.iter().collect::<Vec<_>>(), [(new, &"new")]);
        assert!(map.get(ConnId::new(u32::MAX, 0)).is_none());
    }
}
