//! The list in files: CSV with a header, NDJSON, or one address a line.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use relay_admin::view::{Entry, Source};
use relay_smtp::Mailbox;

use super::after;
use crate::outcome::Trouble;

pub const CSV_HEADER: &str = "address,added,expires,source,category,rule,reply,host,message";

/// A file, or standard input for `-`.
pub fn text(path: &Path) -> Result<String, Trouble> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| Trouble::NotWell(format!("{}: {error}", path.display())))?;
    Ok(text)
}

/// Err: the line, and what is wrong with it. All or nothing: half an import is found out late.
pub fn entries(text: &str, keep: Option<u64>, now: Timestamp) -> Result<Vec<Entry>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = || {
        let lines = text.lines().enumerate();
        lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    };
    let Some((_, first)) = lines().next() else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = fields(first)
        .iter()
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let has_header = names
        .iter()
        .any(|name| name == "address" || name == "email");
    let columns = if has_header {
        names
    } else {
        vec!["address".to_owned()]
    };
    lines()
        .skip(usize::from(has_header))
        .map(|(place, line)| {
            let entry = match line.trim_start().starts_with('{') {
                true => of_json(line),
                false => of_csv(&columns, line, now),
            };
            let entry = entry.map_err(|what| format!("{}: {what}", place + 1))?;
            Ok(Entry {
                source: Source::Import,
                expires: entry.expires.or(keep.and_then(|keep| after(now, keep))),
                ..entry
            })
        })
        .collect()
}

fn of_json(line: &str) -> Result<Entry, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

fn of_csv(columns: &[String], line: &str, now: Timestamp) -> Result<Entry, String> {
    let fields = fields(line);
    if fields.len() > columns.len() {
        return Err(format!(
            "{} fields, but the header names {}; write {CSV_HEADER}",
            fields.len(),
            columns.len()
        ));
    }
    let field = |name: &str| {
        let at = columns.iter().position(|column| column == name)?;
        let text = fields.get(at)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let time = |name: &str| match field(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<Timestamp>()
            .map(Some)
            .map_err(|_| format!("{name} = {text:?}: no time; write it as 2027-02-20T12:00:00Z")),
    };
    let address = field("address").or_else(|| field("email"));
    let address = address.ok_or("no address")?;
    Ok(Entry {
        address: Mailbox::parse(&address).map_err(|error| format!("{address}: {error}"))?,
        added: time("added")?.unwrap_or(now),
        expires: time("expires")?,
        source: Source::Import,
        category: field("category"),
        rule: field("rule"),
        reply: field("reply").or_else(|| field("reason")),
        host: field("host"),
        message: field("message"),
    })
}

/// One line of CSV (RFC 4180); a field never goes over a line here.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always one");
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => fields.push(String::new()),
            (c, _) => field.push(c),
        }
    }
    fields
}

pub fn csv_line(entry: &Entry) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let fields = [
        entry.address.to_string(),
        entry.added.to_string(),
        entry.expires.map_or_else(String::new, |at| at.to_string()),
        entry.source.to_string(),
        text(&entry.category),
        text(&entry.rule),
        text(&entry.reply),
        text(&entry.host),
        text(&entry.message),
    ];
    let quoted = |field: &String| match field.contains([',', '"', '\n', '\r']) {
        true => {
            let one_line = field.replace(['\n', '\r'], " ");
            format!("\"{}\"", one_line.replace('"', "\"\""))
        }
        false => field.clone(),
    };
    let fields: Vec<String> = fields.iter().map(quoted).collect();
    fields.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::queue::samples;

    fn read(text: &str) -> Result<Vec<Entry>, String> {
        entries(text, Some(3600), samples::now())
    }

    #[test]
    fn a_plain_list_a_table_and_json_are_all_read() {
        let plain = read("# bounced\na@x.example\n\nb@x.example\n").unwrap();
        assert_eq!(plain.len(), 2);
        assert_eq!(plain[0].expires, after(samples::now(), 3600));
        let table = read(
            "Email,Reason,expires\n\"a@x.example\",\"gone, said \"\"X\"\"\",2030-01-01T00:00:00Z\n",
        );
        let table = table.unwrap();
        assert_eq!(table[0].reply.as_deref(), Some("gone, said \"X\""));
        assert_eq!(
            table[0].expires.unwrap().to_string(),
            "2030-01-01T00:00:00Z"
        );
        let json = serde_json::to_string(&table[0]).unwrap();
        assert_eq!(read(&json).unwrap(), table);
    }

    #[test]
    fn what_is_exported_is_imported_as_it_was() {
        let text = "address,reply\n\"\"\"a, b\"\"@x.example\",\"550 5.1.1 No, \"\"really\"\"\"\n";
        let before = read(text).unwrap();
        let again = read(&format!("{CSV_HEADER}\n{}\n", csv_line(&before[0]))).unwrap();
        assert_eq!(before, again);
    }

    #[test]
    fn a_wrong_line_is_named_and_nothing_is_taken() {
        for (text, wanted) in [
            ("a@x.example\nno address", "2: no address: "),
            ("address,expires\na@x.example,soon", "2: expires = \"soon\""),
            ("a@x.example,b", "1: 2 fields, but the header names 1"),
            ("{\"address\":\"a@x.example\"}", "1: missing field"),
        ] {
            let what = read(text).unwrap_err();
            assert!(what.starts_with(wanted), "{what}");
        }
    }
}
