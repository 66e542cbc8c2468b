//! `relayctl suppression`: the addresses that are not to be tried again.

mod file;

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use relay_admin::suppression::{ENTRIES_MAX, NewEntries, SuppressionQuery, Unsuppress};
use relay_admin::view::{Added, Entry, Removed, Source, SuppressionPage};
use relay_smtp::Mailbox;

use crate::client::{Client, Pairs};
use crate::command::act::{Ask, Progress};
use crate::outcome::{Done, Outcome, Trouble};
use crate::prompt::{self, Answer};
use crate::text::{self, Format, Screen, parse_span};

#[derive(Subcommand)]
pub enum Suppression {
    /// Who is on the list, why, and until when
    List {
        #[command(flatten)]
        select: Select,
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        limit: usize,
        #[command(flatten)]
        output: crate::Output,
    },
    /// Put addresses on the list
    Add {
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<String>,
        /// Until then, such as 90d; without it until they are removed
        #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
        keep: Option<u64>,
        /// Why; shown wherever the address is refused
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        output: crate::Output,
    },
    /// Take addresses off the list: one by name, or all that match
    Remove {
        /// One address
        address: Option<String>,
        #[command(flatten)]
        select: Select,
        /// The whole list
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: crate::Output,
    },
    /// Add addresses from a file: CSV with a header, NDJSON as `list --json` writes it, or one address a
    /// line
    Import {
        /// The file; - is standard input
        file: PathBuf,
        /// For entries that name no end, such as 90d; without it until they are removed
        #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
        keep: Option<u64>,
        #[command(flatten)]
        output: crate::Output,
    },
    /// Write the list to standard output
    Export {
        #[command(flatten)]
        select: Select,
        #[arg(long, value_enum, default_value_t = FileFormat::Csv)]
        format: FileFormat,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    Csv,
    Ndjson,
}

/// Which entries; several are and-ed.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Select {
    /// This address
    #[arg(long = "recipient", value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Addresses of this domain
    #[arg(long, value_name = "DOMAIN")]
    to: Option<String>,
    /// Put there by: policy, operator or import
    #[arg(long, value_name = "WORD", value_parser = source)]
    source: Option<Source>,
    /// Put there by this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Added longer ago than this, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    older_than: Option<u64>,
}

fn source(word: &str) -> Result<Source, String> {
    let mut sources = Source::ALL.into_iter();
    sources
        .find(|source| source.word() == word)
        .ok_or_else(|| "write policy, operator or import".to_owned())
}

impl Suppression {
    pub async fn run(self, client: &Client, screen: &Screen) -> Outcome {
        match self {
            Suppression::List {
                select,
                limit,
                output,
            } => list(client, &select, limit, output.format(), screen).await,
            Suppression::Add {
                addresses,
                keep,
                reason,
                output,
            } => {
                let now = Timestamp::now();
                let entry = |text: &String| by_operator(text, keep, reason.clone(), now);
                let entries = addresses.iter().map(entry).collect::<Result<_, _>>()?;
                told(add(client, entries).await?, output.format())
            }
            Suppression::Remove {
                address,
                mut select,
                all,
                yes,
                output,
            } => {
                if address.is_some() {
                    select.recipient = address;
                }
                remove(client, &select, all, Ask::from(yes), output.format()).await
            }
            Suppression::Import { file, keep, output } => {
                let text = file::text(&file)?;
                let entries = file::entries(&text, keep, Timestamp::now())
                    .map_err(|what| Trouble::Usage(format!("{}:{what}", file.display())))?;
                told(add(client, entries).await?, output.format())
            }
            Suppression::Export { select, format } => export(client, &select, format).await,
        }
    }
}

fn by_operator(
    text: &str,
    keep: Option<u64>,
    reason: Option<String>,
    now: Timestamp,
) -> Result<Entry, Trouble> {
    let address = Mailbox::parse(text)
        .map_err(|error| Trouble::Usage(format!("{text}: no mail address: {error}")))?;
    Ok(Entry {
        address,
        added: now,
        expires: keep.and_then(|keep| after(now, keep)),
        source: Source::Operator,
        category: None,
        rule: None,
        reply: reason,
        host: None,
        message: None,
    })
}

fn after(now: Timestamp, seconds: u64) -> Option<Timestamp> {
    let seconds = i64::try_from(seconds).ok()?;
    now.checked_add(SignedDuration::from_secs(seconds)).ok()
}

async fn list(
    client: &Client,
    select: &Select,
    limit: usize,
    format: Format,
    screen: &Screen,
) -> Outcome {
    let mut rows = Vec::new();
    let mut pages = Pages::of(select, limit);
    while let Some(page) = pages.next(client).await? {
        match format {
            Format::Json => page
                .iter()
                .for_each(|entry| println!("{}", text::json_line(entry))),
            Format::Text => rows.extend(page.iter().map(row)),
        }
    }
    let headers = ["ADDRESS", "SINCE", "UNTIL", "SOURCE", "WHY"];
    match format {
        Format::Text if rows.is_empty() => println!("no address is suppressed"),
        Format::Text => println!("{}", text::table(&headers, rows, screen)),
        Format::Json => {}
    }
    if pages.more {
        eprintln!("There are more: --limit, or relayctl suppression export.");
    }
    Ok(Done::Well)
}

fn row(entry: &Entry) -> Vec<String> {
    let day = |at: Timestamp| text::time(at).split(' ').next().unwrap_or("").to_owned();
    let why = [&entry.category, &entry.reply];
    let why: Vec<&str> = why.into_iter().flatten().map(String::as_str).collect();
    vec![
        text::shortened(&entry.address.to_string(), 40),
        day(entry.added),
        entry.expires.map_or_else(|| "removed".to_owned(), day),
        entry.source.to_string(),
        why.join(": "),
    ]
}

async fn export(client: &Client, select: &Select, format: FileFormat) -> Outcome {
    let mut out = std::io::stdout().lock();
    let failed = |error: std::io::Error| Trouble::NotWell(format!("standard output: {error}"));
    if format == FileFormat::Csv {
        writeln!(out, "{}", file::CSV_HEADER).map_err(failed)?;
    }
    let mut pages = Pages::of(select, usize::MAX);
    while let Some(page) = pages.next(client).await? {
        for entry in page {
            let line = match format {
                FileFormat::Csv => file::csv_line(&entry),
                FileFormat::Ndjson => text::json_line(&entry),
            };
            writeln!(out, "{line}").map_err(failed)?;
        }
    }
    Ok(Done::Well)
}

/// In requests that the daemon takes; what was added before a refusal stays.
async fn add(client: &Client, entries: Vec<Entry>) -> Result<Added, Trouble> {
    let progress = Progress::new("suppressed");
    let mut all = Added::default();
    for some in entries.chunks(ENTRIES_MAX) {
        let entries = some.to_vec();
        let added: Added = client
            .post("/v1/suppressions", &NewEntries { entries })
            .await?;
        all.added += added.added;
        all.replaced += added.replaced;
        progress.show(all.added + all.replaced);
    }
    progress.end();
    Ok(all)
}

fn told(added: Added, format: Format) -> Outcome {
    match format {
        Format::Json => println!("{}", text::json_line(&added)),
        Format::Text => println!(
            "{} suppressed, {} known before",
            text::count(added.added + added.replaced, "recipient"),
            added.replaced
        ),
    }
    Ok(Done::Well)
}

async fn remove(client: &Client, select: &Select, all: bool, ask: Ask, format: Format) -> Outcome {
    if *select == Select::default() && !all {
        return Err(Trouble::Usage(
            "nothing selected; name an address, say which (--to, --rule, ...), or --all".to_owned(),
        ));
    }
    // One that is named is meant, and is soon put back.
    if select.recipient.is_none() && ask == Ask::First {
        confirm(client, select).await?;
    }
    let command = Unsuppress {
        filter: select.query(None, 0).filter(),
        all,
    };
    let removed: Removed = client.post("/v1/suppressions/remove", &command).await?;
    match format {
        Format::Json => println!("{}", text::json_line(&removed)),
        Format::Text if removed.removed == 0 => println!("nobody on the list matches"),
        Format::Text => println!("{} removed", text::count(removed.removed, "recipient")),
    }
    Ok(match removed.removed {
        0 => Done::NotWell,
        _ => Done::Well,
    })
}

async fn confirm(client: &Client, select: &Select) -> Result<(), Trouble> {
    if !prompt::is_interactive() {
        return Err(Trouble::Usage(
            "this removes many: say --yes, since there is no terminal to ask at".to_owned(),
        ));
    }
    let mut count = 0;
    let mut pages = Pages::of(select, usize::MAX);
    while let Some(page) = pages.next(client).await? {
        count += page.len() as u64;
    }
    let question = format!(
        "Take {} off the suppression list?",
        text::count(count, "recipient")
    );
    match prompt::confirm(&question) {
        Ok(Answer::Yes) => Ok(()),
        Ok(Answer::No) => Err(Trouble::NotWell("nothing was changed".to_owned())),
        Err(error) => Err(Trouble::NotWell(format!("no answer: {error}"))),
    }
}

impl Select {
    fn query(&self, after: Option<String>, limit: usize) -> SuppressionQuery {
        SuppressionQuery {
            address: self.recipient.clone(),
            domain: self.to.clone(),
            source: self.source,
            rule: self.rule.clone(),
            category: self.category.clone(),
            older_than: self.older_than,
            after,
            limit: Some(limit),
        }
    }
}

/// The list, page by page.
struct Pages<'s> {
    select: &'s Select,
    left: usize,
    after: Option<String>,
    /// Whether there may be more than was asked for.
    more: bool,
    over: bool,
}

impl<'s> Pages<'s> {
    fn of(select: &'s Select, most: usize) -> Pages<'s> {
        Pages {
            select,
            left: most,
            after: None,
            more: false,
            over: most == 0,
        }
    }

    async fn next(&mut self, client: &Client) -> Result<Option<Vec<Entry>>, Trouble> {
        if self.over {
            return Ok(None);
        }
        let limit = self.left.min(ENTRIES_MAX);
        let pairs = pairs(&self.select.query(self.after.take(), limit));
        let page: SuppressionPage = client.get("/v1/suppressions", &pairs).await?;
        self.left -= page.entries.len().min(self.left);
        self.over = page.next.is_none() || self.left == 0;
        self.more = page.next.is_some() && self.left == 0;
        self.after = page.next;
        Ok((!page.entries.is_empty()).then_some(page.entries))
    }
}

fn pairs(query: &SuppressionQuery) -> Pairs {
    let texts = [
        ("address", query.address.clone()),
        ("domain", query.domain.clone()),
        ("source", query.source.map(|source| source.to_string())),
        ("rule", query.rule.clone()),
        ("category", query.category.clone()),
        ("older_than", query.older_than.map(|age| age.to_string())),
        ("after", query.after.clone()),
        ("limit", query.limit.map(|limit| limit.to_string())),
    ];
    texts
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}
