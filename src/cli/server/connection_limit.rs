//! The limit of stream connections, by the server's options and the system's limits.

use std::num::NonZeroUsize;

use crate::net::{EngineKind, open_files};

/// The most connections allowed: as many as wanted, or else as many as the limit of open files allows.
///
/// With `--engine threads`, never more than the system has threads for.
pub(super) fn allowed_connections(wanted: Option<NonZeroUsize>, engine: EngineKind) -> usize {
    let by_files = allowed_by_files(wanted);
    let by_threads = match engine {
        EngineKind::Threads => open_files::connections_by_threads(),
        EngineKind::Poll | EngineKind::Tasks => usize::MAX,
    };
    if by_threads < by_files {
        log::warn!(
            "--engine threads: the system has threads for {by_threads} connections (vm.max_map_count), not more"
        );
    }
    by_files.min(by_threads)
}

fn allowed_by_files(wanted: Option<NonZeroUsize>) -> usize {
    let open_files = open_files::raise_open_files();
    let room = open_files::connections_within(open_files);
    let Some(wanted) = wanted.map(NonZeroUsize::get) else { return room };
    if wanted > room {
        log::warn!(
            "--max-connections {wanted}: the limit of open files is {open_files} (ulimit -n), enough for {room}"
        );
    }
    wanted
}
