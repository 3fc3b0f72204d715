//! The `ramp` command. It parses, calls the library and draws; everything else is in the crates below.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
