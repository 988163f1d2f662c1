//! One bad folder per way a profile can be wrong: exact place, exact message, everything reported at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use archplan::hardware::kernel::KernelFamily;
use archplan::hardware::profile::HardwareProfile;
use archplan::hardware::profile::check;
use archplan::hardware::profile::defect::Defect;
use archplan::hardware::profile::error::ProfileError;
use archplan::hardware::profile::registry::Profiles;

const BAD: &str = "tests/data/bad";

/// Every folder that is to be read as a profile holds the messages it must produce, one a line.
fn fixtures() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(BAD).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.join("expected.txt").exists()).collect();
    folders.sort();
    folders
}

fn variant(defect: &Defect) -> String {
    let debug = format!("{defect:?}");
    debug.split([' ', '{', '(']).next().unwrap().to_string()
}

fn snake(name: &str) -> String {
    let name = name.replace("DType", "Dtype");
    let separated =
        name.chars().map(|c| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.to_string() });
    separated.collect::<String>().trim_start_matches('_').to_string()
}

#[test]
fn each_defect_is_reported_at_its_place() {
    for folder in fixtures() {
        let report = check::check(&folder);
        let found: Vec<_> = report.errors.iter().map(ToString::to_string).collect();
        let root = format!("{}", folder.display());
        let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
        let expected: Vec<_> = expected.lines().map(|line| line.replace("PROFILE", &root)).collect();
        assert_eq!(found, expected, "\n{}\n", found.join("\n").replace(&root, "PROFILE"));
    }
}

#[test]
fn loading_refuses_what_the_check_refuses() {
    for folder in fixtures() {
        let loaded = HardwareProfile::load(&folder).and_then(|profile| {
            let mut declared = KernelFamily::TABLES.into_iter().filter(|f| profile.tables.contains_key(f));
            declared.try_for_each(|family| profile.rows(family).map(|_| ()))
        });
        assert!(loaded.is_err(), "{}", folder.display());
    }
}

/// The list of variants is read from the source, so that a new one without a fixture is noticed.
#[test]
fn every_defect_has_a_fixture() {
    let source = include_str!("../src/hardware/profile/defect.rs");
    let body = source.split("pub enum Defect {").nth(1).unwrap();
    let variants = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let variants: BTreeSet<_> =
        variants.map(|line| line.split([' ', ',']).next().unwrap().to_string()).collect();
    assert!(variants.len() > 40, "{variants:?}");

    let of_folders: BTreeSet<_> = fixtures()
        .iter()
        .flat_map(|folder| check::check(folder).errors)
        .map(|error| variant(&error.defect))
        .collect();
    // These need no folder of their own, or more than one: see the tests below.
    let others = ["NoProfiles", "NameClash", "NoRows", "Unreadable", "UnknownProfile"];
    let tested: BTreeSet<_> = of_folders.into_iter().chain(others.map(str::to_string)).collect();
    assert_eq!(variants, tested);
    for folder in fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let errors = check::check(&folder).errors;
        let own = errors.iter().any(|e| name.starts_with(&snake(&variant(&e.defect))));
        assert!(own || name == "several", "{name}: {errors:?}");
    }
}

fn message<T: std::fmt::Debug>(outcome: Result<T, ProfileError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn folders_without_a_profile_are_refused() {
    let of = |dir: &str| message(Profiles::new(&[PathBuf::from(dir)]));
    assert_eq!(
        of("tests/data/bad/no_profiles"),
        "tests/data/bad/no_profiles: no hardware profile here: expected a profile.toml, or folders with one each"
    );
    assert!(of("tests/data/bad/missing_manifest").contains("no profile.toml here"));
    assert!(of("tests/data/none").starts_with("tests/data/none: cannot be read: "));
}

#[test]
fn a_name_that_is_taken_is_refused() {
    assert_eq!(
        message(Profiles::new(&[PathBuf::from("tests/data/bad/name_clash")])),
        "tests/data/bad/name_clash/h200_sxm: profile `h200_sxm` exists already in the built-in profiles: rename this \
         folder and the `name` in its profile.toml"
    );
}

#[test]
fn an_unknown_name_is_answered_with_the_closest() {
    assert_eq!(
        message(HardwareProfile::builtin("h200-sxm")),
        "no profile `h200-sxm`: known are a100_sxm, ascend_910b, h100_sxm, h200_sxm (--profile-dir adds more); \
         did you mean `h200_sxm`?"
    );
}

#[test]
fn rows_of_a_family_without_any_are_refused() {
    let profile = HardwareProfile::load(Path::new("tests/data/good/tiny_fitted")).unwrap();
    assert_eq!(
        message(profile.rows(KernelFamily::Gemm)),
        "tests/data/good/tiny_fitted: has no measured gemm rows (fitted)"
    );
    assert_eq!(
        message(profile.rows(KernelFamily::AllReduce)),
        "tests/data/good/tiny_fitted: has no measured all_reduce rows (not declared)"
    );
}
