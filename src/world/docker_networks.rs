//! Asks the engine who is attached to a network, and moves containers off it and back.

use std::collections::BTreeSet;

use bollard::models::{
    ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest,
};

use crate::decide::fault::{Code, Fault};
use crate::model::{Attached, Endpoint};
use crate::world::docker::{Engine, ONE_OFF, PROJECT, SERVICE, away, is_not_found};

impl Engine {
    /// Who is attached to the networks with these names. Only what runs has an endpoint.
    pub async fn attached(&self, networks: &BTreeSet<String>) -> Result<Vec<Attached>, Fault> {
        let mut all = Vec::new();
        for network in networks {
            let found = match self.docker()?.inspect_network(network, None).await {
                Ok(found) => found,
                Err(error) if is_not_found(&error) => continue,
                Err(error) => return Err(away(self.socket(), &error)),
            };
            let ids: BTreeSet<String> = found.containers.into_iter().flatten().map(|(id, _)| id).collect();
            for id in ids {
                match self.docker()?.inspect_container(&id, None).await {
                    Ok(inspected) => all.push(attached(network, id, inspected)),
                    // It ended between the two questions.
                    Err(error) if is_not_found(&error) => {}
                    Err(error) => return Err(away(self.socket(), &error)),
                }
            }
        }
        Ok(all)
    }

    /// Takes a container off a network.
    pub async fn detach(&self, id: &str, name: &str, network: &str) -> Result<(), Fault> {
        let request = NetworkDisconnectRequest { container: id.to_owned(), force: Some(false) };
        let done = self.docker()?.disconnect_network(network, request).await;
        done.map_err(|error| {
            Fault::new(Code::StepFailed, format!("{name} cannot be taken off {network}")).caused_by(&error)
        })
    }

    /// Puts a container on a network, as it was there before.
    pub async fn attach(&self, id: &str, name: &str, network: &str, endpoint: &Endpoint) -> Result<(), Fault> {
        let fixed = endpoint.ipv4_address.is_some() || endpoint.ipv6_address.is_some();
        let addresses = EndpointIpamConfig {
            ipv4_address: endpoint.ipv4_address.clone(),
            ipv6_address: endpoint.ipv6_address.clone(),
            ..EndpointIpamConfig::default()
        };
        let settings = EndpointSettings {
            aliases: Some(endpoint.aliases.clone()),
            ipam_config: fixed.then_some(addresses),
            driver_opts: Some(endpoint.driver_options.clone().into_iter().collect()),
            gw_priority: endpoint.gateway_priority,
            ..EndpointSettings::default()
        };
        let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(settings) };
        let done = self.docker()?.connect_network(network, request).await;
        done.map_err(|error| {
            Fault::new(Code::StepFailed, format!("{name} cannot be put back on {network}")).caused_by(&error)
        })
    }
}

fn attached(network: &str, id: String, inspected: ContainerInspectResponse) -> Attached {
    let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
    let is_one_off = labels.get(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let made_for = labels.get(PROJECT).cloned().zip(labels.get(SERVICE).cloned()).filter(|_| !is_one_off);
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let settings = networks.get(network).cloned().unwrap_or_default();
    let addresses = settings.ipam_config.unwrap_or_default();
    let given = |address: Option<String>| address.filter(|address| !address.is_empty());
    Attached {
        network: network.to_owned(),
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        id,
        made_for,
        endpoint: Endpoint {
            aliases: settings.aliases.unwrap_or_default(),
            ipv4_address: given(addresses.ipv4_address),
            ipv6_address: given(addresses.ipv6_address),
            driver_options: settings.driver_opts.unwrap_or_default().into_iter().collect(),
            gateway_priority: settings.gw_priority,
        },
    }
}
