//! The account of backups, as it would stand on disk.

use moorline::decide::fault::Fault;
use moorline::model::backup::Logbook;
use moorline::world::logbook::Logs;

use super::Sim;

impl Logs for Sim {
    fn logbook(&self) -> Result<Logbook, Fault> {
        let host = self.host();
        let kept = host.backups.as_ref().map(|bytes| serde_json::from_slice(bytes).expect("we wrote it"));
        Ok(kept.unwrap_or_default())
    }

    fn change_logbook(&self, change: &mut dyn FnMut(&mut Logbook)) -> Result<(), Fault> {
        let before = self.logbook()?;
        let mut logbook = before.clone();
        change(&mut logbook);
        if logbook != before {
            let bytes = serde_json::to_vec(&logbook).expect("an account can be written");
            self.written("backups")?.backups = Some(bytes);
        }
        Ok(())
    }
}
