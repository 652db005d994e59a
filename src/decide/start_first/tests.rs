use serde_json::{Value as Json, json};

use super::*;
use crate::model::Health;
use crate::model::ledger::Begun;

fn services(service: Json, others: Json) -> BTreeMap<String, Json> {
    let mut all: BTreeMap<String, Json> = serde_json::from_value(others).unwrap();
    all.insert("web".to_owned(), service);
    all
}

fn with(fields: &Json) -> Json {
    let mut service = json!({
        "image": "web:1", "x-moorline": {"strategy": "start-first"}, "labels": {"traefik.enable": "true"},
    });
    for (key, value) in fields.as_object().unwrap() {
        service[key] = value.clone();
    }
    service
}

fn found(service: Json, others: Json) -> Vec<String> {
    hindrances("web", &services(service, others)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_stateless_service_behind_a_route_can_start_first() {
    for fields in [
        json!({}),
        json!({"labels": ["traefik.enable=true", "traefik.http.routers.web.rule=Host(`a`)"]}),
        json!({"volumes": ["./conf:/etc/web:ro", {"type": "tmpfs", "target": "/tmp"}], "tmpfs": ["/run"]}),
        json!({"volumes": [{"type": "bind", "source": "/s/conf", "target": "/etc", "read_only": true}], "ports": []}),
        json!({"networks": {"edge": null, "inside": {"aliases": ["w"]}}, "scale": 3, "expose": ["80"]}),
        json!({"healthcheck": {"test": ["CMD", "true"]}, "depends_on": {"db": {"condition": "service_healthy"}}}),
        json!({"x-moorline": {"strategy": "start-first", "drain": "10m"}}),
    ] {
        assert_eq!(found(with(&fields), json!({"db": {}})), [""; 0], "{fields}");
    }
    // Who says nothing may have all of it.
    assert_eq!(found(json!({"ports": ["80:80"], "volumes": ["data:/data"]}), json!({})), [""; 0]);
}

#[test]
fn what_cannot_be_there_twice_is_named_with_its_field() {
    for (fields, place) in [
        (json!({"ports": ["127.0.0.1:80:80"]}), "ports"),
        (json!({"container_name": "web"}), "container_name"),
        (json!({"mac_address": "02:00:00:00:00:01"}), "mac_address"),
        (json!({"network_mode": "host"}), "network_mode"),
        (json!({"networks": {"edge": {"ipv4_address": "10.0.0.2"}}}), "networks.edge.ipv4_address"),
        (json!({"volumes": ["data:/data"]}), "volumes"),
        (json!({"volumes": ["data:/data:ro"]}), "volumes"),
        (json!({"volumes": ["/data"]}), "volumes"),
        (json!({"volumes": ["./uploads:/uploads"]}), "volumes"),
        (json!({"volumes": [{"type": "volume", "source": "data", "target": "/data"}]}), "volumes"),
        (json!({"volumes": [{"type": "bind", "source": "/s/up", "target": "/up"}]}), "volumes"),
        (json!({"volumes_from": ["db"]}), "volumes_from"),
        (json!({"pre_stop": [{"command": ["true"]}]}), "pre_stop"),
        (json!({"healthcheck": {"disable": true}}), "healthcheck"),
        (json!({"healthcheck": {"test": ["NONE"]}}), "healthcheck"),
        (json!({"labels": {"traefik.enable": "false"}}), "labels"),
        (json!({"labels": []}), "labels"),
        (json!({"labels": {"traefik.enable": "true", "traefik.tcp.routers.a.rule": "HostSNI(`*`)"}}), "labels"),
        (json!({"depends_on": {"db": {"condition": "service_started", "restart": true}}}), "depends_on"),
        (json!({"x-moorline": {"strategy": "start-first", "drain": "11m"}}), "x-moorline.drain"),
        (json!({"x-moorline": {"strategy": "start-first", "drain": "soon"}}), "x-moorline.drain"),
        (json!({"x-moorline": {"drain": "5s"}}), "x-moorline.drain"),
    ] {
        let found = found(with(&fields), json!({"db": {}}));
        assert!(found.iter().any(|found| found.starts_with(&format!("{place}: "))), "{fields}: {found:?}");
    }
    for other in [json!({"network_mode": "service:web"}), json!({"depends_on": {"web": {"restart": true}}})] {
        let found = found(with(&json!({})), json!({ "side": other }));
        assert!(found[0].starts_with("x-moorline.strategy: ") && found[0].contains("`side`"), "{found:?}");
    }
}

fn container(id: &str) -> Container {
    Container {
        id: id.into(),
        name: format!("shop-web-{id}"),
        project: "shop".into(),
        service: "web".into(),
        config_hash: String::new(),
        image: String::new(),
        image_id: String::new(),
        state: State::Running,
        health: Some(Health::Healthy),
        networks: BTreeSet::new(),
        labels: BTreeMap::new(),
    }
}

fn handover(old: &[&str], lead: Lead) -> Handover {
    let old = old.iter().map(|id| ((*id).to_owned(), format!("shop-web-{id}"))).collect();
    Handover { digest: "b".into(), old, lead }
}

#[test]
fn a_route_leads_to_the_old_containers_until_the_new_ones_take_over() {
    let observed = Observed { containers: ["1", "2", "3", "4"].map(container).into(), ..Observed::default() };
    let begun = |handover: Handover| {
        let handovers = [("web".to_owned(), handover)].into();
        BTreeMap::from([("shop".to_owned(), Begun { handovers, ..Begun::default() })])
    };
    let names = |old: &[&str], lead| Names::new(&observed, &begun(handover(old, lead)));
    let led = |names: Names| names.of("shop", "web").unwrap_or_default();
    assert_eq!(led(names(&["1", "2"], Lead::Old)), ["shop-web-1", "shop-web-2"]);
    assert_eq!(led(names(&["1", "2"], Lead::New)), ["shop-web-3", "shop-web-4"]);
    assert_eq!(led(names(&["1", "2"], Lead::New).led_back("shop")), ["shop-web-1", "shop-web-2"]);
    assert_eq!(led(names(&["1", "2"], Lead::New).led_back("web")), ["shop-web-3", "shop-web-4"]);
    assert_eq!(led(Names::new(&observed, &BTreeMap::new())).len(), 4);
    // Whichever are gone, somebody answers.
    assert_eq!(led(names(&["9"], Lead::Old)).len(), 4);
    assert_eq!(led(names(&["1", "2", "3", "4"], Lead::New)).len(), 4);
    assert_eq!(names(&[], Lead::Old).of("shop", "db"), None);
}

#[test]
fn a_gate_judges_the_new_container_and_not_the_old_one_beside_it() {
    let sample = |id: &str, health| Sample {
        id: id.into(),
        name: format!("shop-web-{id}"),
        service: "web".into(),
        state: State::Running,
        health: Some(health),
        restarts: 0,
        restarts_after_success: true,
    };
    let both = vec![sample("1", Health::Healthy), sample("2", Health::Starting)];
    let handovers: Handovers = [("web".to_owned(), handover(&["1"], Lead::Old))].into();
    let ids = |samples: &[Sample]| samples.iter().map(|sample| sample.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&judged(both.clone(), Some(&handovers))), ["2"]);
    assert_eq!(ids(&judged(both[..1].to_vec(), Some(&handovers))), ["1"], "withdrawn: what is left is judged");
    assert_eq!(ids(&judged(both, None)), ["1", "2"]);
}
