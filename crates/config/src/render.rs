//! The sample file and the reference, rendered from the table of options.

use std::fmt::Write;

use crate::kind::Kind;
use crate::options::{OPTIONS, SECTIONS};
use crate::row::{Default, Row, Section, Status};

/// Columns of the sample's comments.
const WIDTH: usize = 80;

const SAMPLE_HEAD: &str = "\
# The configuration of relayd. Every option is here, commented out, with its default, or with an
# example where there is no fixed default. docs/configuration.md shows the same as tables.
#
# Check it with `relayctl config check`; put it to work with `relayctl reload`.
";

const REFERENCE_HEAD: &str = "\
# Configuration

relayd reads `/etc/relayd/relayd.toml`, or the file named by `--config`, in [TOML](https://toml.io).
Without any option it accepts mail on 127.0.0.1:2525 from this machine and delivers it by MX.

What is set twice is taken from the last of:

1. the defaults below,
2. the file,
3. `conf.d/*.toml` beside it, sorted by name,
4. the environment: `RELAYD__SECTION__KEY`, as in `RELAYD__LOG__LEVEL=debug`,
5. the command line.

Lists are replaced as a whole. Arrays of tables (`[[listener]]`, `[[user]]`, `[[route]]`, `[[limit]]`,
`[[dkim]]`) are different: those of the file and of `conf.d` are put one after the other. The
environment replaces them, as in `RELAYD__LISTENER='[{ address = \"127.0.0.1:2526\" }]'`.

`relayctl config check` tells every mistake with file, line, key and fix, and exits with 78 if there
is one; relayd does the same at start. `relayctl config show` tells the values in force and where each
comes from. On `relayctl reload` a configuration with a mistake is refused, and the old one stays.

Units: durations `500ms`, `30s`, `5m`, `4h`, `5d`, `1w`, also `1h30m`; sizes `512B`, `64KiB`, `50MiB`,
`1GiB` (powers of 1024) and `25MB` (powers of 1000); rates `20/s`, `100/min`, `5000/h`, `10000/d`;
percentages `10%`. Domains may be written in Unicode.
";

/// `etc/relayd.toml`
pub fn sample() -> String {
    let mut text = SAMPLE_HEAD.to_owned();
    for section in SECTIONS {
        sample_section(&mut text, section);
    }
    text
}

fn sample_section(text: &mut String, section: &Section) {
    if !section.name.is_empty() {
        text.push('\n');
        comment(text, section.doc);
        let _ = writeln!(text, "#{}", header(section));
    }
    for row in rows_of(section) {
        text.push('\n');
        comment(text, &row.doc.replace('`', ""));
        let mut facts = format!("Type: {}.", row.kind.describe().replace('`', ""));
        let value = match row.default {
            Default::Is(value) => value,
            Default::Otherwise(words) => {
                let _ = write!(facts, " Without it: {}.", words.replace('`', ""));
                row.example
            }
            Default::Required => {
                facts.push_str(" It must be given.");
                row.example
            }
        };
        comment(text, &facts);
        let _ = writeln!(text, "#{} = {value}", row.split().1);
    }
}

/// `docs/configuration.md`
pub fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    for section in SECTIONS {
        reference_section(&mut text, section);
    }
    text.push_str("\n## Not built yet\n\nThese are refused by name in this version:\n\n");
    for row in OPTIONS {
        if let Status::NotYet(what) = row.status {
            let _ = writeln!(text, "- `{}`: waits for {what}", row.key);
        }
        if let Kind::Word { not_yet, .. } = row.kind {
            for (word, what) in not_yet {
                let _ = writeln!(text, "- `{} = \"{word}\"`: waits for {what}", row.key);
            }
        }
    }
    text
}

fn reference_section(text: &mut String, section: &Section) {
    let title = match section.name {
        "" => "At the top of the file".to_owned(),
        _ => format!("`{}`", header(section)),
    };
    let _ = write!(text, "\n## {title}\n\n");
    if !section.doc.is_empty() {
        let _ = write!(text, "{}\n\n", section.doc);
    }
    text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for row in rows_of(section) {
        let default = match row.default {
            Default::Is(value) => format!("`{value}`"),
            Default::Otherwise(words) => words.to_owned(),
            Default::Required => "must be given".to_owned(),
        };
        let cells = [
            format!("`{}`", row.split().1),
            row.kind.describe(),
            default,
            format!("{} Example: `{}`", row.doc, row.example),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

/// The options of a table that this version knows.
fn rows_of(section: &Section) -> impl Iterator<Item = &'static Row> {
    let name = section.name;
    OPTIONS
        .iter()
        .filter(move |row| row.status == Status::Built && row.split().0 == name)
}

/// `[state]`, `[[listener]]`, `[retry.default]`
fn header(section: &Section) -> String {
    match section.name.strip_suffix("[]") {
        Some(array) => format!("[[{array}]]"),
        None => format!("[{}]", section.name.replace('*', "default")),
    }
}

/// Lines of `# words`, as wide as the sample.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line != "#" {
        text.push_str(&line);
        text.push('\n');
    }
}
