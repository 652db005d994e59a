//! Writes events to the systemd journal with their fields, or to standard error as plain lines. It is the only place
//! that logs, and it logs nothing but events: what libraries say through the `log` crate goes nowhere, since nobody
//! has read it for secrets.

use std::io::Write;

use log::Record;
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::decide::backup::event::BackupEvent;
use crate::decide::event::{Event, Level};

/// The name under which `journalctl -t` finds us.
const IDENTIFIER: &str = "moorline";

/// Where events go.
pub struct Journal {
    verbose: bool,
    audience: Audience,
    /// Whether standard error is the journal, so that a line there would tell it twice.
    is_connected: bool,
    systemd: Option<JournalLog>,
}

/// Who reads standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever collects the output of a service: every event is told.
    Service,
    /// A person who typed a verb and reads its answer: what the answer says anyway is not told twice.
    Person,
}

impl Journal {
    /// A service tells the systemd journal when its standard error is connected to it (`JOURNAL_STREAM`), else standard
    /// error. What a person does at a terminal is told there, and remembered by the journal where there is one.
    pub fn open(verbose: bool, audience: Audience) -> Self {
        let is_connected = connected_to_journal();
        let wanted = is_connected || audience == Audience::Person;
        let systemd = wanted.then(|| JournalLog::empty().ok()).flatten();
        let systemd = systemd.map(|log| log.with_syslog_identifier(IDENTIFIER.to_owned()));
        Self { verbose, audience, is_connected, systemd }
    }

    /// Tells one event. Debug events are told only on demand.
    pub fn say(&self, event: &Event) {
        if event.level() == Level::Debug && !self.verbose {
            return;
        }
        // A journal that does not take it must not stop a run; standard error is then the second try.
        let told = self.systemd.as_ref().is_some_and(|systemd| send(systemd, event).is_ok());
        let is_told = told && self.is_connected;
        let is_answered = self.audience == Audience::Person && !self.verbose && is_answer(event);
        if !is_told && !is_answered {
            let _ = writeln!(std::io::stderr().lock(), "{}", line(event));
        }
    }
}

/// What a verb prints as its answer.
fn is_answer(event: &Event) -> bool {
    matches!(
        event,
        Event::RunEnded { .. }
            | Event::RevisionRefused { .. }
            | Event::HoldSet { .. }
            | Event::HoldReleased { .. }
            | Event::AnchorMoved { .. }
            | Event::Backup(BackupEvent::JobEnded { .. })
    )
}

fn send(systemd: &JournalLog, event: &Event) -> std::io::Result<()> {
    let fields = event.fields();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let level = match event.level() {
        Level::Error => log::Level::Error,
        Level::Warning => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    };
    let message = printable(&event.message());
    // Built in one expression: the arguments borrow what they print.
    systemd.journal_send(
        &Record::builder()
            .level(level)
            .target(IDENTIFIER)
            .key_values(&fields.as_slice())
            .args(format_args!("{message}"))
            .build(),
    )
}

/// An event as a line without a time: whoever collects standard error adds one.
fn line(event: &Event) -> String {
    let level = match event.level() {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    format!("{level}: {}", printable(&event.message()))
}

/// The text with control characters escaped: parts of it may come from a commit or a server, and must neither
/// command a terminal nor pass for a line of ours.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            printable.extend(char.escape_debug());
        } else {
            printable.push(char);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fault::{Code, Fault};

    #[test]
    fn a_line_has_the_level_and_the_sentence() {
        let event = Event::ServiceStopped { verb: "courier" };
        assert_eq!(line(&event), "info: courier stopped");
    }

    #[test]
    fn what_a_server_says_cannot_forge_a_line_or_command_a_terminal() {
        let fault = Fault::new(Code::FetchFailed, "x").because("\u{1b}[2J\nerror: forged");
        let line = line(&Event::FetchFailed { fault: Box::new(fault) });
        assert_eq!(line, "warning: fetch failed: x: \\u{1b}[2J\\nerror: forged");
    }

    #[test]
    fn outside_of_systemd_events_go_to_standard_error() {
        assert!(Journal::open(false, Audience::Service).systemd.is_none());
    }
}
