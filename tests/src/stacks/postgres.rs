//! PostgreSQL's server in one process, as its own user, fed with SQL on stdin. No package of the tests': where it is not
//! installed the table goes without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::deadline::REPLY;
use crate::memscope::complete;
use crate::target::Target;
use crate::workload::Folder;

const USER: &str = "postgres";

/// The folder of its programs, the newest version's.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    programs.filter(|folder| folder.join("postgres").exists()).max()
}

fn as_user(folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", USER, "--regid", USER, "--clear-groups", "env"])
        .current_dir(folder);
    command
}

/// A database in `folder`, and the server on it. `variables` are the server's alone.
pub fn start(folder: &Folder, variables: &[(&str, &str)]) -> Target {
    let programs = programs().expect("PostgreSQL is installed");
    let folder = folder.path();
    let mut own = Command::new("chown");
    own.arg(USER).arg(folder);
    assert!(complete(own).status.success(), "the folder is given to {USER}");
    let mut create = as_user(folder);
    create
        .arg(programs.join("initdb"))
        .args(["-A", "trust", "-N", "--no-instructions", "-D"]);
    create.arg(folder.join("data"));
    create
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let output = complete(create);
    assert!(output.status.success(), "{output}");
    let mut command = as_user(folder);
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(programs.join("postgres")).args(["--single", "-D"]);
    command.arg(folder.join("data")).arg(USER);
    command.stderr(std::process::Stdio::null());
    let mut target = Target::spawn(command);
    say(&mut target, "ready");
    target
}

/// Tables, an index, sorting, joins, functions, an error.
pub fn round(target: &mut Target, round: u32) {
    for sql in [
        &format!("create table words{round}(id int primary key, word text, other jsonb);"),
        &format!(
            "insert into words{round} select i, repeat(md5(i::text), i % 9), json_build_object('n', i, 'w', md5(i::text)) \
             from generate_series(1, 3000) i;"
        ),
        &format!("create index on words{round}(word);"),
        &format!("update words{round} set other = other || '{{\"more\": [1, 2, 3]}}' where id % 7 = 0;"),
        &format!(
            "select count(*), string_agg(a.word, ',' order by b.word desc) is null from words{round} a join words{round} b \
             on a.id = b.id + 7 where a.word ~ '[a-c]+[0-9]$';"
        ),
        &format!(
            "select sum((other->>'n')::numeric ^ 2), percentile_cont(0.5) within group (order by id) from words{round};"
        ),
        "select 1 / 0;",
        "do $$ declare t text := ''; begin for i in 1..200 loop t := t || i; begin perform 1 / (i % 10); exception when others then \
         t := upper(t); end; end loop; end $$;",
        &format!("analyze words{round};"),
    ] {
        target.send(sql);
    }
    say(target, &format!("done {round}"));
}

/// Waits until it answers.
fn say(target: &mut Target, word: &str) {
    target.send(&format!("select '{word}';"));
    let answer = format!("= \"{word}\"");
    while !target.line(REPLY).contains(&answer) {}
}
