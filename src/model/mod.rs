//! The nouns. Nothing here does anything: no decision, no effect, only shapes and their invariants.

pub mod desired;
pub mod failure;
pub mod good;
pub mod host;
pub mod intent;
pub mod ledger;
pub mod observed;
pub mod outcome;
pub mod page;
pub mod plan;
pub mod policy;
pub mod report;
pub mod revision;
pub mod ring;
pub mod secret;
pub mod seen;
pub mod settings;
pub mod tree;

pub use desired::{Access, Desired, DesiredStack, Inputs, Model, Remap, SecretFile, Value};
pub use failure::{Failure, Left};
pub use good::Good;
pub use host::{HostSpec, Monitors, StackSource};
pub use intent::{Intent, Phase};
pub use ledger::{Anchor, Applied, Hold, Ledger, Warrant};
pub use observed::{Attached, Container, Endpoint, Health, Image, Observed, State};
pub use outcome::{Outcome, Verdict};
pub use page::Page;
pub use plan::{Action, Cause, Plan, Step};
pub use report::{Report, RunEnd};
pub use revision::Revision;
pub use ring::{Ring, RingPointer};
pub use secret::Secret;
pub use seen::Seen;
pub use settings::Settings;
pub use tree::{File, Tree};
