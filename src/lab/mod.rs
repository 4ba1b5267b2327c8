//! Loss experiments: plans, trials on the virtual clock or over sockets, statistics, pictures.

pub mod ladder;
pub mod policy;
pub mod theory;
