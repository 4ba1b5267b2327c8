//! The functions that a fuzzer calls: each takes any bytes, and panics where a promise does not hold.
//!
//! They run in two places: as the targets of `fuzz/`, guided by coverage, and in `tests/sim/fuzz.rs`, under proptest.

#![allow(unreachable_pub, reason = "fuzz/ hands it on")]

mod parsers;
mod script;

pub use parsers::{
    ack_ranges, csv_table, datagram, deframer, line_protocol, link_spec, listen_url, record, rules,
};
pub use script::two_clients;

/// A harness function.
pub type Target = fn(&[u8]);

/// All of them, by the names of their targets.
pub const TARGETS: [(&str, Target); 10] = [
    ("deframer", deframer),
    ("datagram", datagram),
    ("line_protocol", line_protocol),
    ("ack_ranges", ack_ranges),
    ("link_spec", link_spec),
    ("listen_url", listen_url),
    ("rules", rules),
    ("record", record),
    ("csv_table", csv_table),
    ("two_clients", two_clients),
];
