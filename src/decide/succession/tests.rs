use super::*;

const PACKAGE: &str = "0.1.0";
const BOOT: &str = "one";

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + minutes * 60).unwrap()
}

fn release(version: &str) -> Release {
    Release { version: version.into(), sha256: version.replace('.', "a").repeat(13)[..64].to_owned() }
}

fn offer(version: &str) -> Offer {
    Offer { release: release(version), url: format!("https://example.org/{version}") }
}

fn named(version: &str) -> Succession {
    name(&Succession { package: PACKAGE.into(), ..Succession::default() }, Some(&offer(version)), at(0))
}

/// A host that runs this version, which passed its trial.
fn running(version: &str) -> Succession {
    let tried_out = tried(&put_on_trial(&named(version), &release(version)), &Verdict::Passed, at(1));
    lived(&tried_out, SignedDuration::from_hours(1))
}

#[test]
fn without_an_entry_whatever_is_installed_runs() {
    let nothing = Succession { package: PACKAGE.into(), ..Succession::default() };
    assert_eq!((runs(&nothing), due(&nothing)), (None, None));
    assert_eq!(start(&nothing, PACKAGE, BOOT, at(0)).1, Start::Run(None));
    let left = name(&running("0.2.0"), None, at(5));
    assert_eq!((runs(&left), due(&left)), (Some(&release("0.2.0")), None), "an older package does not come back");
}

#[test]
fn a_newer_package_wins_where_the_repository_says_nothing_or_the_same() {
    let upgraded = |state: Succession| start(&state, "0.3.0", BOOT, at(5)).1;
    assert_eq!(upgraded(name(&running("0.2.0"), None, at(5))), Start::Run(None));
    assert_eq!(upgraded(name(&running("0.2.0"), Some(&offer("0.3.0")), at(5))), Start::Run(None));
    assert_eq!(upgraded(running("0.2.0")), Start::Run(Some(release("0.2.0"))), "the repository names another");
    let older = name(&running("0.2.0"), Some(&offer("0.1.0")), at(5));
    assert_eq!(runs(&older), Some(&release("0.2.0")), "the way back is a trial like every other");
    assert_eq!(due(&older), Some(&offer("0.1.0")));
}

#[test]
fn what_the_package_is_already_is_not_fetched() {
    assert_eq!(due(&named(PACKAGE)), None);
}

#[test]
fn a_version_that_passes_runs_from_then_on() {
    let state = put_on_trial(&named("0.2.0"), &release("0.2.0"));
    let (begun, first) = start(&state, PACKAGE, BOOT, at(1));
    assert_eq!(first, Start::Try(release("0.2.0")));
    let passed = tried(&begun, &Verdict::Passed, at(2));
    assert_eq!((runs(&passed), due(&passed), fault(&passed, at(60))), (Some(&release("0.2.0")), None, None));
    assert_eq!(start(&passed, PACKAGE, BOOT, at(3)).1, Start::Run(Some(release("0.2.0"))));
}

#[test]
fn a_version_that_does_not_is_not_tried_again_until_another_is_named() {
    let begun = start(&put_on_trial(&named("0.2.0"), &release("0.2.0")), PACKAGE, BOOT, at(1)).0;
    let refused = tried(&begun, &Verdict::Refused("it ended by itself".into()), at(2));
    assert_eq!((runs(&refused), due(&refused)), (None, None));
    assert_eq!(fault(&refused, at(3)).unwrap().code, Code::ReleaseRefused);
    assert_eq!(name(&refused, Some(&offer("0.2.0")), at(4)), refused, "the same one changes nothing");
    assert_eq!(due(&retry(&refused)), Some(&offer("0.2.0")));
    let another = name(&refused, Some(&offer("0.2.1")), at(4));
    assert_eq!((due(&another), fault(&another, at(4))), (Some(&offer("0.2.1")), None));
}

#[test]
fn a_trial_that_ended_with_its_anchor_counts_against_it_but_a_power_cut_does_not() {
    let begun = start(&put_on_trial(&named("0.2.0"), &release("0.2.0")), PACKAGE, BOOT, at(1)).0;
    let (killed, next) = start(&begun, PACKAGE, BOOT, at(2));
    assert_eq!(next, Start::Run(None));
    assert!(killed.refused.is_some() && killed.trial.is_none());
    let mut state = begun;
    for boot in ["two", "three"] {
        let (again, next) = start(&state, PACKAGE, boot, at(2));
        assert_eq!(next, Start::Try(release("0.2.0")));
        state = again;
    }
    assert_eq!(start(&state, PACKAGE, "four", at(2)).1, Start::Run(None), "not for ever");
    let stopped = tried(
        &start(&put_on_trial(&named("0.2.0"), &release("0.2.0")), PACKAGE, BOOT, at(1)).0,
        &Verdict::Interrupted,
        at(2),
    );
    assert_eq!(start(&stopped, PACKAGE, BOOT, at(3)).1, Start::Try(release("0.2.0")));
}

#[test]
fn what_a_trial_found_to_do_counts_only_if_the_version_before_finds_nothing() {
    let begun = start(&put_on_trial(&named("0.2.0"), &release("0.2.0")), PACKAGE, BOOT, at(1)).0;
    let doubtful = tried(&begun, &Verdict::Doubtful("it would carry out 1 step".into()), at(2));
    assert_eq!(start(&doubtful, PACKAGE, BOOT, at(3)).1, Start::Run(None), "the version before has a look");
    let refused = answer(&doubtful, true, at(4));
    assert_eq!(refused.refused.unwrap().because, "it would carry out 1 step");
    let fair = answer(&doubtful, false, at(4));
    assert_eq!(start(&fair, PACKAGE, BOOT, at(5)).1, Start::Try(release("0.2.0")));
}

#[test]
fn a_version_that_ends_again_and_again_after_its_trial_goes_back_to_the_one_before() {
    let before = name(&running("0.2.0"), Some(&offer("0.3.0")), at(5));
    let mut state = tried(&put_on_trial(&before, &release("0.3.0")), &Verdict::Passed, at(6));
    for _ in 0..MOST_STARTS {
        let (next, first) = start(&state, PACKAGE, BOOT, at(7));
        assert_eq!(first, Start::Run(Some(release("0.3.0"))));
        state = next;
    }
    assert_eq!(lived(&state, PROBATION).probation, None, "one that lives has proven itself");
    let (back, next) = start(&state, PACKAGE, BOOT, at(8));
    assert_eq!(next, Start::Run(Some(release("0.2.0"))));
    assert_eq!((due(&back), fault(&back, at(9)).unwrap().code), (None, Code::ReleaseRefused));
}

#[test]
fn wrong_content_is_asked_for_again_later_and_later() {
    let once = wrong(&named("0.2.0"), "its SHA-256 is abc".into(), at(1));
    let twice = wrong(&once, "its SHA-256 is abc".into(), at(1));
    let next = |state: &Succession| state.named.clone().unwrap().next.unwrap();
    assert!(next(&once) > at(1) && next(&twice) > next(&once));
    assert_eq!(due_at(&once, at(1)), None);
    assert_eq!(due_at(&once, at(60)), Some(&offer("0.2.0")));
    let said = fault(&once, at(1)).unwrap();
    assert!(said.code == Code::ReleaseUnfetched && said.hint.unwrap().contains("sha256sum"));
}

#[test]
fn a_download_that_does_not_come_is_told_after_a_while() {
    assert_eq!(fault(&named("0.2.0"), at(10)), None);
    assert_eq!(fault(&named("0.2.0"), at(20)).unwrap().code, Code::ReleaseUnfetched);
}

#[test]
fn what_is_damaged_is_told_until_a_version_has_passed_again() {
    let lost = lost(&running("0.2.0"), "its SHA-256 is abc".into());
    assert_eq!((runs(&lost), due(&lost)), (None, Some(&offer("0.2.0"))));
    assert_eq!(fault(&lost, at(1)).unwrap().code, Code::ReleaseDamaged);
    let again = tried(&put_on_trial(&lost, &release("0.2.0")), &Verdict::Passed, at(2));
    assert_eq!(fault(&again, at(3)), None);
}

#[test]
fn fields_of_newer_versions_survive() {
    let text = r#"{"version":1,"package":"0.1.0","later":{"x":1}}"#;
    let state: Succession = serde_json::from_str(text).unwrap();
    assert!(serde_json::to_string(&put_on_trial(&state, &release("0.2.0"))).unwrap().contains(r#""later":{"x":1}"#));
}
