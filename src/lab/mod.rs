//! Loss experiments: plans, trials on the virtual clock or over sockets, statistics, pictures.

pub mod files;
pub mod plot;
pub mod report;
pub mod table;
