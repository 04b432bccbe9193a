//! A drill with the wrong identity: the key is wrong, the backup is well.

use crate::common::run;
use crate::evenings::Evening;

#[test]
fn a_drill_with_the_wrong_identity_finds_no_difference() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let proven = |said: &str| {
        let line = said.lines().find(|l| l.starts_with("proven: "));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    // Without one, what was not opened is not among what is proven.
    let without = evening.says(&["drill"]).exits(0).stdout;
    assert!(
        proven(&without).contains(" and 2 not decrypted, "),
        "{without}"
    );
    let files = |line: &str| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();

    let other = home.dir.path().join("other.txt");
    run("age-keygen", &["-o".as_ref(), other.as_os_str()]);
    let said = evening
        .says(&["drill", "--identity", other.to_str().unwrap()])
        .exits(22);
    assert!(!format!("{said:?}").contains("DIFFERENT"), "{said:?}");
    assert!(said.stdout.contains("NOT DECRYPTED: "), "{said:?}");
    // The hint's page says whose identity is wanted.
    let page = evening
        .follows("rustic-hapi recovery-kit", &[])
        .exits(0)
        .stdout;
    assert!(
        said.stderr.contains("`rustic-hapi recovery-kit`"),
        "{said:?}"
    );
    assert!(page.contains(&home.recipient), "{page}");
    let status = evening.says(&["status"]).exits(0);
    let told = format!("{}{}", status.stdout, status.stderr);
    assert!(!told.to_lowercase().contains("difference"), "{told}");
    assert!(told.contains("NOT DECRYPTED"), "{told}");

    let identity = home.identity();
    let with = evening
        .says(&["drill", "--identity", identity.to_str().unwrap()])
        .exits(0)
        .stdout;
    assert_eq!(files(&proven(&with)), files(&proven(&without)) + 2);
}
