//! What the operating system says of this machine.

use std::fs;

use crate::units::Bytes;

/// This machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// CPU model, such as `AMD EPYC 9654`.
    pub cpu: String,
    /// Threads that measure.
    pub threads: usize,
    /// Main memory.
    pub memory: Bytes,
    /// Last-level cache.
    pub last_level_cache: Option<Bytes>,
    /// Kernel and release.
    pub system: String,
}

impl Host {
    /// Reads what Linux tells; elsewhere the CPU is named by its architecture, and memory is taken as 8 GiB.
    pub fn read(threads: usize) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            threads,
            memory: field(&meminfo, "MemTotal")
                .and_then(|text| kibibytes(&text))
                .unwrap_or(Bytes::from_gib(8.0)),
            last_level_cache: last_level_cache(),
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_string(),
        }
    }
}

/// The value of the first `key : value` line.
fn field(text: &str, key: &str) -> Option<String> {
    let of = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_string())
    };
    text.lines().find_map(of)
}

fn kibibytes(text: &str) -> Option<Bytes> {
    let number: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(Bytes(number * 1024.0))
}

/// Size of the largest cache the first CPU has.
fn last_level_cache() -> Option<Bytes> {
    let size = |index: usize| {
        let text =
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let scale = match unit {
            "K" => 1024.0,
            "M" => 1024.0 * 1024.0,
            _ => 1.0,
        };
        Some(Bytes(number.parse::<f64>().ok()? * scale))
    };
    (0..8).filter_map(size).reduce(Bytes::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_of_proc_files() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:       16384 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(text, "MemTotal").and_then(|t| kibibytes(&t)), Some(Bytes::from_mib(16.0)));
        assert_eq!(field(text, "model"), None);
        assert!(Host::read(2).memory.gib() > 0.1);
    }
}
