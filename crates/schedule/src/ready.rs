//! Jobs that are due, in the order in which a site's sessions get them.
