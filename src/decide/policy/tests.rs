use super::*;
use serde_json::{Value as Json, json};

fn ground(neighbours: &[&'static str]) -> Ground<'static> {
    Ground {
        stack: "web",
        neighbours: neighbours.to_vec(),
        directory: PathBuf::from("/var/lib/moorline/stacks/web"),
        moorline: ["/etc/moorline", "/var/lib/moorline", "/run/moorline"].map(PathBuf::from).into(),
        sockets: vec![PathBuf::from("/run/docker.sock")],
    }
}

fn found(service: Json) -> Vec<(Rule, String)> {
    let model = Model { services: [("a".to_owned(), service)].into(), ..Model::default() };
    demands(&model, &ground(&["db", "web_admin"])).into_iter().map(|demand| (demand.rule, demand.value)).collect()
}

fn bind(source: &str, read_only: bool) -> Vec<(Rule, String)> {
    found(json!({ "volumes": [{ "type": "bind", "source": source, "target": "/x", "read_only": read_only }] }))
}

fn rule_for(source: &str) -> Option<Rule> {
    bind(source, true).first().map(|(rule, _)| *rule)
}

#[test]
fn paths_are_judged_as_the_kernel_would_resolve_them() {
    for (source, rule) in [
        ("/var/lib/moorline/stacks/web/data", None),
        ("/var/lib/moorline/stacks/web", None),
        ("/etc/localtime", None),
        ("/var/lib/moorline/stacks/web/../db/data", Some(Rule::MoorlinePath)),
        ("/var/lib/moorline/stacks/web_admin", Some(Rule::MoorlinePath)),
        ("/var/lib/moorline/stacks/webs", Some(Rule::MoorlinePath)),
        ("/run/moorline/secrets/db", Some(Rule::MoorlinePath)),
        ("/srv/../run/docker.sock", Some(Rule::EngineSocket)),
        ("/var/run/docker.sock", Some(Rule::EngineSocket)),
        ("/var/run", Some(Rule::EngineSocket)),
        ("/run", Some(Rule::EngineSocket)),
        ("/", Some(Rule::EngineSocket)),
        ("/../..", Some(Rule::EngineSocket)),
        ("/srv/proxy/docker.sock", Some(Rule::EngineSocket)),
        ("/proc/1/root", Some(Rule::SystemPath)),
        ("/var/lib", Some(Rule::SystemPath)),
        ("/var", Some(Rule::SystemPath)),
        ("/var/lib/docker/volumes/db_data/_data", Some(Rule::SystemPath)),
        ("/srv/media", Some(Rule::Bind)),
        ("relative", Some(Rule::Bind)),
    ] {
        assert_eq!(rule_for(source), rule, "{source}");
    }
}

#[test]
fn what_compose_reads_may_not_be_written_by_a_container() {
    let own = |name: &str| format!("/var/lib/moorline/stacks/web{name}");
    for name in ["", "/compose.yaml", "/.env", "/moorline.override.yaml", "/data/../compose.yaml"] {
        assert_eq!(bind(&own(name), false)[0].0, Rule::OwnDirectory, "{name}");
        assert!(bind(&own(name), true).is_empty(), "{name}");
    }
    assert!(bind(&own("/data"), false).is_empty());
}

#[test]
fn an_exception_reaches_no_further_than_it_says() {
    let allows = |rule: Rule, allowed: &str, asked: &str| {
        let demand = Demand { rule, place: String::new(), value: asked.into() };
        is_allowed(&demand, &[Allowance { rule, value: allowed.into(), place: String::new() }])
    };
    assert!(allows(Rule::Bind, "/srv/media", "/srv/media/films:ro"));
    assert!(allows(Rule::Bind, "/srv/media:ro", "/srv/media:ro"));
    assert!(!allows(Rule::Bind, "/srv/media:ro", "/srv/media"));
    assert!(!allows(Rule::Bind, "/srv/media", "/srv/mediathek"));
    assert!(!allows(Rule::Bind, "/srv/media", "/srv"));
    assert!(!allows(Rule::Bind, "/", "/srv"));
    assert!(allows(Rule::SystemPath, "/proc:ro", "/proc:ro"));
    assert!(!allows(Rule::SystemPath, "/proc", "/proc/1:ro"));
    assert!(!allows(Rule::MoorlinePath, "/etc/moorline", "/etc/moorline"));
    assert!(allows(Rule::CapAdd, "cap_net_admin", "NET_ADMIN"));
    assert!(!allows(Rule::CapAdd, "NET_ADMIN", "ALL"));
    assert!(allows(Rule::PublishedPort, "10000-10100/udp", "10050-10060/udp"));
    assert!(!allows(Rule::PublishedPort, "10000-10100/udp", "10050/tcp"));
    assert!(!allows(Rule::PublishedPort, "80/tcp", "random/tcp"));
    assert!(!allows(Rule::PublishedPort, "10000-10100/udp", "10050-10200/udp"));
}

#[test]
fn ports_are_free_on_loopback_and_the_tailnet_only() {
    let port =
        |address: &str| found(json!({ "ports": [{ "host_ip": address, "published": "80", "protocol": "tcp" }] })).len();
    for address in ["127.0.0.1", "127.3.2.1", "::1", "100.64.0.1", "100.127.255.255", "fd7a:115c:a1e0::1"] {
        assert_eq!(port(address), 0, "{address}");
    }
    for address in ["", "0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "100.128.0.1", "fd00::1", "localhost"] {
        assert_eq!(port(address), 1, "{address}");
    }
}

#[test]
fn names_tell_whose_a_volume_or_a_network_is() {
    let shared = |kind: &str, name: &str| {
        let mut model = Model::default();
        let definitions = if kind == "volumes" { &mut model.volumes } else { &mut model.networks };
        definitions.insert("x".into(), json!({ "name": name, "external": true }));
        demands(&model, &ground(&["db", "web_admin"])).first().map(|demand| demand.rule)
    };
    for (name, volume, network) in [
        ("web_data", None, None),
        ("web_admin_data", Some(Rule::ForeignVolume), Some(Rule::ForeignNetwork)),
        ("db_data", Some(Rule::ForeignVolume), Some(Rule::ForeignNetwork)),
        ("edge", Some(Rule::ForeignVolume), None),
        ("dbs_data", Some(Rule::ForeignVolume), None),
        ("host", Some(Rule::ForeignVolume), Some(Rule::HostNamespace)),
    ] {
        assert_eq!(shared("volumes", name), volume, "{name}");
        assert_eq!(shared("networks", name), network, "{name}");
    }
}

#[test]
fn a_key_of_another_form_does_not_pass() {
    for service in [
        json!({ "privileged": "yes" }),
        json!({ "cap_add": "ALL" }),
        json!({ "cap_add": { "ALL": true } }),
        json!({ "security_opt": "seccomp=unconfined" }),
        json!({ "devices": ["/dev/sda"] }),
        json!({ "pid": ["host"] }),
        json!({ "deploy": "x" }),
        json!({ "tomorrow": 1 }),
        json!({ "volumes": [{ "type": "bind", "source": "./x", "tomorrow": 1 }] }),
        json!({ "post_start": [{ "command": ["x"], "privileged": true }] }),
    ] {
        assert!(!found(service.clone()).is_empty(), "{service}");
    }
    assert!(found(json!({ "x-anything": 1, "cap_drop": ["ALL"], "cap_add": ["net_bind_service"] })).is_empty());
}

#[test]
fn a_mark_is_never_shown() {
    let mark = "__moorline_secret_A_0123456789ab__";
    assert_eq!(found(json!({ "annotations": { mark: "x" } })), [(Rule::Annotation, "(secret A)".to_owned())]);
}

#[test]
fn the_line_of_a_demand_is_found() {
    let text =
        "services:\n  # web: no\n  web:\n    image: x\n    cap_add:\n      - SYS_TIME\n      - NET_ADMIN\n  b: {}\n";
    let at = |place: &str, value: &str| {
        place::line(text, &Demand { rule: Rule::CapAdd, place: place.into(), value: value.into() })
    };
    assert_eq!(at("services.web.cap_add", "NET_ADMIN"), Some(7));
    assert_eq!(at("services.web.cap_add", "ALL"), Some(5));
    assert_eq!(at("services.web.pid", "pid=host"), Some(3));
    assert_eq!(at("nowhere", "x"), None);
}
