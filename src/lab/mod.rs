//! Loss experiments: plans, trials on the virtual clock or over sockets, statistics, pictures.
//!
//! ```text
//! axis       what a sweep varies, and all combinations of it
//! plan       the same in TOML
//! point      what one row is about: policy, network, message
//! trial      one session's requests in virtual time
//! real       the same over sockets
//! ledger     what reached the server of each
//! run        all sessions of all points, on several threads
//! tally      what the trials of a point came to
//! times      the times among them
//! stats      intervals and standard errors
//! theory     what the mathematics say
//! expected   where they say something of a point
//! column     the columns of the results
//! row        what a point has to say in each
//! assertion  what has to hold of them
//! table      the results read back from their CSV
//! plot       pictures of them
//! report     one page of them
//! ladder     one exchange, datagram by datagram, as text and picture
//! policy     when a policy sends and gives up at the latest, and what that costs
//! proxy      relays for datagrams and streams, and what can be asked of them
//! api        the same over HTTP
//! files      files that are written whole or not at all
//! ```

pub(crate) mod api;
pub mod assertion;
pub mod axis;
pub mod column;
pub mod expected;
pub mod files;
pub mod ladder;
mod ledger;
pub mod plan;
pub mod plot;
pub mod point;
pub mod policy;
pub mod proxy;
pub mod real;
pub mod report;
pub mod row;
pub mod run;
pub mod stats;
pub mod table;
pub mod tally;
pub mod theory;
pub mod times;
pub mod trial;
