//! `__lsan_default_suppressions` of compiled programs: whatever a compiler makes of `return "…"` is read.

use crate::suppress::builtin::{NotRead, default_suppressions, rules_of};
use crate::target::compiled::{Folder, Running, image};
use crate::target::identity::Pid;
use crate::target::process::Target;

const CONSTANT: &str = r##"
#include <stdio.h>
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void) {
    return "# known\nleak:keep_forever\nleak:libold.so\n";
}
int main(void) { puts("ready"); fflush(stdout); getchar(); }
"##;

#[test]
fn a_constant_is_read_however_it_was_compiled() {
    let folder = Folder::new("lsan-constant");
    for options in [
        ["-O0", "-pie", "-fPIE"],
        ["-O2", "-pie", "-fPIE"],
        ["-O2", "-no-pie", "-fno-pie"],
        ["-O0", "-no-pie", "-fno-pie"],
        ["-Os", "-fcf-protection=full", "-fPIE"],
    ] {
        let path = folder.compile("program", CONSTANT, &options);
        let text = default_suppressions(&image(&path)).unwrap();
        assert_eq!(
            text.unwrap(),
            "# known\nleak:keep_forever\nleak:libold.so\n",
            "{options:?}"
        );
    }
}

#[test]
fn the_rules_of_a_running_program_name_it_as_their_origin() {
    let folder = Folder::new("lsan-running");
    let path = folder.compile("program", CONSTANT, &["-O2"]);
    let running = Running::start(&mut std::process::Command::new(&path));
    let target = Target::of_pid(Pid(running.pid())).unwrap();
    let rules = rules_of(&target).unwrap();
    let patterns: Vec<&str> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
    assert_eq!(patterns, ["keep_forever", "libold.so"]);
    assert_eq!((rules[0].line, rules[1].line), (2, 3));
    assert!(rules[0].origin.to_string().contains("program"), "{}", rules[0].origin);
}

#[test]
fn what_a_function_computes_is_not_guessed_and_a_program_without_one_has_no_rules() {
    let folder = Folder::new("lsan-computed");
    let computed = r#"
#include <stdlib.h>
const char *__lsan_default_suppressions(void) { return getenv("RULES"); }
int main(void) { return 0; }
"#;
    let path = folder.compile("computed", computed, &["-O2"]);
    let answer = default_suppressions(&image(&path)).unwrap();
    assert!(matches!(answer, Err(NotRead::Computes(_))), "{answer:?}");
    let path = folder.compile("none", "int main(void) { return 0; }", &[]);
    assert_eq!(default_suppressions(&image(&path)), None);
}
