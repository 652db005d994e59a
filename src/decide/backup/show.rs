//! Says what of a stack goes into its snapshots, for people.

use std::fmt::Write as _;

use crate::model::backup::{Dump, DumpKind, Quiesce, StackBackup};

/// The plan of one stack's backup, a line for each thing that is in or out.
pub fn text(plan: &StackBackup) -> String {
    let mut text = format!("{}\n", plan.stack);
    let mut line = |way: &str, what: String, why: String| _ = writeln!(text, "  {way:<4} {what:<31} {why}");
    for source in &plan.sources {
        line("in", source.origin.to_string(), source.reason.to_string());
    }
    for dump in &plan.dumps {
        line("in", format!("dump {}", dump.to), subject(dump));
    }
    for left in &plan.left_out {
        line("out", left.what.clone(), left.reason.to_string());
    }
    for pattern in &plan.excludes {
        line("out", pattern.clone(), "a pattern of x-moorline.backup.excludes".into());
    }
    let does = match plan.quiesce {
        Quiesce::None => None,
        Quiesce::Pause => Some("pause"),
        Quiesce::Stop => Some("stop"),
    };
    if let Some(does) = does.filter(|_| !plan.writers.is_empty()) {
        let _ = writeln!(text, "  {does} {} while files are read", plan.writers.join(", "));
    }
    text
}

fn subject(dump: &Dump) -> String {
    let some = |product: &str, databases: &[String]| match databases.is_empty() {
        true => format!("all of {product} in `{}`", dump.service),
        false => format!("{} of {product} in `{}`", databases.join(", "), dump.service),
    };
    match &dump.kind {
        DumpKind::Command(command) => format!("what `{}` prints in `{}`", command[0], dump.service),
        DumpKind::Postgres(databases) => some("PostgreSQL", databases),
        DumpKind::Mariadb(databases) => some("MariaDB", databases),
        DumpKind::Mysql(databases) => some("MySQL", databases),
        DumpKind::Mongodb => some("MongoDB", &[]),
        DumpKind::Redis => some("Redis", &[]),
        DumpKind::Sqlite(path) => format!("the SQLite database {path} in `{}`", dump.service),
    }
}

/// What a person should know who believes that everything is backed up. Database files that are dumped are no news.
pub fn notes(plan: &StackBackup) -> Vec<String> {
    use crate::model::backup::OutReason::{Dumped, NotListed};
    let unexpected = plan.left_out.iter().filter(|left| !matches!(left.reason, Dumped { .. } | NotListed));
    let note = |left: &crate::model::backup::LeftOut| {
        format!("stack {}: {} is not in its snapshots: {}", plan.stack, left.what, left.reason)
    };
    unexpected.map(note).collect()
}
