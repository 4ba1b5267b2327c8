//! One direction of a network.
