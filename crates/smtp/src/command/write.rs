//! The client's side of commands: each written as one line.

use std::fmt;

use super::{Chunk, ChunkPlace, Command, ForwardPath, Mail, Rcpt};
use crate::address::ReversePath;
use crate::envelope::{BodyType, Notify, RequireTls, Ret, Utf8, Wanted};

/// As the client writes it, without CRLF. Domains are always said in A-labels, which every server
/// understands; a local part beyond ASCII is for the caller to have offered SMTPUTF8 for.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Ehlo(name) => write!(f, "EHLO {name}"),
            Command::Helo(name) => write!(f, "HELO {name}"),
            Command::Mail(mail) => mail.fmt(f),
            Command::Rcpt(rcpt) => rcpt.fmt(f),
            Command::Data => f.write_str("DATA"),
            Command::Bdat(chunk) => chunk.fmt(f),
            Command::Rset => f.write_str("RSET"),
            Command::Noop => f.write_str("NOOP"),
            Command::Vrfy => f.write_str("VRFY"),
            Command::Expn => f.write_str("EXPN"),
            Command::Help => f.write_str("HELP"),
            Command::Quit => f.write_str("QUIT"),
            Command::StartTls => f.write_str("STARTTLS"),
            Command::Auth { mechanism, initial } => match initial {
                None => write!(f, "AUTH {mechanism}"),
                Some(initial) => write!(f, "AUTH {mechanism} {}", initial.0),
            },
            Command::NotBuilt(verb) | Command::Foreign(verb) => f.write_str(verb),
        }
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            ChunkPlace::Last => write!(f, "BDAT {} LAST", self.bytes),
            ChunkPlace::Before => write!(f, "BDAT {}", self.bytes),
        }
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reverse_path {
            ReversePath::Null => f.write_str("MAIL FROM:<>")?,
            ReversePath::Mailbox(mailbox) => write!(f, "MAIL FROM:<{}>", mailbox.to_wire())?,
        }
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        match self.body_type {
            None => {}
            Some(BodyType::SevenBit) => f.write_str(" BODY=7BIT")?,
            Some(BodyType::EightBitMime) => f.write_str(" BODY=8BITMIME")?,
        }
        match self.utf8 {
            Utf8::NotNeeded => {}
            Utf8::Required => f.write_str(" SMTPUTF8")?,
        }
        match self.require_tls {
            RequireTls::No => {}
            RequireTls::Yes => f.write_str(" REQUIRETLS")?,
        }
        if let Some(priority) = self.priority {
            write!(f, " MT-PRIORITY={priority}")?;
        }
        match self.ret {
            None => {}
            Some(Ret::Full) => f.write_str(" RET=FULL")?,
            Some(Ret::Headers) => f.write_str(" RET=HDRS")?,
        }
        if let Some(envid) = &self.envid {
            write!(f, " ENVID={envid}")?;
        }
        match &self.auth {
            None => Ok(()),
            Some(auth) => write!(f, " AUTH={auth}"),
        }
    }
}

impl fmt::Display for Rcpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.forward_path {
            ForwardPath::Postmaster => f.write_str("RCPT TO:<postmaster>")?,
            ForwardPath::Mailbox(mailbox) => write!(f, "RCPT TO:<{}>", mailbox.to_wire())?,
        }
        match self.notify {
            None => {}
            Some(Notify::Never) => f.write_str(" NOTIFY=NEVER")?,
            Some(Notify::On {
                success,
                failure,
                delay,
            }) => {
                let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                let wanted = words.iter().filter(|(wanted, _)| *wanted == Wanted::Yes);
                let words: Vec<&str> = wanted.map(|(_, word)| *word).collect();
                write!(f, " NOTIFY={}", words.join(","))?;
            }
        }
        match &self.orcpt {
            None => Ok(()),
            Some(orcpt) => write!(f, " ORCPT={orcpt}"),
        }
    }
}
