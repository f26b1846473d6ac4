//! Programs driven line by line on stdin: python3, sqlite3, perl, git.

use std::path::Path;
use std::process::Command;

use crate::target::Target;

const PYTHON: &str = r"
import sys, json, re, threading, zlib
kept = []
def crunch(round, part, out):
    words = ['%d-%d-%d' % (round, part, n * n % 9973) for n in range(1500)]
    text = json.dumps({w: [len(w), w.upper(), n / 7.0] for n, w in enumerate(words)}, sort_keys=True)
    found = re.findall(r'(\d+)-(\d+)-(\d+)', text)
    back = json.loads(text)
    packed = zlib.compress(text.encode())
    kept.append((bytearray(100007), sorted(back)[::50], packed))
    out[part] = (len(found), len(back), zlib.crc32(text.encode()))
print('ready', flush=True)
for line in sys.stdin:
    if line.strip() == 'quit':
        break
    round = int(line.split()[1])
    out = {}
    threads = [threading.Thread(target=crunch, args=(round, part, out)) for part in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    if round % 3 == 2:
        kept[:] = kept[::2]
    print('done', sorted(out.items()), flush=True)
";

const PERL: &str = r#"
$| = 1;
my @kept;
print "ready\n";
while (<STDIN>) {
    last if /^quit/;
    my ($round) = /(\d+)/;
    my %count;
    for my $n (1 .. 3000) {
        my $word = join '-', $round, $n, ($n * $n) % 9973;
        push @{ $count{ substr $word, 0, 5 } }, { word => $word, upper => "<" . reverse($word) . ">" };
    }
    my $text = join ',', map { my $k = $_; map { "$k=$_->{word}$_->{upper}" } @{ $count{$k} } } sort keys %count;
    (my $other = $text) =~ s/(\d+)-(\d+)/$2+$1/g;
    my $sum = unpack '%32C*', $other;
    push @kept, \%count, $text;
    splice @kept, 0, 3 if $round % 3 == 2;
    print "done ", length($other), " $sum\n";
}
"#;

/// Debian's python3, taking every object from malloc.
pub fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-s", "-c", PYTHON]).env("PYTHONMALLOC", "malloc");
    command
}

/// sqlite3 on a database in memory.
pub fn sqlite() -> Command {
    let mut command = Command::new("/usr/bin/sqlite3");
    command.args(["-batch", "-init", "/dev/null", ":memory:"]);
    command
}

/// perl with its script.
pub fn perl() -> Command {
    let mut command = Command::new("/usr/bin/perl");
    command.args(["-e", PERL]);
    command
}

/// A repository in `folder`, and git reading objects from it.
pub fn git(folder: &Path) -> Command {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/git");
        command
            .current_dir(folder)
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        command
    };
    let run = |arguments: &[&str]| {
        let output = git(arguments).output().expect("git runs");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&["init", "--quiet", "--initial-branch", "main"]);
    for number in 0..200 {
        let line = format!("{number} ").repeat(200 + number * 20);
        std::fs::write(folder.join(format!("file{number}")), line.trim_end()).expect("a file");
    }
    run(&["add", "."]);
    let identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@localhost"];
    run(&[
        &identity[..],
        &["commit", "--quiet", "--date", "2000-01-01T00:00:00Z", "-m", "Files"],
    ]
    .concat());
    run(&["repack", "--quiet", "-a", "-d"]);
    let mut command = git(&["cat-file", "--batch"]);
    command.env("GIT_PAGER", "cat");
    command
}

/// Some tables, joins and deletions.
pub fn sqlite_round(target: &mut Target, round: u32) -> Vec<String> {
    target.send(&format!(
        "create table if not exists words(id integer primary key, round integer, word text, other blob);
create index if not exists by_word on words(word);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
insert into words(round, word, other) select {round}, printf('%d-%d', i * i % 9973, {round}), zeroblob(i % 300) from n;
commit;
delete from words where round = {} and id % 3 = 0;
select count(*), sum(length(word)), sum(length(other)), max(word) from words;
select count(*) from (select a.word from words a join words b on a.id = b.id + 7 where a.word > b.word order by a.word || b.word);
select group_concat(word, '') = '' from (select word from words order by other, word);
.print done {round}",
        round.saturating_sub(2)
    ));
    let mut said = Vec::new();
    loop {
        let line = target.line(crate::deadline::REPLY);
        if line == format!("done {round}") {
            return said;
        }
        said.push(line);
    }
}

/// Reads every file of the repository, and the tree and commit.
pub fn git_round(target: &mut Target, round: u32) -> Vec<String> {
    let mut said = Vec::new();
    for number in 0..200 {
        let name = format!("HEAD:file{}", (number * 7 + round) % 200);
        said.push(target.ask(&name));
        said.push(target.line(crate::deadline::REPLY));
        said.push(target.ask(&format!("HEAD~{}", 1 + number)));
    }
    said
}
