//! Knows to which containers a route leads, by name: after a handover they are not those that Compose would make first.

use std::collections::BTreeMap;

use super::Handovers;
use crate::model::ledger::{Begun, Handover, Lead};
use crate::model::{Container, Ledger, Observed};

/// The containers of a host at one time, and which of them serve.
#[derive(Debug, Clone, Default)]
pub struct Names {
    observed: Observed,
    handovers: BTreeMap<String, Handovers>,
}

impl Names {
    /// What the engine shows, with the handovers that did not come to their end.
    pub fn new(observed: &Observed, begun: &BTreeMap<String, Begun>) -> Self {
        let handovers = begun.iter().map(|(stack, begun)| (stack.clone(), begun.handovers.clone())).collect();
        Self { observed: observed.clone(), handovers }
    }

    /// What the engine showed when the stacks last worked; for whoever cannot ask it.
    pub fn remembered(ledger: &Ledger) -> Self {
        let containers = ledger.applied.values().flat_map(|applied| applied.snapshot.iter().cloned()).collect();
        Self::new(&Observed { containers, ..Observed::default() }, &ledger.begun)
    }

    /// The same, with the old containers of this stack serving.
    #[must_use]
    pub fn led_back(mut self, stack: &str) -> Self {
        let handovers = self.handovers.get_mut(stack).into_iter().flat_map(BTreeMap::values_mut);
        handovers.for_each(|handover| handover.lead = Lead::Old);
        self
    }

    /// The containers that a route to this service leads to; none when it has none.
    pub fn of(&self, stack: &str, service: &str) -> Option<Vec<String>> {
        let handover = self.handovers.get(stack).and_then(|handovers| handovers.get(service));
        let all: Vec<&Container> = self.observed.of(stack).filter(|container| container.service == service).collect();
        let is_old = |container: &Container| handover.is_some_and(|handover: &Handover| handover.has(&container.id));
        let (old, new): (Vec<&Container>, Vec<&Container>) = all.iter().partition(|container| is_old(container));
        // Whichever are gone, somebody answers.
        let chosen = match handover.map(|handover| handover.lead) {
            Some(Lead::New) if !new.is_empty() => new,
            Some(Lead::Old) if !old.is_empty() => old,
            _ => all,
        };
        let names: Vec<String> = chosen.iter().map(|container| container.name.clone()).collect();
        (!names.is_empty()).then_some(names)
    }
}
