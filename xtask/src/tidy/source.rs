//! Rules about Rust source.

use super::{
    Violation,
    code::{code_only, is_name, line_of, words},
    files::File,
};

/// Longer files hold more than one concept.
const MAX_LINES: usize = 700;

/// Where `unsafe` may be (invariant 8): the vectors of the codecs and the choice between them, the memory map, the calls of
/// cuBLAS and of kernels on a GPU, and the calls of llama.cpp in the tests.
const UNSAFE_ALLOWED: &[&str] = &[
    "crates/ramp-cuda/src/blas.rs",
    "crates/ramp-cuda/src/engine.rs",
    "crates/ramp-cuda/src/ops",
    "crates/ramp-cuda/src/staging.rs",
    "crates/ramp-gguf/src/codec/kernel.rs",
    "crates/ramp-gguf/src/codec/vector",
    "crates/ramp-gguf/src/mmap.rs",
    "tests/src/llama",
    "tests/ggml/src/codec.rs",
];

/// The parts of library crates that are the command: they may print, exit and read the environment
/// (invariant 4).
const COMMAND: &[&str] = &["crates/ramp-llm/src/main.rs", "crates/ramp-llm/src/cli"];

/// Lines above an unsafe block that may hold its SAFETY line: a comment of some lines, the start of a statement.
const SAFETY_REACH: usize = 6;

pub(crate) fn check(file: &File) -> Vec<Violation> {
    let code = code_only(&file.text);
    let mut violations = Vec::new();
    violations.extend(module_doc(file));
    violations.extend(length(file));
    violations.extend(stubs(file, &code));
    violations.extend(unsafe_place(file, &code));
    violations.extend(safety_line(file, &code));
    violations.extend(side_effects(file, &code));
    violations
}

/// Every file says what it is.
fn module_doc(file: &File) -> Option<Violation> {
    let first = file.text.lines().next().unwrap_or_default();
    let documented = first.starts_with("//! ") || first.starts_with("#![doc = include_str!");
    (!documented).then(|| Violation::at(&file.path, 0, "the file must start with a `//!` line"))
}

fn length(file: &File) -> Option<Violation> {
    let lines = file.text.lines().count();
    (lines > MAX_LINES).then(|| {
        Violation::new(&file.path, format!("{lines} lines, more than {MAX_LINES}: split it by concept"))
    })
}

/// Nothing is left for later.
fn stubs<'a>(file: &'a File, code: &'a str) -> impl Iterator<Item = Violation> + 'a {
    ["todo", "unimplemented"].into_iter().flat_map(move |name| {
        macro_calls(code, name)
            .map(move |at| Violation::at(&file.path, line_of(code, at), format!("`{name}!` leaves a stub")))
    })
}

fn unsafe_place<'a>(file: &'a File, code: &'a str) -> impl Iterator<Item = Violation> + 'a {
    let allowed = is_below(&file.path, UNSAFE_ALLOWED);
    words(code, "unsafe").filter(move |_| !allowed).map(|at| {
        let message = "`unsafe` outside the codecs' kernels, the memory map, the GPU's kernels and the llama.cpp wrapper";
        Violation::at(&file.path, line_of(code, at), message)
    })
}

/// Every unsafe block and impl says why it is sound.
fn safety_line<'a>(file: &'a File, code: &'a str) -> impl Iterator<Item = Violation> + 'a {
    let lines: Vec<&str> = file.text.lines().collect();
    words(code, "unsafe").filter_map(move |at| {
        let next = code[at + "unsafe".len()..].trim_start();
        if !next.starts_with('{') && !next.starts_with("impl") {
            return None;
        }
        let line = line_of(code, at);
        let reach = &lines[line.saturating_sub(SAFETY_REACH)..=line];
        let explained = reach.iter().any(|line| line.contains("// SAFETY:"));
        (!explained).then(|| Violation::at(&file.path, line, "an unsafe block without a `// SAFETY:` line"))
    })
}

/// Libraries do not print, end the process or read the environment.
fn side_effects(file: &File, code: &str) -> Vec<Violation> {
    let library = file.path.starts_with("crates/") && file.path.contains("/src/");
    if !library || is_below(&file.path, COMMAND) || file.path.ends_with("tests.rs") {
        return Vec::new();
    }
    let code = without_tests(code);
    let mut found = Vec::new();
    for name in ["println", "eprintln", "print", "eprint", "dbg"] {
        found.extend(macro_calls(code, name).map(|at| (at, format!("{name}!"))));
    }
    for path in ["process::exit", "process::abort", "std::env"] {
        found.extend(words(code, path).map(|at| (at, path.to_owned())));
    }
    // `use std::{env, fs}` and then `env::var`.
    found.extend(words(code, "env").filter(|&at| is_env_call(code, at)).map(|at| (at, "env::".to_owned())));
    let violation = |(at, what): (usize, String)| {
        Violation::at(&file.path, line_of(code, at), format!("a library must not use `{what}`"))
    };
    found.into_iter().map(violation).collect()
}

/// `env::` at `at`, unless `std::` is in front of it, which is found already.
fn is_env_call(code: &str, at: usize) -> bool {
    code[at..].starts_with("env::") && !code[..at].ends_with("::")
}

/// Offsets of the calls of a macro.
fn macro_calls<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    words(code, name).filter(move |&at| code[at + name.len()..].starts_with('!'))
}

/// The code in front of the file's test module.
fn without_tests(code: &str) -> &str {
    let module = code.match_indices("#[cfg(test)]").find(|(at, attribute)| {
        let next = code[at + attribute.len()..].trim_start();
        let name = next.strip_prefix("mod ");
        name.is_some_and(|name| name.trim_start_matches(is_name).trim_start().starts_with('{'))
    });
    module.map_or(code, |(at, _)| &code[..at])
}

/// Whether `path` is one of `places`, or in a folder or file whose path starts so.
fn is_below(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = "crates/ramp-x/src/lib.rs";

    /// Messages of all rules for a file with a doc line and `body`.
    fn check_body(path: &str, body: &str) -> Vec<String> {
        let file = File::fixture(path, &format!("//! A file.\n{body}"));
        check(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_start_with_their_doc() {
        let doc = |text: &str| module_doc(&File::fixture("a.rs", text));
        assert_eq!(doc("//! What.\n"), None);
        assert_eq!(doc("#![doc = include_str!(\"../README.md\")]\n"), None);
        assert_eq!(doc("use std::fs;\n").unwrap().place, "a.rs:1");
        assert!(doc("").is_some() && doc("//!\n").is_some());
    }

    #[test]
    fn files_are_short() {
        let file = |lines: usize| File::fixture("a.rs", &"\n".repeat(lines));
        assert_eq!(length(&file(MAX_LINES)), None);
        assert!(length(&file(MAX_LINES + 1)).unwrap().message.contains("701 lines"));
    }

    #[test]
    fn stubs_are_found_in_code_only() {
        assert_eq!(
            check_body("a.rs", "fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\n"),
            ["a.rs:2: `todo!` leaves a stub", "a.rs:3: `unimplemented!` leaves a stub"]
        );
        assert!(check_body("a.rs", "// todo!()\nlet todo = \"todo!()\"; if todo != 1 {}\n").is_empty());
    }

    #[test]
    fn unsafe_has_its_places() {
        let body = "// SAFETY: fine.\nlet x = unsafe { f() };\n";
        assert_eq!(check_body(LIBRARY, body).len(), 1);
        for path in [
            "crates/ramp-gguf/src/mmap.rs",
            "crates/ramp-gguf/src/codec/vector/avx2.rs",
            "tests/src/llama.rs",
        ] {
            assert!(check_body(path, body).is_empty(), "{path}");
        }
        assert_eq!(check_body("crates/ramp-gguf/src/codec/q4_k.rs", body).len(), 1);
        assert!(check_body(LIBRARY, "#![deny(unsafe_op_in_unsafe_fn)]\n// unsafe\n").is_empty());
    }

    #[test]
    fn unsafe_blocks_say_why() {
        let path = "tests/src/llama/x.rs";
        let found = check_body(path, "let x = unsafe { f() };\nunsafe impl Send for X {}\n");
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("tests/src/llama/x.rs:2: ") && found[0].contains("SAFETY"));
        // A declaration has a contract, not a reason.
        assert!(check_body(path, "unsafe extern \"C\" fn f() {}\n").is_empty());
        let far = format!("// SAFETY: too far.\n{}let x = unsafe {{ f() }};\n", "\n".repeat(SAFETY_REACH));
        assert_eq!(check_body(path, &far).len(), 1);
    }

    #[test]
    fn libraries_have_no_side_effects() {
        let body = "println!(\"x\");\nstd::process::exit(1);\nlet v = std::env::var(\"X\");\nenv::args();\n";
        let found = check_body(LIBRARY, body);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().any(|v| v == "crates/ramp-x/src/lib.rs:4: a library must not use `std::env`"));
        for path in ["crates/ramp-llm/src/main.rs", "crates/ramp-llm/src/cli/eval.rs", "xtask/src/main.rs"] {
            assert!(check_body(path, body).is_empty(), "{path}");
        }
        assert!(
            check_body(LIBRARY, "env!(\"X\"); // println!()\nlet my_env = environment::x();\n").is_empty()
        );
    }

    #[test]
    fn test_modules_may_print_and_code_in_front_may_not() {
        let tests = "#[cfg(test)]\nmod tests {\n    fn f() { println!() }\n}\n";
        assert!(check_body(LIBRARY, tests).is_empty());
        assert!(check_body("crates/ramp-x/src/codec/tests.rs", "fn f() { println!() }\n").is_empty());
        // Neither a test-only item nor a module in another file ends the library's code.
        let early =
            format!("#[cfg(test)]\nuse x::y;\n#[cfg(test)]\nmod tests;\nfn f() {{ print!() }}\n{tests}");
        assert_eq!(check_body(LIBRARY, &early).len(), 1);
    }
}
