//! Sweeps: the same requests at many points of a plan, and a row of results for each.
//!
//! ```text
//! axis       what is varied, and all combinations of it
//! plan       the same in TOML
//! point      what one row is about: policy, network, message
//! trial      one session's requests in virtual time
//! real       the same over sockets
//! ledger     what reached the server of each
//! run        all sessions of all points, on several threads
//! tally      what the trials of a point came to
//! times      the times among them
//! stats      intervals and standard errors
//! expected   what the theory says of a point, where it says something
//! column     the columns of the results
//! row        what a point has to say in each
//! assertion  what has to hold of them
//! table      the results read back from their CSV
//! ```

pub mod assertion;
pub mod axis;
pub mod column;
pub mod expected;
mod ledger;
pub mod plan;
pub mod point;
pub mod real;
pub mod row;
pub mod run;
pub mod stats;
pub mod table;
pub mod tally;
pub mod times;
pub mod trial;
