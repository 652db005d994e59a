//! Containers that stand for a backup, and `standing.json` as it would stand on disk.

use moorline::decide::fault::Fault;
use moorline::model::State;
use moorline::model::backup::{Quiesce, Standing, Stood};
use moorline::world::quiesce::Quiet;

use super::Sim;

impl Quiet for Sim {
    fn standing(&self) -> Result<Option<Standing>, Fault> {
        let host = self.host();
        Ok(host.standing.as_ref().map(|bytes| serde_json::from_slice(bytes).expect("we wrote it")))
    }

    fn note_standing(&self, standing: &Standing) -> Result<(), Fault> {
        let bytes = serde_json::to_vec(standing).expect("it can be written");
        self.written("standing")?.standing = Some(bytes);
        Ok(())
    }

    fn forget_standing(&self) -> Result<(), Fault> {
        self.effect("no standing");
        self.host().standing = None;
        Ok(())
    }

    async fn make_stand(&self, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        self.effect(format!("{how:?} {}", container.name));
        let mut host = self.engine()?;
        let state = if how == Quiesce::Pause { State::Paused } else { State::Exited(0) };
        host.engine.set_by_hand(&container.id, Some(state));
        Ok(())
    }

    async fn let_go_on(&self, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        self.effect(format!("no {how:?} {}", container.name));
        let mut host = self.engine()?;
        let now = host.seconds();
        match how {
            Quiesce::Pause => host.engine.set_by_hand(&container.id, None),
            Quiesce::Stop | Quiesce::None => host.engine.start_again(&container.id, now),
        }
        Ok(())
    }
}
