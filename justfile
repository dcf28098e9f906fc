# Shortcuts; each line is also a plain command.

# Lists the recipes.
default:
    @just --list

# Shows Highwater at work against simulated ledgers.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Formatting, lints and every test on both databases; arguments go to `cargo test`.
test *ARGS:
    ./scripts/test {{ARGS}}

# The quick look while writing: types and lints.
check:
    cargo clippy --all-targets

# Puts the code in shape.
fmt:
    cargo fmt

# The load benchmarks, on both databases.
bench *ARGS:
    ./scripts/bench {{ARGS}}

# Licences, advisories and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check
