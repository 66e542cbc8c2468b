//! DNS by hickory-resolver.
