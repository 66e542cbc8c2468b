//! Names are used once in all files: two rules of one name could not be told apart in logs, counts and reports.

use std::collections::HashMap;

use crate::load::Loaded;
use crate::table::{DEFAULT_FILE, TableError};

/// A rule or a guard, as far as its name goes.
struct Named<'a> {
    name: &'a str,
    file: &'a str,
    line: usize,
}

pub(crate) fn check_names(all: &Loaded, errors: &mut Vec<TableError>) {
    let rules = all.rules.iter().map(|rule| Named {
        name: &rule.name,
        file: &rule.file,
        line: rule.line,
    });
    let guards = all.guards.iter().map(|guard| Named {
        name: &guard.name,
        file: &guard.file,
        line: guard.line,
    });
    check(rules, "rule", errors);
    check(guards, "guard", errors);
}

fn check<'a>(all: impl Iterator<Item = Named<'a>>, what: &str, errors: &mut Vec<TableError>) {
    let mut seen: HashMap<&str, Named<'_>> = HashMap::new();
    for named in all {
        let Some(first) = seen.get(named.name) else {
            seen.insert(named.name, named);
            continue;
        };
        // The default table comes last, and is not the operator's to change: the mistake is in the first one then.
        let (wrong, message) = if named.file == DEFAULT_FILE && first.file != DEFAULT_FILE {
            let place = format!("{}:{}", named.file, named.line);
            (
                first,
                format!(
                    "name = {:?}: a {what} of the default table has this name ({place}); choose another, since one does not replace the other: yours is tried first, and the default one after it",
                    named.name
                ),
            )
        } else {
            (
                &named,
                format!(
                    "name = {:?}: {}:{} has this name already; choose another",
                    named.name, first.file, first.line
                ),
            )
        };
        errors.push(TableError {
            file: wrong.file.to_owned(),
            line: wrong.line,
            message,
        });
    }
}
