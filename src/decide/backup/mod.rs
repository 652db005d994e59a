//! Decides about backups: what of a stack goes in, when a night is due, what is kept, and what people are told.

pub mod drill;
pub mod due;
pub mod dump;
pub mod event;
mod extension;
mod in_place;
pub mod keep;
pub mod load;
pub mod logbook;
pub mod overview;
mod show;
mod sources;
pub mod upkeep;

pub use extension::{BackupExtension, DrillExtension, Flaw, Names, flaws};
pub use in_place::{in_place_command, is_read_only, unfinished};
pub use show::{notes, text};
pub use sources::choose;
