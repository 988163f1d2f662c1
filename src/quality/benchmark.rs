//! Benchmarks the prior speaks of, and what guessing scores on them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A benchmark of the published tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Benchmark {
    /// MMLU, four choices.
    Mmlu,
    /// HellaSwag, four choices.
    HellaSwag,
    /// WinoGrande, two choices.
    WinoGrande,
    /// GSM8K, free answers.
    Gsm8k,
    /// Mean of a suite: what the score of a front is. In the tables: the suite's published mean, or the mean
    /// of the benchmarks above where a child has at least three of them.
    Average,
}

impl Benchmark {
    /// Every benchmark, in the order of the reports.
    pub const ALL: [Benchmark; 5] =
        [Benchmark::Mmlu, Benchmark::HellaSwag, Benchmark::WinoGrande, Benchmark::Gsm8k, Benchmark::Average];

    /// Position in [`Benchmark::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name as it stands in data files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Benchmark::Mmlu => "mmlu",
            Benchmark::HellaSwag => "hellaswag",
            Benchmark::WinoGrande => "winogrande",
            Benchmark::Gsm8k => "gsm8k",
            Benchmark::Average => "average",
        }
    }

    /// What guessing scores, in percent. A suite's is the mean of its members': 31 % for the eleven tasks of
    /// arXiv 2310.06694 and 25 % for the other suites of the table; 25 % is used.
    pub fn chance_percent(self) -> f64 {
        match self {
            Benchmark::Mmlu | Benchmark::HellaSwag | Benchmark::Average => 25.0,
            Benchmark::WinoGrande => 50.0,
            Benchmark::Gsm8k => 0.0,
        }
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
