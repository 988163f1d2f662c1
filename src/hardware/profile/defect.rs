//! Every way a hardware profile can be wrong, one variant each.
//!
//! A variant says what was found, what was expected and what to do; the place is [`ProfileError`]'s.
//!
//! [`ProfileError`]: crate::hardware::profile::error::ProfileError

use crate::estimate::Source;
use crate::hardware::kernel::KernelFamily;
use crate::names;
use crate::units::DType;

/// One way a profile can be wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message above each variant names")]
pub enum Defect {
    // ---- folders and names ----
    /// A file or folder cannot be read.
    #[error("cannot be read: {reason}")]
    Unreadable { reason: String },
    /// A folder without a manifest.
    #[error(
        "no profile.toml here: a hardware profile is a folder with a profile.toml (see hardware_profiles/README.md)"
    )]
    MissingManifest,
    /// A folder given as `--profile-dir` that holds no profile.
    #[error("no hardware profile here: expected a profile.toml, or folders with one each")]
    NoProfiles,
    /// The manifest's name is not the folder's.
    #[error("name is `{found}` but the folder is `{expected}`: rename one of them")]
    NameMismatch { found: String, expected: String },
    /// A name with characters that do not belong there.
    #[error("name `{found}` is not lower-case letters, digits and underscores, such as h200_sxm")]
    InvalidName { found: String },
    /// Two profiles of one name.
    #[error(
        "profile `{name}` exists already in {other}: rename this folder and the `name` in its profile.toml"
    )]
    NameClash { name: String, other: String },
    /// No profile of that name.
    #[error("no profile `{name}`: known are {known} (--profile-dir adds more){}", names::did_you_mean(.closest.as_deref()))]
    UnknownProfile { name: String, closest: Option<String>, known: String },
    /// Declared as measured, but the table is not there.
    #[error(
        "[tables.{family}] is declared as measured but {family}.csv is missing: add the table or drop the section"
    )]
    MissingTable { family: KernelFamily },
    /// Declared as fitted or estimated, but the fit is not there.
    #[error(
        "[tables.{family}] is declared as {provenance} but {family}.fit.json is missing: add the fit or drop the section"
    )]
    MissingFit { family: KernelFamily, provenance: Source },
    /// A table or fit that the manifest does not declare.
    #[error("not declared: add [tables.{family}] to profile.toml or remove the file")]
    UndeclaredFile { family: KernelFamily },
    /// A table where the manifest says there is none, or a fit of a rule.
    #[error(
        "does not belong to a family declared as {provenance}: change [tables.{family}] or remove the file"
    )]
    UnexpectedFile { family: KernelFamily, provenance: Source },
    /// A data file of no known family.
    #[error("no kernel family is called `{found}`: expected <family>.csv or <family>.fit.json{}", names::did_you_mean(*.closest))]
    UnknownFile { found: String, closest: Option<&'static str> },
    /// Rows were asked of a family that has none.
    #[error("has no measured {family} rows ({})", .provenance.map_or("not declared", Source::name))]
    NoRows { family: KernelFamily, provenance: Option<Source> },

    // ---- text ----
    /// Bytes that are no text.
    #[error("not UTF-8 text: save the file as UTF-8")]
    NotUtf8,
    /// The manifest is not TOML.
    #[error("not TOML: {reason}")]
    Syntax { reason: String },

    // ---- manifest ----
    /// A key nobody reads.
    #[error("unknown key `{key}` in {section}{}", names::did_you_mean(.closest.as_deref()))]
    UnknownKey { key: String, section: String, closest: Option<String> },
    /// A key that must be there.
    #[error("key `{key}` is missing in {section}: expected {expected}")]
    MissingKey { key: String, section: String, expected: &'static str },
    /// A key whose unit suffix is not the one that is read.
    #[error("key `{found}` has another unit than expected: convert the value and call it `{expected}`")]
    KeyUnit { found: String, expected: String },
    /// A value of another type.
    #[error("`{key}` is a {found}: expected {expected}")]
    WrongType { key: String, found: &'static str, expected: &'static str },
    /// A number outside what makes sense.
    #[error("`{key}` is {found}: expected {expected}")]
    OutOfRange { key: String, found: String, expected: &'static str },
    /// An element type nobody knows.
    #[error("unknown dtype `{found}`: expected one of f32, bf16, fp8, int8")]
    UnknownDType { found: String },
    /// The same element type twice in one list.
    #[error("dtype {dtype} is listed twice")]
    RepeatedDType { dtype: DType },
    /// A list that must name something.
    #[error("`{key}` is empty: expected {expected}")]
    EmptyList { key: String, expected: &'static str },
    /// A table of an element type the device has no peak for.
    #[error("dtype {dtype} has no peak: add `{dtype}` to [device] peak_tflops")]
    DTypeWithoutPeak { dtype: DType },
    /// A section of no known family.
    #[error("no kernel family is called `{found}`: expected gemm, attention_prefill, attention_decode, all_reduce or elementwise{}", names::did_you_mean(*.closest))]
    UnknownFamily { found: String, closest: Option<&'static str> },
    /// A provenance that is not one, or not one of this family.
    #[error("provenance `{found}` is not possible for {family}: expected {expected}")]
    Provenance { found: String, family: KernelFamily, expected: &'static str },

    // ---- tables ----
    /// A file with nothing in it.
    #[error("empty: expected the header {expected}")]
    EmptyFile { expected: String },
    /// A header and nothing else.
    #[error("no rows below the header: add rows, or drop the table and its section")]
    NoRowsInTable,
    /// Columns that are not those of the family.
    #[error("header is `{found}`: expected exactly `{expected}`")]
    Header { found: String, expected: String },
    /// A column in another unit.
    #[error("column `{found}` has another unit than expected: convert the values and call it `{expected}`")]
    ColumnUnit { found: String, expected: &'static str },
    /// A line with too many or too few fields.
    #[error("{found} fields: expected {expected}")]
    Ragged { found: usize, expected: usize },
    /// A dimension that is no whole number.
    #[error("{column} is `{found}`: expected a whole number above zero")]
    NotAnInteger { column: &'static str, found: String },
    /// A dimension of zero.
    #[error("{column} is zero: expected a whole number above zero")]
    ZeroDimension { column: &'static str },
    /// A dimension beyond anything a device could run.
    #[error("{column} is {found}: expected at most {limit}")]
    TooLarge { column: &'static str, found: String, limit: u64 },
    /// A latency that is no number.
    #[error("{column} is `{found}`: expected a number of microseconds")]
    NotANumber { column: &'static str, found: String },
    /// NaN or infinity.
    #[error("{column} is {found}: expected a finite number of microseconds; drop the row if the run failed")]
    NotFinite { column: &'static str, found: f64 },
    /// Less than nothing.
    #[error("{column} is {found}: expected a number above zero; drop the row if the run failed")]
    NegativeLatency { column: &'static str, found: f64 },
    /// Nothing at all.
    #[error("{column} is zero: expected a number above zero; drop the row if the run failed")]
    ZeroLatency { column: &'static str },
    /// An element type the manifest does not declare for the table.
    #[error("dtype {dtype} is not declared: add it to dtypes in [tables.{family}] or drop the rows")]
    UndeclaredDType { dtype: DType, family: KernelFamily },
    /// An element type that is declared but has no row.
    #[error("dtype {dtype} is declared for {family} but has no row: add rows or drop it from dtypes")]
    DTypeWithoutRows { dtype: DType, family: KernelFamily },
    /// A way to all-reduce nobody knows.
    #[error("unknown backend `{found}`: expected one of nccl, vllm_eager, vllm_graph")]
    UnknownBackend { found: String },
    /// More KV heads than query heads.
    #[error("kv_heads is {kv_heads} but q_heads is {q_heads}: expected at most one KV head per query head")]
    MoreKvHeads { kv_heads: u64, q_heads: u64 },
    /// KV heads that do not divide the query heads.
    #[error("kv_heads {kv_heads} does not divide q_heads {q_heads}: each KV head serves as many query heads")]
    KvHeadsDivide { kv_heads: u64, q_heads: u64 },
    /// A spread of repeats that is no share of a latency.
    #[error("spread_percent is {found}: expected 0 to {limit}, or an empty cell where it is not known")]
    Spread { found: f64, limit: f64 },
    /// An all-reduce over one device.
    #[error("world is {found}: an all-reduce needs at least 2 devices")]
    WorldTooSmall { found: u64 },
    /// Worlds of one backend and size that do not ascend down the file.
    #[error("world {found} follows world {before} of the same backend and bytes: sort the file by world")]
    WorldOrder { found: u64, before: u64 },
    /// The same call twice.
    #[error("the same call as on line {first_line}: keep one of the two rows")]
    DuplicateRow { first_line: u32 },
}
