//! Limits of the process: open files, threads, and how many connections they allow.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Files kept for listeners, logs, and connections that are refused with a message.
const RESERVE: usize = 64;

/// Raises the limit of open files as far as this process may. Returns the resulting limit; `usize::MAX` is none.
///
/// The soft limit is low for programs that use `select(2)`; ours do not.
pub(crate) fn raise_open_files() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft == hard { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) }
    });
    if let Err(error) = raised {
        log::debug!("cannot raise the limit of open files: {error}");
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).ok();
    limit.and_then(|(soft, _)| usize::try_from(soft).ok()).unwrap_or(usize::MAX)
}

/// Number of connections that a limit of open files allows. An eighth is kept for everything else, but at most 64 files.
#[must_use]
pub(crate) fn connections_within(open_files: usize) -> usize {
    open_files - RESERVE.min(open_files / 8)
}

/// Number of connections possible with a thread for each. An eighth of the threads is kept for everything
/// else. `usize::MAX` if no limit is known.
#[must_use]
pub(crate) fn connections_by_threads() -> usize {
    without_part(threads_within(&Limits::of_this_process()), 8)
}

/// Most threads of an engine for connections, including refused ones. A sixteenth is kept back: a
/// process that has no room to start a thread is aborted.
pub(crate) fn connection_threads() -> usize {
    without_part(threads_within(&Limits::of_this_process()), 16)
}

const fn without_part(count: usize, part: usize) -> usize {
    if count == usize::MAX { count } else { count - count / part }
}

/// Mappings per thread: its stack, the stack of its signal handlers, and a guard before each.
const MAPPINGS_EACH: usize = 4;

/// Address space per thread, in bytes: its stacks and its read buffer, doubled for what the service keeps of it.
const SPACE_EACH: usize = 768 << 10;

/// Address space that the allocator may reserve per processor, in bytes: eight arenas of 64 MiB, mallopt(3).
const SPACE_PER_PROCESSOR: usize = 512 << 20;

/// Address space of everything else, in bytes: the program, and threads that do not depend on connections.
const OWN_SPACE: usize = 128 << 20;

/// Limits of the threads of a process; `None` is no limit, or an unknown one.
struct Limits {
    /// vm.max_map_count.
    mappings: Option<usize>,
    /// kernel.threads-max.
    threads: Option<usize>,
    /// RLIMIT_AS, in bytes.
    space: Option<usize>,
    processors: usize,
}

impl Limits {
    fn of_this_process() -> Self {
        let limit = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok();
        let space = getrlimit(Resource::RLIMIT_AS).ok();
        Self {
            mappings: limit("/proc/sys/vm/max_map_count"),
            threads: limit("/proc/sys/kernel/threads-max"),
            space: space
                .filter(|(soft, _)| *soft != RLIM_INFINITY)
                .and_then(|(soft, _)| soft.try_into().ok()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        }
    }
}

fn threads_within(limits: &Limits) -> usize {
    let mappings = limits.mappings.map(|count| count / MAPPINGS_EACH);
    let reserved = SPACE_PER_PROCESSOR.saturating_mul(limits.processors).saturating_add(OWN_SPACE);
    let space = limits.space.map(|bytes| bytes.saturating_sub(reserved) / SPACE_EACH);
    [mappings, limits.threads, space].into_iter().flatten().min().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_kept_back_but_never_all() {
        for (open_files, connections) in
            [(0, 0), (7, 7), (256, 224), (512, 448), (1_024, 960), (usize::MAX, usize::MAX - 64)]
        {
            assert_eq!(connections_within(open_files), connections);
        }
    }

    #[test]
    fn threads_stay_within_the_mappings_the_threads_and_the_address_space_of_a_process() {
        let none = Limits { mappings: None, threads: None, space: None, processors: 2 };
        assert_eq!(threads_within(&none), usize::MAX);
        assert_eq!(without_part(usize::MAX, 8), usize::MAX);
        assert_eq!(threads_within(&Limits { mappings: Some(65_530), ..none }), 16_382);
        assert_eq!(threads_within(&Limits { mappings: Some(65_530), threads: Some(1_000), ..none }), 1_000);
        assert_eq!(threads_within(&Limits { space: Some((4 << 30) + (128 << 20)), ..none }), 4_096);
        assert_eq!(threads_within(&Limits { space: Some(1 << 30), ..none }), 0);
        assert_eq!(without_part(16_382, 8), 14_335);
    }

    #[test]
    fn a_raised_limit_is_not_raised_again() {
        let raised = raise_open_files();
        assert_eq!(raise_open_files(), raised);
        assert!(raised > 0);
    }
}
