//! What is kept of TLS reports: counts by day and domain, and when each is told.

use crate::error::ApiError;
use crate::view::TlsReportsView;
use crate::world::AdminWorld;

/// `domain`: None: of all.
pub async fn list(world: &AdminWorld, domain: Option<&str>) -> Result<TlsReportsView, ApiError> {
    let Some(reports) = &world.tls_reports else {
        let words = "TLS reports are off; `[tls_rpt] enabled = true` and a restart switch them on";
        return Err(ApiError::NotFound(words.to_owned()));
    };
    let mut reports = reports().await.map_err(ApiError::Unreadable)?;
    if let Some(domain) = domain {
        reports.retain(|report| report.domain.eq_ignore_ascii_case(domain));
    }
    Ok(TlsReportsView { reports })
}
