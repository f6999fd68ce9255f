//! The page of `report` in a browser: it renders, sorts, is read on a phone, and asks nobody for anything.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::path::PathBuf;
use std::process::Command;

/// Chromium, as distributions name it. Without it the test is skipped, unless BROWSER says it must not be.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("BROWSER").is_none(), "no Chromium: apt install chromium");
        common::skipped("no Chromium to look at the page of report with; apt install chromium");
    }
    found
}

#[test]
fn the_page_of_a_report_is_one_to_read() {
    let (Some(python), Some(chromium)) = (common::python(), chromium()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let case = common::root().join("tests/cases/report/page");
    let command = format!(
        "cp {}/{{runs.sh,hidden.py}} . && . ./runs.sh && report --html page.html > /dev/null",
        case.display()
    );
    common::run(dir.path(), &command);
    let script = common::root().join("tests/parity/page.py");
    let page = dir.path().join("page.html");
    let output = Command::new(python).arg(script).arg(chromium).arg(page).output().unwrap();
    assert!(output.status.success(), "{}", common::both(&output));
}
