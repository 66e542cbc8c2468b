//! The sample file and the reference, rendered from the table of options.
