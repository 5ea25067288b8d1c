//! The house rules: `docs/ARCHITECTURE.md` says which crate and which module may use which, and
//! this test reads both the document and the sources.
//!
//! A *module* here is a source file. An arrow is drawn from the file that names a path
//! (`crate::a::b`, `super::c`, a child `c::d`) to the file in which that path leads deepest.
//! Declaring a child (`mod c;`) is not an arrow, re-exporting from it is. Comments and
//! `#[cfg(test)] mod` blocks are not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of a module inside its crate: empty for the root.
type ModulePath = Vec<String>;

/// The source files of a crate by module path, each with its text.
struct Crate(BTreeMap<ModulePath, String>);

type Arrows = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn crates() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every file below a folder whose name ends with `.extension`.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with(".git") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

impl Crate {
    fn load(name: &str) -> Self {
        let source = root().join("crates").join(name).join("src");
        let modules = files(&source, "rs").into_iter().filter_map(|file| {
            let relative = file.strip_prefix(&source).unwrap().with_extension("");
            let mut path: ModulePath =
                relative.components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
            // A library's `main.rs` is a program of its own.
            if path == ["main"] && source.join("lib.rs").exists() {
                return None;
            }
            if path.last().is_some_and(|last| last == "mod")
                || ["lib", "main"].iter().any(|root| path == [*root])
            {
                path.pop();
            }
            Some((path, fs::read_to_string(&file).unwrap()))
        });
        Self(modules.collect())
    }

    fn arrows(&self) -> Arrows {
        self.0.iter().map(|(module, text)| (module.clone(), self.arrows_from(module, &code(text)))).collect()
    }

    fn arrows_from(&self, module: &ModulePath, code: &str) -> BTreeSet<ModulePath> {
        let children: Vec<&str> = self
            .0
            .keys()
            .filter(|other| other.len() == module.len() + 1 && other.starts_with(module))
            .map(|child| child.last().unwrap().as_str())
            .collect();
        let mut arrows = BTreeSet::new();
        for (start, rest) in paths(code) {
            let base = match start {
                "crate" => Vec::new(),
                "super" if !module.is_empty() => module[..module.len() - 1].to_vec(),
                "self" => module.clone(),
                child if children.contains(&child) => [&module[..], &[child.to_owned()]].concat(),
                _ => continue,
            };
            for path in expand(rest) {
                let target = self.resolve(&base, &path);
                if target != *module {
                    arrows.insert(target);
                }
            }
        }
        arrows
    }

    /// The deepest module on a path that begins in `base`.
    fn resolve(&self, base: &ModulePath, path: &[String]) -> ModulePath {
        let mut module = base.clone();
        for part in path {
            if part == "super" {
                module.pop();
                continue;
            }
            let deeper = [&module[..], std::slice::from_ref(part)].concat();
            if !self.0.contains_key(&deeper) {
                break;
            }
            module = deeper;
        }
        module
    }
}

/// A text without its comments and its unit tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let code: String = text[..end]
        .lines()
        .map(|line| format!("{}\n", line.split("//").next().unwrap_or_default()))
        .collect();
    // Inside an inline module, `super` is the module of the file.
    let mut parts = code.split("\nmod ");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let inline = part.split_once(['{', ';']).is_some_and(|(name, _)| part[name.len()..].starts_with('{'));
        let end = if inline { part.find("\n}").unwrap_or(part.len()) } else { 0 };
        joined += &format!("\nmod {}{}", part[..end].replace("super::", "self::"), &part[end..]);
    }
    joined
}

/// Every `name::` in a text that begins a path, and the text after it.
fn paths(code: &str) -> Vec<(&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let name = code[..at]
            .rfind(|c| !is_word(c))
            .map_or(0, |before| before + code[before..].chars().next().map_or(0, char::len_utf8));
        // In the middle of a path, or an associated item of a type (`<T>::`).
        if name == at || code[..name].ends_with("::") || code[..name].ends_with('$') {
            continue;
        }
        found.push((&code[name..at], &code[at + 2..]));
    }
    found
}

/// The paths that a use tree like `a::{b, c::d}` names, each as its segments.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        return split_group(group).into_iter().flat_map(expand).collect();
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (segment, rest) = tree.split_at(end);
    let tails = match rest.strip_prefix("::") {
        Some(rest) => expand(rest),
        None => vec![Vec::new()],
    };
    tails.into_iter().map(|tail| [vec![segment.to_owned()], tail].concat()).collect()
}

/// The members of a group, given the text after its opening brace.
fn split_group(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}

/// A cycle among the arrows, if there is one.
fn find_cycle(arrows: &Arrows) -> Option<Vec<String>> {
    fn visit(
        at: &ModulePath,
        arrows: &Arrows,
        trail: &mut Vec<ModulePath>,
        done: &mut BTreeSet<ModulePath>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = trail.iter().position(|earlier| earlier == at) {
            let cycle = trail[begin..].iter().chain([at]);
            return Some(cycle.map(|module| format!("crate::{}", module.join("::"))).collect());
        }
        if done.contains(at) {
            return None;
        }
        trail.push(at.clone());
        let found = arrows.get(at).into_iter().flatten().find_map(|next| visit(next, arrows, trail, done));
        trail.pop();
        done.insert(at.clone());
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|module| visit(module, arrows, &mut Vec::new(), &mut done))
}

/// The tables of `docs/ARCHITECTURE.md`: under a heading that holds `` `crates/NAME` `` one row for
/// each module, and under `## Crates` one for each crate. The first column is a name, the last one
/// names what it may use.
fn tables() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut tables: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let (mut table, mut in_table) = (None, false);
    for line in text.lines() {
        if line.starts_with('#') {
            let crate_name =
                line.split_once("`crates/").and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| name);
            table = if line == "## Crates" { Some("crates") } else { crate_name }.map(str::to_owned);
        }
        let is_row = line.starts_with('|');
        if in_table && !is_row {
            table = None;
        }
        in_table = is_row;
        let (Some(table), true) = (&table, line.starts_with("| `")) else { continue };
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let names = |cell: &str| -> BTreeSet<String> {
            cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()).collect()
        };
        let row = names(cells[0]).into_iter().next().unwrap();
        let earlier = tables.entry(table.clone()).or_default().insert(row, names(cells[cells.len() - 1]));
        assert!(earlier.is_none(), "ARCHITECTURE.md has two rows for one module: {line}");
    }
    tables
}

#[test]
fn modules_use_only_what_architecture_md_allows() {
    let tables = tables();
    let mut problems = Vec::new();
    for name in crates() {
        // The bindings and the programs' thin shells may be one file.
        let source = Crate::load(&name);
        let table = tables.get(&name).cloned().unwrap_or_default();
        let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in source.arrows() {
            let Some(from) = from.first() else { continue };
            let others = to.iter().filter_map(|to| to.first()).filter(|to| *to != from).cloned();
            used.entry(from.clone()).or_default().extend(others);
        }
        for (module, uses) in &used {
            match table.get(module) {
                None => problems.push(format!("{name}: `{module}` has no row in ARCHITECTURE.md")),
                Some(allowed) => {
                    let extra: Vec<_> = uses.difference(allowed).collect();
                    if !extra.is_empty() {
                        problems.push(format!(
                            "{name}: `{module}` uses {extra:?}, which ARCHITECTURE.md does not allow"
                        ));
                    }
                    let unused: Vec<_> = allowed.difference(uses).collect();
                    if !unused.is_empty() {
                        problems.push(format!(
                            "{name}: `{module}` does not use {unused:?}, which ARCHITECTURE.md names"
                        ));
                    }
                }
            }
        }
        for module in table.keys().filter(|module| !used.contains_key(*module)) {
            problems.push(format!("{name}: ARCHITECTURE.md describes `{module}`, which does not exist"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_crate_has_a_cycle_of_modules() {
    let cycles = crates().into_iter().filter_map(|name| {
        find_cycle(&Crate::load(&name).arrows()).map(|cycle| format!("{name}: {}", cycle.join(" -> ")))
    });
    let cycles: Vec<_> = cycles.collect();
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

#[test]
fn crates_depend_only_on_what_architecture_md_allows() {
    let documented = tables().remove("crates").unwrap();
    let found: BTreeMap<String, BTreeSet<String>> = crates()
        .into_iter()
        .map(|name| {
            let manifest = fs::read_to_string(root().join("crates").join(&name).join("Cargo.toml")).unwrap();
            let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
            let dependencies = dependencies.split("\n[").next().unwrap_or_default().lines();
            let of_ours = dependencies.filter(|line| line.starts_with("zero-"));
            let uses = of_ours.map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned()).collect();
            (name, uses)
        })
        .collect();
    assert_eq!(found, documented);
}

/// The checks above can fail: this crate has a cycle through a re-export, a use tree and an inline
/// path.
#[test]
fn a_cycle_is_found_however_it_is_written() {
    let source = |files: &[(&str, &str)]| {
        let path = |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Crate(files.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect())
    };
    let cyclic = source(&[
        ("", "mod a;\nmod b;\npub use a::A;"),
        ("a", "use crate::{b::inner::{C, D}};"),
        ("b", "mod inner;"),
        ("b/inner", "fn f() { super::super::A::new() }"),
    ]);
    assert_eq!(find_cycle(&cyclic.arrows()).unwrap(), ["crate::", "crate::a", "crate::b::inner", "crate::"]);
    let tree = source(&[
        ("", "mod a;\nmod b;\npub use a::A;"),
        ("a", "use crate::b::inner::C;\n// crate::A\n#[cfg(test)]\nmod tests { use crate::A; }"),
        ("b", "mod inner;"),
        ("b/inner", "use std::fs;"),
    ]);
    assert_eq!(find_cycle(&tree.arrows()), None);
}

/// The library is for any program: it knows nothing of trading.
#[test]
fn zero_bus_has_no_trading_term() {
    for file in files(&root().join("crates/zero-bus/src"), "rs") {
        let text = fs::read_to_string(&file).unwrap().to_lowercase();
        for word in
            ["trading", "order book", "exchange", "fill.record", "position.snapshot", "notional", "usd"]
        {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

/// Building a test binary or examples for a crate that has none costs seconds, so manifests say
/// which have none.
#[test]
fn no_test_and_no_example_is_in_a_crate_whose_manifest_leaves_them_out() {
    for name in crates() {
        let folder = root().join("crates").join(&name);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let (_, library) = manifest.split_once("\n[lib]\n").unwrap_or_default();
        let (library, _) = library.split_once("\n[").unwrap_or((library, ""));
        for (setting, excluded) in [("test = false", "#[test]"), ("doctest = false", "/ ```")] {
            if !library.lines().any(|line| line == setting) {
                continue;
            }
            for file in files(&folder.join("src"), "rs") {
                let text = fs::read_to_string(&file).unwrap();
                assert!(!text.contains(excluded), "{}: {setting} in the manifest", file.display());
            }
        }
    }
}

#[test]
fn source_files_have_at_most_700_lines() {
    for file in files(&root().join("crates"), "rs") {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 700, "{} has {lines} lines", file.display());
    }
}

#[test]
fn comments_have_at_most_100_columns_and_documents_120() {
    let mut long = Vec::new();
    let mut check = |file: &Path, line_number: usize, line: &str, columns: usize| {
        let found = line.chars().count();
        if found > columns {
            long.push(format!("{}:{line_number}: {found} columns, at most {columns}", file.display()));
        }
    };
    for folder in ["crates", "fuzz", "benches"] {
        for file in files(&root().join(folder), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            let comments = text.lines().zip(1..).filter(|(line, _)| line.trim_start().starts_with("//"));
            comments.for_each(|(line, number)| check(&file, number, line, 100));
        }
    }
    for file in files(&root(), "md") {
        let text = fs::read_to_string(&file).unwrap();
        let mut in_code = false;
        for (line, number) in text.lines().zip(1..) {
            in_code ^= line.trim_start().starts_with("```");
            // A table row cannot be wrapped, and a code block shows what a program prints.
            if !in_code && !line.starts_with('|') {
                check(&file, number, line, 120);
            }
        }
    }
    assert!(long.is_empty(), "{} lines are too long:\n{}", long.len(), long.join("\n"));
}
