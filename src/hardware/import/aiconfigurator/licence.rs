//! Whose figures a database's are: from the package's metadata and the SPDX headers of its files, never assumed.

use std::fs;

use crate::hardware::import::tree::{self, Tree};

/// What is known of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// Such as `aiconfigurator-core 0.12.0`.
    pub(crate) name: Option<String>,
    /// As an SPDX expression.
    pub(crate) licence: Option<String>,
    pub(crate) copyright: Option<String>,
}

/// Reads the metadata beside the package that holds `systems`, and the header of `yaml`.
pub(crate) fn read(tree: &Tree, systems: &str, yaml: &str) -> Package {
    let (licence, copyright) = spdx(yaml);
    let mut package = metadata(tree, systems).map(|text| of_metadata(&text)).unwrap_or_default();
    package.licence = package.licence.or(licence);
    package.copyright = copyright;
    package
}

/// The text of `NAME-VERSION.dist-info/METADATA`, in the wheel or beside the installed package.
fn metadata(tree: &Tree, systems: &str) -> Option<String> {
    let in_source = |file: &String| file.ends_with(".dist-info/METADATA") && file.matches('/').count() == 1;
    let parts: Vec<&str> = systems.split('/').filter(|part| !part.is_empty()).collect();
    let Some(beside) = tree.beside(0) else {
        let file = tree.files("").ok()?.into_iter().find(in_source)?;
        return tree.text(&file).ok();
    };
    // `SITE/PACKAGE/systems`: the metadata are in SITE.
    let systems = parts.iter().fold(beside, |path, part| path.join(part));
    let (package, site) = (systems.parent()?, systems.parent()?.parent()?);
    let package = package.file_name()?.to_string_lossy().into_owned();
    let mut found: Vec<_> = fs::read_dir(site).ok()?.flatten().map(|entry| entry.path()).collect();
    found.sort();
    let mine = |name: &str| {
        name.strip_suffix(".dist-info").and_then(|n| n.rsplit_once('-')).is_some_and(|(n, _)| n == package)
    };
    let folder =
        found.iter().find(|path| path.file_name().is_some_and(|name| mine(&name.to_string_lossy())))?;
    fs::read_to_string(folder.join("METADATA")).ok()
}

/// Name, version and licence of a package's METADATA (its head, before the first empty line).
fn of_metadata(text: &str) -> Package {
    let head = text.lines().take_while(|line| !line.trim().is_empty());
    let fields: Vec<(&str, &str)> = head.filter_map(|line| line.split_once(": ")).collect();
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_string()).filter(|value| !value.is_empty())
    };
    let name = field("Name").map(|name| match field("Version") {
        Some(version) => format!("{name} {version}"),
        None => name,
    });
    Package { name, licence: field("License-Expression").or(field("License")), copyright: None }
}

/// Licence and copyright of a file's SPDX header.
fn spdx(text: &str) -> (Option<String>, Option<String>) {
    let value = |tag: &str| {
        let mut lines = text.lines().take_while(|line| line.trim().is_empty() || line.starts_with('#'));
        lines.find_map(|line| Some(line.split_once(tag)?.1.trim().to_string()))
    };
    let copyright = value("SPDX-FileCopyrightText:");
    (value("SPDX-License-Identifier:"), copyright.map(|text| text.replacen("Copyright (c)", "(c)", 1)))
}

/// Where the source is named in provenance: the package, or the last part of the path that was given.
pub(crate) fn named(package: &Package, tree: &Tree) -> String {
    package.name.clone().unwrap_or_else(|| tree::last(tree.given.trim_end_matches('/')).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_metadata_and_headers() {
        let package = of_metadata(
            "Metadata-Version: 2.4\nName: x-core\nVersion: 0.12.0\nLicense-Expression: MIT\n\nName: y",
        );
        assert_eq!(package.name.as_deref(), Some("x-core 0.12.0"));
        assert_eq!(package.licence.as_deref(), Some("MIT"));
        let header = "# SPDX-FileCopyrightText: Copyright (c) 2025 X.\n# SPDX-License-Identifier: Apache-2.0\n\na: 1\n";
        assert_eq!(spdx(header), (Some("Apache-2.0".to_string()), Some("(c) 2025 X.".to_string())));
        assert_eq!(spdx("a: 1\n# SPDX-License-Identifier: MIT\n"), (None, None));
    }
}
