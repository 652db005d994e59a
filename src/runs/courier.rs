//! The courier: asks the git server for the followed branch, sends what lies in the outbox, and serves the status page.
//! It verifies nothing and decides nothing about stacks; whoever takes it over can at most keep news from this host.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::decide::event::Event;
use crate::decide::fault::{Fault, Mover};
use crate::decide::push::{self, Message};
use crate::decide::schedule::{Attempts, Share, backoff, next_on_grid};
use crate::decide::succession::event::ReleaseEvent;
use crate::runs::succession::{self, Way};
use crate::world::{Fetched, World};

/// How often the outbox is looked at. A look at an empty directory costs less than a watch that has to be kept alive.
const LOOK: Duration = Duration::from_secs(2);

/// The longest wait before a message is tried again. Kuma calls a monitor down when nothing comes for its interval, so
/// after an outage of Kuma's the messages must not wait for an hour as a fetch may.
const LONGEST_RETRY: Duration = Duration::from_mins(5);

/// Fetches and sends until the order to stop; with `once`, one time each, and then returns the first fault.
pub async fn courier(world: &impl World, once: bool) -> Result<Way, Fault> {
    if once {
        let fetched = fetch(world).await;
        let release = succession::fetch(world).await.transpose();
        let sent = send_once(world).await;
        return fetched.and(release.map(|_| ())).and(sent).map(|()| Way::Stay);
    }
    let settings = world.settings();
    world.say(Event::ServiceStarted { verb: "courier", host: settings.host.clone() });
    world.service_ready();
    let trouble = Trouble::default();
    // Side by side: a git server that hangs must not keep status messages back, and the other way round. What is
    // dropped at the order to stop is repeated after the next start: a fetch leaves the old tip, a message stays.
    let way = tokio::select! {
        // The order comes first: the others never end.
        biased;
        () = ordered_to_stop(world) => Way::Stay,
        () = superseded(world) => Way::Make,
        () = fetch_again_and_again(world, &trouble) => Way::Stay,
        () = fetch_releases_again_and_again(world) => Way::Stay,
        () = send_again_and_again(world, &trouble) => Way::Stay,
        () = serve_again_and_again(world) => Way::Stay,
    };
    world.say(Event::ServiceStopped { verb: "courier" });
    Ok(way)
}

/// Returns when another version of moorline is to run by now.
async fn superseded(world: &impl World) {
    let began_as = succession::who_runs(world);
    while !succession::is_superseded(world, began_as.as_ref()) {
        world.wait(LOOK).await;
    }
}

/// Fetches the version of moorline that the keeper was told to run.
async fn fetch_releases_again_and_again(world: &impl World) {
    let share = Share::of(&world.settings().host, "release");
    let mut attempts = Attempts::default();
    while !world.stopping() {
        if attempts.due(world.now()) {
            match succession::fetch(world).await {
                Some(Ok(release)) => {
                    attempts.worked();
                    world.say(Event::Release(ReleaseEvent::Fetched { release }));
                }
                Some(Err(fault)) if attempts.failed(world.now(), &fault, |failures| backoff(failures, share)) => {
                    world.say(Event::Release(ReleaseEvent::Unfetched { fault: Box::new(fault) }));
                }
                Some(Err(_)) | None => {}
            }
        }
        world.wait(LOOK).await;
    }
}

/// Why fetching waits for a person. Until one came, no message may say that all is well: the keeper goes on with what
/// was fetched before, and knows nothing of it.
type Trouble = RefCell<Option<Fault>>;

async fn ordered_to_stop(world: &impl World) {
    while !world.stopping() {
        world.wait(Duration::from_hours(1)).await;
    }
}

async fn fetch(world: &impl World) -> Result<(), Fault> {
    if let Fetched::Moved(revision) = world.fetch().await? {
        world.say(Event::TipFetched { revision });
    }
    Ok(())
}

/// Asks at this host's own moments of the poll interval; after a failure sooner at first, then less and less often.
async fn fetch_again_and_again(world: &impl World, trouble: &Trouble) {
    let settings = world.settings();
    let share = Share::of(&settings.host, "poll");
    let mut attempts = Attempts::default();
    // After the order to stop a wait returns at once.
    while !world.stopping() {
        let wait = match fetch(world).await {
            Ok(()) => {
                trouble.take();
                let failures = attempts.worked();
                if failures > 0 {
                    world.say(Event::FetchRecovered { failures });
                }
                let next = next_on_grid(world.now(), settings.poll, share);
                Duration::try_from(next.duration_since(world.now())).unwrap_or_default()
            }
            Err(fault) => {
                trouble.replace((fault.code.mover() == Mover::Person).then(|| fault.clone()));
                if attempts.failed(world.now(), &fault, |failures| backoff(failures, share)) {
                    alert(world, &fault).await;
                    world.say(Event::FetchFailed { fault: Box::new(fault) });
                }
                backoff(attempts.failures(), share)
            }
        };
        world.wait(wait).await;
    }
}

/// Serves the status page. At boot its address may not be there yet.
async fn serve_again_and_again(world: &impl World) {
    let share = Share::of(&world.settings().host, "status");
    let mut attempts = Attempts::default();
    while !world.stopping() {
        match world.serve_page().await {
            Ok(()) => world.wait(Duration::from_hours(1)).await,
            Err(fault) => {
                if attempts.failed(world.now(), &fault, |failures| backoff(failures, share)) {
                    world.say(Event::StatusUnserved { fault: Box::new(fault) });
                }
                world.wait(backoff(attempts.failures(), share)).await;
            }
        }
    }
}

/// Tells the monitor of a fault that no later fetch can mend, as often as the journal is told. Not by way of the outbox,
/// into which only the keeper may write; and once, since the keeper's next message will say it again.
async fn alert(world: &impl World, fault: &Fault) {
    let Some(url) = world.push_url("reconcile").filter(|_| fault.code.mover() == Mover::Person) else { return };
    let message = push::after_fetch(fault, world.now(), url);
    let monitor = message.monitor.clone();
    world.say(match world.send(&message).await {
        Ok(()) => Event::PushSent { monitor },
        Err(fault) => Event::PushFailed { monitor, fault: Box::new(fault) },
    });
}

async fn send_again_and_again(world: &impl World, trouble: &Trouble) {
    let mut rounds = Rounds { share: Share::of(&world.settings().host, "push"), ..Rounds::default() };
    while !world.stopping() {
        rounds.send_due(world, trouble).await;
        world.wait(LOOK).await;
    }
}

/// What the rounds through the outbox remember: how it went with each monitor.
#[derive(Default)]
struct Rounds {
    share: Share,
    reading: Attempts,
    monitors: BTreeMap<String, Attempts>,
}

impl Rounds {
    /// Sends what is due, each monitor's messages in their order: a later one never overtakes an earlier one.
    async fn send_due(&mut self, world: &impl World, trouble: &Trouble) {
        let messages = match world.outbox() {
            Ok(messages) => messages,
            Err(fault) => {
                if self.reading.failed(world.now(), &fault, |_| Duration::ZERO) {
                    world.say(Event::PushFailed { monitor: "outbox".into(), fault: Box::new(fault) });
                }
                return;
            }
        };
        self.reading.worked();
        for message in &messages {
            let attempts = self.monitors.entry(message.monitor.clone()).or_default();
            if !attempts.due(world.now()) {
                continue;
            }
            let message = push::unless_fetching_waits(message, trouble.borrow().as_ref());
            match send(world, &message).await {
                Ok(()) => {
                    attempts.worked();
                }
                Err(fault) => {
                    let share = self.share;
                    let wait = |failures| backoff(failures, share).min(LONGEST_RETRY);
                    if attempts.failed(world.now(), &fault, wait) {
                        world.say(Event::PushFailed { monitor: message.monitor, fault: Box::new(fault) });
                    }
                }
            }
        }
        // A monitor that has nothing to say any more is forgotten, so that this cannot grow.
        self.monitors.retain(|monitor, _| messages.iter().any(|message| message.monitor == *monitor));
    }
}

/// Sends one message and takes it out of the outbox. One that cannot be taken out counts as a failure: it will be
/// sent again, and Kuma should not get it every two seconds.
async fn send(world: &impl World, message: &Message) -> Result<(), Fault> {
    world.send(message).await?;
    world.delivered(message)?;
    world.say(Event::PushSent { monitor: message.monitor.clone() });
    Ok(())
}

/// Sends everything once, and returns the first fault. After a failure the later messages of that monitor stay.
async fn send_once(world: &impl World) -> Result<(), Fault> {
    let mut failed = BTreeSet::new();
    let mut ended = Ok(());
    for message in world.outbox()? {
        if failed.contains(&message.monitor) {
            continue;
        }
        if let Err(fault) = send(world, &message).await {
            ended = ended.and(Err(fault));
            failed.insert(message.monitor);
        }
    }
    ended
}
