//! Values of arguments that several subcommands take, and today's date.

use std::time::Duration;

use archplan::units;

/// Threads to use: as many as asked for, else one for every core.
pub fn threads(typed: Option<u64>) -> usize {
    typed.map_or_else(|| std::thread::available_parallelism().map_or(1, Into::into), |n| n as usize)
}

/// A duration with its unit, such as `5m`.
pub fn duration(typed: &str) -> Result<Duration, String> {
    let seconds = units::parse_duration(typed).map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(seconds.0).map_err(|e| e.to_string())
}

/// A share: `5%` or `0.05`.
pub fn share(typed: &str) -> Result<f64, String> {
    let (number, scale) = match typed.trim().strip_suffix('%') {
        Some(number) => (number.trim(), 100.0),
        None => (typed.trim(), 1.0),
    };
    let share = number.parse::<f64>().map(|x| x / scale).ok().filter(|x| *x > 0.0 && *x < 1.0);
    share.ok_or_else(|| format!("`{typed}` is no share: expected something such as 5% or 0.05"))
}

/// A part of a whole: `I/N`, I from 0.
pub fn shard(typed: &str) -> Result<(u64, u64), String> {
    let numbers =
        typed.split_once('/').and_then(|(i, n)| Some((i.parse::<u64>().ok()?, n.parse::<u64>().ok()?)));
    let (index, of) = numbers.ok_or("expected I/N, such as 0/8")?;
    match index < of {
        true => Ok((index, of)),
        false => Err(format!("parts count from 0: expected 0/{of} to {}/{of}", of.saturating_sub(1))),
    }
}

/// Today in Coordinated Universal Time, as `2026-08-21`.
pub fn today() -> String {
    let now = jiff::Timestamp::now().to_string();
    now.split('T').next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_durations_have_units() {
        assert_eq!((share("5%"), share("0.05")), (Ok(0.05), Ok(0.05)));
        assert!(share("5").is_err() && share("-1%").is_err() && share("x").is_err());
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("5").is_err());
        assert_eq!(today().len(), 10);
    }

    #[test]
    fn parts_count_from_zero() {
        assert_eq!((shard("0/1"), shard("7/8")), (Ok((0, 1)), Ok((7, 8))));
        assert!(shard("8/8").unwrap_err().contains("0/8 to 7/8"));
        for typed in ["", "1", "1/", "/2", "-1/2", "a/b", "0/0"] {
            assert!(shard(typed).is_err(), "{typed}");
        }
    }
}
