//! Loss experiments: plans, trials on the virtual clock or over sockets, statistics, pictures.

pub(crate) mod api;
pub mod proxy;
