//! `make install` and `make uninstall`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::path::Path;

use common::{bin, both, root, run, shell};

fn make(goal: &str, prefix: &Path) -> (bool, String) {
    let (root, bin, prefix) = (root(), bin(), prefix.to_owned());
    let what = format!(
        "make --no-print-directory -C {} {goal} BIN={} PREFIX={}",
        root.display(),
        bin.display(),
        prefix.display()
    );
    let output = shell(&root, &what).output().unwrap();
    (output.status.success(), both(&output))
}

fn programs() -> Vec<String> {
    let sources = fs::read_dir(root().join("src/bin")).unwrap();
    let name = |path: std::path::PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let programs: Vec<String> = sources.map(|entry| name(entry.unwrap().path())).collect();
    assert!(programs.len() >= 12);
    programs
}

/// Flags that the help of a program lists.
fn flags(help: &str) -> Vec<&str> {
    let (_, listed) = help.split_once("\nOptions:\n").unwrap();
    let lines = listed.lines().filter(|line| line.len() - line.trim_start().len() <= 6);
    let flag = |line| str::split_whitespace(line).find(|word| word.starts_with("--"));
    let flags = lines.filter_map(flag).map(|word| word.split(['=', '[', '<']).next().unwrap());
    flags.collect()
}

/// Whether a shell is there to load its completions in.
fn has(name: &str) -> bool {
    let found = shell(Path::new("/"), &format!("command -v {name}")).output().unwrap();
    let found = found.status.success();
    if !found {
        common::skipped(&format!("no {name} to load completions in; apt install {name}"));
    }
    found
}

/// What zsh hands to its completion for a program, once it has found and loaded the script by itself.
fn in_zsh(program: &str, share: &Path) -> String {
    let script = format!(
        "fpath=({0}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D
         [[ $_comps[{program}] = _{program} ]] || exit
         _arguments() {{ print -rl -- \"$@\" }}
         _{program}",
        share.display()
    );
    run(Path::new("/"), &format!("zsh -f -c {}", quoted(&script)))
}

/// What fish offers after `--`.
fn in_fish(program: &str, share: &Path) -> String {
    let script = share.join(format!("fish/vendor_completions.d/{program}.fish"));
    let script = format!("source {}; complete -C'{program} --'", script.display());
    run(Path::new("/"), &format!("HOME=$(mktemp -d) fish -N -c {}", quoted(&script)))
}

fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', "'\\''"))
}

/// What is installed is not only written as it should be: the shells load it, and offer every flag.
#[test]
fn zsh_and_fish_load_their_completions() {
    let (zsh, fish) = (has("zsh"), has("fish"));
    if !zsh && !fish {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (done, said) = make("install", dir.path());
    assert!(done, "{said}");
    let share = dir.path().join("share");
    for program in programs() {
        let help = run(Path::new("/"), &format!("{program} --help"));
        let in_zsh = zsh.then(|| in_zsh(&program, &share));
        let in_fish = fish.then(|| in_fish(&program, &share));
        for flag in flags(&help) {
            if let Some(offered) = &in_zsh {
                let spec = |line: &str| {
                    line.contains(&format!("{flag}[")) || line.contains(&format!("{flag}="))
                };
                assert!(offered.lines().any(spec), "{program} {flag} in zsh\n{offered}");
            }
            if let Some(offered) = &in_fish {
                let is_it = |line: &str| line.split('\t').next() == Some(flag);
                assert!(offered.lines().any(is_it), "{program} {flag} in fish\n{offered}");
            }
        }
    }
}

#[test]
fn programs_pages_and_completions_are_installed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("usr");
    let (done, said) = make("install", &prefix);
    assert!(done, "{said}");
    let share = prefix.join("share");
    for program in programs() {
        // Nothing of the environment that built it.
        let help =
            run(Path::new("/"), &format!("env -i {}/bin/{program} --help", prefix.display()));
        assert!(!help.contains("--generate"), "{help}");
        // The examples: every help has some.
        let example = help.lines().find(|line| line.starts_with("  ") && line.contains(&program));
        let example = example.unwrap_or_else(|| panic!("{program} --help has no example")).trim();

        let page = fs::read_to_string(share.join(format!("man/man1/{program}.1"))).unwrap();
        let page = page.replace("\\*(Aq", "'").replace('\\', "");
        let bash = share.join("bash-completion/completions").join(&program);
        let zsh = fs::read_to_string(share.join(format!("zsh/site-functions/_{program}"))).unwrap();
        let fish = share.join(format!("fish/vendor_completions.d/{program}.fish"));
        let fish = fs::read_to_string(fish).unwrap();
        assert!(page.contains(&format!(".TH {program} 1")), "{page}");
        assert!(page.contains(".SH EXAMPLES") && page.contains(example), "{program}: {example}");
        let offered = format!(
            ". {0}; COMP_WORDS=({program} --); COMP_CWORD=1; _{program} {program} -- {program}; echo ${{COMPREPLY[@]}}",
            bash.display()
        );
        let offered = run(Path::new("/"), &offered);
        assert!(flags(&help).contains(&"--quiet"), "{help}");
        for flag in flags(&help) {
            assert!(page.contains(flag) && zsh.contains(flag), "{program} {flag}");
            assert!(fish.contains(&format!("-l {}", &flag[2..])), "{program} {flag}");
            assert!(
                offered.split_whitespace().any(|word| word == flag),
                "{program} {flag}\n{offered}"
            );
        }
    }
    run(dir.path(), "usr/bin/sweep --help | grep -q seed=0,1");

    fs::write(prefix.join("bin/another"), "").unwrap();
    let (done, said) = make("install", &prefix);
    assert!(done, "over an older one: {said}");
    let (done, said) = make("uninstall", &prefix);
    assert!(done, "{said}");
    assert_eq!(run(&prefix, "find . -type f"), "./bin/another\n");
}

#[test]
fn what_is_of_others_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bin")).unwrap();
    fs::write(dir.path().join("bin/merge"), "of RCS").unwrap();
    let (done, said) = make("install", dir.path());
    assert!(!done && said.contains("bin/merge: is there, and was not installed by tapt"), "{said}");
    assert!(said.contains("\nhint: another PREFIX"), "{said}");
    let (done, said) = make("uninstall", dir.path());
    assert!(!done && said.contains("there is no such list"), "{said}");
    assert_eq!(run(dir.path(), "find . -type f | xargs cat"), "of RCS");
}

#[test]
fn other_pages_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = shell(dir.path(), "mask --generate html").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(both(&output), "mask: --generate html: man, bash, zsh or fish\n");
}
