//! The columns of the results: names with units, and the kind of their cells. `row` writes them, `table` reads them.

/// The kind of a column's cells. An empty cell means: not measured, no theory, or no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number from 0 on.
    Count,
    /// A number from 0 to 1.
    Share,
    /// A number from 0 on: seconds, bytes, events.
    Amount,
    /// Any number.
    Signed,
    /// `seconds:share;seconds:share;..`, both ascending.
    Steps,
}

macro_rules! columns {
    ($($column:ident $name:literal $kind:ident $doc:literal,)+) => {
        /// A column of the CSV.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Column {
            $(#[doc = $doc] $column,)+
        }

        impl Column {
            /// All columns, in the order in which a sweep writes them.
            pub const ALL: &[Self] = &[$(Self::$column,)+];

            /// Returns its name in the header, unit included.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$column => $name,)+
                }
            }

            /// Returns the kind of its cells.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$column => Kind::$kind,)+
                }
            }
        }
    };
}

columns! {
    Version "version" Text "The version of the program that wrote the row.",
    Generator "generator" Text "What draws, and the number of the rules by which: the same command gives the same row under the same name.",
    Command "command" Text "The command line that made the file.",
    Mode "mode" Text "`virtual` time or `real` sockets.",
    Seed "seed" Count "What the links drew from.",
    Policy "policy" Text "The name of the retry policy.",
    LossUp "loss_up" Share "Requested loss from client to server, if the model has a rate.",
    LossDown "loss_down" Share "Requested loss from server to client, if the model has a rate.",
    LinkUp "link_up" Text "The link from client to server.",
    LinkDown "link_down" Text "The link from server to client.",
    BurstUp "burst_up" Amount "Mean length of its runs of losses, if the model has one, in datagrams.",
    BurstDown "burst_down" Amount "The same, from server to client.",
    TimeoutS "timeout_s" Amount "The first timeout, in seconds.",
    MaxSends "max_sends" Count "The most sends of one request.",
    MaxTimeoutS "max_timeout_s" Amount "The longest timeout, in seconds.",
    DeadlineS "deadline_s" Amount "When a request is given up, in seconds from its first send.",
    Jitter "jitter" Text "The jitter of the timeouts.",
    RtoMinS "rto_min_s" Amount "The least timeout that measuring may give, of a policy that measures, in seconds.",
    SizeBytes "size_bytes" Count "The size of a request, in bytes.",
    IntervalS "interval_s" Amount "From one request of a session being due to the next, in seconds; 0 is when the one before has ended.",
    RealisedLossUp "realised_loss_up" Share "The share of the datagrams to the server that the loss model took.",
    RealisedLossDown "realised_loss_down" Share "The share of the datagrams to the client that the loss model took.",
    LossUpTheory "loss_up_theory" Share "The share that it is expected to take of what this policy sends.",
    LossUpZ "loss_up_z" Signed "The difference of the realised to that, in standard errors.",
    LossDownTheory "loss_down_theory" Share "The same of the datagrams to the client.",
    LossDownZ "loss_down_z" Signed "The difference to that, in standard errors.",
    TooLarge "too_large" Count "Datagrams, both ways, that were larger than the link's MTU.",
    QueueFull "queue_full" Count "Datagrams, both ways, that found a queue full.",
    Trials "trials" Count "How many requests were made.",
    Sessions "sessions" Count "How many sessions they were made in.",
    Acked "acked" Count "How many were acked.",
    Rejected "rejected" Count "How many were rejected.",
    Unknown "unknown" Count "How many ended as unknown.",
    Success "success" Share "The share of the trials that were acked.",
    SuccessLow "success_low" Share "The lower end of its 95 % interval.",
    SuccessHigh "success_high" Share "The upper end of its 95 % interval.",
    SuccessTheory "success_theory" Share "What theory says of it.",
    SuccessZ "success_z" Signed "The difference to theory, in standard errors.",
    SendsMean "sends_mean" Amount "Sends per request.",
    SendsTheory "sends_theory" Amount "What theory says of it.",
    SendsZ "sends_z" Signed "The difference to theory, in standard errors.",
    ExecutionsMean "executions_mean" Amount "Executions per request, with dedup.",
    ExecutionsTheory "executions_theory" Amount "What theory says of it.",
    ExecutionsMax "executions_max" Count "The most executions of one request.",
    ExecutionsWithoutDedupMean "executions_without_dedup_mean" Amount "Executions per request if every copy executed.",
    ExecutionsWithoutDedupTheory "executions_without_dedup_theory" Amount "What theory says of it.",
    AckMeanS "ack_mean_s" Amount "Mean time to ack of the acked, from the first send, in seconds.",
    AckTheoryS "ack_theory_s" Amount "What theory says of it.",
    AckZ "ack_z" Signed "The difference to theory, in standard errors.",
    AckP50S "ack_p50_s" Amount "Half of the acked were acked by then, in seconds.",
    AckP90S "ack_p90_s" Amount "90 % of the acked were acked by then, in seconds.",
    AckP99S "ack_p99_s" Amount "99 % of the acked were acked by then, in seconds.",
    AckMaxS "ack_max_s" Amount "The longest time to ack, in seconds.",
    AckCdfS "ack_cdf_s" Steps "The share of all trials that were acked within a time.",
    GoodputBytesPerS "goodput_bytes_per_s" Amount "Bytes of acked messages per second of the sessions' time.",
    SpuriousMean "spurious_mean" Amount "Answers that nobody waited for any more, per request: to repeats that were not needed, or too late.",
    DatagramsMean "datagrams_mean" Amount "Datagrams per request, both directions.",
    BytesMean "bytes_mean" Amount "Bytes per request, both directions.",
}
