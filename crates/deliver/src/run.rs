//! The dispatcher: one task that owns the scheduler, starts sessions, and takes new jobs.

/// The handle to the running dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Delivery {}

/// One row of `status` and `site list`.
#[derive(Clone, Debug)]
pub struct SiteView {}
