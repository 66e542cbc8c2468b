//! A Maildir that a receiver fills.

use std::path::Path;

/// A mail that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub to: String,
    pub subject: String,
    /// Header and body as they lie in the mailbox.
    pub text: String,
}

/// All that has arrived. `recipient`: the field in which the receiver notes whom it is for.
pub fn read(maildir: &Path, recipient: &str) -> Vec<Arrived> {
    let Ok(files) = std::fs::read_dir(maildir.join("new")) else {
        return Vec::new();
    };
    let files = files.map_while(Result::ok);
    files.map(|file| arrived(&file.path(), recipient)).collect()
}

fn arrived(path: &Path, recipient: &str) -> Arrived {
    let bytes = std::fs::read(path).expect("a test that starts a receiver is root");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let field = |name: &str| {
        let lines = text.lines().take_while(|line| !line.is_empty());
        let mut values = lines.filter_map(|line| line.strip_prefix(name));
        values.next().unwrap_or_default().trim().to_owned()
    };
    Arrived {
        to: field(recipient),
        subject: field("Subject:"),
        text,
    }
}
