//! Fetches and removes images, with what the engine tells on the way. Logins go with the request and onto no disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::StreamExt;

use crate::decide::fault::{Code, Fault};
use crate::decide::images::{self, Trouble, registry_of};
use crate::model::Image;
use crate::model::host::Logins;
use crate::world::Removal;
use crate::world::clock;
use crate::world::disk;
use crate::world::docker::{Engine, away, is_not_found};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether the disk has room, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the layers of an image are, in packed bytes.
#[derive(Debug, Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    fn note(&mut self, told: &CreateImageInfo) {
        let (Some(id), Some(detail)) = (&told.id, &told.progress_detail) else { return };
        // Unpacking counts anew from nothing, in other bytes.
        if told.status.as_deref() != Some("Downloading") {
            return;
        }
        let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        if let Some(total) = bytes(detail.total) {
            self.0.insert(id.clone(), (bytes(detail.current).unwrap_or(0), total));
        }
    }

    fn done(&self) -> u64 {
        self.0.values().map(|(done, _)| done).sum()
    }

    fn total(&self) -> u64 {
        self.0.values().map(|(_, total)| total).sum()
    }
}

impl Engine {
    /// Fetches an image, with the login of its registry if the host has one. `tell` hears now and then how many of how
    /// many bytes are here. Ended when `limit` is over, or when what is to come does not fit on the disk, or when what is
    /// to stay free is used up; the engine drops what it has of the image then.
    pub async fn pull(
        &self,
        image: &str,
        logins: &Logins,
        limit: Duration,
        tell: impl Fn(u64, u64),
    ) -> Result<(), Fault> {
        let room = Room::of(self.image_directory().await?);
        room.admit(image, &Layers::default())?;
        let fetched = tokio::time::timeout(limit, self.fetch_image(image, logins, &room, tell)).await;
        fetched.unwrap_or_else(|_| {
            Err(Fault::new(Code::ImageUnavailable, format!("{image} was not pulled within {}s", limit.as_secs()))
                .at("nothing that runs was touched")
                .hint("`engine.pull_timeout` in agent.toml, if the way to the registry is that slow"))
        })
    }

    async fn fetch_image(
        &self,
        image: &str,
        logins: &Logins,
        room: &Room,
        tell: impl Fn(u64, u64),
    ) -> Result<(), Fault> {
        let registry = registry_of(image);
        let credentials = logins.get(registry).map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.expose().clone()),
            serveraddress: Some(registry.to_owned()),
            ..DockerCredentials::default()
        });
        let options = CreateImageOptionsBuilder::new().from_image(image).build();
        let mut progress = self.docker()?.create_image(Some(options), None, credentials);
        let mut layers = Layers::default();
        let mut told_at = clock::now();
        loop {
            // An engine that is in the middle of a layer of unknown size may say nothing for long.
            let next = tokio::time::timeout(LOOK_EVERY, progress.next()).await;
            room.admit(image, &layers)?;
            let line = match next {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(_) => continue,
            };
            let line = line.map_err(|error| pull_failed(image, registry, logins, &error.to_string()))?;
            if let Some(error) = line.error_detail.as_ref().and_then(|detail| detail.message.as_ref()) {
                return Err(pull_failed(image, registry, logins, error));
            }
            layers.note(&line);
            if clock::now().duration_since(told_at).unsigned_abs() >= TOLD_EVERY {
                told_at = clock::now();
                tell(layers.done(), layers.total());
            }
        }
        Ok(())
    }

    /// Where the engine keeps its images.
    pub(super) async fn image_directory(&self) -> Result<Option<PathBuf>, Fault> {
        let info = self.docker()?.info().await.map_err(|error| away(self.socket(), &error))?;
        Ok(info.docker_root_dir.map(PathBuf::from))
    }

    /// The image that this name or id stands for here.
    pub async fn image(&self, image: &str) -> Result<Option<Image>, Fault> {
        match self.docker()?.inspect_image(image).await {
            Ok(found) => Ok(found.id.map(|id| Image { id, digests: found.repo_digests.unwrap_or_default() })),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(away(self.socket(), &error)),
        }
    }

    /// Takes a name off an image, and removes the image if it had no other. Never one that a container was made from.
    pub async fn remove_image(&self, image: &str) -> Result<Removal, Fault> {
        let options = RemoveImageOptionsBuilder::new().force(false).noprune(false).build();
        match self.docker()?.remove_image(image, Some(options), None).await {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if is_not_found(&error) => Ok(Removal::Removed),
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(Removal::InUse),
            Err(error) => Err(away(self.socket(), &error)),
        }
    }
}

/// The space where the engine keeps its images; none is known if that place cannot be seen from here.
struct Room {
    directory: Option<PathBuf>,
    /// How many bytes were free before the pull began.
    at_first: Option<u64>,
}

impl Room {
    fn of(directory: Option<PathBuf>) -> Self {
        let at_first = directory.as_deref().and_then(disk::free_bytes);
        Self { directory, at_first }
    }

    /// Refuses what would fill the disk, by what is free now, too: other pulls go on beside this one, and a registry that
    /// sends a layer in chunks does not say how large it is.
    fn admit(&self, image: &str, layers: &Layers) -> Result<(), Fault> {
        let now = self.directory.as_deref().and_then(disk::free_bytes);
        let needs = [(layers.total(), self.at_first), (layers.total() - layers.done(), now)];
        match needs.iter().find_map(|(packed, free)| images::space_missing(*packed, (*free)?)) {
            Some(missing) => Err(space_short(image, layers.total(), &missing)),
            None => Ok(()),
        }
    }
}

fn space_short(image: &str, announced: u64, short: &images::Short) -> Fault {
    let mebibytes = |bytes: u64| bytes.div_ceil(1024 * 1024);
    let (needed, missing) = (mebibytes(short.needed), mebibytes(short.missing));
    let sentence = format!("there is no room for {image}: {missing} MiB are missing of the {needed} MiB that it needs");
    let reason = match announced {
        0 => "512 MiB are to stay free, and how large the image is has not been said".to_owned(),
        packed => format!("{} MiB of packed layers count three times, and 512 MiB are to stay free", mebibytes(packed)),
    };
    Fault::new(Code::SpaceShort, sentence).because(reason).at("nothing that runs was touched").hint(
        "`docker system df` shows what takes the space; `docker image prune` and `docker builder prune` free some",
    )
}

fn pull_failed(image: &str, registry: &str, logins: &Logins, error: &str) -> Fault {
    let code = match images::trouble(error) {
        Trouble::Passing => Code::ImageUnavailable,
        Trouble::Denied => Code::ImageDenied,
        Trouble::Lasting => Code::ImageRefused,
    };
    let fault = Fault::new(code, format!("{image} cannot be pulled"))
        .because(error.to_owned())
        .at("nothing that runs was touched");
    match logins.contains_key(registry) {
        true => fault.hint(format!("check `registries.{registry}` in the host's SOPS file")),
        false => {
            fault.hint(format!("this host has no login for {registry}; `docker pull {image}` shows the whole answer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_is_missing() {
        let mebibyte = 1024 * 1024;
        let announced = |layers: &[(u64, u64)]| {
            let layer = |(number, (done, total)): (usize, &(u64, u64))| {
                (number.to_string(), (done * mebibyte, total * mebibyte))
            };
            Layers(layers.iter().enumerate().map(layer).collect())
        };
        let room = |free: u64| Room { directory: None, at_first: Some(free * mebibyte) };
        assert!(Room::of(None).admit("a:1", &announced(&[(0, 100)])).is_ok(), "nobody knows");
        assert!(room(812).admit("a:1", &announced(&[(0, 100)])).is_ok());
        let fault = room(811).admit("a:1", &announced(&[(0, 100)])).unwrap_err();
        assert_eq!(fault.sentence, "there is no room for a:1: 1 MiB are missing of the 812 MiB that it needs");
        // Layers become known a few at a time: those that are here already took their part of what was free at first.
        assert!(room(811).admit("a:1", &announced(&[(50, 50), (0, 50)])).is_err());
        let fault = room(511).admit("a:1", &Layers::default()).unwrap_err();
        assert!(fault.because[0].contains("has not been said"), "{fault}");
    }
}
