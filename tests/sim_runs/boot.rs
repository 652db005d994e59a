//! After a reboot, before the engine: what comes back into memory, and what the next run makes of it.

use crate::fleet::{SECRETS, SHOP, WEB, settled};
use crate::sim::{BETA_KEY, Sealing, Signer, Sim, seal_as};
use moorline::model::{Action, Outcome, Report};
use moorline::runs::boot;

/// The verb, on a host whose engine is not up yet.
fn restore(sim: &Sim) -> Result<boot::Restored, moorline::decide::fault::Fault> {
    sim.begin();
    sim.host().engine_answers = false;
    let restored = boot::restore(sim);
    sim.host().engine_answers = true;
    restored
}

fn writes(report: &Report) -> Vec<&str> {
    let written = |outcome: &&Outcome| matches!(outcome.step.action, Action::Write { .. });
    report.outcomes.iter().filter(written).map(|outcome| outcome.step.stack.as_str()).collect()
}

#[test]
fn what_was_in_memory_comes_back_with_no_engine_and_the_next_run_writes_nothing() {
    let sim = settled();
    let memory = |sim: &Sim| {
        let host = sim.host();
        (host.secrets.clone(), host.environments.clone())
    };
    let before = memory(&sim);
    let ledger = sim.host().ledger.clone();
    sim.reboot();
    let restored = restore(&sim).unwrap();
    assert_eq!(restored.stacks.iter().collect::<Vec<_>>(), ["shop", "web"]);
    assert!(restored.left.is_empty(), "{restored:?}");
    assert_eq!(memory(&sim), before);
    assert_eq!(sim.host().ledger, ledger, "nothing that lasts is changed");
    let asked = sim.asked();
    assert!(!asked.iter().any(|asked| asked == "observe" || asked.starts_with("model of")), "{asked:?}");
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert!(writes(&report).is_empty(), "{:?}", writes(&report));
}

#[test]
fn a_stack_that_newer_revisions_left_alone_is_found_in_the_newest_which_the_new_key_opens() {
    let sim = settled();
    let shared = [("SHARED", "canary-shared"), ("KUMA", "https://kuma.example.org/api/push/canary-push-token")];
    let web = [("DB_PASSWORD", "another-db-password"), ("API_TOKEN", "canary-api-token")];
    let sealing = Sealing { key: BETA_KEY, honest: true };
    sim.write(SECRETS, seal_as(&[("all", &shared), ("web", &web)], sealing)).commit();
    // The old key is taken out when the new one works.
    sim.host().age_key = Some(BETA_KEY.to_owned());
    assert!(sim.run().fault.is_none());
    let applied = sim.remembered().applied;
    assert_ne!(applied["shop"].revision, applied["web"].revision);
    let before = sim.host().secrets.clone();
    sim.reboot();
    let restored = restore(&sim).unwrap();
    assert_eq!(restored.stacks.len(), 2, "{restored:?}");
    // What old containers held is gone with them; what is used now is there.
    let after = sim.host().secrets.clone();
    assert!(!after.is_empty() && after.iter().all(|(path, content)| before.get(path) == Some(content)));
    assert!(writes(&sim.run()).is_empty());
}

#[test]
fn a_tip_that_is_refused_keeps_no_accepted_secret_away() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").commit_as(Signer::Nobody);
    sim.reboot();
    assert_eq!(restore(&sim).unwrap().stacks.len(), 2);
}

#[test]
fn a_stack_whose_deploy_failed_is_left_to_the_next_run() {
    let sim = settled();
    sim.edit(SHOP, "services:", "x-moorline: { deploy: { rollback: forward-only } }\nservices:");
    sim.edit(SHOP, "shop:1", "app:bad").commit();
    assert!(sim.run().fault.is_some());
    sim.reboot();
    let restored = restore(&sim).unwrap();
    assert_eq!(restored.stacks.iter().collect::<Vec<_>>(), ["web"]);
    assert_eq!(restored.left["shop"], "its last deploy did not end well");
    // It asks for a person, and the next run leaves it alone until one has moved.
    assert!(writes(&sim.run()).is_empty());
    sim.retry();
    assert_eq!(writes(&sim.run()), ["shop"]);
}

#[test]
fn without_the_key_nothing_comes_back_and_the_fault_names_the_stacks() {
    let sim = settled();
    sim.reboot();
    let key = sim.host().age_key.take();
    let fault = restore(&sim).unwrap_err();
    assert_eq!(fault.code.exit(), 12);
    assert!(fault.places.contains(&"the files in memory of shop, web were not put back".to_owned()), "{fault}");
    assert!(sim.host().secrets.is_empty());
    sim.host().age_key = key;
    assert_eq!(restore(&sim).unwrap().stacks.len(), 2);
}

#[test]
fn a_host_that_applied_nothing_yet_has_nothing_to_restore() {
    let sim = crate::fleet::fleet();
    assert_eq!(restore(&sim).unwrap(), boot::Restored::default());
}
