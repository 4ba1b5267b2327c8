//! Retransmission.
