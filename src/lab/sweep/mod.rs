//! Sweeps: run the same requests at many points of a plan and write one row of results for each. Plots of the rows are
//! in `lab::plot`.
//!
//! ```text
//! axis       parameters that vary, and all their combinations
//! plan       a sweep's definition in TOML
//! point      the subject of one row: policy, network, message
//! start      the state in which a session's loss models begin
//! trial      one session's requests in virtual time
//! real       the same over sockets
//! ledger     which requests reached the server, and how often
//! run        all sessions of all points, on several threads
//! tally      counts over the trials of a point
//! times      times to ack
//! stats      intervals and standard errors
//! ratio      the same where the requests of a session are dependent
//! expected   the theory's prediction for a point, where there is one
//! cyclic     the same for losses that follow a clock
//! note       caveats for the reader of the rows
//! cell       the cells of the results, and their text
//! column     the columns of the results: the fields of a row
//! row        the row of a point
//! assertion  conditions on rows
//! table      the results, read back from their CSV
//! agreement  tests: measurements against the theory
//! ```

#[cfg(test)]
mod agreement;
pub(crate) mod assertion;
pub(crate) mod axis;
pub(crate) mod cell;
pub(crate) mod column;
mod cyclic;
pub(crate) mod expected;
mod ledger;
pub(crate) mod note;
pub(crate) mod plan;
pub(crate) mod point;
pub(crate) mod ratio;
pub(crate) mod real;
pub(crate) mod row;
pub(crate) mod run;
mod start;
pub(crate) mod stats;
pub mod table;
pub(crate) mod tally;
pub(crate) mod times;
pub(crate) mod trial;
