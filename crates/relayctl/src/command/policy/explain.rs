//! `relayctl policy explain`: what a code means by itself, what follows from it, and which rules name it.

use std::process::ExitCode;

use jiff::Timestamp;
use relay_policy::{Context, Rule, Stimulus, Table, decide, meaning};
use relay_smtp::{EnhancedStatus, Phase, Reply};
use serde::Serialize;

use super::answer::{Answer, describe, for_people};
use super::{Explain, Trouble, load, print_line};

/// What was asked about.
#[derive(Debug, PartialEq, Eq)]
enum Code {
    Basic(u16),
    /// `5.7.26`, or both classes for `x.7.26`.
    Enhanced(Vec<EnhancedStatus>),
    /// `x.7.x`: all that is said of a subject.
    Subject(u16),
    /// `4.x.x`: all that is said of a class.
    Class(u16),
}

#[derive(Debug, Serialize)]
struct Explained<'a> {
    /// As it was asked.
    asked: &'a str,
    means: String,
    /// What follows from the code alone, at RCPT; null for a whole subject or class.
    #[serde(flatten)]
    alone: Option<&'a Answer>,
    /// The rules that name this code.
    rules: &'a [String],
}

pub(super) fn run(explain: &Explain) -> Result<ExitCode, Trouble> {
    let table = load(&explain.tables)?;
    let code = Code::parse(&explain.code).ok_or_else(|| {
        Trouble::usage(format!(
            "{:?} is no reply code; write a basic code such as 451, an enhanced one such as 5.7.26, or a group such as x.7.x",
            explain.code
        ))
    })?;
    let means = code.means();
    let rules: Vec<String> = code
        .named_by(&table)
        .into_iter()
        .map(|rule| format!("{} ({})", rule.name, rule.place))
        .collect();
    let replies = code.replies();
    if explain.json && replies.is_empty() {
        print_line(&Explained {
            asked: &explain.code,
            means: means.clone(),
            alone: None,
            rules: &rules,
        })?;
    }
    if !explain.json {
        println!("{:9} {}\n{:9} {means}", "code", explain.code, "means");
    }
    for reply in &replies {
        let decision = decide(&table, Stimulus::Reply(reply), &Context::of(Phase::Rcpt));
        let answer = describe(reply, Phase::Rcpt, &decision);
        if explain.json {
            print_line(&Explained {
                asked: &explain.code,
                means: means.clone(),
                alone: Some(&answer),
                rules: &rules,
            })?;
        } else {
            println!("\nAlone, without a text, in answer to RCPT:");
            print!("{}", for_people(&answer, &decision, Timestamp::now()));
        }
    }
    if !explain.json && !rules.is_empty() {
        println!("\nRules that name it, in the order in which they are tried:");
        for rule in rules {
            println!("  {rule}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Code {
    fn parse(text: &str) -> Option<Code> {
        let basic: Option<u16> = text.parse().ok().filter(|code| (100..600).contains(code));
        if let Some(basic) = basic {
            return Some(Code::Basic(basic));
        }
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('.').collect();
        let [class, subject, detail] = parts[..] else {
            return None;
        };
        let open = |part: &str| !part.is_empty() && part.bytes().all(|b| b == b'x');
        match (open(class), open(subject), open(detail)) {
            (false, true, true) => Some(Code::Class(
                class
                    .parse()
                    .ok()
                    .filter(|class| [2, 4, 5].contains(class))?,
            )),
            (_, false, true) => Some(Code::Subject(
                subject.parse().ok().filter(|subject| *subject < 1000)?,
            )),
            (true, false, false) => ["4", "5"]
                .map(|class| format!("{class}.{subject}.{detail}").parse().ok())
                .into_iter()
                .collect::<Option<Vec<EnhancedStatus>>>()
                .map(Code::Enhanced),
            (false, false, false) => Some(Code::Enhanced(vec![lower.parse().ok()?])),
            (_, true, false) | (true, true, true) => None,
        }
    }

    fn means(&self) -> String {
        match self {
            Code::Basic(code) => {
                let digit = meaning::of_digit(*code);
                match meaning::of_basic(*code) {
                    Some(known) => format!("{known} ({}xx: {digit})", code / 100),
                    None => format!(
                        "{}xx: {digit}; the other digits are in no common use",
                        code / 100
                    ),
                }
            }
            Code::Enhanced(codes) => {
                let Some(code) = codes.first() else {
                    return String::new();
                };
                let subject = meaning::of_subject(code.subject);
                match meaning::of_enhanced(*code) {
                    Some(known) => format!("{known} (x.{}.x: {subject})", code.subject),
                    None => format!(
                        "speaks of {subject}; the detail {} is in no common use",
                        code.detail
                    ),
                }
            }
            Code::Subject(subject) => format!("speaks of {}", meaning::of_subject(*subject)),
            Code::Class(class) => meaning::of_digit(class * 100).to_owned(),
        }
    }

    /// The code as a reply without a text, for each class it can have.
    fn replies(&self) -> Vec<Reply> {
        match self {
            Code::Basic(code) => vec![Reply::new(*code, None, "")],
            Code::Enhanced(codes) => codes
                .iter()
                .map(|code| {
                    let basic = match code.class.digit() {
                        2 => 250,
                        4 => 450,
                        _ => 550,
                    };
                    Reply::new(basic, Some(*code), "")
                })
                .collect(),
            Code::Subject(_) | Code::Class(_) => Vec::new(),
        }
    }

    fn named_by<'t>(&self, table: &'t Table) -> Vec<&'t Rule> {
        match self {
            Code::Basic(code) => table.rules_naming(*code),
            Code::Enhanced(codes) => {
                let mut rules: Vec<&Rule> = Vec::new();
                for code in codes {
                    for rule in table.rules_naming_enhanced(*code) {
                        if !rules.iter().any(|known| std::ptr::eq(*known, rule)) {
                            rules.push(rule);
                        }
                    }
                }
                rules
            }
            Code::Subject(_) | Code::Class(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_operators_write_them() {
        for (text, replies) in [
            ("451", 1),
            ("101", 1),
            ("5.7.26", 1),
            ("X.7.26", 2),
            ("4.7.500", 1),
            ("2.1.5", 1),
            ("x.7.XXX", 0),
            ("5.7.x", 0),
            ("4.XXX.XXX", 0),
        ] {
            let code = Code::parse(text).unwrap();
            assert_eq!(code.replies().len(), replies, "{text}");
            assert!(code.means().len() > 3, "{text}");
        }
        for junk in [
            "", "9", "5.7", "600", "é", "3.x.x", "x.x.x", "x.x.1", "5.7.1.1",
        ] {
            assert_eq!(Code::parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn what_is_told_of_a_code_is_what_follows_from_it_and_who_names_it() {
        let table = Table::default_table();
        let names = |code: &str| -> Vec<String> {
            let rules = Code::parse(code).unwrap().named_by(&table);
            rules.iter().map(|rule| rule.name.clone()).collect()
        };
        assert!(names("5.7.26").contains(&"enhanced-authentication".to_owned()));
        assert!(names("441").contains(&"code-not-responding".to_owned()));
        assert_eq!(names("5.9.99"), Vec::<String>::new());
        assert!(Code::Basic(111).means().contains("no server sends it"));
        assert!(Code::Basic(499).means().starts_with("4xx: not now"));
    }
}
