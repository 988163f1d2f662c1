//! Rebuilds when a file is added to or removed from `hardware_profiles/`: the profiles are embedded in the
//! binary, and the embedding macro alone notices changed files only.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=hardware_profiles");
}
