//! The made-up database of `tests/data/import/database` in both layouts, and as a wheel.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

pub const DATABASE: &str = "tests/data/import/database";

/// All files of a folder, by their paths below it.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push(path.strip_prefix(root).unwrap().to_path_buf())
            }
        }
    }
    found.sort();
    found
}

/// A CSV text as parquet, as pandas would write it: every column optional, typed by what it holds.
pub fn parquet(csv: &str, compression: Compression) -> Vec<u8> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let column = |i: usize| rows.iter().map(|row| row[i]).collect::<Vec<&str>>();
    let kind = |i: usize| match column(i) {
        cells if cells.iter().all(|cell| cell.parse::<i64>().is_ok()) => "int64",
        cells if cells.iter().all(|cell| cell.parse::<f64>().is_ok()) => "double",
        _ => "binary",
    };
    let fields: Vec<String> = (0..header.len())
        .map(|i| {
            format!("optional {} {}{};", kind(i), header[i], if kind(i) == "binary" { " (UTF8)" } else { "" })
        })
        .collect();
    let schema = Arc::new(parse_message_type(&format!("message table {{ {} }}", fields.join(" "))).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let levels = vec![1_i16; rows.len()];
    for i in 0..header.len() {
        let mut out = group.next_column().unwrap().unwrap();
        let cells = column(i);
        match kind(i) {
            "int64" => {
                let values: Vec<i64> = cells.iter().map(|cell| cell.parse().unwrap()).collect();
                out.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
            }
            "double" => {
                let values: Vec<f64> = cells.iter().map(|cell| cell.parse().unwrap()).collect();
                out.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
            }
            _ => {
                let values: Vec<ByteArray> = cells.iter().map(|cell| ByteArray::from(*cell)).collect();
                out.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            }
        }
        out.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Copies the text database, changing one file's text.
pub fn text_database(to: &Path, change: impl Fn(&str, String) -> String) {
    for file in files(Path::new(DATABASE)) {
        let text = fs::read_to_string(Path::new(DATABASE).join(&file)).unwrap();
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, change(&file.display().to_string(), text)).unwrap();
    }
}

/// The family folder of a table in the newer layout.
fn family(stem: &str) -> &'static str {
    match stem {
        "gemm_perf" => "gemm",
        "context_attention_perf" | "generation_attention_perf" => "attention",
        "moe_perf" => "moe",
        _ => "comm",
    }
}

/// The same database in the newer layout, at `to/systems`.
pub fn parquet_database(to: &Path) {
    for file in files(Path::new(DATABASE)) {
        let text = fs::read_to_string(Path::new(DATABASE).join(&file)).unwrap();
        let parts: Vec<String> = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let (target, bytes) = match parts.as_slice() {
            [systems, data, system, framework, version, table] => {
                let stem = table.strip_suffix(".txt").unwrap();
                let folder: PathBuf =
                    [systems, data, system, family(stem), framework, version].iter().collect();
                let compression = if stem == "gemm_perf" {
                    Compression::SNAPPY
                } else {
                    Compression::ZSTD(Default::default())
                };
                (to.join(folder).join(format!("{stem}.parquet")), parquet(&text, compression))
            }
            _ => (to.join(&file), text.into_bytes()),
        };
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

/// The newer layout as a wheel of a package, with its metadata.
pub fn wheel(path: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    parquet_database(scratch.path());
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for file in files(scratch.path()) {
        zip.start_file(format!("toy_core/{}", file.display()), options).unwrap();
        zip.write_all(&fs::read(scratch.path().join(&file)).unwrap()).unwrap();
    }
    zip.start_file("toy_core-1.2.3.dist-info/METADATA", options).unwrap();
    zip.write_all(
        b"Metadata-Version: 2.4\nName: toy-core\nVersion: 1.2.3\nLicense-Expression: Toy-1.0\n\nText\n",
    )
    .unwrap();
    zip.finish().unwrap();
}
