//! What is known of the kernel's LRU tables (`kernel/bpf/bpf_lru_list.c`), which do not say what they push out.

/// Entries that a CPU sets aside, free for those to come, whenever it has none (`LOCAL_FREE_TARGET`).
const SET_ASIDE: usize = 128;

/// Whether a table with so many entries is full: as full as it gets, since each CPU has some set aside.
pub fn is_full(entries: usize, capacity: u32) -> bool {
    fills(entries, capacity as usize, aya::util::nr_cpus().unwrap_or(1))
}

fn fills(entries: usize, capacity: usize, cpus: usize) -> bool {
    // Of a small table newer kernels leave half to the others.
    entries + (SET_ASIDE * cpus).min(capacity / 2) >= capacity
}

#[cfg(test)]
mod tests {
    use super::fills;

    #[test]
    fn a_table_is_full_though_each_cpu_has_some_set_aside() {
        for (entries, capacity, cpus, full) in [
            (1 << 16, 1 << 16, 2, true),
            ((1 << 16) - 256, 1 << 16, 2, true),
            ((1 << 16) - 257, 1 << 16, 2, false),
            (768, 1024, 2, true),
            (767, 1024, 2, false),
            (512, 1024, 64, true),
            (511, 1024, 64, false),
            (0, 64, 2, false),
        ] {
            assert_eq!(fills(entries, capacity, cpus), full, "{entries} of {capacity}, {cpus}");
        }
    }
}
