//! Text for people: times seen from now, sizes, shortened replies, tables, colours.

use std::io::IsTerminal;

use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Where it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns.
    pub width: usize,
    pub colours: Colours,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    On,
    Off,
}

/// The width of pipes and files.
const WIDTH: usize = 100;
/// The least that tables are made for.
const WIDTH_MIN: usize = 60;

impl Screen {
    /// Colours on a terminal only, and not where NO_COLOR is set.
    pub fn of_stdout() -> Screen {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Screen::plain();
        }
        let quiet = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
        Screen {
            width: match columns {
                0 => WIDTH,
                columns => usize::from(columns).max(WIDTH_MIN),
            },
            colours: if quiet { Colours::Off } else { Colours::On },
        }
    }

    pub fn plain() -> Screen {
        Screen {
            width: WIDTH,
            colours: Colours::Off,
        }
    }

    pub fn paint(&self, text: &str, tone: Tone) -> String {
        match self.colours {
            Colours::Off => text.to_owned(),
            Colours::On => format!("\x1b[{}m{text}\x1b[0m", tone.code()),
        }
    }

    /// Colours the first of the states' words in each line of a table.
    pub fn paint_states(&self, table: &str) -> String {
        let line = |line: &str| -> String {
            let found = line
                .split_whitespace()
                .find_map(|word| Some((word, state_tone(word)?)));
            match found {
                Some((word, tone)) => line.replacen(word, &self.paint(word, tone), 1),
                None => line.to_owned(),
            }
        };
        let lines: Vec<String> = table.lines().map(line).collect();
        lines.join("\n")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        }
    }
}

/// The colour of a recipient's state; None: not a state.
pub fn state_tone(word: &str) -> Option<Tone> {
    match word {
        "delivered" => Some(Tone::Good),
        "deferred" | "held" => Some(Tone::Warning),
        "bounced" => Some(Tone::Bad),
        "queued" | "discarded" => Some(Tone::Faint),
        _ => None,
    }
}

/// `12s`, `4m`, `2h5m`, `3d4h`: the two largest units at most.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => two(hours, "h", minutes % 60, "m"),
        (days, hours, _) => two(days, "d", hours % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    }
}

/// `in 4m`; `now` where it has passed.
pub fn until(at: Timestamp, now: Timestamp) -> String {
    match u64::try_from(at.duration_since(now).as_secs()) {
        Ok(0) | Err(_) => "now".to_owned(),
        Ok(seconds) => format!("in {}", span(seconds)),
    }
}

/// `4m ago`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
    format!("{} ago", span(seconds))
}

/// `2026-11-22 16:00:05 UTC`.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A time to come, to the second and rounded up: what has passed is not shown as to come.
pub fn to_come(at: Timestamp) -> Timestamp {
    let up = at.checked_add(SignedDuration::from_nanos(999_999_999));
    Timestamp::from_second(up.unwrap_or(at).as_second()).unwrap_or(at)
}

/// `812 B`, `2.0 kB`, `34 MB`, in powers of a thousand.
pub fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if amount < 999.5 {
            return if amount < 9.95 && unit != "B" {
                format!("{amount:.1} {unit}")
            } else {
                format!("{amount:.0} {unit}")
            };
        }
        amount /= 1000.0;
    }
    format!("{amount:.1} TB")
}

/// `1 message`, `2 messages`.
pub fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// At most so many characters, the last one a `…` where something was cut off. Control characters
/// become spaces: what a peer wrote must not move the terminal's cursor.
pub fn shortened(text: &str, most: usize) -> String {
    let clean = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    if text.chars().count() <= most {
        return text.chars().map(clean).collect();
    }
    let kept = text.chars().take(most.saturating_sub(1)).map(clean);
    kept.chain(['…']).collect()
}

/// A peer's or sender's text in full, without control characters but line ends.
pub fn harmless(text: &str) -> String {
    let clean = |character: char| match character {
        '\n' | '\t' => character,
        other if other.is_control() => '\u{fffd}',
        other => other,
    };
    text.chars().map(clean).collect()
}

/// Text under a name: broken between words so that no line is longer than the screen, the further
/// lines indented as the first. A word that is too long stays whole.
pub fn paragraph(name: &str, text: &str, screen: &Screen) -> String {
    let indent = name.chars().count();
    let mut out = name.to_owned();
    let mut column = indent;
    for word in harmless(text).split_whitespace() {
        let length = word.chars().count();
        if column > indent {
            if column + 1 + length > screen.width {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// Times in relayd's words, also as they are seen from now.
pub fn with_times_from_now(words: &str, now: Timestamp) -> String {
    let word = |word: &str| match word.parse::<Timestamp>() {
        Ok(at) => format!("{} ({})", time(at), until(at, now)),
        Err(_) => word.to_owned(),
    };
    let words: Vec<String> = words.split(' ').map(word).collect();
    words.join(" ")
}

/// A table without borders. The last column takes what is left of the width, and no line is longer.
pub fn table(headers: &[&str], mut rows: Vec<Vec<String>>, screen: &Screen) -> String {
    const GAP: u16 = 2;
    let Some(last) = headers.len().checked_sub(1) else {
        return String::new();
    };
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(headers.get(column).map_or(0, |header| header.len()))
    };
    let taken: usize = (0..last)
        .map(|column| width(column) + usize::from(GAP))
        .sum();
    let rest = screen.width.saturating_sub(taken).max(10);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(last)) {
        *cell = shortened(cell, rest);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headers.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.trim_fmt()
}

/// One JSON object a line.
pub fn json_line(row: &impl Serialize) -> String {
    // The views are plain structs with string keys: they can always be written.
    serde_json::to_string(row).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// `2h`, `30m`, `1d12h`, `90s`: seconds.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration; write 30m, 2h or 1d12h");
    let mut total: u64 = 0;
    let mut number = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let amount: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        total = amount
            .checked_mul(unit)
            .and_then(|seconds| total.checked_add(seconds))
            .ok_or_else(wrong)?;
    }
    if text.is_empty() || !number.is_empty() {
        return Err(wrong());
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (7_500, "2h5m"),
            (86_400, "1d"),
            (100_000, "1d3h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn durations_are_read_with_units_only() {
        assert_eq!(parse_span("2h"), Ok(7_200));
        assert_eq!(parse_span("1d12h"), Ok(129_600));
        for wrong in ["", "2", "h", "2 h", "2x", "99999999999999999999d", "1h30"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_seen_from_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |offset: i64| Timestamp::from_second(1_000_000 + offset).unwrap();
        assert_eq!(until(at(250), now), "in 4m");
        assert_eq!(until(at(-5), now), "now");
        assert_eq!(ago(at(-7_500), now), "2h5m ago");
        assert_eq!(ago(at(5), now), "0s ago");
        assert_eq!(time(now), "1970-01-12 13:46:40 UTC");
    }

    #[test]
    fn sizes_have_two_or_three_figures() {
        for (bytes, text) in [
            (0, "0 B"),
            (812, "812 B"),
            (2_048, "2.0 kB"),
            (34_400_000, "34 MB"),
            (999_600, "1.0 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_peers_text_cannot_move_the_cursor_or_break_the_table() {
        assert_eq!(shortened("a\x1b[2Jb\nc", 20), "a [2Jb c");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(harmless("a\x1b[2J\n"), "a\u{fffd}[2J\n");
        let rows = vec![vec!["1".to_owned(), "x".repeat(300)]];
        let text = table(&["N", "REPLY"], rows, &Screen::plain());
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn a_paragraph_keeps_to_the_screen_and_below_its_name() {
        let screen = Screen {
            width: 20,
            colours: Colours::Off,
        };
        let text = paragraph("  Fix  ", "ask them to take you off\ntheir list", &screen);
        assert_eq!(
            text,
            "  Fix  ask them to\n       take you off\n       their list"
        );
        let long = "x".repeat(40);
        assert_eq!(paragraph("a ", &long, &screen), format!("a {long}"));
    }

    #[test]
    fn times_in_words_are_also_seen_from_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let words = "site mx suspended until 1970-01-12T13:51:40Z by some-rule";
        assert_eq!(
            with_times_from_now(words, now),
            "site mx suspended until 1970-01-12 13:51:40 UTC (in 5m) by some-rule"
        );
    }

    #[test]
    fn colours_come_only_where_they_are_on() {
        let on = Screen {
            width: 100,
            colours: Colours::On,
        };
        let line = "a  bounced  b";
        assert_eq!(Screen::plain().paint_states(line), line);
        assert_eq!(on.paint_states(line), "a  \x1b[31mbounced\x1b[0m  b");
    }
}
