//! What the doctor found, for people and for scripts.

use std::io::Write;

use relay_doctor::{Finding, State};

use crate::outcome::Done;
use crate::text::{Format, Screen, Tone, harmless, json_line, paragraph};

/// Prints them; not well if one failed.
pub fn print(findings: &[Finding], format: Format, screen: &Screen) -> Done {
    let shown = match format {
        Format::Json => findings.iter().map(|one| json_line(one) + "\n").collect(),
        Format::Text => text(findings, screen),
    };
    // Whoever reads may have enough of it: `| head`.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    match findings.iter().any(|one| one.state == State::Fail) {
        true => Done::NotWell,
        false => Done::Well,
    }
}

/// A line or two for each, the fix below it; the subject only where it changes.
fn text(findings: &[Finding], screen: &Screen) -> String {
    let widest = findings.iter().map(|one| one.check.len()).max();
    let widest = widest.unwrap_or_default();
    let mut out = String::new();
    let mut subject = "";
    for one in findings {
        if one.subject != subject {
            subject = &one.subject;
            let shown = screen.paint(&harmless(subject), Tone::Strong);
            out.push_str(&format!("{shown}\n"));
        }
        let name = format!("  {:<4}  {:<widest$}  ", one.state.word(), one.check);
        let line = paragraph(&name, &one.found, screen);
        let word = one.state.word();
        out.push_str(&line.replacen(word, &screen.paint(word, tone(one.state)), 1));
        out.push('\n');
        if let Some(fix) = &one.fix {
            let name = format!("{:>width$}", "fix: ", width = name.len());
            out.push_str(&paragraph(&name, fix, screen));
            out.push('\n');
        }
    }
    out
}

fn tone(state: State) -> Tone {
    match state {
        State::Ok => Tone::Good,
        State::Warn => Tone::Warning,
        State::Fail => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_named_once_and_each_fix_stands_below_its_line() {
        let findings = [
            Finding::ok("mx", "a.example", "mx1.a.example"),
            Finding::fail("spf", "a.example", "no record", "publish one"),
            Finding::warn("ptr", "192.0.2.1", "none", "ask your provider"),
        ];
        let shown = text(&findings, &Screen::plain());
        let wanted = "a.example\n  ok    mx   mx1.a.example\n  fail  spf  no record\n        fix: publish one\n\
            192.0.2.1\n  warn  ptr  none\n        fix: ask your provider\n";
        assert_eq!(shown, wanted);
    }
}
