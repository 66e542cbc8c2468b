//! SELECT on the wire: as pairs of a query, as JSON in a command, and from there to the queue's
//! [`Select`]. Who of the queue is meant is the part of `choice`.

use jiff::{SignedDuration, Timestamp};
use relay_queue::Select;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// What an operator wrote: all given parts must hold; nothing given: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A recipient's domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// A recipient's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The reverse-path; `<>` for the null one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The site that a recipient's mail goes to: its name, or one of its MX names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The rule of a recipient's last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Seconds since arrival, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Everything that a list's query may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub selection: Selection,
    pub limit: Option<usize>,
    pub after: Option<String>,
    pub since: Option<Timestamp>,
}

impl Selection {
    /// Whether it means the whole queue.
    pub fn is_everything(&self) -> bool {
        *self == Selection::default()
    }

    /// As the pairs of a query.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        [
            ("id", self.id.clone()),
            ("to", self.to.clone()),
            ("recipient", self.recipient.clone()),
            ("sender", self.sender.clone()),
            ("site", self.site.clone()),
            ("rule", self.rule.clone()),
            ("category", self.category.clone()),
            ("older_than", self.older_than.map(|s| s.to_string())),
            ("user", self.user.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }

    /// As the queue understands it, which knows no sites.
    pub fn to_select(&self, now: Timestamp) -> Result<Select, ApiError> {
        let id = match &self.id {
            Some(text) => Some(text.parse().map_err(|error| bad("id", error))?),
            None => None,
        };
        let before = match self.older_than {
            Some(seconds) => Some(earlier(now, seconds)?),
            None => None,
        };
        Ok(Select {
            id,
            to: self.to.as_ref().map(|domain| domain.to_lowercase()),
            recipient: self.recipient.clone(),
            // Known once it is asked where the queue's domains lead.
            ways: None,
            sender: self.sender.clone(),
            rule: self.rule.clone(),
            category: self.category.clone(),
            before,
            user: self.user.clone(),
            due: None,
        })
    }
}

fn earlier(now: Timestamp, seconds: u64) -> Result<Timestamp, ApiError> {
    let seconds = i64::try_from(seconds).map_err(|error| bad("older_than", error))?;
    now.checked_sub(SignedDuration::from_secs(seconds))
        .map_err(|error| bad("older_than", error))
}

fn bad(key: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::Bad(format!("{key}: {why}"))
}

impl ListQuery {
    /// From a query's pairs. Unknown keys are refused: a misspelt one must not select everything.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<ListQuery, ApiError> {
        let mut query = ListQuery::default();
        let selection = &mut query.selection;
        for (key, value) in pairs {
            match key.as_str() {
                "id" => selection.id = Some(value),
                "to" => selection.to = Some(value),
                "recipient" => selection.recipient = Some(value),
                "sender" => selection.sender = Some(value),
                "site" => selection.site = Some(value),
                "rule" => selection.rule = Some(value),
                "category" => selection.category = Some(value),
                "user" => selection.user = Some(value),
                "older_than" => selection.older_than = Some(number(&key, &value)?),
                "limit" => query.limit = Some(number(&key, &value)?),
                "after" => query.after = Some(value),
                "since" => query.since = Some(number(&key, &value)?),
                _ => return Err(ApiError::Bad(format!("{key}: not a key of this query"))),
            }
        }
        Ok(query)
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    value
        .parse()
        .map_err(|error| bad(&format!("{key} = {value}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_survives_the_way_through_a_query() {
        let selection = Selection {
            to: Some("example.com".to_owned()),
            sender: Some("<>".to_owned()),
            site: Some("mx1.example.com,mx2.example.com".to_owned()),
            older_than: Some(7200),
            ..Selection::default()
        };
        let pairs = selection
            .to_pairs()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let query = ListQuery::from_pairs(pairs).unwrap();
        assert_eq!(query.selection, selection);
        assert!(!selection.is_everything());
    }

    #[test]
    fn a_misspelt_key_is_refused_instead_of_selecting_everything() {
        let pairs = vec![("recipent".to_owned(), "a@x.test".to_owned())];
        assert!(ListQuery::from_pairs(pairs).is_err());
        assert!(serde_json::from_str::<Selection>(r#"{"recipent":"a@x.test"}"#).is_err());
    }

    #[test]
    fn older_than_counts_back_from_now_and_nonsense_is_refused() {
        let now = Timestamp::from_second(10_000).unwrap();
        let older = |seconds| Selection {
            older_than: Some(seconds),
            ..Selection::default()
        };
        let select = older(3600).to_select(now).unwrap();
        assert_eq!(select.before, Timestamp::from_second(6_400).ok());
        assert!(older(u64::MAX).to_select(now).is_err());
        let wrong_id = Selection {
            id: Some("nonsense".to_owned()),
            ..Selection::default()
        };
        assert!(wrong_id.to_select(now).is_err());
    }
}
