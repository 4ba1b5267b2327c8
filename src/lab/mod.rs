//! Loss experiments: plans, trials on the virtual clock or over sockets, statistics, pictures.

pub mod proxy;
