//! Shares of the keys, as exact fractions.

/// A part of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// So many…
    pub part: u64,
    /// … of so many.
    pub whole: u64,
}

impl Share {
    /// `part` of `whole`.
    pub fn new(part: u64, whole: u64) -> Self {
        Share { part, whole }
    }

    /// In percent.
    pub fn percent(self) -> f64 {
        if self.whole == 0 {
            return 0.0;
        }
        100.0 * self.part as f64 / self.whole as f64
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} %", self.percent())
    }
}
