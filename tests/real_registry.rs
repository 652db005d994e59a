//! Images from a real registry with a login: the login comes from the sealed file and stays off every disk.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use support::lab::WEB;
use support::{Lab, Registry, search_for_canary};

/// As clients keep a login.
fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn an_image_is_pulled_with_the_login_of_the_sealed_file_and_a_wrong_login_touches_nothing() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let registry = Registry::start(&engine, true);
    registry.login(Registry::PASSWORD).succeeds();
    registry.push("lab/web:1", "team/web:1");
    let pinned = registry.push("lab/db:1", "team/db:1");
    let reference = format!("{}/team/web:1", registry.address());
    lab.engine.docker(&["rmi", &reference, &format!("{}/team/db:1", registry.address())]).succeeds();
    registry.logout();
    lab.engine.docker(&["rmi", "-f", "lab/db:1", "lab/web:1"]).succeeds();

    let address = registry.address();
    let login = |password: &str| {
        format!(
            "web:\n  TOKEN: x\nregistries:\n  {address}:\n    username: {}\n    password: {password}\n",
            Registry::USER
        )
    };
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", &reference).replace("lab/db:1", &pinned));
    lab.secrets(&login("wrong-password-88"));
    lab.publish("wrong login");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[step-failed]: pull of web failed"), "{ran}");
    assert!(!ran.said().contains("wrong-password-88"), "{ran}");
    assert!(lab.containers("web").is_empty());

    lab.secrets(&login(Registry::PASSWORD));
    lab.deploy("right login");
    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), "hello");
    let lasting = [lab.host.state(), lab.host.etc(), lab.engine.data_root.clone(), lab.engine.client_config()];
    let encoded = base64_of(&format!("{}:{}", Registry::USER, Registry::PASSWORD));
    let hits = search_for_canary(&lasting, &["wrong-password-88", Registry::PASSWORD, &encoded]);
    assert!(hits.is_empty(), "{hits:#?}");

    // Registry away: nothing is pulled for what is here already.
    drop(registry);
    lab.fleet.write("hosts/alpha/notes.txt", "a commit that touches no stack");
    assert!(lab.deploy("offline").contains("nothing to do"));
}
