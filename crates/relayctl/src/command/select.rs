//! SELECT: which messages are meant.

use relay_admin::select::Selection;

use crate::outcome::Trouble;
use crate::text::parse_span;

/// Several are and-ed.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Select")]
pub struct Select {
    /// One message
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Recipients of this domain
    #[arg(long, value_name = "DOMAIN")]
    to: Option<String>,
    /// This recipient
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Messages of this sender; <> for bounces
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Recipients whose mail goes to this site, by its name in `relayctl status` or one of its hosts
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Last decided by this rule; `operator`: held by an operator
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Last decided with this category
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Arrived longer ago than this, such as 30m, 2h, 1d12h
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    older_than: Option<u64>,
    /// Handed in by this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

impl Select {
    pub fn selection(&self) -> Selection {
        Selection {
            id: self.id.clone(),
            to: self.to.clone(),
            recipient: self.recipient.clone(),
            sender: self.sender.clone(),
            site: self.site.clone(),
            rule: self.rule.clone(),
            category: self.category.clone(),
            older_than: self.older_than,
            user: self.user.clone(),
        }
    }

    /// For commands that change messages: everything only where `--all` says so.
    pub fn deliberate(&self) -> Result<Selection, Trouble> {
        let selection = self.selection();
        if selection.is_everything() && !self.all {
            return Err(Trouble::Usage(
                "nothing selected; say which messages (--id, --to, --sender, ...) or --all"
                    .to_owned(),
            ));
        }
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleting_everything_must_be_said() {
        assert_eq!(Select::default().deliberate().unwrap_err().status(), 2);
        let all = Select {
            all: true,
            ..Select::default()
        };
        assert!(all.deliberate().unwrap().is_everything());
        let one = Select {
            to: Some("example.com".to_owned()),
            ..Select::default()
        };
        assert!(one.deliberate().is_ok());
    }
}
