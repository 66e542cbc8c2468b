//! The sites that mail goes to: looking at them, suspending one, resuming one.

use jiff::{SignedDuration, Timestamp};
use relay_smtp::{Domain, NextHop};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::view::{SiteStatus, SitesView};
use crate::world::AdminWorld;

/// The body of `POST /v1/sites/suspend`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// A site's name, one of its hosts, or a domain whose mail goes there.
    pub site: String,
    /// Seconds; None: until it is resumed.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// The body of `POST /v1/sites/resume`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    pub site: String,
}

/// Those with the most due work first, with what their rules say.
pub async fn list(world: &AdminWorld) -> SitesView {
    let mut sites = world.dispatcher.sites().await;
    for site in &mut sites {
        let rule = site.why.as_deref();
        site.advice = rule.and_then(|rule| world.dispatcher.advice(rule));
    }
    SitesView { sites }
}

pub async fn suspend(world: &AdminWorld, command: &Suspend) -> Result<SitesView, ApiError> {
    let site = named(world, &command.site).await?;
    let until = command
        .seconds
        .and_then(|seconds| i64::try_from(seconds).ok())
        .and_then(|seconds| {
            let length = SignedDuration::from_secs(seconds);
            world.clock.now().checked_add(length).ok()
        })
        .unwrap_or(Timestamp::MAX);
    world.dispatcher.suspend(&site, until).await;
    Ok(only(world, &site).await)
}

pub async fn resume(world: &AdminWorld, command: &Resume) -> Result<SitesView, ApiError> {
    let site = named(world, &command.site).await?;
    world.dispatcher.resume(&site).await;
    Ok(only(world, &site).await)
}

async fn only(world: &AdminWorld, name: &str) -> SitesView {
    let mut view = list(world).await;
    view.sites.retain(|site| site.site == name);
    view
}

/// Whether a site is meant by this text: its name, one of its hosts, or a domain that leads there.
pub fn is_meant(site: &SiteStatus, text: &str) -> bool {
    site.site.eq_ignore_ascii_case(text)
        || site
            .site
            .split(',')
            .any(|host| host.eq_ignore_ascii_case(text))
        || site.hops.iter().any(|hop| hop.eq_ignore_ascii_case(text))
}

/// The site's name. One that is not known is found as the site of a domain: an operator may suspend a
/// site before there is mail for it.
async fn named(world: &AdminWorld, text: &str) -> Result<String, ApiError> {
    let sites = world.dispatcher.sites().await;
    let mut meant = sites.iter().filter(|site| is_meant(site, text));
    match (meant.next(), meant.next()) {
        (Some(site), None) => return Ok(site.site.clone()),
        (Some(one), Some(other)) => {
            return Err(ApiError::Bad(format!(
                "{text}: a host of several sites ({}; {} ...); give the site's whole name",
                one.site, other.site
            )));
        }
        (None, _) => {}
    }
    let unknown = || ApiError::NotFound(format!("no site of this name: {text}"));
    let domain = Domain::parse(text).map_err(|_| unknown())?;
    let found = world.dispatcher.site_of(&NextHop::Domain(domain)).await;
    match found.starts_with("domain ") {
        true => Err(unknown()),
        false => Ok(found),
    }
}
