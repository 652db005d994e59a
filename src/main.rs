//! Parses, calls, exits.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes every piece of memory that is given back. [`Secret`](moorline::model::Secret) wipes what is ours; this also
/// wipes what libraries copy on the way, such as the login in the header of a pull.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    moorline::cli::main()
}
