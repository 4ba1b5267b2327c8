-- What a run of wrk came to, as one line of CSV; times in microseconds.
function done(summary, latency)
    local errors = summary.errors
    print(table.concat({
        "row", summary.duration, summary.requests, summary.bytes,
        latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.timeout, errors.status,
    }, ","))
end
