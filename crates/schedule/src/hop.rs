//! The health of a site: failures in a row, suspension, the probe that reopens it.
