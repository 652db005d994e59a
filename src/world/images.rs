//! Fetches and removes images, with what the engine tells on the way. Logins go with the request and onto no disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::StreamExt;

use crate::decide::fault::{Code, Fault};
use crate::decide::images::{self, Trouble, registry_of};
use crate::model::host::Logins;
use crate::world::Removal;
use crate::world::clock;
use crate::world::disk;
use crate::world::docker::{Engine, away, is_not_found};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

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
    /// many bytes are here. Ended when `limit` is over, or when what is to come does not fit on the disk; the engine
    /// drops what it has of the image then.
    pub async fn pull(
        &self,
        image: &str,
        logins: &Logins,
        limit: Duration,
        tell: impl Fn(u64, u64),
    ) -> Result<(), Fault> {
        let free = self.free_space().await?;
        admit(image, 0, free)?;
        let fetched = tokio::time::timeout(limit, self.fetch_image(image, logins, free, tell)).await;
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
        free: Option<u64>,
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
        while let Some(line) = progress.next().await {
            let line = line.map_err(|error| pull_failed(image, registry, logins, &error.to_string()))?;
            if let Some(error) = line.error_detail.as_ref().and_then(|detail| detail.message.as_ref()) {
                return Err(pull_failed(image, registry, logins, error));
            }
            layers.note(&line);
            admit(image, layers.total() - layers.done(), free)?;
            if clock::now().duration_since(told_at).unsigned_abs() >= TOLD_EVERY {
                told_at = clock::now();
                tell(layers.done(), layers.total());
            }
        }
        Ok(())
    }

    /// How much space there is where the engine keeps its images; nothing if that place cannot be seen from here.
    async fn free_space(&self) -> Result<Option<u64>, Fault> {
        let info = self.docker()?.info().await.map_err(|error| away(self.socket(), &error))?;
        Ok(info.docker_root_dir.and_then(|root| disk::free_bytes(Path::new(&root))))
    }

    /// The id of the image that this name stands for here.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, Fault> {
        match self.docker()?.inspect_image(image).await {
            Ok(found) => Ok(found.id),
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

/// Refuses what would fill the disk: `free` is what was free before the pull began, `packed` what is still to come.
fn admit(image: &str, packed: u64, free: Option<u64>) -> Result<(), Fault> {
    let needed = images::space_needed(packed);
    let Some(free) = free.filter(|free| *free < needed) else { return Ok(()) };
    let mebibytes = |bytes: u64| bytes / (1024 * 1024);
    Err(Fault::new(
        Code::SpaceShort,
        format!("{image} needs {} MiB, and {} MiB are free", mebibytes(needed), mebibytes(free)),
    )
    .because(format!("{} MiB of packed layers are to come, and 512 MiB are to stay free", mebibytes(packed)))
    .at("nothing that runs was touched")
    .hint("`docker system df` shows what takes the space"))
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
    fn what_does_not_fit_is_refused_with_its_numbers() {
        let mebibyte = 1024 * 1024;
        assert!(admit("a:1", 100 * mebibyte, None).is_ok());
        assert!(admit("a:1", 100 * mebibyte, Some(812 * mebibyte)).is_ok());
        let fault = admit("a:1", 100 * mebibyte, Some(811 * mebibyte)).unwrap_err();
        assert_eq!(fault.sentence, "a:1 needs 812 MiB, and 811 MiB are free");
        assert!(admit("a:1", 0, Some(511 * mebibyte)).is_err(), "the reserve counts before anything is known");
    }
}
