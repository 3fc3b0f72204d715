//! Rules about manifests.

use super::{Violation, files::File};

pub(crate) fn check(file: &File) -> Vec<Violation> {
    let mut violations = versions(file);
    if file.path.starts_with("crates/") {
        violations.extend(published(file));
    }
    violations
}

/// A path dependency without a version cannot be published. A dev-dependency can: it is left out then, which is
/// what a crate needs that names itself to turn a feature on for its own tests.
fn versions(file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut section = "";
    for (at, line) in file.text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']);
        }
        let in_table = section.contains("dependencies")
            && !section.ends_with("dev-dependencies")
            && !section.starts_with("patch");
        let has = |key: &str| line.split(['{', ',']).any(|part| part.trim_start().starts_with(key));
        if in_table && line.contains('{') && has("path") && !has("version") {
            violations.push(Violation::at(&file.path, at, "a path dependency without a version"));
        }
    }
    violations
}

/// What every published crate inherits or says.
fn published(file: &File) -> Vec<Violation> {
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let needed =
        ["[lints]", "license.workspace = true", "repository.workspace = true", "readme = \"README.md\""];
    let missing = needed.into_iter().filter(|needed| !lines.contains(needed));
    missing.map(|needed| Violation::new(&file.path, format!("`{needed}` is missing"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_dependencies_have_versions() {
        let text = "\
[[example]]
path = \"x.rs\"
[dependencies]
good = { version = \"1\", path = \"../good\" }
bad = { path = \"../bad\", features = [\"x\"] }
plain = \"1\"
path = { version = \"1\" } # a crate of that name
[dev-dependencies]
itself = { path = \".\", features = [\"x\"] }
[patch.crates-io]
patched = { path = \"patches/patched\" }
[workspace.dependencies]
worse = { default-features = false, path = \"worse\" }
";
        let places: Vec<String> =
            versions(&File::fixture("Cargo.toml", text)).into_iter().map(|v| v.place).collect();
        assert_eq!(places, ["Cargo.toml:5", "Cargo.toml:13"]);
    }

    #[test]
    fn crates_inherit_lints_and_say_what_a_registry_shows() {
        let whole =
            "license.workspace = true\nrepository.workspace = true\nreadme = \"README.md\"\n[lints]\n";
        assert!(check(&File::fixture("crates/x/Cargo.toml", whole)).is_empty());
        let found = check(&File::fixture("crates/x/Cargo.toml", "readme = \"README.md\"\n"));
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].message, "`[lints]` is missing");
        assert!(check(&File::fixture("xtask/Cargo.toml", "[package]\n")).is_empty());
    }
}
