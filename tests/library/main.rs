//! The library as others use it: what is public, what the examples and `docs/embedding.md` show, and which module imports
//! which.

#![cfg(unix)]

mod embedding_doc;
mod examples;
mod levels;
mod own_loop;
mod public_api;
mod public_chat;
#[path = "../support/mod.rs"]
mod support;
