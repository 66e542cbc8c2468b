//! What relayctl asks at a terminal: a confirmation, a password without echo.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Whether somebody is there to be asked.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What was answered; an empty answer is no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
}

pub fn confirm(question: &str) -> io::Result<Answer> {
    eprint!("{question} [y/N] ");
    let answer = line()?;
    Ok(match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Answer::Yes,
        _ => Answer::No,
    })
}

/// From a terminal twice and without echo; else the first line of standard input.
pub fn new_password() -> io::Result<String> {
    if !is_interactive() {
        return line();
    }
    let first = hidden("Password: ")?;
    let second = hidden("Again: ")?;
    if first != second {
        return Err(io::Error::other("the two passwords differ"));
    }
    Ok(first)
}

fn hidden(question: &str) -> io::Result<String> {
    eprint!("{question}");
    io::stderr().flush()?;
    let terminal = io::stdin();
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
    let answer = line();
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    eprintln!();
    answer
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}
