//! The `highwater` program: parses the command line and hands over.

/// Many threads that allocate and free across each other (SQLite's among them,
/// hence the `override` of C's `malloc`) fragment glibc's arenas; this
/// allocator gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    highwater::Highwater::builder().run()
}
