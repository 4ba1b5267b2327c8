//! The chat.

pub mod name;
