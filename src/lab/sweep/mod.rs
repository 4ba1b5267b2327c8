//! Sweeps: the same requests at many points of a plan, and a row of results for each.
//!
//! ```text
//! axis       what is varied, and all combinations of it
//! plan       the same in TOML
//! point      what one row is about: policy, network, message
//! start      where a session begins in the lives of its loss models
//! trial      one session's requests in virtual time
//! real       the same over sockets
//! ledger     what reached the server of each
//! run        all sessions of all points, on several threads
//! tally      what the trials of a point came to
//! times      the times among them
//! stats      intervals and standard errors
//! ratio      the same where the requests of a session depend on each other
//! expected   what the theory says of a point, where it says something
//! cyclic     what it says of losses that follow a clock
//! note       what a reader of the rows should know
//! column     the columns of the results
//! row        what a point has to say in each
//! assertion  what has to hold of them
//! table      the results read back from their CSV
//! ```

#[cfg(test)]
mod agreement;
pub mod assertion;
pub mod axis;
pub mod column;
mod cyclic;
pub mod expected;
mod ledger;
pub mod note;
pub mod plan;
pub mod point;
pub mod ratio;
pub mod real;
pub mod row;
pub mod run;
mod start;
pub mod stats;
pub mod table;
pub mod tally;
pub mod times;
pub mod trial;
