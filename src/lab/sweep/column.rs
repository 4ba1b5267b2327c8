//! The columns of the results: a field of [`Row`] each, in the order of the file. Cells are in `cell`; `row` fills a
//! row, `table` reads it back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::cell::{Amount, Cell, Count, Field, Kind, Share, Signed, Steps};

macro_rules! columns {
    ($($(#[$doc:meta])* $column:ident $field:ident: $kind:ty,)+) => {
        /// One row of the CSV: the results of one point of a sweep.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Row {
            $($(#[$doc])* pub(crate) $field: $kind,)+
        }

        /// A column of the CSV, to choose a field of a [`Row`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Column {
            $($(#[$doc])* $column,)+
        }

        impl Column {
            /// All columns, in the order of the fields.
            pub(crate) const ALL: &[Self] = &[$(Self::$column,)+];

            /// Returns its name in the header, unit included: that of the field.
            #[must_use]
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$column => stringify!($field),)+
                }
            }

            /// Returns the kind of its cells.
            #[must_use]
            pub(crate) const fn kind(self) -> Kind {
                match self {
                    $(Self::$column => <$kind as Field>::KIND,)+
                }
            }
        }

        impl Row {
            /// Returns the cell in a column.
            #[must_use]
            pub(crate) fn cell(&self, column: Column) -> Cell<'_> {
                match column {
                    $(Column::$column => self.$field.cell(),)+
                }
            }
        }
    };
}

columns! {
    /// The version of the program that wrote the row.
    Version version: String,
    /// The random generator, and the version of its use: the same command gives the same row under the same name.
    Generator generator: String,
    /// The command line that made the file.
    Command command: String,
    /// `virtual` time or `real` sockets.
    Mode mode: String,
    /// The random source of the links.
    Seed seed: Count,
    /// The name of the retry policy.
    Policy policy: String,
    /// Requested loss from client to server, if the model has a rate.
    LossUp loss_up: Share,
    /// Requested loss from server to client, if the model has a rate.
    LossDown loss_down: Share,
    /// The link from client to server.
    LinkUp link_up: String,
    /// The link from server to client.
    LinkDown link_down: String,
    /// Mean length of its runs of losses, if the model has one, in datagrams.
    BurstUp burst_up: Amount,
    /// The same, from server to client.
    BurstDown burst_down: Amount,
    /// The first timeout, in seconds.
    TimeoutS timeout_s: Amount,
    /// The most sends of one request.
    MaxSends max_sends: Count,
    /// The longest timeout, in seconds.
    MaxTimeoutS max_timeout_s: Amount,
    /// Time at which a request is given up, in seconds from its first send.
    DeadlineS deadline_s: Amount,
    /// The jitter of the timeouts.
    Jitter jitter: String,
    /// The least timeout that measuring may give, of a policy that measures, in seconds.
    RtoMinS rto_min_s: Amount,
    /// The size of a request, in bytes.
    SizeBytes size_bytes: Count,
    /// From one request of a session being due to the next, in seconds; 0 is when the one before has ended.
    IntervalS interval_s: Amount,
    /// The share of the datagrams to the server that the loss model took.
    RealisedLossUp realised_loss_up: Share,
    /// The share of the datagrams to the client that the loss model took.
    RealisedLossDown realised_loss_down: Share,
    /// The share that it is expected to take of what this policy sends.
    LossUpTheory loss_up_theory: Share,
    /// The difference of the realised to that, in standard errors.
    LossUpZ loss_up_z: Signed,
    /// The same of the datagrams to the client.
    LossDownTheory loss_down_theory: Share,
    /// The difference to that, in standard errors.
    LossDownZ loss_down_z: Signed,
    /// Datagrams, both ways, that were larger than the link's MTU.
    TooLarge too_large: Count,
    /// Datagrams, both ways, that found a queue full.
    QueueFull queue_full: Count,
    /// Number of requests made.
    Trials trials: Count,
    /// Number of sessions they were made in.
    Sessions sessions: Count,
    /// Number of acked requests.
    Acked acked: Count,
    /// Number of rejected requests.
    Rejected rejected: Count,
    /// Number of requests that ended as unknown.
    Unknown unknown: Count,
    /// The share of the trials that were acked.
    Success success: Share,
    /// The lower end of its 95 % interval.
    SuccessLow success_low: Share,
    /// The upper end of its 95 % interval.
    SuccessHigh success_high: Share,
    /// Its theoretical value.
    SuccessTheory success_theory: Share,
    /// The difference to theory, in standard errors.
    SuccessZ success_z: Signed,
    /// Sends per request.
    SendsMean sends_mean: Amount,
    /// Its theoretical value.
    SendsTheory sends_theory: Amount,
    /// The difference to theory, in standard errors.
    SendsZ sends_z: Signed,
    /// Executions per request, with dedup.
    ExecutionsMean executions_mean: Amount,
    /// Its theoretical value.
    ExecutionsTheory executions_theory: Amount,
    /// The most executions of one request.
    ExecutionsMax executions_max: Count,
    /// Executions per request if every copy executed.
    ExecutionsWithoutDedupMean executions_without_dedup_mean: Amount,
    /// Its theoretical value.
    ExecutionsWithoutDedupTheory executions_without_dedup_theory: Amount,
    /// Mean time to ack of the acked, from the first send, in seconds.
    AckMeanS ack_mean_s: Amount,
    /// Its theoretical value.
    AckTheoryS ack_theory_s: Amount,
    /// The difference to theory, in standard errors.
    AckZ ack_z: Signed,
    /// Half of the acked were acked by then, in seconds.
    AckP50S ack_p50_s: Amount,
    /// 90 % of the acked were acked by then, in seconds.
    AckP90S ack_p90_s: Amount,
    /// 99 % of the acked were acked by then, in seconds.
    AckP99S ack_p99_s: Amount,
    /// The longest time to ack, in seconds.
    AckMaxS ack_max_s: Amount,
    /// The share of all trials that were acked within a time.
    AckCdfS ack_cdf_s: Steps,
    /// Bytes of acked messages per second of the sessions' time.
    GoodputBytesPerS goodput_bytes_per_s: Amount,
    /// Answers that were no longer awaited, per request: to unneeded repeats, or too late.
    SpuriousMean spurious_mean: Amount,
    /// Datagrams per request, both directions.
    DatagramsMean datagrams_mean: Amount,
    /// Bytes per request, both directions.
    BytesMean bytes_mean: Amount,
}

impl Column {
    /// Returns the column of a name, if there is one.
    #[must_use]
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }
}

impl Row {
    /// Returns a cell's text in the CSV.
    #[must_use]
    pub(crate) fn text(&self, column: Column) -> Cow<'_, str> {
        self.cell(column).text()
    }

    /// Returns the number in a cell, in the unit of the column's name; `None` if it is empty or a text.
    #[must_use]
    pub(crate) fn number(&self, column: Column) -> Option<f64> {
        self.cell(column).number()
    }
}
