//! Keeps the memory of this process to itself: no core file of it, and nobody but root may look into it. It holds keys
//! and secrets.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::decide::fault::{Code, Fault};

/// Closes it, from here to the end of the process. The limit holds for the programs that it starts too.
pub fn close() -> Result<(), Fault> {
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    // A core file that is piped to a program knows no limit, so both are needed.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).and_then(|()| setrlimit(Resource::Core, nothing)).map_err(
        |error| {
            Fault::new(Code::MemoryUnsafe, "the system does not keep core files of this process away")
                .caused_by(&error)
                .at("nothing was changed")
        },
    )
}
