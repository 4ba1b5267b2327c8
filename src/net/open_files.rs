//! How many files, sockets among them, this process may have open, and how many threads: so many connections there can be.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are kept for everything but connections: listeners, logs, and connections that are told why they are
/// refused.
const RESERVE: usize = 64;

/// Raises the limit of open files as far as this process may, and returns the one that holds then; `usize::MAX` is none.
///
/// The soft limit is low for the sake of programs that use `select(2)`; ours do not.
pub fn raise_open_files() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft == hard { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) }
    });
    if let Err(error) = raised {
        log::debug!("cannot raise the limit of open files: {error}");
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).ok();
    limit.and_then(|(soft, _)| usize::try_from(soft).ok()).unwrap_or(usize::MAX)
}

/// How many connections a limit of open files has room for: an eighth is kept back for everything else, but not more
/// than 64 files.
#[must_use]
pub fn connections_within(open_files: usize) -> usize {
    open_files - RESERVE.min(open_files / 8)
}

/// How many connections there is room for with a thread for each, an eighth of it kept back for those who wait to write:
/// a thread takes four of the mappings that Linux lets a process have, and a process that has too many is aborted.
/// `usize::MAX` where no limit is known.
#[must_use]
pub fn connections_by_threads() -> usize {
    let limit = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
    let mappings = limit("/proc/sys/vm/max_map_count").map(|count| count / 4);
    let threads = limit("/proc/sys/kernel/threads-max");
    [mappings, threads].into_iter().flatten().min().map_or(usize::MAX, |count| count - count / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_kept_back_and_never_all() {
        for (open_files, connections) in
            [(0, 0), (7, 7), (256, 224), (512, 448), (1_024, 960), (usize::MAX, usize::MAX - 64)]
        {
            assert_eq!(connections_within(open_files), connections);
        }
    }

    #[test]
    fn a_raised_limit_is_not_raised_again() {
        let raised = raise_open_files();
        assert_eq!(raise_open_files(), raised);
        assert!(raised > 0);
    }
}
