//! Loss experiments: plans, trials on the virtual clock or over sockets, statistics, pictures.

pub mod point;
pub mod stats;
pub mod tally;
pub mod theory;
pub mod times;
pub mod trial;
