//! Rounds that take too long for every run of the tests. `.ci/soak` runs them.

/// Whether all rounds are to run.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1")
}

/// A number of rounds for every run, and one for the soak.
pub(crate) fn rounds(normal: u64, soak: u64) -> u64 {
    if is_soak() { soak } else { normal }
}
