//! Validated quantities.
